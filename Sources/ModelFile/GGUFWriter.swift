import Basics
import Crypto

/// Writes a GGUF file as a stream: the header first, then the tensors in order, piece by piece. The file gets its name only in
/// `finish`, when all of it is on stable storage. One that was interrupted is gone on with behind the last finished tensor.
///
/// Metadata that is known only at the end (checksums, scales) is written twice: as a placeholder of the same length, and in `finish`.
final class GGUFWriter {
  private let file: DurableFile
  private let alignment: Int
  private var header: GGUFHeader
  private let headerCount: Int
  private let sizes: [Int]
  private var current = 0
  private var written = 0
  private var hash = SHA256()
  /// SHA-256 of the tensors finished so far, as hexadecimal digits.
  private(set) var checksums: [String] = []

  /// Of the whole file.
  let totalBytes: Int
  /// Of the file, up to the last that was written.
  var writtenBytes: Int { file.position }

  /// Writes the header.
  /// - Parameters:
  ///   - metadata: must hold `general.alignment` where `alignment` is not 32.
  ///   - finished: the checksums of the first tensors, where the file holds a header of the same length and these already. Where it does not, all begins again:
  ///     `checksums` says it.
  init(
    _ file: DurableFile, metadata: [(key: String, value: GGUFValue)], tensors: [(name: String, type: GGUFTensorType, shape: [Int])], alignment: Int,
    finished: [String] = []
  ) throws(SternaError) {
    self.file = file
    self.alignment = alignment
    var entries: [GGUFHeader.TensorEntry] = []
    var sizes: [Int] = []
    var offset = 0
    for tensor in tensors {
      guard let bytes = tensor.type.bytes(shape: tensor.shape), bytes < 1 << 50, offset < 1 << 50 else {
        throw SternaError(.badFile, "this shape cannot be stored", at: "tensor \(tensor.name)", found: "\(tensor.type.label) \(tensor.shape)")
      }
      entries.append(GGUFHeader.TensorEntry(name: tensor.name, type: tensor.type, shape: tensor.shape, offset: offset))
      sizes.append(bytes)
      offset = Self.aligned(offset + bytes, alignment)
    }
    header = GGUFHeader(metadata: metadata, tensors: entries)
    self.sizes = sizes
    let bytes = header.serialised()
    headerCount = bytes.count
    let dataOffset = Self.aligned(headerCount, alignment)
    totalBytes = dataOffset + offset
    if !finished.isEmpty, finished.count <= sizes.count {
      let begin = finished.count < sizes.count ? dataOffset + entries[finished.count].offset : totalBytes
      if file.position >= begin {
        checksums = finished
        current = finished.count
        try file.cut(to: begin)
        try file.requireSpace(for: totalBytes - begin)
        return
      }
    }
    try file.cut(to: 0)
    try file.requireSpace(for: totalBytes)
    try file.append(bytes)
    try pad()
  }

  private static func aligned(_ value: Int, _ alignment: Int) -> Int { (value + alignment - 1) / alignment * alignment }

  private func pad() throws(SternaError) {
    try file.append([UInt8](repeating: 0, count: Self.aligned(file.position, alignment) - file.position))
  }

  /// Appends to the current tensor. With its last byte the tensor is finished and the next one is current.
  func write(_ bytes: UnsafeRawBufferPointer) throws(SternaError) {
    guard current < sizes.count, bytes.count <= sizes[current] - written else {
      throw SternaError(.badFile, "more data than the tensors take", at: current < sizes.count ? "tensor \(header.tensors[current].name)" : file.path)
    }
    try file.append(bytes)
    hash.update(bufferPointer: bytes)
    written += bytes.count
    guard written == sizes[current] else { return }
    checksums.append(hexadecimal(hash.finalize()))
    hash = SHA256()
    written = 0
    current += 1
    try pad()
  }

  func write(_ bytes: [UInt8]) throws(SternaError) {
    try bytes.withUnsafeBytes { raw in Result { () throws(SternaError) in try write(raw) } }.get()
  }

  /// Brings what was written to stable storage.
  func sync() throws(SternaError) { try file.sync() }

  /// Writes the header again with the final values of some keys, makes sure that all is on stable storage, and gives the file its name.
  func finish(replacing values: [String: GGUFValue] = [:]) throws(SternaError) {
    guard current == sizes.count else {
      throw SternaError(.badFile, "a tensor is not complete", at: "tensor \(header.tensors[current].name)", expected: "\(sizes[current]) bytes", found: "\(written)")
    }
    for i in header.metadata.indices { header.metadata[i].value = values[header.metadata[i].key] ?? header.metadata[i].value }
    let bytes = header.serialised()
    guard bytes.count == headerCount else { throw SternaError(.badFile, "the final header has another length than the first", at: file.path) }
    try file.rewind()
    try file.append(bytes)
    try file.finish()
  }
}
