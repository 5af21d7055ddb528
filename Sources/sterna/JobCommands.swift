import ArgumentParser
import Basics
import Jobs

/// Labels on a command line: `leak,fire` or `leak=water or oil,fire`.
func parseLabels(_ text: String) -> [Job.Label] {
  text.split(separator: ",").map { part in
    let pieces = part.split(separator: "=", maxSplits: 1)
    return Job.Label(trimmed(pieces.first ?? ""), description: pieces.count == 2 ? trimmed(pieces[1]) : nil)
  }
}

/// Fields on a command line: `machine,value:number`. By the reader of a job's payload, so that the same mistakes get the same answers.
func parseFields(_ text: String) throws(SternaError) -> Job.Work {
  try Job.Work.parse(JSONReader(.object(["fields": .array(text.split(separator: ",").map { .string(trimmed($0)) })])), task: .extract)
}

func trimmed(_ text: some StringProtocol) -> String {
  let isSpace: (Character) -> Bool = { $0 == " " || $0 == "\t" }
  return String(text.drop(while: isSpace).reversed().drop(while: isSpace).reversed())
}

/// What `classify` and `extract` share: a text on the command line, or one text a line on standard input.
struct TextArguments: ParsableArguments {
  @Option(help: "The text. Without it, every line of standard input is one.")
  var text: String?
  @Argument(help: .hidden)
  var words: [String] = []

  func validate() throws {
    if let word = words.first { throw ValidationError("\(JSON.string(word).compact) is not expected here; a text goes behind --text") }
  }

  /// Lines without anything in them are no texts.
  func forEach(_ body: (String) throws -> Void) rethrows {
    if let text { return try body(text) }
    while let line = readLine() { if !trimmed(line).isEmpty { try body(line) } }
  }
}

/// How labels are chosen, for `classify` and `eval`.
struct ClassificationArguments: ParsableArguments {
  @Flag(help: "Several labels may fit, or none.")
  var multi = false
  @Option(help: "With --multi: choose labels from this score on. (default: 0.5)")
  var threshold: Double?
  @Option(help: "Turn scores into frequencies with the curve in this file, made by eval --calibrate.", completion: .file())
  var calibration: String?
  @Flag(inversion: .prefixedNo, help: "Divide scores by those for texts without content. (default: as the model's prompt template says)")
  var contextual: Bool?

  func validate() throws {
    if let threshold, !multi || !(0...1 ~= threshold) { throw ValidationError("--threshold: goes with --multi, expected 0 to 1, found \(threshold)") }
  }

  /// Checked against the labels before a model is loaded.
  func loadCalibration(for labels: [Job.Label]) throws -> Calibration? {
    try calibration.map { path throws(SternaError) in try Calibration.load(path, for: labels, multi: multi) }
  }

  func check(_ calibration: Calibration?, _ engine: JobEngine, _ options: Job.Options) throws {
    guard let calibration, let path = self.calibration else { return }
    do throws(SternaError) { try engine.check(calibration, options) } catch { throw error.within(path) }
  }

  func apply(to options: inout Job.Options) {
    options.multi = multi
    options.threshold = threshold
    options.contextual = contextual
  }
}

/// Answers jobs on the command line exactly as the agent does over MQTT.
struct CommandRunner {
  let engine: JobEngine

  init(_ arguments: ModelArguments) throws {
    let packed = try arguments.open()
    engine = try JobEngine(packed: packed, model: arguments.load(packed))
  }

  /// Checks and runs one job and prints its result message. Throws what a client would get as an error.
  func answer(_ job: Job, json: Bool, human: (Answer) -> String) throws {
    try job.validate()
    let start = monotonicSeconds()
    let outcome = engine.run(job)
    let milliseconds = Int((monotonicSeconds() - start) * 1000)
    let answer = try outcome.result.get()
    if json {
      printLine(ResultMessage(id: job.id ?? "1", task: job.task.rawValue, model: engine.model, runMilliseconds: milliseconds).json(outcome).compact)
    } else {
      printLine(human(answer))
    }
  }
}

struct Classify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say which label fits a text.",
    discussion: """
      A label may have a description: --labels "leak=water or oil runs out,fire".

        sterna classify Models/pocket.gguf --labels leak,fire,vibration \\
          --text "water under pump 7"
      """)

  @OptionGroup var model: ModelArguments
  @Option(help: "Labels, separated by commas.")
  var labels: String
  @OptionGroup var texts: TextArguments
  @OptionGroup var classification: ClassificationArguments
  @Option(help: "Abstain when the best label is less probable than this (0 to 1).")
  var abstainBelow: Double?
  @OptionGroup var output: OutputOptions

  func run() throws {
    let offered = parseLabels(labels)
    var options = Job.Options()
    options.abstainBelow = abstainBelow
    classification.apply(to: &options)
    let calibration = try classification.loadCalibration(for: offered)
    let runner = try CommandRunner(model)
    try classification.check(calibration, runner.engine, options)
    try texts.forEach { text in
      try runner.answer(Job(input: text, work: .classify(offered), options: options, calibration: calibration), json: output.json) { answer in
        guard case .classification(let result) = answer else { return "" }
        let chosen = Set(result.chosen ?? [])
        let rows = result.scores.indices.sorted { (result.scores[$1].score, $0) < (result.scores[$0].score, $1) }.map {
          [result.scores[$0].label, Double(result.scores[$0].score).formatted(3)] + (options.multi ? [chosen.contains($0) ? "yes" : "no"] : [])
        }
        return (result.abstained ? "(none is probable enough)\n" : "") + table(rows)
      }
    }
  }
}

/// A JSON Schema as it goes into a job.
func readSchema(_ path: String) throws(SternaError) -> JSON {
  let bytes = try readWholeFile(path, limit: 1 << 20)
  do { return try JSON.parse(bytes) } catch { throw error.within(path) }
}

struct Extract: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Find fields in a text.",
    discussion: """
      Strings are copied from the text; what the text does not contain is null. Types: string, number, integer, boolean, date, time, date-time.

        sterna extract Models/pocket.gguf --fields machine,value:number,place \\
          --text "pump 7 vibration 4.2 mm/s on line B"
      """)

  @OptionGroup var model: ModelArguments
  @Option(help: "Fields, separated by commas: NAME, NAME:TYPE, NAME:open|closed, and NAME[] or NAME:TYPE[] for lists.")
  var fields: String?
  @Option(help: "In place of fields: a file with a JSON Schema.", completion: .file())
  var schema: String?
  @OptionGroup var texts: TextArguments
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if (fields == nil) == (schema == nil) { throw ValidationError("--fields or --schema: exactly one of them") }
  }

  func run() throws {
    // First what can be wrong; a model may take long to load.
    let work =
      if let fields { try parseFields(fields) } else { try Job.Work.parse(JSONReader(.object(["schema": schema.map(readSchema) ?? .null])), task: .extract) }
    let runner = try CommandRunner(model)
    try texts.forEach { text in
      try runner.answer(Job(input: text, work: work), json: output.json) { answer in
        guard case .extraction(let result) = answer else { return "" }
        return table(
          result.values.map { value in
            [value.name, value.value.compact, value.evidence.map { "\($0.scalars.lowerBound)..<\($0.scalars.upperBound)" } ?? "", Double(value.confidence).formatted(3)]
          })
      }
    }
  }
}
