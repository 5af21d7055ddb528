import ArgumentParser
import Basics
import Jobs
import ModelFile
import Tokenizer

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a model file holds.",
    discussion: """
      --verify also reads every byte and compares the checksums.

        sterna inspect Models/pocket.gguf --verify
      """)

  @OptionGroup var model: ModelFileArguments
  @Flag(help: "Check every tensor's checksum and every ternary code.")
  var verify = false
  @OptionGroup var output: OutputOptions

  func run() throws {
    let packed = try model.open()
    if verify { try packed.verify() }
    let tokenizer = try Tokenizer(packed)
    let c = packed.configuration
    var rows: [(key: String, value: JSON)] = [
      ("name", .string(c.name)), ("architecture", .string(c.architecture)), ("fingerprint", .string(packed.fingerprint)),
      ("file_bytes", .number(packed.fileBytes)), ("ternary_weights", .number(packed.weights.ternaryCount)), ("blocks", .number(c.blockCount)),
      ("hidden_size", .number(c.hiddenSize)), ("feed_forward_size", .number(c.feedForwardSize)), ("query_heads", .number(c.queryHeads)),
      ("kv_heads", .number(c.kvHeads)), ("head_size", .number(c.headSize)), ("context_length", .number(c.contextLength)),
      ("vocabulary_size", .number(c.vocabularySize)), ("tokenizer_tokens", .number(tokenizer.count)), ("activation", .string(c.activation.rawValue)),
      ("sub_norms", .bool(c.hasSubNorms)), ("tied_head", .bool(c.tiedHead)), ("embedding", .string(packed.weights.embedding.storage.rawValue)),
      ("tensors", .number(packed.gguf.tensors.count)),
    ]
    if let layout = packed.weights.ternaryLayout { rows.append(("layout", .string(layout.rawValue))) }
    if let mixture = c.experts, let record = packed.weights.record {
      rows += [
        ("experts", .number(mixture.router.experts)), ("experts_chosen", .number(mixture.router.chosen)), ("blocks_with_experts", .number(mixture.routed.count { $0 })),
        ("expert_storage", .string(record.storage.rawValue)), ("expert_bytes", .number(record.bytes)),
      ]
    }
    if output.json {
      var object = JSON.Object()
      for row in rows { object[row.key] = row.value }
      if verify { object["verified"] = true }
      printLine(JSON.object(object).compact)
    } else {
      for row in rows {
        let value = if case .string(let text) = row.value { text } else { row.value.compact }
        printLine(row.key + String(repeating: " ", count: max(1, 21 - row.key.count)) + value)
      }
      if verify { printLine("verified             every checksum and every code is right") }
    }
  }
}
