import Glibc
import ModelFile

/// Shows how far packing is: on a terminal in a line that changes, elsewhere in a line now and then. What is done in a moment is done in silence.
final class PackingNotes {
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private let begin = monotonicSeconds()
  private var shown: Double
  /// When the first byte was written, and how many were there.
  private var writing: (since: Double, bytes: Int)?
  private var hasLine = false

  private static let clearLine = "\r\u{1B}[K"

  init() { shown = begin }

  func show(_ event: PackEvent) {
    switch event {
    case .note(let text):
      clear()
      note(text)
    case .progress(let progress):
      let now = monotonicSeconds()
      if writing == nil, progress.totalBytes > 0 { writing = (now, progress.writtenBytes) }
      guard now - shown >= (isTerminal ? 0.25 : shown == begin ? 1 : 10) else { return }
      shown = now
      let text = line(progress, now)
      if !isTerminal { note(text) } else {
        hasLine = true
        write(Self.clearLine + text.prefix(columns - 1), to: STDERR_FILENO)
      }
    }
  }

  /// Before anything else is printed.
  func clear() {
    if hasLine { write(Self.clearLine, to: STDERR_FILENO) }
    hasLine = false
  }

  private var columns: Int {
    var size = winsize()
    return ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 20 ? Int(size.ws_col) : 80
  }

  /// `43 %  7.8 of 18.2 GB  212 MB/s  50 s left  expert 12 of 128 of block 5`
  private func line(_ progress: PackProgress, _ now: Double) -> String {
    guard progress.totalBytes > 0, let writing else { return progress.doing }
    var parts = ["\(Int(100 * Double(progress.writtenBytes) / Double(progress.totalBytes))) %"]
    let giga = progress.totalBytes >= 1_000_000_000
    func size(_ bytes: Int) -> String { giga ? (Double(bytes) / 1e9).formatted(1) : (Double(bytes) / 1e6).formatted(0) }
    parts.append("\(size(progress.writtenBytes)) of \(size(progress.totalBytes)) \(giga ? "GB" : "MB")")
    let rate = Double(progress.writtenBytes - writing.bytes) / max(now - writing.since, 1e-3)
    if rate > 0 {
      let left = Int(Double(progress.totalBytes - progress.writtenBytes) / rate)
      parts.append("\((rate / 1e6).formatted(rate < 1e7 ? 1 : 0)) MB/s")
      parts.append(left < 100 ? "\(left) s left" : left < 6000 ? "\(left / 60) min left" : "\(left / 3600) h \(left / 60 % 60) min left")
    }
    return (parts + [progress.doing]).joined(separator: "  ")
  }
}
