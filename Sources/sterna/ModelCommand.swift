import Agent
import ArgumentParser
import Basics
import ModelFile

struct ModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract: "Install a model from a stick, go back to the one before, show what there is.",
    subcommands: [Install.self, Rollback.self, List.self])

  /// The agent whose models are meant.
  struct AgentArguments: ParsableArguments {
    @Option(help: "The agent's configuration, a TOML file.", completion: .file(extensions: ["toml"]))
    var config: String
    @Option(help: "The broker's user for asking a running agent, where that of the configuration may not; the password is taken from STERNA_MQTT_PASSWORD.")
    var username: String?

    func load() throws -> (AgentConfiguration, ModelStore) {
      var configuration = try AgentConfiguration.load(path: config, environment: processEnvironment())
      configuration.mqtt.username = username ?? configuration.mqtt.username
      let store = ModelStore(configuration.model)
      if let complaint = store.complaint { note("\(complaint)") }
      return (configuration, store)
    }
  }

  struct Install: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Check a model, copy it to the agent's folder, try it out, and change to it.",
      discussion: """
        The agent goes on answering meanwhile; no job is lost. If the new model does not work the one before stays.
        With systemd the state is in /var/lib/sterna: STATE_DIRECTORY=/var/lib/sterna sterna model install ...

          sterna model install /media/stick/line3.gguf --config /etc/sterna/config.toml
        """)

    @Argument(help: "The packed model, with its manifest and signature beside it.", completion: .file(extensions: ["gguf"]))
    var model: String
    @OptionGroup var agent: AgentArguments

    func run() throws {
      let (configuration, store) = try agent.load()
      let progress = progressNotes()
      func copied(_ done: Int, _ all: Int) { progress("\(done / 1_000_000) of \(all / 1_000_000) MB copied") }
      // What nobody signed nobody has looked at, either.
      if !configuration.model.requiresSignature { try PackedModel.open(model).verify() }
      if store.claim() {
        let installed = try store.install(model, load: { try makeEngine(configuration, model: $0) }, progress: copied)
        printLine("\(words(installed)) is installed; the agent has it from its next start on")
      } else {
        let installed = try store.stage(model, progress: copied)
        note("\(words(installed)) is copied; asking the agent to change to it")
        printLine("in use: \(try Requester.request("model/load", ["model": .string(installed.file)], of: configuration).compact)")
      }
    }
  }

  struct Rollback: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Go back to the model that was in use before. A second time goes forward again.")
    @OptionGroup var agent: AgentArguments

    func run() throws {
      let (configuration, store) = try agent.load()
      if store.claim() {
        let choice = try store.rollBack(load: { try makeEngine(configuration, model: $0) })
        printLine("\(words(choice, store)) is installed; the agent has it from its next start on")
      } else {
        printLine("in use: \(try Requester.request("model/rollback", [:], of: configuration).compact)")
      }
    }
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show the model in use, the one before, and the newest releases that were here.")
    @OptionGroup var agent: AgentArguments

    func run() throws {
      let (_, store) = try agent.load()
      let state = store.state
      printLine("current   \(words(state.current, store))")
      if let previous = state.previous { printLine("previous  \(words(previous, store))") }
      for (name, release) in state.releases.sorted(by: { $0.key < $1.key }) { printLine("newest    \(name), release \(release)") }
    }
  }
}

private func words(_ model: ModelStore.Installed) -> String {
  model.name + (model.release.map { ", release \($0)" } ?? ", not signed") + " (\(model.file))"
}

private func words(_ choice: ModelStore.Choice, _ store: ModelStore) -> String {
  switch choice {
  case .configured: "\(store.path(of: choice)), of the configuration"
  case .installed(let model): words(model)
  }
}
