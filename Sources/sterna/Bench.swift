import ArgumentParser
import Basics
import Inference
import Tokenizer

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure speed and memory.",
    discussion: """
      Without a subcommand, that of the model; `bench jobs` times whole jobs.

        sterna bench Models/pocket.gguf -p 512 -n 64 -t 2 --json
        sterna bench jobs Models/pocket.gguf -t 2
      """,
    subcommands: [BenchModel.self, BenchJobs.self], defaultSubcommand: BenchModel.self)
}

struct BenchModel: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract: "Measure prefill and decode speed, and memory. (What `bench` does without a subcommand.)",
    discussion: """
      Prefill feeds -p tokens at once; decode adds -n tokens one by one behind them, each with the whole head. A job is constrained and
      scores the rows of a few tokens only: --candidates says how many. The same prompt goes through the model once before anything is timed, so
      that no page of it is touched for the first time; where experts are on disk one token does, and their cache begins nearly empty.

        sterna bench Models/pocket.gguf -p 512 -n 64 -t 2 --json
      """)

  @OptionGroup var model: ModelArguments
  @Option(name: .customShort("p"), help: "Tokens of prefill.")
  var prefill = 512
  @Option(name: .customShort("n"), help: "Tokens of decode.")
  var decode = 64
  @Option(help: "Score this many rows of the head in each step of decode, instead of all.")
  var candidates: Int?
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard prefill >= 1, decode >= 1, prefill <= 1_000_000, decode <= 1_000_000 else {
      throw ValidationError("-p and -n: expected 1...1000000")
    }
    if let candidates, !(1...1_000_000 ~= candidates) { throw ValidationError("--candidates: expected 1...1000000, found \(candidates)") }
  }

  func run() throws {
    let packed = try model.open()
    let vocabulary = packed.configuration.vocabularySize
    let model = try model.load(packed)
    // Any tokens do: time does not depend on which. A fixed stride visits many embedding rows.
    let tokens = (0..<prefill).map { TokenID($0 * 7919 % vocabulary) }
    // Pages are touched for the first time before anything is timed. A whole prompt would also fill the cache of experts that are on disk.
    _ = try model.forward([Step(sequence: try model.sequence(capacity: prefill), tokens: model.expertCache == nil ? tokens : [tokens[0]], want: .last)])
    let warmExperts = model.expertCounters ?? ExpertCounters()
    let sequence = try model.sequence(capacity: prefill + decode)

    let start = monotonicSeconds()
    var hidden = try model.forward([Step(sequence: sequence, tokens: tokens, want: .last)])
    let prefilled = monotonicSeconds()
    let prefillExperts = model.expertCounters.map { $0 - warmExperts }
    for step in 0..<decode {
      let token: TokenID
      if let candidates {
        // Other rows in each step, as the fields of a job have.
        let offered = (0..<candidates).map { TokenID((step * 131 + $0 * 7919) % vocabulary) }
        token = offered[Int(argmax(try model.logits(hidden, row: 0, of: offered)))]
      } else {
        // Another one than the best: random weights repeat themselves, and then their experts would all be there.
        token = TokenID((Int(argmax(try model.logits(hidden, row: 0))) + step * 7919) % vocabulary)
      }
      hidden = try model.forward([Step(sequence: sequence, tokens: [token], want: .last)])
    }
    let decoded = monotonicSeconds()

    let prefillRate = Double(prefill) / (prefilled - start)
    let decodeRate = Double(decode) / (decoded - prefilled)
    let decodeExperts = model.expertCounters.map { $0 - warmExperts - (prefillExperts ?? ExpertCounters()) }
    let peak = ProcessMemory.peakResidentBytes
    let group = ProcessMemory.group
    let head = candidates.map { "\($0) rows of the head" } ?? (model.streamsHead ? "the whole head from the disk" : "the whole head")
    if output.json {
      var object: JSON.Object = [
        "model": .string(packed.configuration.name), "kernel": .string(model.kernelName), "threads": .number(self.model.threadCount),
        "layout": .string(packed.weights.ternaryLayout?.rawValue ?? ""), "embedding": .string(packed.weights.embedding.storage.rawValue),
        "kv": .string(model.options.kv.rawValue), "prefill_tokens": .number(prefill), "prefill_tokens_per_s": .number(prefillRate),
        "decode_tokens": .number(decode), "decode_tokens_per_s": .number(decodeRate), "head": .string(head),
        "model_bytes": .number(packed.fileBytes), "peak_rss_bytes": .number(peak), "planned_bytes": .number(model.memory.total),
      ]
      if let cache = model.expertCache, let prefillExperts, let decodeExperts {
        object["experts"] = [
          "slots": .number(cache.slots), "cache": .bool(cache.isCache), "reads": .string(cache.reads.rawValue), "prefill": prefillExperts.json,
          "decode": decodeExperts.json,
        ]
      }
      if let group {
        object["memory_limit_bytes"] = .number(group.limitBytes)
        if let peak = group.peakBytes { object["memory_peak_bytes"] = .number(peak) }
        if let refaults = group.refaults { object["pages_read_again"] = .number(refaults) }
      }
      printLine(JSON.object(object).compact)
    } else {
      var rows = [
        ["\(packed.configuration.name), \(model.kernelName), \(self.model.threadCount) threads", ""],
        ["prefill of \(prefill) tokens", "\(prefillRate.formatted(1)) tokens/s"],
        ["decode of \(decode) tokens with \(head)", "\(decodeRate.formatted(1)) tokens/s"],
        ["model file", "\((Double(packed.fileBytes) / 1e6).formatted(1)) MB"],
        ["peak memory (RSS)", "\((Double(peak) / 1e6).formatted(1)) MB"],
      ]
      for (work, counters) in [("prefill", prefillExperts), ("decode", decodeExperts)] {
        guard let counters else { continue }
        rows.append([
          "experts in \(work)",
          "\((100 * counters.hitRate).formatted(1)) % there, \((Double(counters.bytesRead) / 1e6).formatted(0)) MB read, \((Double(counters.waiting) * 1e-9).formatted(2)) s waited for the disk, \((Double(counters.computing) * 1e-9).formatted(2)) s computed",
        ])
      }
      if let group, let peak = group.peakBytes {
        rows.append(["peak charged to the control group", "\((Double(peak) / 1e6).formatted(1)) of \((Double(group.limitBytes) / 1e6).formatted(1)) MB"])
      }
      printLine(table(rows))
    }
  }
}
