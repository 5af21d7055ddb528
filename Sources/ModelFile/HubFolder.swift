import Basics

/// A model as it is downloaded from a hub: `config.json` and safetensors, in one file or in many with an index.
public struct HubFolder: Sendable {
  public let path: String
  public private(set) var configuration: ModelConfiguration
  let quantization: HubConfiguration.Quantization?
  let isQuantized: Bool
  let interleavesRope: Bool
  /// Of the matrices that are ternary as floats.
  private(set) var exactScales: [ModelPart: TernaryRows.Scale] = [:]
  package let identity: SourceIdentity?
  private let files: [SafetensorsFile]
  private let places: [String: (file: Int, tensor: SafetensorsFile.Tensor)]

  /// Reads `config.json` and the headers of the weights. Weights themselves are read while packing; where `config.json` does not say
  /// that they are ternary, they are also read here, to see whether they are.
  /// - Parameter activation: for a `config.json` without `hidden_act`.
  /// - Throws: errors whose place is the file and the key or tensor.
  public init(_ path: String, activation: ModelConfiguration.Activation? = nil) throws(SternaError) {
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    self.path = path
    let configPath = path + "/config.json"
    let config = try JSONReader(Self.json(configPath))
    let generationPath = path + "/generation_config.json"
    let generation: JSONReader? = isFile(generationPath) ? try JSONReader(Self.json(generationPath)) : nil
    do {
      let read = try HubConfiguration(config, generation: generation, name: path.split(separator: "/").last.map(String.init) ?? path, activation: activation)
      configuration = read.model
      quantization = read.quantization
      isQuantized = read.isQuantized
      interleavesRope = read.interleavesRope
    } catch {
      throw error.within(configPath)
    }
    (files, places) = try Self.weights(path)
    let texts = [configPath] + (generation == nil ? [] : [generationPath])
    let textIdentities = try texts.map { path throws(SternaError) in try MappedFile(path).identity }
    identity = SourceIdentity(files: textIdentities + files.map(\.file.identity), reading: [activation?.rawValue ?? ""])
    guard quantization == nil, configuration.isTernary else { return }
    for planned in configuration.plan() {
      guard case .ternary(let rows, let columns) = planned.kind else { continue }
      exactScales[planned.part] = try exact(planned, rows, columns).scale()
    }
    // The bitnet quantiser rounds activations by token in training; whoever wrote plain floats trained with float activations.
    configuration.settleActivationGroups(trainedByToken: configuration.architecture == "bitnet", exactScales.values)
  }

  /// A JSON file that belongs to the folder.
  package static func json(_ path: String) throws(SternaError) -> JSON {
    let file = try MappedFile(path)
    do { return try JSON.parse(file.bytes, limits: .file) } catch { throw error.within(path) }
  }

  private static func weights(
    _ path: String
  ) throws(SternaError) -> (files: [SafetensorsFile], places: [String: (file: Int, tensor: SafetensorsFile.Tensor)]) {
    let single = path + "/model.safetensors"
    let indexPath = path + "/model.safetensors.index.json"
    if !isFile(indexPath) {
      guard isFile(single) else {
        throw SternaError(
          .io, "there are no weights in this folder", at: path, expected: "model.safetensors, or model.safetensors.index.json with its files",
          remedy: "download the whole folder; weights in other formats are not read")
      }
      let file = try SafetensorsFile(single)
      return ([file], file.tensors.mapValues { (0, $0) })
    }
    let map: [(name: String, value: JSONReader)]
    do { map = try JSONReader(json(indexPath))["weight_map"].members() } catch { throw error.within(indexPath) }
    var files: [SafetensorsFile] = []
    var numbers: [String: Int] = [:]
    var places: [String: (file: Int, tensor: SafetensorsFile.Tensor)] = [:]
    for (name, field) in map {
      let fileName = try shardName(field, indexPath)
      let number: Int
      if let known = numbers[fileName] {
        number = known
      } else {
        number = files.count
        numbers[fileName] = number
        files.append(try SafetensorsFile(path + "/" + fileName))
      }
      guard let tensor = files[number].tensors[name] else {
        throw SternaError(.badFile, "the index says that this tensor is in this file, but it is not", at: "\(path)/\(fileName): tensor \(name)")
      }
      places[name] = (number, tensor)
    }
    return (files, places)
  }

  /// Names in the index must not lead out of the folder.
  private static func shardName(_ field: JSONReader, _ indexPath: String) throws(SternaError) -> String {
    let name: String
    do { name = try field.string(bytes: 1...255) } catch { throw error.within(indexPath) }
    guard !name.contains("/"), name != "..", !name.utf8.contains(0) else {
      throw field.error("must be the name of a file in this folder").within(indexPath)
    }
    return name
  }

  var tensorNames: some Collection<String> { places.keys }

  /// The tensor of a name, with its place for errors.
  func tensor(_ name: String) -> HubTensor? {
    places[name].map { HubTensor(file: files[$0.file].file, tensor: $0.tensor) }
  }

  func required(_ name: String, remedy: String? = nil) throws(SternaError) -> HubTensor {
    guard let tensor = tensor(name) else {
      throw SternaError(.badFile, "this tensor is missing", at: "\(path): tensor \(name)", remedy: remedy)
    }
    return tensor
  }
}
