import Basics
import Crypto
import Glibc

/// Writes a GGUF file as a stream: the header first, then the tensors in order, piece by piece. The file gets its name only in
/// `finish`, when all of it is on stable storage; until then it has a temporary name, and it is removed when anything fails.
///
/// Metadata that is known only at the end (checksums, scales) is written twice: as a placeholder of the same length, and in `finish`.
final class GGUFWriter {
  let path: String
  private let temporaryPath: String
  private let alignment: Int
  private var header: GGUFHeader
  private let headerCount: Int
  private let sizes: [Int]
  private var descriptor: Int32
  private var position = 0
  private var current = 0
  private var written = 0
  private var hash = SHA256()
  /// SHA-256 of the tensors finished so far, as hexadecimal digits.
  private(set) var checksums: [String] = []

  /// Opens the temporary file and writes the header.
  /// - Parameter metadata: must hold `general.alignment` where `alignment` is not 32.
  init(
    _ path: String, metadata: [(key: String, value: GGUFValue)], tensors: [(name: String, type: GGUFTensorType, shape: [Int])], alignment: Int
  ) throws(SternaError) {
    self.path = path
    self.alignment = alignment
    temporaryPath = "\(path).\(getpid()).partial"
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
    descriptor = open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Self.refused("cannot create this file", temporaryPath) }
    try checkSpace(Self.aligned(headerCount, alignment) + offset)
    try put(bytes)
    try pad()
  }

  deinit {
    if descriptor >= 0 {  // not finished
      close(descriptor)
      unlink(temporaryPath)
    }
  }

  private static func aligned(_ value: Int, _ alignment: Int) -> Int { (value + alignment - 1) / alignment * alignment }

  private static func refused(_ message: String, _ path: String) -> SternaError {
    SternaError(.io, message, at: path, cause: String(cString: strerror(errno)))
  }

  /// Better now than after ten minutes.
  private func checkSpace(_ bytes: Int) throws(SternaError) {
    var status = statvfs()
    guard fstatvfs(descriptor, &status) == 0 else { return }
    let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
    guard free >= UInt64(bytes) else {
      throw SternaError(.io, "there is not enough free space for this file", at: path, expected: "\(bytes) bytes", found: "\(free) bytes")
    }
  }

  private func put(_ bytes: UnsafeRawBufferPointer) throws(SternaError) {
    var rest = bytes
    while !rest.isEmpty {
      let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw Self.refused("cannot write this file", temporaryPath) }
      position += count
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  private func put(_ bytes: [UInt8]) throws(SternaError) {
    try bytes.withUnsafeBytes { raw in Result { () throws(SternaError) in try put(raw) } }.get()
  }

  private func pad() throws(SternaError) {
    let zeros = [UInt8](repeating: 0, count: Self.aligned(position, alignment) - position)
    try put(zeros)
  }

  /// Appends to the current tensor. With its last byte the tensor is finished and the next one is current.
  func write(_ bytes: UnsafeRawBufferPointer) throws(SternaError) {
    guard current < sizes.count, bytes.count <= sizes[current] - written else {
      throw SternaError(.badFile, "more data than the tensors take", at: current < sizes.count ? "tensor \(header.tensors[current].name)" : path)
    }
    try put(bytes)
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

  /// Writes the header again with the final values of some keys, makes sure that all is on stable storage, and gives the file its name.
  func finish(replacing values: [String: GGUFValue] = [:]) throws(SternaError) {
    guard current == sizes.count else {
      throw SternaError(.badFile, "a tensor is not complete", at: "tensor \(header.tensors[current].name)", expected: "\(sizes[current]) bytes", found: "\(written)")
    }
    for i in header.metadata.indices { header.metadata[i].value = values[header.metadata[i].key] ?? header.metadata[i].value }
    let bytes = header.serialised()
    guard bytes.count == headerCount else { throw SternaError(.badFile, "the final header has another length than the first", at: path) }
    guard lseek(descriptor, 0, SEEK_SET) == 0 else { throw Self.refused("cannot write this file", temporaryPath) }
    try put(bytes)
    guard fsync(descriptor) == 0 else { throw Self.refused("cannot bring this file to stable storage", temporaryPath) }
    guard rename(temporaryPath, path) == 0 else { throw Self.refused("cannot give this file its name", path) }
    close(descriptor)
    descriptor = -1
    // The name is durable once its directory is.
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
    let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if directory >= 0 {
      fsync(directory)
      close(directory)
    }
  }
}

/// Bytes as lower-case hexadecimal digits.
package func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789abcdef".utf8)
  return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}
