import ArgumentParser
import Basics
import Inference
import Tokenizer

struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Continue a text, one best token after the other.",
    discussion: """
      Greedy and unconstrained: for looking at a model, not for jobs.

        sterna generate Models/pocket.gguf --ids 0,17,4 -n 16 --json
      """)

  @OptionGroup var model: ModelArguments
  @Option(help: "Token ids to start from, separated by commas.")
  var ids: TokenList?
  @Option(help: "A text to start from, instead of --ids.")
  var text: String?
  @Option(name: .customShort("n"), help: "How many tokens to generate.")
  var count = 16
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (ids == nil) != (text == nil) else { throw ValidationError("give either --ids or --text") }
    guard 1...1_000_000 ~= count else { throw ValidationError("-n: expected 1...1000000, found \(count)") }
  }

  func run() throws {
    let packed = try model.open()
    let tokenizer = try? Tokenizer(packed)
    let model = try model.load(packed)
    let start = ids?.ids ?? (tokenizer.map { t in [t.beginOfText].compactMap { $0 } + t.encode(text ?? "") } ?? [])
    guard !start.isEmpty else { throw SternaError(.unsupported, "this model has no tokenizer", at: self.model.file, remedy: "give --ids") }

    let sequence = try model.sequence(capacity: start.count + count)
    var hidden = try model.forward([Step(sequence: sequence, tokens: start, want: .last)])
    var generated: [TokenID] = []
    while true {
      let token = argmax(try model.logits(hidden, row: 0))
      generated.append(token)
      if generated.count == count || packed.configuration.endOfText.contains(token) && ids == nil { break }
      hidden = try model.forward([Step(sequence: sequence, tokens: [token], want: .last)])
    }
    if output.json {
      printLine(JSON.object(["ids": .array(generated.map { .number(Int($0)) })]).compact)
    } else if let tokenizer {
      printLine(String(decoding: tokenizer.decode(generated), as: UTF8.self))
    } else {
      printLine(generated.map(String.init).joined(separator: ","))
    }
  }
}

/// The index of the largest value; the first of equals.
func argmax(_ logits: [Float]) -> TokenID {
  var best = 0
  for i in logits.indices where logits[i] > logits[best] { best = i }
  return TokenID(best)
}
