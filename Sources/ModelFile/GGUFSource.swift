import Basics

/// A model in a GGUF file of bitnet.cpp or llama.cpp.
public struct GGUFSource: Sendable {
  public struct Options: Sendable {
    /// How I2_S lies; nothing in the file says it.
    public var i2sLayout: I2SLayout
    /// For files that do not say.
    public var activation: ModelConfiguration.Activation?

    public init(i2sLayout: I2SLayout = .x86, activation: ModelConfiguration.Activation? = nil) {
      self.i2sLayout = i2sLayout
      self.activation = activation
    }
  }

  public let gguf: GGUFFile
  public private(set) var configuration: ModelConfiguration
  /// What was concluded from little, for people.
  public let notes: [String]
  private let options: Options
  let interleaves: Bool
  private var scales: [ModelPart: TernaryRows.Scale] = [:]

  /// Reads the metadata, and all scales: where matrices are of a float type, all of them, to see whether they are ternary.
  /// - Throws: errors whose place is the file and the key or tensor.
  public init(_ gguf: GGUFFile, options: Options = Options()) throws(SternaError) {
    self.gguf = gguf
    self.options = options
    let isI2S: Bool
    let path = gguf.file.path
    do {
      let read = try GGUFConfiguration(
        MetadataReader(values: gguf.metadata), name: path.split(separator: "/").last.map(String.init) ?? path, tiedHead: Self.isTied(gguf),
        hasQueryKeyNorms: gguf.tensor("blk.0.attn_q_norm.weight") != nil, hasProjectionBias: gguf.tensor("blk.0.attn_q.bias") != nil,
        frequencyFactors: Self.frequencyFactors(gguf), activation: options.activation)
      interleaves = read.interleaves
      configuration = read.model
      isI2S = configuration.plan().contains { gguf.tensor($0.name)?.type == .i2_s }
      var notes = read.notes
      if isI2S {
        notes.append("I2_S is read as it is written on \(options.i2sLayout.rawValue) (--i2s-layout)")
      }
      self.notes = notes
    } catch {
      throw error.within(path)
    }
    let plan = configuration.plan()
    try check(plan)
    for planned in plan {
      guard case .ternary(let rows, let columns) = planned.kind else { continue }
      scales[planned.part] = try matrix(planned, rows, columns).scale()
    }
    guard configuration.isTernary else { return }
    // BitNets, and what bitnet.cpp runs, were trained with int8 activations by token. Of the others nobody knows.
    configuration.settleActivationGroups(trainedByToken: configuration.architecture == "bitnet" || isI2S, scales.values)
    try checkLayout(plan)
  }

  /// - Parameter path: of the file, or of any part of a split model.
  public init(_ path: String, options: Options = Options()) throws(SternaError) { try self.init(GGUFFile.whole(path), options: options) }

  /// Whether the head is the embedding: not there, or there a second time.
  private static func isTied(_ gguf: GGUFFile) -> Bool {
    guard let head = gguf.tensor(ModelPart.head.ggufName) else { return true }
    guard let table = gguf.tensor(ModelPart.embedding.ggufName), table.type == head.type, table.shape == head.shape else { return false }
    return gguf.bytes(of: table).elementsEqual(gguf.bytes(of: head))
  }

  private static let frequencyName = "rope_freqs.weight"

  private static func frequencyFactors(_ gguf: GGUFFile) throws(SternaError) -> [Float]? {
    guard let tensor = gguf.tensor(frequencyName) else { return nil }
    guard tensor.shape.count == 1, tensor.shape[0] <= ModelConfiguration.Limits.headSize.upperBound, tensor.type == .f32 else {
      throw SternaError(.badFile, "is no list of factors", at: "tensor \(frequencyName)", expected: "F32 [head size / 2]", found: "\(tensor.type.label) \(tensor.shape)")
    }
    var values = [Float](repeating: 0, count: tensor.shape[0])
    let source = GGUFTensorValues(gguf: gguf, tensor: tensor)
    try values.withUnsafeMutableBufferPointer { buffer in
      Result { () throws(SternaError) in try source.floats(from: 0, into: buffer) }
    }.get()
    return values
  }

  func place(_ name: String) -> String { gguf.tensor(name)?.place ?? "\(gguf.file.path): tensor \(name)" }

  /// What the file calls a planned tensor. One of an expert is a part of that name's tensor.
  func sourceName(_ planned: PlannedTensor) -> String {
    if configuration.architecture == "glm4moe", case .block(let block, .feedForwardNorm) = planned.part { return "blk.\(block).post_attention_norm.weight" }
    return planned.name
  }

  /// The tensor of the plan, of its shape and of one of some types.
  private func tensor(_ planned: PlannedTensor, of types: [GGUFTensorType]) throws(SternaError) -> GGUFFile.Tensor {
    let shape =
      switch planned.kind {
      case .vector(let count), .experts(let count): [count]
      case .ternary(let rows, let columns), .table(let rows, let columns), .router(let rows, let columns), .matrix(let rows, let columns, _): [columns, rows]
      }
    return try tensor(sourceName(planned), shape, of: types)
  }

