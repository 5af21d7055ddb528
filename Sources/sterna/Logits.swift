import ArgumentParser
import Basics
import Inference

struct Logits: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print the logits after each of some tokens.",
    discussion: """
      For comparing Sterna with other implementations: one row a position, the whole vocabulary, full precision.

        sterna logits Models/pocket.gguf --ids 0,17,4 --kv f32 --json
      """)

  @OptionGroup var model: ModelArguments
  @Option(help: "Token ids, separated by commas.")
  var ids: TokenList
  @OptionGroup var output: OutputOptions

  func run() throws {
    let model = try model.load(model.open())
    let sequence = try model.sequence(capacity: ids.ids.count)
    let hidden = try model.forward([Step(sequence: sequence, tokens: ids.ids, want: .all)])
    let rows = try ids.ids.indices.map { try model.logits(hidden, row: $0) }
    if output.json {
      printLine(JSON.object(["logits": .array(rows.map { .array($0.map { .number($0) }) })]).compact)
    } else {
      for (position, row) in rows.enumerated() {
        let best = row.indices.sorted { row[$0] > row[$1] }.prefix(5)
        printLine("\(position)\t" + best.map { "\($0): \(Double(row[$0]).formatted(3))" }.joined(separator: "  "))
      }
    }
  }
}
