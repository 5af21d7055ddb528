import ArgumentParser
import Basics
import Inference
import Tokenizer

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure prefill and decode speed, and memory.",
    discussion: """
      Prefill feeds -p tokens at once; decode adds -n tokens one by one behind them, each with the whole head.

        sterna bench Models/pocket.gguf -p 512 -n 64 -t 2 --json
      """)

  @OptionGroup var model: ModelArguments
  @Option(name: .customShort("p"), help: "Tokens of prefill.")
  var prefill = 512
  @Option(name: .customShort("n"), help: "Tokens of decode.")
  var decode = 64
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard prefill >= 1, decode >= 1, prefill <= 1_000_000, decode <= 1_000_000 else {
      throw ValidationError("-p and -n: expected 1...1000000")
    }
  }

  func run() throws {
    let packed = try model.open()
    let vocabulary = TokenID(packed.configuration.vocabularySize)
    let model = try model.load(packed)
    // Any tokens do: time does not depend on which. A fixed stride visits many embedding rows.
    let tokens = (0..<prefill).map { TokenID($0) &* 7919 % vocabulary }
    let sequence = try model.sequence(capacity: prefill + decode)

    let start = monotonicSeconds()
    var hidden = try model.forward([Step(sequence: sequence, tokens: tokens, want: .last)])
    let prefilled = monotonicSeconds()
    for _ in 0..<decode {
      let token = argmax(try model.logits(hidden, row: 0))
      hidden = try model.forward([Step(sequence: sequence, tokens: [token], want: .last)])
    }
    let decoded = monotonicSeconds()

    let prefillRate = Double(prefill) / (prefilled - start)
    let decodeRate = Double(decode) / (decoded - prefilled)
    let peak = peakResidentBytes()
    if output.json {
      printLine(
        JSON.object([
          "model": .string(packed.configuration.name), "kernel": .string(model.kernelName), "threads": .number(self.model.threadCount),
          "prefill_tokens": .number(prefill), "prefill_tokens_per_s": .number(prefillRate),
          "decode_tokens": .number(decode), "decode_tokens_per_s": .number(decodeRate),
          "model_bytes": .number(packed.fileBytes), "peak_rss_bytes": .number(peak),
        ]).compact)
    } else {
      printLine(
        table([
          ["\(packed.configuration.name), \(model.kernelName), \(self.model.threadCount) threads", ""],
          ["prefill of \(prefill) tokens", "\(prefillRate.formatted(1)) tokens/s"],
          ["decode of \(decode) tokens", "\(decodeRate.formatted(1)) tokens/s"],
          ["model file", "\((Double(packed.fileBytes) / 1e6).formatted(1)) MB"],
          ["peak memory (RSS)", "\((Double(peak) / 1e6).formatted(1)) MB"],
        ]))
    }
  }
}
