import ArgumentParser
import Basics
import Inference
import Jobs
import Tokenizer

struct Experts: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Record which experts a model asks for, and what caches would make of it.", subcommands: [TraceExperts.self, ReplayExperts.self])
}

struct TraceExperts: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trace",
    abstract: "Run texts through a model and write down which experts they use.",
    discussion: """
      Each line of the file is the text of a job, with the labels or fields given here; without these it is read as a prompt, and -n tokens are generated behind it.

        sterna experts trace model.gguf --texts messages.txt --labels leak,fire -o jobs.trace
        sterna experts trace model.gguf --texts messages.txt -n 32 -o prompts.trace
      """)

  @OptionGroup var model: ModelArguments
  @Option(help: "A file with a text a line, such as messages that the box gets.", completion: .file())
  var texts: String
  @Option(help: "Labels, separated by commas: each text is classified.")
  var labels: String?
  @Option(help: "Fields, separated by commas: they are extracted from each text.")
  var fields: String?
  @Option(name: .customShort("n"), help: "Tokens to generate behind each text, without labels or fields.")
  var count = 16
  @Option(name: .shortAndLong, help: "The file to write.", completion: .file())
  var output: String

  func validate() throws {
    guard 0...100_000 ~= count else { throw ValidationError("-n: expected 0...100000, found \(count)") }
    if labels != nil, fields != nil { throw ValidationError("--labels or --fields: only one of them") }
  }

  func run() throws {
    let lines = try String(decoding: readWholeFile(texts, limit: 1 << 28), as: UTF8.self).split(separator: "\n").map(String.init)
    let work = try labels.map { .classify(parseLabels($0)) } ?? fields.map(parseFields)
    let packed = try model.open()
    let network = try model.load(packed)
    network.traceExperts()
    if let work { try answer(lines, work, JobEngine(packed: packed, model: network)) } else { try generate(lines, Tokenizer(packed), network) }
    guard let trace = network.expertTrace else {
      throw SternaError(.unsupported, "this model has no experts", at: model.file)
    }
    try DurableFile.write(Array(trace.text.utf8), to: output)
    note("\(output): \(lines.count) texts, \(trace.calls.count) calls for \(trace.asked) experts")
  }

  private func answer(_ lines: [String], _ work: Job.Work, _ engine: JobEngine) throws {
    for (number, text) in lines.enumerated() {
      let job = Job(input: text, work: work)
      do throws(SternaError) {
        try job.validate()
        _ = try engine.run(job).result.get()
      } catch { throw error.within("\(texts), text \(number + 1)") }
    }
  }

  private func generate(_ lines: [String], _ tokenizer: Tokenizer, _ network: Model) throws {
    for text in lines {
      let tokens = Array(([tokenizer.beginOfText].compactMap { $0 } + tokenizer.encode(text)).prefix(max(1, network.contextLength - count)))
      guard !tokens.isEmpty else { continue }
      let sequence = try network.sequence(capacity: tokens.count + count)
      var hidden = try network.forward([Step(sequence: sequence, tokens: tokens, want: .last)])
      for _ in 0..<count {
        let token = argmax(try network.logits(hidden, row: 0))
        if network.configuration.endOfText.contains(token) { break }
        hidden = try network.forward([Step(sequence: sequence, tokens: [token], want: .last)])
      }
    }
  }
}

struct ReplayExperts: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Say what part of a trace a cache would have had, by its size and by what leaves it first.",
    discussion: """
      lru is what Sterna does; lfu keeps what is used often; belady knows the future, and is the best that any cache could do.

        sterna experts replay jobs.trace --svg caches.svg
      """)

  @Argument(help: "A trace.", completion: .file())
  var trace: String
  @Option(help: "Write a chart here, as SVG.", completion: .file(extensions: ["svg"]))
  var svg: String?
  @OptionGroup var output: OutputOptions

  func run() throws {
    let trace = try readTrace(self.trace)
    let sizes = Array(Set((1...10).map { max(1, trace.records * $0 / 10) } + [max(1, trace.records / 20)])).sorted()
    let rates = sizes.map { slots in ExpertTrace.Policy.allCases.map { trace.hitRate($0, slots: slots) } }
    if output.json {
      for (slots, rates) in zip(sizes, rates) {
        var object: JSON.Object = ["slots": .number(slots), "bytes": .number(slots * trace.recordBytes)]
        for (policy, rate) in zip(ExpertTrace.Policy.allCases, rates) { object[policy.rawValue] = .number(rate) }
        printLine(JSON.object(object).compact)
      }
    } else {
      printLine("\(trace.calls.count) calls for \(trace.asked) of \(trace.records) experts\n")
      printLine(
        table(
          [["cache MB", "records", "part"] + ExpertTrace.Policy.allCases.map { "\($0.rawValue) %" }]
            + zip(sizes, rates).map { slots, rates in
              [
                (Double(slots * trace.recordBytes) / 1e6).formatted(slots * trace.recordBytes < 10_000_000 ? 2 : 0), "\(slots)",
                "\((100 * Double(slots) / Double(max(1, trace.records))).formatted(0)) %",
              ] + rates.map { (100 * $0).formatted(1) }
            }))
    }
    guard let svg else { return }
    let lines = ExpertTrace.Policy.allCases.enumerated().map { i, policy in
      (name: policy.rawValue, points: zip(sizes, rates).map { (x: 100 * Double($0) / Double(max(1, trace.records)), y: 100 * $1[i]) })
    }
    try DurableFile.write(
      Array(LineChart(title: "What a cache has of what is asked for", xLabel: "records in the cache, %", yLabel: "hits, %", lines: lines).svg.utf8), to: svg)
  }
}

/// A trace from a file.
func readTrace(_ path: String) throws -> ExpertTrace {
  let text = String(decoding: try readWholeFile(path, limit: 1 << 30), as: UTF8.self)
  do throws(SternaError) { return try ExpertTrace(text: text) } catch { throw error.within(path) }
}
