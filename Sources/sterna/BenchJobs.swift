import ArgumentParser
import Basics
import Glibc
import Inference
import Jobs
import ModelFile
import Tokenizer

/// Times whole jobs: what a gateway waits for.
struct BenchJobs: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "jobs",
    abstract: "Measure classifications and extractions, one after the other and queued.",
    discussion: """
      Classification: 8 labels, a task prompt of 154 tokens that is cached, 32 new tokens. Extraction: 5 values of 24 characters copied from a text, 105 new tokens.
      What a model with random weights would choose means nothing, so every decision is computed and then taken as dictated. `passes` and `tokens` are what one job ran
      through the model: passes over the weights, and tokens of text and answer.

        sterna bench jobs model.gguf -t 2 --kv q8 --json
      """)

  @OptionGroup var source: ModelFileArguments
  @OptionGroup var running: RunArguments
  @Option(help: "Megabytes for keys and values.")
  var kvBudget = 150
  @Option(help: "How often each job is measured; the median counts.")
  var repeats = 7
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard 1...1000 ~= repeats else { throw ValidationError("--repeats: expected 1...1000, found \(repeats)") }
    guard 1...1_000_000 ~= kvBudget else { throw ValidationError("--kv-budget: expected 1...1000000, found \(kvBudget)") }
  }

  private struct Row {
    var name: String
    var seconds: Double
    var usage: Usage?
  }

  func run() throws {
    let packed = try source.open()
    try Interruption.noticed { isAsked in
      let folder = try makeFolder()
      defer { removeFolder(folder) }
      try measure(packed, folder, RunControl(shouldStop: isAsked))
    }
  }

  /// - Parameter folder: for the files of task prompts.
  private func measure(_ packed: PackedModel, _ folder: String, _ control: RunControl) throws {
    let files = JobEngine.PrefixFiles(path: folder, budgetBytes: 1_000_000_000)
    let work = try Work(packed, tokenizer: Tokenizer(packed))
    var rows: [Row] = []
    let engine = try engine(packed, work.template, files)

    func time(_ jobs: [Job], on engine: JobEngine) throws -> (seconds: Double, usage: Usage) {
      engine.dictation = Dictionary(uniqueKeysWithValues: jobs.indices.map { ($0, work.dictation) })
      let start = monotonicSeconds()
      let outcomes = engine.run(all: jobs, control: control)
      let seconds = monotonicSeconds() - start
      for outcome in outcomes { _ = try outcome.result.get() }
      return (seconds, outcomes.last?.usage ?? Usage())
    }
    func time(_ name: String, _ jobs: (Int) -> [Job], repeats: Int) throws {
      _ = try time([jobs(5000)[0]], on: engine)  // the task prompt
      let runs = try (0..<repeats).map { try time(jobs($0), on: engine) }.sorted { $0.seconds < $1.seconds }
      let middle = runs[runs.count / 2]
      rows.append(Row(name: name, seconds: middle.seconds / Double(jobs(0).count), usage: middle.usage))
    }
    // No text is used twice: the engine would have it already.
    try time("classification", { [work.classification(100_000 + $0)] }, repeats: repeats)
    try time("classification, 64 queued, each", { round in (0..<64).map { work.classification(round * 64 + $0) } }, repeats: max(1, repeats / 3))
    try time("extraction", { [work.extraction(100_000 + $0)] }, repeats: repeats)
    try time("extraction, 16 queued, each", { round in (0..<16).map { work.extraction(round * 16 + $0) } }, repeats: max(1, repeats / 3))
    try engine.rest { false }

    // A new model on the same file finds the task prompt on the disk.
    let start = monotonicSeconds()
    let again = try self.engine(try source.open(), work.template, files)
    let loaded = monotonicSeconds()
    let first = try time([work.classification(200_000)], on: again)
    rows.append(Row(name: "restart to the first classification", seconds: loaded - start + first.seconds, usage: first.usage))
    let found = again.prefixStatistics.filesRead

    if output.json {
      printLine(
        JSON.object([
          "model": .string(packed.configuration.name), "kernel": .string(engine.network.kernelName), "threads": .number(running.threadCount),
          "kv": .string(engine.network.options.kv.rawValue), "kv_budget_mb": .number(kvBudget), "layout": .string(packed.weights.ternaryLayout?.rawValue ?? ""),
          "prompt_tokens": .number(Work.promptTokens), "new_tokens": ["classification": .number(Work.classificationTokens), "extraction": .number(Work.extractionTokens)],
          "task_prompts_from_disk": .number(found),
          "jobs": .array(
            rows.map { row in
              [
                "name": .string(row.name), "seconds": .number(row.seconds), "passes": .number(row.usage?.forwardPasses ?? 0), "tokens_in": .number(row.usage?.inputTokens ?? 0),
                "tokens_out": .number(row.usage?.outputTokens ?? 0),
              ]
            }),
        ]).compact)
    } else {
      printLine("\(packed.configuration.name), \(engine.network.kernelName), \(running.threadCount) threads, keys and values \(engine.network.options.kv.rawValue), \(kvBudget) MB")
      printLine(
        table(
          [["", "ms", "passes", "tokens in", "out"]]
            + rows.map { [$0.name, ($0.seconds * 1000).formatted(1), "\($0.usage?.forwardPasses ?? 0)", "\($0.usage?.inputTokens ?? 0)", "\($0.usage?.outputTokens ?? 0)"] }))
    }
  }

  private func engine(_ packed: PackedModel, _ template: PromptTemplate, _ files: JobEngine.PrefixFiles) throws -> JobEngine {
    try JobEngine(packed: packed, model: running.load(packed, kvBudgetBytes: kvBudget * 1_000_000), template: template, prefixFiles: files)
  }

  private func makeFolder() throws -> String {
    var template = Array("\(temporaryFolder)/sterna-bench-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw SternaError(.io, "cannot make a temporary folder", at: temporaryFolder, remedy: "name a folder with room in TMPDIR", cause: String(cString: strerror(errno)))
    }
    return template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
  }

  private func removeFolder(_ path: String) {
    for name in (try? namesInFolder(path)) ?? [] { unlink("\(path)/\(name)") }
    rmdir(path)
  }
}

