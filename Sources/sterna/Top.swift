import Agent
import ArgumentParser
import Basics
import Glibc

struct Top: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Watch an agent or a fleet: state, jobs a second, queue, memory, model.",
    discussion: """
      A broker that is away is tried again until it is there. End with Ctrl-C. Where the output is no terminal a line is printed whenever something has changed.

        sterna top --host broker.local
        sterna top --once --json
      """)

  @Option(help: "Only this agent. (default: all)")
  var agent: String?
  @Flag(help: "Print once what is known now, and end.")
  var once = false
  @OptionGroup var broker: BrokerArguments
  @OptionGroup var output: OutputOptions

  func run() throws {
    let mqtt = try broker.connection()
    if once { return try printOnce(mqtt) }
    guard !output.json, let screen = Screen() else { return try follow(mqtt) }
    defer { screen.close() }
    try watch(mqtt) { agents, error in
      var lines: [String] = ["sterna top   \(broker.host):\(broker.port)   \(broker.base)/\(agent ?? "+")   Ctrl-C ends", ""]
      if let error {
        lines += error.description.split(separator: "\n").map(String.init)
        lines.append("trying again")
      } else if agents.isEmpty {
        lines.append("no agent has said anything yet")
      } else {
        lines += FleetTable(agents: agents).lines(width: screen.size.columns)
      }
      screen.draw(lines)
    }
  }

  private func printOnce(_ mqtt: AgentConfiguration.MQTT) throws {
    let watcher = try FleetWatcher(mqtt, base: broker.base, agent: agent)
    // Retained messages come at once, and there is no telling which one is the last.
    let end = monotonicSeconds() + 1
    while monotonicSeconds() < end { try watcher.turn(100, asking: false) }
    let agents = watcher.view.agents
    guard !agents.isEmpty else {
      note("no agent has ever said anything on \(broker.base)/\(agent ?? "+")/state of this broker")
      throw ExitCode(1)
    }
    let lines = output.json ? agents.map(\.json.compact) : FleetTable(agents: agents).lines()
    for line in lines { printLine(line) }
  }

  /// For pipes and logs: one line for each agent of which something has changed.
  private func follow(_ mqtt: AgentConfiguration.MQTT) throws {
    var shown: [String: FleetView.Agent] = [:]
    var complaint = ""
    try watch(mqtt) { agents, error in
      if let error, error.description != complaint { note("\(error)\ntrying again") }
      complaint = error?.description ?? ""
      guard error == nil else { return }
      for id in Set(shown.keys).subtracting(agents.map(\.id)) { shown[id] = nil }
      for agent in agents where shown[agent.id] != agent {
        shown[agent.id] = agent
        printLine(output.json ? agent.json.compact : FleetTable.line(agent))
      }
    }
  }

  /// Shows what is known once a second, or why nothing is, until nobody looks any more.
  private func watch(_ mqtt: AgentConfiguration.MQTT, _ show: ([FleetView.Agent], SternaError?) -> Void) throws {
    while isOutputRead {
      do throws(SternaError) {
        let watcher = try FleetWatcher(mqtt, base: broker.base, agent: agent)
        var shownAt = monotonicSeconds() - 0.5  // what is retained has half a second to arrive
        while isOutputRead {
          try watcher.turn(200, asking: true)
          guard monotonicSeconds() - shownAt >= 1 else { continue }
          shownAt = monotonicSeconds()
          show(watcher.view.agents, nil)
        }
      } catch {
        guard error.code != .badConfiguration else { throw error }
        show([], error)
        sleep(1)
      }
    }
  }
}
