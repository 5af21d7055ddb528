import Basics
import Glibc
import Logging

/// One line a message on stderr. Under systemd the journal adds the time and reads the level from the number in front.
struct StandardErrorLog: LogHandler {
  var logLevel: Logger.Level = .info
  var metadata: Logger.Metadata = [:]
  private let isJournal: Bool

  init(level: Logger.Level, environment: [String: String]) {
    logLevel = level
    isJournal = environment["JOURNAL_STREAM"] != nil
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    write(event.level, "\(event.message)", event.metadata)
  }

  func log(
    level: Logger.Level, message: Logger.Message, metadata extra: Logger.Metadata?, source: String, file: String, function: String, line: UInt
  ) {
    write(level, "\(message)", extra)
  }

  private func write(_ level: Logger.Level, _ message: String, _ extra: Logger.Metadata?) {
    var text = message
    for (key, value) in metadata.merging(extra ?? [:], uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }) { text += " \(key)=\(value)" }
    let number = switch level {
    case .critical: 2
    case .error: 3
    case .warning: 4
    case .notice: 5
    case .info: 6
    case .debug, .trace: 7
    }
    // Names that strangers chose may be among the words: whoever reads the log on a terminal must not obey them.
    let said = text.split(separator: "\n").map(\.withoutControls)
    let lines = isJournal ? said.map { "<\(number)>\($0)\n" }.joined() : "\(Clock.text(Clock.wall)) \(level) \(said.joined(separator: "\n"))\n"
    var bytes = Array(lines.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(2, $0.baseAddress, $0.count) }
      guard count > 0 else { return }
      bytes = bytes.dropFirst(count)
    }
  }
}

extension Logger {
  static func standardError(_ level: AgentConfiguration.LogLevel, environment: [String: String]) -> Logger {
    let level: Logger.Level = switch level {
    case .debug: .debug
    case .info: .info
    case .warning: .warning
    case .error: .error
    }
    return Logger(label: "sterna") { _ in StandardErrorLog(level: level, environment: environment) }
  }
}
