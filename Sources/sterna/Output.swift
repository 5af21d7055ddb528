import ArgumentParser
import Basics
import Glibc

/// How results leave the command line: text for people, or one JSON object a line for programs.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON object a line, for programs.")
  var json = false
}

/// Writes to standard error, where progress and warnings go, so that standard output holds results alone.
func note(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

/// Prints one line at once: whoever reads the other end of a pipe sees each line when it is made.
func printLine(_ text: String) { write(text + "\n", to: STDOUT_FILENO) }

/// Writes all of a text, as long as somebody reads.
func write(_ text: String, to descriptor: Int32) {
  var bytes = Array(text.utf8)[...]
  while !bytes.isEmpty {
    let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    if written < 0 && errno == EINTR { continue }
    guard written > 0 else { return }  // nobody reads any more
    bytes = bytes.dropFirst(written)
  }
}

/// Whether the other end of a pipe, or the terminal, is still there.
var isOutputRead: Bool {
  var descriptor = pollfd(fd: STDOUT_FILENO, events: 0, revents: 0)
  return poll(&descriptor, 1, 0) <= 0 || descriptor.revents & Int16(POLLERR | POLLHUP) == 0
}

/// Right-aligned columns under their titles, two spaces apart.
func table(_ rows: [[String]]) -> String {
  guard let columns = rows.first?.count else { return "" }
  let widths = (0..<columns).map { column in rows.map { $0[column].count }.max() ?? 0 }
  return rows.map { row in
    row.enumerated().map { $0 == 0 ? $1 + String(repeating: " ", count: widths[0] - $1.count) : String(repeating: " ", count: widths[$0] - $1.count) + $1 }
      .joined(separator: "  ")
  }.joined(separator: "\n")
}

extension Double {
  /// With a fixed number of decimals, without Foundation.
  func formatted(_ decimals: Int) -> String {
    var scale = 1.0
    for _ in 0..<decimals { scale *= 10 }
    let rounded = (self * scale).rounded()
    guard rounded.isFinite, abs(rounded) < 1e15 else { return "\(self)" }
    let digits = String(Int(abs(rounded)))
    let padded = String(repeating: "0", count: max(0, decimals + 1 - digits.count)) + digits
    let sign = rounded < 0 ? "-" : ""
    return decimals == 0 ? sign + padded : sign + padded.dropLast(decimals) + "." + padded.suffix(decimals)
  }
}