  /// A tensor of a name, a shape and one of some types.
  func tensor(_ name: String, _ shape: [Int], of types: [GGUFTensorType]) throws(SternaError) -> GGUFFile.Tensor {
    guard let tensor = gguf.tensor(name) else { throw SternaError(.badFile, "this tensor is missing", at: place(name)) }
    // A row may be written as a matrix of one row.
    guard tensor.shape == shape || tensor.shape == shape + [1] else {
      throw SternaError(.badFile, "has another shape than the metadata says", at: place(name), expected: "\(shape)", found: "\(tensor.shape)")
    }
    guard types.contains(tensor.type) else {
      throw SternaError(
        .unsupported, "has values of a type that is not read here", at: place(name), expected: types.map(\.label).joined(separator: ", "),
        found: tensor.type.label, remedy: "convert the model to one of these types, or pack the hub folder that it was made from")
    }
    return tensor
  }

  private func matrix(_ planned: PlannedTensor, _ rows: Int, _ columns: Int) throws(SternaError) -> Matrix {
    let tensor = try tensor(planned, of: TernaryBlocks.types + GGUFBlocks.types)
    if TernaryBlocks.types.contains(tensor.type) {
      return .blocks(try TernaryBlocks(gguf, tensor, rows: rows, columns: columns, layout: options.i2sLayout))
    }
    let values = GGUFTensorValues(gguf: gguf, tensor: tensor)
    return .floats(
      ExactTernary(place: place(planned.name), rows: rows, columns: columns) { (range, out) throws(SternaError) in
        try values.floats(from: range.lowerBound * columns, into: out)
      })
  }

  /// Refuses a layout of I2_S where the weights speak for the other one. Where they say nothing, as random ones do, nobody can tell.
  private func checkLayout(_ plan: [PlannedTensor]) throws(SternaError) {
    guard configuration.feedForwardSize % 128 == 0 else { return }
    var evidence: [I2SLayout: I2SLayoutEvidence] = [:]
    for block in 0..<min(configuration.blockCount, 4) {
      guard
        let gate = plan.first(where: { $0.part == .block(block, .linear(.gate)) }), case .ternary(let neurons, let hidden) = gate.kind,
        let down = plan.first(where: { $0.part == .block(block, .linear(.down)) }),
        let gateTensor = gguf.tensor(gate.name), let downTensor = gguf.tensor(down.name), gateTensor.type == .i2_s, downTensor.type == .i2_s
      else { continue }
      // A row has as many zeros in one layout as in the other.
      let rows = try TernaryBlocks(gguf, gateTensor, rows: neurons, columns: hidden, layout: options.i2sLayout).liveWeights().byRow
      for layout in I2SLayout.allCases {
        let columns = try TernaryBlocks(gguf, downTensor, rows: hidden, columns: neurons, layout: layout).liveWeights().byColumn
        evidence[layout, default: I2SLayoutEvidence()].add(rows: rows, columns: columns)
      }
    }
    guard let chosen = evidence[options.i2sLayout] else { return }
    for (layout, other) in evidence where other.speaks(against: chosen) {
      throw SternaError(
        .badField, "this file was made on another machine than was said", at: "\(gguf.file.path): --i2s-layout", expected: layout.rawValue,
        found: options.i2sLayout.rawValue, remedy: "give --i2s-layout \(layout.rawValue): only so do gate and down projections belong to each other")
    }
  }

  private enum Matrix {
    case blocks(TernaryBlocks)
    case floats(ExactTernary)

    func scale() throws(SternaError) -> TernaryRows.Scale {
      switch self {
      case .blocks(let blocks): try blocks.scale()
      case .floats(let floats): try floats.scale()
      }
    }

    func ternaryRows(_ scale: TernaryRows.Scale) -> TernaryRows {
      switch self {
      case .blocks(let blocks): blocks.ternaryRows(scale)
      case .floats(let floats): floats.ternaryRows(scale)
      }
    }
  }
}

extension GGUFSource: WeightSource {
  package var identity: SourceIdentity? {
    SourceIdentity(files: gguf.parts.map(\.identity), reading: [options.i2sLayout.rawValue, options.activation?.rawValue ?? ""])
  }

  package func check(_ plan: [PlannedTensor]) throws(SternaError) {
    var known: Set<String> = [Self.frequencyName, ModelPart.head.ggufName]
    for planned in plan {
      known.insert(sourceName(planned))
      switch planned.kind {
      case .vector, .table: _ = try tensor(planned, of: GGUFBlocks.types)
      case .router, .matrix: known.insert(try sourceMatrix(planned).name)
      case .experts:
        guard case .block(let block, _) = planned.part else { continue }
        for linear in [Linear.gate, .up, .down] { known.insert(try sourceMatrix(configuration.expert(block, 0, linear)).name) }
      case .ternary(let rows, let columns):
        _ = try matrix(planned, rows, columns)
        if let scale = scaleName(planned) { known.insert(scale) }
      }
    }
    // A bias that nobody adds, or a norm that nobody applies, would be nonsense without an error.
    for tensor in gguf.tensors where !known.contains(tensor.name) && !isLeftOut(tensor.name) {
      throw SternaError(
        .unsupported, "a model of this architecture has no such tensor", at: place(tensor.name), found: "\(tensor.type.label) \(tensor.shape)",
        remedy: "this is another kind of model than \(configuration.architecture), or was converted by a tool that Sterna does not know")
    }
  }

