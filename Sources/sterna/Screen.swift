import Glibc

/// A terminal with nothing but ours on it, given back as it was: also when a signal ends us, and while Ctrl-Z holds us.
struct Screen {
  // Another buffer, no cursor, no wrapped lines; and back.
  private static let enter: StaticString = "\u{1B}[?1049h\u{1B}[?25l\u{1B}[?7l"
  private static let leave: StaticString = "\u{1B}[?7h\u{1B}[?25h\u{1B}[?1049l"

  /// Nil where standard output is no terminal.
  init?() {
    guard isatty(STDOUT_FILENO) == 1 else { return nil }
    // Handlers do nothing but write and raise.
    for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
      signal(number) { number in
        Screen.put(Screen.leave)
        signal(number, SIG_DFL)
        raise(number)
      }
    }
    signal(SIGTSTP) { _ in
      Screen.put(Screen.leave)
      raise(SIGSTOP)
      Screen.put(Screen.enter)
    }
    Self.put(Self.enter)
  }

  private static func put(_ text: StaticString) { _ = Glibc.write(STDOUT_FILENO, text.utf8Start, text.utf8CodeUnitCount) }

  func close() { Self.put(Self.leave) }

  /// Rows and columns.
  var size: (rows: Int, columns: Int) {
    var size = winsize()
    _ = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size)
    return (size.ws_row > 1 ? Int(size.ws_row) : 24, size.ws_col > 1 ? Int(size.ws_col) : 80)
  }

  /// Draws over what was there, so that nothing flickers.
  func draw(_ lines: [String]) {
    let rows = size.rows
    var shown = Array(lines.prefix(rows))
    if lines.count > rows { shown[rows - 1] = "... and \(lines.count - rows + 1) lines more" }
    // No line break behind the last row: it would push the first one out.
    let text = shown.map { $0 + "\u{1B}[K" }.joined(separator: "\r\n")
    write("\u{1B}[H" + text + "\u{1B}[J", to: STDOUT_FILENO)
  }
}
