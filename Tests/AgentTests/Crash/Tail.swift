import Foundation

/// The lines of a file that another process writes, as they come.
final class Tail {
  private let path: String
  private var handle: FileHandle?
  private var rest: [UInt8] = []

  init(_ path: String) { self.path = path }

  /// Whole lines since the last call.
  func read() throws -> [String] {
    if handle == nil { handle = FileHandle(forReadingAtPath: path) }
    guard let new = try handle?.readToEnd(), !new.isEmpty else { return [] }
    rest += new
    guard let end = rest.lastIndex(of: 0x0A) else { return [] }
    defer { rest.removeFirst(end + 1) }
    return rest[..<end].split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
  }
}
