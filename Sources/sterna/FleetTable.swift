import Agent

/// Agents as a table for people: one row each, and under it why it is not well.
struct FleetTable {
  let agents: [FleetView.Agent]

  private struct Column: Sendable {
    var title: String
    /// Columns with higher numbers go first where there is no room.
    var rank: Int
    var cell: @Sendable (FleetView.Agent) -> String?
  }

  private static let columns: [Column] = [
    Column(title: "AGENT", rank: 0) { $0.id },
    Column(title: "STATE", rank: 0) { $0.state.map(plain) },
    Column(title: "JOBS/S", rank: 2) { $0.rate?.formatted(1) },
    Column(title: "QUEUE", rank: 1) { count($0.queue) },
    Column(title: "UNSENT", rank: 6) { count($0.unsent) },
    Column(title: "DONE", rank: 3) { count($0.done) },
    Column(title: "FAILED", rank: 4) { count($0.failed) },
    Column(title: "RUN MS", rank: 7) { count($0.averageRunMilliseconds) },
    Column(title: "RSS MB", rank: 5) { megabytes($0.residentBytes) },
    Column(title: "UP", rank: 8) { $0.uptimeSeconds.map(duration) },
    Column(title: "MODEL", rank: 9) { $0.model.map(plain) },
  ]

  /// The whole table, or that of its columns which fit into `width`.
  func lines(width: Int = .max) -> [String] {
    var columns = Self.columns
    var rows = cells(columns)
    while let line = rows.first, line.count > width, let last = columns.map(\.rank).max(), last > 0 {
      columns.removeAll { $0.rank == last }
      rows = cells(columns)
    }
    var lines: [String] = [rows[0]]
    for (agent, row) in zip(agents, rows.dropFirst()) {
      lines.append(row)
      if let reason = agent.reason { lines.append("  " + Self.plain(reason)) }
    }
    if agents.count > 1 { lines += ["", total] }
    return lines
  }

  /// What one agent does, as a line of its own.
  static func line(_ agent: FleetView.Agent) -> String {
    let parts = columns.dropFirst(2).compactMap { column in column.cell(agent).map { value in "\(column.title.lowercased()) \(value)" } }
    let head: [String] = [agent.id, agent.state.map(plain) ?? "-"]
    let tail: [String] = agent.reason.map { [plain($0)] } ?? []
    return (head + parts + tail).joined(separator: "  ")
  }

  private func cells(_ columns: [Column]) -> [String] {
    var rows: [[String]] = [columns.map(\.title)]
    for agent in agents { rows.append(columns.map { $0.cell(agent) ?? "-" }) }
    return table(rows).split(separator: "\n").map(String.init)
  }

  private var total: String {
    let here: Int = agents.count(where: \.isHere)
    let rate: Double = agents.compactMap(\.rate).reduce(0, +)
    let queued: Int = agents.compactMap(\.queue).reduce(0, &+)
    return "\(here) of \(agents.count) agents are here, \(rate.formatted(1)) jobs/s, \(queued) in their queues"
  }

  private static func count(_ value: Int?) -> String? { value.map(String.init) }

  private static func megabytes(_ bytes: Int?) -> String? { bytes.map { (Double($0) / 1e6).formatted(0) } }

  /// What others wrote, without what a terminal would obey.
  private static func plain(_ text: String) -> String {
    var shown = String.UnicodeScalarView()
    for scalar in text.unicodeScalars.prefix(300) {
      let isVisible = switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: false
      default: true
      }
      shown.append(isVisible ? scalar : " ")
    }
    return String(shown)
  }

  private static func duration(_ seconds: Int) -> String {
    switch seconds {
    case ..<60: "\(seconds)s"
    case ..<3600: "\(seconds / 60)m"
    case ..<86_400: "\(seconds / 3600)h\(seconds / 60 % 60)m"
    default: "\(seconds / 86_400)d\(seconds / 3600 % 24)h"
    }
  }
}