/// Jobs with exactly so many tokens, other words in each.
private struct Work {
  static let promptTokens = 154
  static let classificationTokens = 32
  static let extractionTokens = 105

  private static let labels = ["leak", "fire", "vibration", "overheating", "power failure", "sensor fault", "network down", "other"]
  private static let fields = ["machine", "place", "symptom", "cause", "action"]
  private static let words5 = ["valve", "motor", "seven", "under", "north", "steam", "panel", "water", "noise", "front", "alarm", "shaft", "belts", "clean", "eight", "upper"]
  private static let words6 = ["engine", "switch", "sensor", "filter", "broken", "boiler", "second", "middle", "yellow", "cables", "window", "bottom", "repair", "closed", "behind", "supply"]

  let template: PromptTemplate
  /// What every extraction is to write: five parts of the text, 24 characters each.
  let dictation: [UInt8]
  private let tokenizer: Tokenizer
  private static let values = (0..<5).map { value($0) }

  init(_ packed: PackedModel, tokenizer: Tokenizer) throws(SternaError) {
    self.tokenizer = tokenizer
    var template = PromptTemplate.builtIn(named: "plain") ?? PromptTemplate.detect(architecture: packed.configuration.architecture, tokenizer: tokenizer).template
    // The task prompts get the length that was promised by words that say nothing.
    for task in JobTask.allCases {
      for filler in 0..<Self.promptTokens * 2 {
        var longer = template[task]
        longer.prompt = "{{bos}}" + String(repeating: " a", count: filler) + longer.prompt.dropFirst("{{bos}}".count)
        let candidate = task == .classify ? PromptTemplate(classify: longer, extract: template.extract) : PromptTemplate(classify: template.classify, extract: longer)
        let work: Job.Work = task == .classify ? .classify(Self.labels.map { Job.Label($0) }) : .extract(Self.fields.map { Job.Field($0) })
        if try candidate.render(work, text: "a", tokenizer: tokenizer).prefix.count >= Self.promptTokens {
          template = candidate
          break
        }
      }
    }
    self.template = template
    dictation = Array(JSON.object(JSON.Object(zip(Self.fields, Self.values).map { ($0, .string($1)) })).compact.utf8)
  }

  /// Four words, 24 characters.
  private static func value(_ index: Int) -> String { [words5[index * 3], words5[index * 3 + 1], words5[index * 3 + 2], words6[index]].joined(separator: " ") }

  func classification(_ number: Int) -> Job {
    Job(input: text("alarm \(number) of line \(number % 7):", number, Self.classificationTokens, .classify), work: .classify(Self.labels.map { Job.Label($0) }))
  }

  func extraction(_ number: Int) -> Job {
    Job(input: text("note \(number): " + Self.values.joined(separator: ", then "), number, Self.extractionTokens, .extract), work: .extract(Self.fields.map { Job.Field($0) }))
  }

  /// A text that begins like this and has, with what the template puts behind it, exactly so many tokens.
  private func text(_ beginning: String, _ number: Int, _ tokens: Int, _ task: JobTask) -> String {
    var text = beginning
    var count = 0
    while true {
      let next = text + " " + Self.words6[(number + count * 5 + 5) % Self.words6.count]
      let rendered = try? template.render(task == .classify ? .classify([Job.Label("a")]) : .extract([Job.Field("a")]), text: next, tokenizer: tokenizer)
      guard let rendered, rendered.text.count + rendered.suffix.count <= tokens else { return text }
      text = next
      count += 1
    }
  }
}
