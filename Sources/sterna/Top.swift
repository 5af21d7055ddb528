import Agent
import ArgumentParser
import Basics
import Glibc

struct Top: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Watch an agent or a fleet: state, model, jobs a second, queue, memory, errors.",
    discussion: """
      A broker that is away is tried again until it is there. End with Ctrl-C.

        sterna top --host broker.local
        sterna top --once --json | jq .
      """)

  @Option(help: "The broker's host.")
  var host = "127.0.0.1"
  @Option(help: "The broker's port.")
  var port = 1883
  @Option(help: "User name; the password is taken from STERNA_MQTT_PASSWORD.")
  var username: String?
  @Option(help: "First levels of every topic.")
  var base = "sterna"
  @Option(help: "Only this agent. (default: all)")
  var agent: String?
  @Flag(help: "Print once what is known now, and end.")
  var once = false
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard 1...65_535 ~= port else { throw ValidationError("--port: expected 1...65535, found \(port)") }
  }

  func run() throws {
    var mqtt = AgentConfiguration.MQTT()
    (mqtt.host, mqtt.port, mqtt.username, mqtt.password) = (host, port, username, environment()["STERNA_MQTT_PASSWORD"])
    if once {
      let watcher = try FleetWatcher(mqtt, base: base, agent: agent)
      // Retained messages come at once, and there is no telling which one is the last.
      let end = monotonicSeconds() + 1
      while monotonicSeconds() < end { try watcher.turn(100, asking: false) }
      let agents = watcher.view.agents
      if output.json { for agent in agents { printLine(agent.json.compact) } } else { printLine(Screen.lines(agents).joined(separator: "\n")) }
      if agents.isEmpty {
        note("no agent has ever said anything on \(base)/\(agent ?? "+")/state of this broker")
        throw ExitCode(1)
      }
      return
    }
    let screen = output.json || isatty(STDOUT_FILENO) == 0 ? nil : Screen()
    defer { screen?.close() }
    while true {
      do throws(SternaError) {
        let watcher = try FleetWatcher(mqtt, base: base, agent: agent)
        var shownAt = 0.0
        while true {
          try watcher.turn(200, asking: true)
          guard monotonicSeconds() - shownAt >= 1 else { continue }
          shownAt = monotonicSeconds()
          show(watcher.view.agents, nil, screen)
        }
      } catch { show([], error, screen) }
      sleep(2)
    }
  }

  private func show(_ agents: [FleetView.Agent], _ error: SternaError?, _ screen: Screen?) {
    guard let screen else {
      if let error { note("\(error.description)\ntrying again") }
      if output.json { for agent in agents { printLine(agent.json.compact) } } else if !agents.isEmpty { printLine(Screen.lines(agents).joined(separator: "\n")) }
      return
    }
    let title = "sterna top   \(host):\(port)   \(base)/\(agent ?? "+")   \(UTCTime().text)   Ctrl-C ends"
    let body: [String]
    if let error {
      body = error.description.split(separator: "\n").map(String.init) + ["trying again"]
    } else {
      body = agents.isEmpty ? ["no agent has said anything yet"] : Screen.lines(agents)
    }
    screen.draw([title, ""] + body)
  }
}

/// A terminal with nothing but ours on it, given back as it was.
private struct Screen {
  // Another buffer, no cursor; and back.
  private static let enter = "\u{1B}[?1049h\u{1B}[?25l"
  private static let leave: StaticString = "\u{1B}[?25h\u{1B}[?1049l"

  init() {
    for number in [SIGINT, SIGTERM, SIGHUP] {
      signal(number) { number in
        Screen.restore()
        _exit(128 + number)
      }
    }
    put(Self.enter)
  }

  func close() { Self.restore() }

  /// Also called by a signal handler, so it does nothing but write.
  private static func restore() { _ = write(STDOUT_FILENO, leave.utf8Start, leave.utf8CodeUnitCount) }

  /// Draws over what was there, so that nothing flickers.
  func draw(_ lines: [String]) {
    var size = winsize()
    _ = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size)
    let (rows, columns) = (size.ws_row > 1 ? Int(size.ws_row) : 24, size.ws_col > 1 ? Int(size.ws_col) : 80)
    var text = "\u{1B}[H"
    for line in lines.prefix(rows - 1) { text += line.prefix(columns) + "\u{1B}[K\r\n" }
    put(text + "\u{1B}[J")
  }

  private func put(_ text: String) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let written = bytes.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if written < 0 && errno == EINTR { continue }
      guard written > 0 else { return }
      bytes = bytes.dropFirst(written)
    }
  }

  /// One row an agent, and under it why it is not well.
  static func lines(_ agents: [FleetView.Agent]) -> [String] {
    var rows = [["AGENT", "STATE", "JOBS/S", "QUEUE", "UNSENT", "DONE", "FAILED", "RUN MS", "RSS MB", "UP", "MODEL"]]
    for agent in agents {
      func number(_ value: Int?) -> String { value.map(String.init) ?? "-" }
      let rate: String = agent.rate.map { $0.formatted(1) } ?? "-"
      let memory: String = agent.residentBytes.map { (Double($0) / 1e6).formatted(0) } ?? "-"
      let uptime: String = agent.uptimeSeconds.map(duration) ?? "-"
      let counts: [String] = [number(agent.queue), number(agent.unsent), number(agent.done), number(agent.failed), number(agent.averageRunMilliseconds)]
      rows.append([agent.id, plain(agent.state ?? "-"), rate] + counts + [memory, uptime, plain(agent.model ?? "-")])
    }
    let table = table(rows).split(separator: "\n").map(String.init)
    let rate = agents.compactMap(\.rate).reduce(0, +)
    let queued = agents.compactMap(\.queue).reduce(0, &+)
    var lines = [table[0]]
    for (agent, row) in zip(agents, table.dropFirst()) {
      lines.append(row)
      for text in [agent.reason, agent.lastError].compactMap({ $0 }) { lines.append("  " + plain(text)) }
    }
    return lines + (agents.count > 1 ? ["", "\(agents.count) agents, \(rate.formatted(1)) jobs/s, \(queued) queued"] : [])
  }

  /// What others wrote, without what a terminal would obey.
  private static func plain(_ text: String) -> String {
    var shown = String.UnicodeScalarView()
    for scalar in text.unicodeScalars.prefix(300) {
      let isControl = scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
      shown.append(isControl ? " " : scalar)
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
