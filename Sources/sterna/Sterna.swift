import Agent
import ArgumentParser
import Basics

@main
struct Sterna: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sterna",
    abstract: "Understands text at the edge: a ternary language model that answers jobs over MQTT.",
    discussion: """
      Start with a packed model (Models/pocket.gguf comes with Sterna):

        sterna classify Models/pocket.gguf --labels leak,fire,vibration \\
          --text "water under pump 7"
        sterna run --config device-config/x86-gateway.toml

      FILE is a packed model; wherever it stands, a hub folder (config.json, *.safetensors, tokenizer.json) or a GGUF of another engine works too.
      """,
    version: Agent.version,
    subcommands: [
      Run.self, Pack.self, Inspect.self, Sign.self, Verify.self, ModelCommand.self, Schema.self, Tokenize.self, Logits.self, Generate.self, Classify.self, Extract.self, Submit.self, Top.self, Eval.self,
      Bench.self, Doctor.self, Plan.self, Experts.self, Dummy.self,
    ])
}
