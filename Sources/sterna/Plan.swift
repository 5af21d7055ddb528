import ArgumentParser
import Basics
import Glibc
import Inference
import ModelFile
import Tokenizer

struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say how fast a model with experts on disk will be here, before anyone waits for it.",
    discussion: """
      Measures a token whose experts are in memory, and the disk at the size of the model's records, and computes tokens per second for several sizes of the cache.
      Without a trace every expert counts as likely as any other, which is the least that a real model gives.

        sterna plan model.gguf --memory-limit 4000 --trace jobs.trace --measure
      """)

  @OptionGroup var model: ModelArguments
  @Option(help: "A trace of experts (sterna experts trace): hit rates are those that it gives.", completion: .file())
  var trace: String?
  @Flag(help: "Also run the model, and show what it gives beside what was predicted.")
  var measure = false
  @Option(help: "Write a chart here, as SVG.", completion: .file(extensions: ["svg"]))
  var svg: String?
  @OptionGroup var output: OutputOptions

  /// One size of the cache.
  private struct Row {
    let name: String
    /// Bytes for experts.
    let cache: Int
    let slots: Int
    let hitRate: Double
    let tokensPerSecond: Double
    /// Bytes of the whole process, as planned.
    let total: Int?
    var measured: Measurement?
  }

  /// What a run gave.
  private struct Measurement {
    let tokensPerSecond: Double
    /// The part of its experts that it did not read.
    let hitRate: Double
  }

  func run() throws {
    let packed = try model.open()
    // What is measured has its trunk in memory of its own. Another file's is gone with it, before the model runs with all that the limit allows.
    let forecast = try ExpertForecast(measure ? model.open() : packed, model.running.options(packed))
    let trace = try trace.map(readTrace)
    if let trace, trace.experts != forecast.experts || trace.blocks != packed.configuration.blockCount {
      throw SternaError(
        .unsupported, "this trace is of another model", at: self.trace, expected: "\(packed.configuration.blockCount) blocks of \(forecast.experts) experts",
        found: "\(trace.blocks) blocks of \(trace.experts)")
    }
    var rows = try self.rows(packed, forecast, trace)
    if measure {
      for i in rows.indices where rows[i].total != nil { rows[i].measured = try measurement(of: rows[i], forecast) }
    }
    if output.json { printLine(json(packed, forecast, rows).compact) } else { show(packed, forecast, rows) }
    if let svg { try DurableFile.write(Array(chart(packed, rows).svg.utf8), to: svg) }
  }

  private func rows(_ packed: PackedModel, _ forecast: ExpertForecast, _ trace: ExpertTrace?) throws -> [Row] {
    var options = model.running.options(packed)
    let all = forecast.records * forecast.recordBytes
    let token = forecast.perToken * forecast.recordBytes
    func row(_ name: String, cache: Int?) -> Row? {
      options.expertCacheBytes = cache
      let plan = try? Model.plan(packed, options: options)
      let bytes = plan.map { $0.expertCacheBytes ?? all } ?? cache ?? all
      // The limit leaves less than that: the last row says how much.
      if let cache, plan != nil, bytes <= cache - forecast.recordBytes { return nil }
      let slots = min(forecast.records, bytes / forecast.recordBytes)
      let hitRate = slots == forecast.records ? 1 : slots < forecast.perToken ? 0 : trace?.hitRate(.lru, slots: slots) ?? forecast.uniformHitRate(slots: slots)
      return Row(name: name, cache: bytes, slots: slots, hitRate: hitRate, tokensPerSecond: forecast.tokensPerSecond(hitRate: hitRate), total: plan?.total)
    }
    var rows = [row("no cache", cache: min(2 * forecast.chosen, forecast.perToken - 1) * forecast.recordBytes), row("one token", cache: token)]
    for (name, part) in [("a quarter", 0.25), ("half", 0.5), ("three quarters", 0.75)] where part * Double(all) > Double(token) {
      rows.append(row(name, cache: Int(part * Double(forecast.records)) * forecast.recordBytes))
    }
    rows.append(row("all", cache: all))
    rows.append(row(model.running.memoryLimit == nil ? "this machine" : "this limit", cache: model.running.expertCache.map { $0 * 1_000_000 }))
    return rows.compactMap { $0 }
  }

  /// Decode with this cache, once it is as full as it gets. Each token is another one: those that a model without training would choose repeat themselves, and their experts would all be there.
  private func measurement(of row: Row, _ forecast: ExpertForecast) throws -> Measurement {
    let packed = try model.open()
    var options = model.running.options(packed)
    options.expertCacheBytes = row.cache
    options.contextLength = min(options.contextLength ?? 4096, 4096)
    let network = try Model(packed, options: options)
    let vocabulary = packed.configuration.vocabularySize
    let room = min(network.contextLength - 1, 256)  // what jobs have: in longer ones attention counts too
    var sequence = try network.sequence(capacity: room)
    var tokens = 0
    func step() throws {
      if sequence.count == room { sequence = try network.sequence(capacity: room) }
      let hidden = try network.forward([Step(sequence: sequence, tokens: [TokenID(tokens * 7919 % vocabulary)], want: .last)])
      _ = argmax(try network.logits(hidden, row: 0))
      tokens += 1
    }
    /// The cache is full; or, where there is none, what is mapped was touched: each expert was probably asked for by then.
    func isReady() -> Bool {
      guard let cache = network.expertCache else { return tokens * forecast.perToken >= 4 * forecast.records }
      return !cache.isCache || (network.expertCounters?.reads ?? .max) >= row.slots
    }
    let begin = monotonicSeconds()
    repeat { try step() } while monotonicSeconds() - begin < 90 && !isReady()
    let (filled, before, start) = (tokens, network.expertCounters, monotonicSeconds())
    while tokens < filled + 4 || monotonicSeconds() - start < 4 { try step() }
    let seconds = monotonicSeconds() - start
    let costs = network.expertCounters.map { $0 - (before ?? ExpertCounters()) }
    return Measurement(tokensPerSecond: Double(tokens - filled) / seconds, hitRate: costs.map { 1 - Double($0.reads) / Double(max(1, $0.asked)) } ?? 1)
  }

  private func show(_ packed: PackedModel, _ forecast: ExpertForecast, _ rows: [Row]) {
    func megabytes(_ bytes: Int) -> String { (Double(bytes) / 1e6).formatted(0) }
    printLine(
      table([
        ["\(packed.configuration.name), \(model.threadCount) threads", ""],
        ["a token reads", "\(megabytes(forecast.denseBytes)) MB always, \(forecast.perToken) of \(forecast.records) experts of \((Double(forecast.recordBytes) / 1e6).formatted(2)) MB: \(megabytes(forecast.perToken * forecast.recordBytes)) MB"],
        ["computing", "\((1e3 * forecast.computingSeconds).formatted(1)) ms a token, \((forecast.memoryRate / 1e9).formatted(1)) GB/s from memory"],
        ["disk", forecast.disk.map { "\(($0.rate / 1e9).formatted(2)) GB/s, \($0.reads.rawValue), \(model.running.expertReaders) readers" } ?? "could not be measured"],
        ["prompt of 256 tokens", "\(forecast.diskSeconds(prompt: 256, hitRate: 0).formatted(1)) s of reading with nothing in the cache"],
      ]) + "\n")
    let most = rows.map(\.tokensPerSecond).max() ?? 1
    var lines = [["cache", "MB", "there", "process MB", "tokens/s"] + (measure ? ["measured", "there"] : []) + [""]]
    for row in rows {
      let bar = String(repeating: "#", count: max(1, Int(row.tokensPerSecond / most * 30)))
      lines.append(
        [row.name, megabytes(row.cache), "\((100 * row.hitRate).formatted(0)) %", row.total.map(megabytes) ?? "does not fit", row.tokensPerSecond.formatted(2)]
          + (measure ? [row.measured?.tokensPerSecond.formatted(2) ?? "", row.measured.map { "\((100 * $0.hitRate).formatted(0)) %" } ?? ""] : []) + [bar + String(repeating: " ", count: 30 - bar.count)])
    }
    printLine(table(lines))
    if trace == nil { printLine("\nEvery expert counts as likely as any other; a real model does better. With --trace, what its jobs ask for counts.") }
  }

  private func json(_ packed: PackedModel, _ forecast: ExpertForecast, _ rows: [Row]) -> JSON {
    .object([
      "model": .string(packed.configuration.name), "threads": .number(model.threadCount), "dense_bytes": .number(forecast.denseBytes),
      "record_bytes": .number(forecast.recordBytes), "records": .number(forecast.records), "records_per_token": .number(forecast.perToken),
      "computing_s": .number(forecast.computingSeconds), "memory_bytes_per_s": .number(forecast.memoryRate), "disk_bytes_per_s": .number(forecast.disk?.rate ?? 0),
      "disk_reads": .string(forecast.disk?.reads.rawValue ?? ""),
      "caches": .array(
        rows.map { row in
          var object: JSON.Object = [
            "name": .string(row.name), "bytes": .number(row.cache), "slots": .number(row.slots), "hit_rate": .number(row.hitRate),
            "tokens_per_s": .number(row.tokensPerSecond),
          ]
          if let total = row.total { object["process_bytes"] = .number(total) }
          if let measured = row.measured {
            object["measured_tokens_per_s"] = .number(measured.tokensPerSecond)
            object["measured_hit_rate"] = .number(measured.hitRate)
          }
          return .object(object)
        }),
    ])
  }

  private func chart(_ packed: PackedModel, _ rows: [Row]) -> LineChart {
    let sorted = rows.sorted { $0.cache < $1.cache }
    var lines: [(name: String, points: [(x: Double, y: Double)])] = [("predicted", sorted.map { (Double($0.cache) / 1e9, $0.tokensPerSecond) })]
    if measure { lines.append(("measured", sorted.compactMap { row in row.measured.map { (Double(row.cache) / 1e9, $0.tokensPerSecond) } })) }
    return LineChart(title: packed.configuration.name, xLabel: "cache for experts, GB", yLabel: "tokens per second", lines: lines)
  }
}