  package func floats(_ planned: PlannedTensor, rows: Range<Int>, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    switch planned.kind {
    case .router, .matrix:
      try sourceMatrix(planned).matrix.floats(rows, into: out)
      return
    default: break
    }
    let tensor = try tensor(planned, of: GGUFBlocks.types)
    try GGUFTensorValues(gguf: gguf, tensor: tensor).floats(from: rows.isEmpty ? 0 : rows.lowerBound * (out.count / rows.count), into: out)
  }

  package func ternary(_ planned: PlannedTensor) throws(SternaError) -> TernaryRows {
    guard case .ternary(let rows, let columns) = planned.kind, let scale = scales[planned.part] else {
      throw SternaError(.badFile, "not a matrix of this model", at: planned.name)
    }
    let stored = try scaled(matrix(planned, rows, columns).ternaryRows(scale), planned)
    guard interleaves, case .block(_, .linear(let linear)) = planned.part, linear == .query || linear == .key else { return stored }
    let half = configuration.headSize / 2
    let scalesPerRow = scale == .groups ? columns / ExactTernary.groupColumns : 1
    // Stored row 2i + j of a head is row i + j * half: the pair (i, i + half) that is rotated together lies side by side.
    return TernaryRows(scale: stored.scale) { (range, weights, scales) throws(SternaError) in
      for (i, row) in range.enumerated() {
        let within = row % (2 * half)
        let from = row - within + within % half * 2 + within / half
        try stored.read(from..<from + 1, weights + i * columns, scales + (stored.hasScales ? i * scalesPerRow : 0))
      }
    }
  }

  /// Some converters write codes of 1 and the matrix's scale beside them, `blk.0.attn_q.scale`.
  private func scaleName(_ planned: PlannedTensor) -> String? {
    let suffix = ".weight"
    guard planned.name.hasSuffix(suffix) else { return nil }
    let name = planned.name.dropLast(suffix.count) + ".scale"
    return gguf.tensor(String(name)) == nil ? nil : String(name)
  }

  private func scaled(_ stored: TernaryRows, _ planned: PlannedTensor) throws(SternaError) -> TernaryRows {
    guard let name = scaleName(planned), let tensor = gguf.tensor(name) else { return stored }
    guard tensor.shape == [1], GGUFBlocks.types.contains(tensor.type), case .tensor(let scale) = stored.scale else {
      throw SternaError(.unsupported, "only one scale a matrix is supported", at: place(name), expected: "F32 [1]", found: "\(tensor.type.label) \(tensor.shape)")
    }
    var factor: Float = 0
    let result = withUnsafeMutablePointer(to: &factor) { pointer in
      Result { () throws(SternaError) in
        try GGUFTensorValues(gguf: gguf, tensor: tensor).floats(from: 0, into: UnsafeMutableBufferPointer(start: pointer, count: 1))
      }
    }
    try result.get()
    guard factor > 0, (scale * factor).isFinite, scale * factor > 0 else {
      throw SternaError(.badFile, "is not a usable scale", at: place(name), expected: "a positive number", found: "\(factor)")
    }
    return TernaryRows(scale: .tensor(scale * factor), read: stored.read)
  }
}

extension TernaryRows {
  /// Whether `read` writes scales.
  fileprivate var hasScales: Bool { if case .tensor = scale { false } else { true } }
}

/// A tensor of a GGUF file, read as float32.
struct GGUFTensorValues {
  let gguf: GGUFFile
  let tensor: GGUFFile.Tensor

  /// Values from a position on; refused unless all are finite. Their pages are given back.
  /// - Precondition: a type of `GGUFBlocks.matrixTypes`; `first` and the number of values are whole blocks of the tensor.
  func floats(from first: Int, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    guard let base = gguf.bytes(of: tensor).baseAddress, let to = out.baseAddress else { return }
    let (elements, bytes) = tensor.type.block
    let begin = first / elements * bytes
    let size = out.count / elements * bytes
    guard begin >= 0, size >= 0, begin <= tensor.byteCount, size <= tensor.byteCount - begin else {
      throw SternaError(.badFile, "does not hold so many values", at: tensor.place)
    }
    GGUFBlocks.floats(tensor.type, from: base + begin, blocks: out.count / elements, into: to)
    var sum: Float = 0
    for value in out { sum += value - value }
    guard sum == 0 else {
      let at = out.firstIndex { !$0.isFinite } ?? 0
      throw SternaError(
        .badFile, "holds a value that is not a finite number", at: tensor.place, found: "\(out[at]) as value \(first + at)")
    }
    tensor.file.release(tensor.offset + begin..<tensor.offset + begin + size)
  }
}
