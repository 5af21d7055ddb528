import Basics
import Crypto
import Glibc

/// What a source was when it was packed, and how it was read: packing that was interrupted goes on only with the same.
package struct SourceIdentity: Sendable {
  /// Of each file, its name, size and time.
  var files: [String]
  /// What was asked for.
  var reading: [String] = []
}

/// What is already written of a packed file: a text beside it, `NAME.state.partial`, with a line that says of what and one for each step (a section, a planned
/// tensor) whose bytes are on stable storage. A line that is not whole, because the machine stopped in the middle of it, counts as none.
final class PackJournal {
  /// What is left of a step when its bytes are written.
  struct Step {
    /// Of its tensors: a ternary matrix may have a second one with scales.
    var checksums: [String]
    /// A ternary matrix's scale, a table's loss, the records' checksums.
    var words: [UInt64]
  }

  private static let mark = "sterna-pack-1"
  let path: String
  private let descriptor: Int32
  /// What an interrupted packing of the same source with the same options had done.
  private(set) var steps: [Step] = []
  /// Of ternary matrices, where it was left to the machine: a measurement may come out otherwise today.
  private(set) var layout: TernaryMatrix.Layout?
  /// Why that of an interrupted packing is of no use.
  private(set) var mismatch: String?
  private let identity: String
  private var pending = ""

  /// - Parameters:
  ///   - output: of the packed file.
  ///   - options: all that the file depends on but the source.
  init(beside output: String, _ source: SourceIdentity, options: [String]) throws(SternaError) {
    path = output + ".state.partial"
    func digest(_ lines: [String]) -> String { hexadecimal(SHA256.hash(data: Array(lines.joined(separator: "\n").utf8))) }
    let sourceDigest = digest(source.files)
    let optionsDigest = digest(source.reading + options)
    identity = "\(Self.mark) \(sourceDigest) \(optionsDigest)"
    let found = isFile(path) ? try readWholeFile(path, limit: 1 << 28) : []
    var lines = found.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
    _ = lines.popLast()  // what stands behind the last end of a line is not whole
    descriptor = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw SternaError(.io, "cannot create this file", at: path, cause: String(cString: strerror(errno))) }
    guard let first = lines.first else { return }
    let head = first.split(separator: " ").map(String.init)
    if head.count != 4 || head[0] != Self.mark {
      mismatch = "by another version of Sterna"
    } else if head[1] != sourceDigest {
      mismatch = "from another source, or from this one before it was changed"
    } else if head[2] != optionsDigest {
      mismatch = "with other options"
    } else {
      layout = TernaryMatrix.Layout(rawValue: head[3])
      steps = lines.dropFirst().map(Self.step).prefix { $0 != nil }.compactMap { $0 }
    }
  }

  deinit { close(descriptor) }

  /// As many checksums as a step has, a colon, and its words in hexadecimal digits.
  private static func step(_ line: String) -> Step? {
    let halves = line.split(separator: ":", omittingEmptySubsequences: false)
    guard halves.count == 2 else { return nil }
    let checksums = halves[0].split(separator: " ").map(String.init)
    let words = halves[1].split(separator: " ").map { UInt64($0, radix: 16) }
    guard !checksums.isEmpty, checksums.allSatisfy({ $0.utf8.count == 64 }), words.allSatisfy({ $0 != nil }) else { return nil }
    return Step(checksums: checksums, words: words.compactMap { $0 })
  }

  /// Writes the beginning again, with the first steps.
  func restart(keeping count: Int, layout: TernaryMatrix.Layout) throws(SternaError) {
    steps.removeLast(steps.count - count)
    guard ftruncate(descriptor, 0) == 0, lseek(descriptor, 0, SEEK_SET) == 0 else { throw refused() }
    pending = "\(identity) \(layout.rawValue)\n"
    for step in steps { add(step) }
    try write()
  }

  /// To be written with the next `write`.
  func add(_ step: Step) {
    pending += step.checksums.joined(separator: " ") + ":" + step.words.map { String($0, radix: 16) }.joined(separator: " ") + "\n"
  }

  /// Brings what was added to stable storage, behind the bytes that it is about.
  func write() throws(SternaError) {
    var bytes = Array(pending.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw refused() }
      bytes = bytes.dropFirst(count)
    }
    guard fdatasync(descriptor) == 0 else { throw refused() }
    pending = ""
  }

  /// When the file is finished, or nobody can go on with it.
  func remove() { unlink(path) }

  private func refused() -> SternaError { SternaError(.io, "cannot write this file", at: path, cause: String(cString: strerror(errno))) }
}

extension MappedFile {
  /// What tells this file from another, or from itself before it was changed.
  var identity: String {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return path }
    let name = path.split(separator: "/").last.map(String.init) ?? path
    return "\(name) \(status.st_size) \(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
  }
}
