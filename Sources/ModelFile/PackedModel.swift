import Basics
import CTernary
import Crypto

/// A packed model file (docs/format.md), mapped and checked.
///
/// Owns the mapping: `weights` and sections are valid as long as this object lives. Swift may release an object after its *last use*,
/// so keep it in a property beside what reads the weights, or use `withExtendedLifetime`.
public final class PackedModel: Sendable {
  public let path: String
  public let configuration: ModelConfiguration
  public let weights: ModelWeights
  /// 64 hexadecimal digits: SHA-256 of the header, which holds the checksum of every tensor.
  public let fingerprint: String
  /// Size of the file.
  public let fileBytes: Int
  /// Everything else that the file holds.
  public let gguf: GGUFFile
  /// The bytes of the file, from its beginning, in which everything lies that each token reads: all tensors but the embedding, a head of its own,
  /// the experts and the sections. Whole pages; no table shares one with it.
  public let bodyRange: Range<Int>
  /// Of every tensor of `gguf`, in its order.
  private let checksums: [String]
  /// Of every ternary matrix, by its name.
  private let matrices: [String: MatrixStorage]

  /// Maps a file and checks its header against the shapes that its architecture must have. Reads nothing but the header, so this
  /// takes milliseconds for any model; that the data is what was packed is checked by `verify()`. Wrong data can make wrong answers,
  /// but no access outside the mapping: all sizes come from the configuration.
  public static func open(_ path: String) throws(SternaError) -> PackedModel {
    let gguf = try GGUFFile(path)
    do {
      return try PackedModel(gguf)
    } catch {
      throw error.within(path)
    }
  }

  /// Whether a GGUF file was packed for Sterna, in any version of the format.
  public static func isPacked(_ gguf: GGUFFile) -> Bool { gguf.metadata[PackedFormat.Key.version] != nil }

  private init(_ gguf: GGUFFile) throws(SternaError) {
    let metadata = MetadataReader(values: gguf.metadata)
    guard let version = gguf.metadata[PackedFormat.Key.version] else {
      throw SternaError(
        .unsupported, "this is a GGUF file, but not one that was packed for Sterna", expected: "the key \(PackedFormat.Key.version)",
        remedy: "pack it first: sterna pack SOURCE -o model.gguf")
    }
    guard version == .uint32(PackedFormat.version) else {
      throw SternaError(
        .unsupported, "this file was packed in another version of the format", at: "key \(PackedFormat.Key.version)",
        expected: "\(PackedFormat.version)", found: version.int.map { "\($0)" } ?? version.kind, remedy: "pack the model again")
    }
    guard gguf.alignment == PackedFormat.alignment else {
      throw SternaError(.badFile, "is not that of packed files", at: "key general.alignment", expected: "\(PackedFormat.alignment)", found: "\(gguf.alignment)")
    }
    configuration = try ModelConfiguration(metadata)
    let packed = try PackedWeights(gguf, configuration, metadata)
    weights = try packed.weights()
    matrices = packed.ternary.mapValues(\.storage)
    bodyRange = try Self.bodyRange(gguf)
    gguf.file.preferHugePages(bodyRange)
    checksums = try Self.checksums(metadata, gguf)
    try Self.checkEnd(gguf)
    var hash = SHA256()
    hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: gguf.file.bytes[..<gguf.dataOffset]))
    fingerprint = hexadecimal(hash.finalize())
    self.gguf = gguf
    path = gguf.file.path
    fileBytes = gguf.file.bytes.count
  }

  /// A text of the metadata, such as `sterna.template`.
  public func metadataString(_ key: String) -> String? { gguf.metadata[key]?.string }

  /// The bytes of a section, such as `sterna.tokenizer`, in the mapped file. They begin at a multiple of 4096.
  public func section(_ name: String) -> UnsafeRawBufferPointer? {
    guard name.hasPrefix(PackedFormat.sectionPrefix) else { return nil }
    return gguf.tensor(name).map { gguf.bytes(of: $0) }
  }

  private static func checksums(_ metadata: MetadataReader, _ gguf: GGUFFile) throws(SternaError) -> [String] {
    let checksums = try metadata.strings(PackedFormat.Key.checksums)
    guard checksums.count == gguf.tensors.count else {
      throw SternaError(
        .badFile, "does not have one checksum a tensor", at: "key \(PackedFormat.Key.checksums)", expected: "\(gguf.tensors.count)", found: "\(checksums.count)")
    }
    return checksums
  }

  /// The file ends with the padding of its last tensor: anything else was cut short or has something appended.
  private static func checkEnd(_ gguf: GGUFFile) throws(SternaError) {
    let last = gguf.tensors.map { $0.offset + $0.byteCount }.max() ?? gguf.dataOffset
    let expected = (last + PackedFormat.alignment - 1) / PackedFormat.alignment * PackedFormat.alignment
    guard gguf.file.bytes.count == expected else {
      throw SternaError(
        .badFile, "this file was cut short, or something was appended", expected: "\(expected) bytes, from the header",
        found: "\(gguf.file.bytes.count) bytes", remedy: "copy it again")
    }
  }

  private static func bodyRange(_ gguf: GGUFFile) throws(SternaError) -> Range<Int> {
    let tables = [ModelPart.embedding.ggufName, ModelPart.head.ggufName]
    let body = gguf.tensors.filter { !tables.contains($0.name) && !$0.name.hasPrefix(PackedFormat.sectionPrefix) && !PackedFormat.isExperts($0.name) }
    let begin = body.map(\.offset).min() ?? gguf.dataOffset
    let end = body.map { $0.offset + $0.byteCount }.max() ?? begin
    for table in gguf.tensors where (tables.contains(table.name) || PackedFormat.isExperts(table.name)) && table.offset > begin && table.offset < end {
      throw SternaError(.badFile, "lies between the tensors of the blocks", at: "tensor \(table.name)", remedy: "pack the model again")
    }
    return begin..<(end + PackedFormat.alignment - 1) / PackedFormat.alignment * PackedFormat.alignment
  }

  /// Reads the whole file: every tensor must have the checksum that the header says, every ternary code must be one, and every norm, scale
  /// and embedding finite. Takes about a second a gigabyte, and leaves no pages behind in this process.
  public func verify() throws(SternaError) {
    let scales = Set(matrices.keys.map(PackedFormat.scaleName))
    for (tensor, checksum) in zip(gguf.tensors, checksums) {
      let place = "\(path): tensor \(tensor.name)"
      let check = TensorCheck(tensor.type, layout: matrices[tensor.name]?.layout, isScale: scales.contains(tensor.name))
      var hash = SHA256()
      let step = check.stepBytes
      for begin in stride(from: tensor.offset, to: tensor.offset + tensor.byteCount, by: step) {
        let end = min(begin + step, tensor.offset + tensor.byteCount)
        let chunk = UnsafeRawBufferPointer(rebasing: gguf.file.bytes[begin..<end])
        hash.update(bufferPointer: chunk)
        if let wrong = check.firstError(chunk) {
          throw SternaError(.badFile, wrong.message, at: place + " (byte \(begin + wrong.offset))", found: wrong.found)
        }
        // The page that the last chunk ended in too.
        gguf.file.release(begin / PackedFormat.alignment * PackedFormat.alignment..<end)
      }
      let found = hexadecimal(hash.finalize())
      guard found == checksum else {
        throw SternaError(.badFile, "does not have the checksum that the header says", at: place, expected: checksum, found: found, remedy: "copy the file again")
      }
    }
  }
}
