import ArgumentParser
import Basics
import FoundationEssentials
import Jobs

struct Eval: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure how many jobs of a labelled file are answered right.",
    discussion: """
      DATA has one JSON object a line: {"text", "label"}, and for extraction {"spans": [{"field", "text", "start", "end"}]}. classify offers all
      labels of DATA, or those of --labels-from; extract offers the fields that occur with the row's label in --fields-from (or in DATA).

        sterna eval Models/pocket.gguf snips.jsonl --task extract \\
          --fields-from snips.train.jsonl --json
      """)

  @OptionGroup var model: ModelArguments
  @Argument(help: "The labelled file, one JSON object a line.", completion: .file(extensions: ["jsonl"]))
  var data: String
  @Option(help: "classify or extract.")
  var task: String
  @Option(help: "Offer the labels of this file.", completion: .file(extensions: ["jsonl"]))
  var labelsFrom: String?
  @Option(help: "Offer the fields that this file has with each label.", completion: .file(extensions: ["jsonl"]))
  var fieldsFrom: String?
  @Option(help: "Only the first rows of DATA.")
  var limit: Int?
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard JobTask(rawValue: task) != nil else { throw ValidationError("--task is classify or extract, not \(task)") }
    if let limit, limit < 1 { throw ValidationError("--limit: expected at least 1, found \(limit)") }
  }

  func run() throws {
    var rows = try Eval.rows(data)
    let offered = try (task == "classify" ? labelsFrom : fieldsFrom).map(Eval.rows) ?? rows
    if let limit { rows = Array(rows.prefix(limit)) }
    guard !rows.isEmpty else { throw SternaError(.badFile, "holds no rows", at: data) }
    let total = rows.count
    let runner = try CommandRunner(model)
    if task == "classify" {
      let report = Evaluation.classify(rows, labels: EvaluationRow.labels(of: offered), with: runner.engine) { done, report in
        if done % 50 == 0 { note("\(done) of \(total), accuracy \(report.accuracy.formatted(3))") }
      }
      printLine(
        output.json
          ? report.json.compact
          : table([
            ["accuracy", report.accuracy.formatted(4)], ["macro F1", report.macroF1.formatted(4)], ["labels offered", "\(report.labelsOffered)"],
            ["rows", "\(report.rows)"], ["errors", "\(report.errors)"], ["jobs a second", report.jobsPerSecond.formatted(1)],
          ]))
    } else {
      let report = Evaluation.extract(rows, fields: EvaluationRow.fields(of: offered), with: runner.engine) { done, report in
        if done % 50 == 0 { note("\(done) of \(total), F1 \(report.all.f1.formatted(3))") }
      }
      printLine(
        output.json
          ? report.json.compact
          : table([
            ["precision", report.all.precision.formatted(4)], ["recall", report.all.recall.formatted(4)], ["F1", report.all.f1.formatted(4)],
            ["rows", "\(report.rows)"], ["errors", "\(report.errors)"], ["jobs a second", report.jobsPerSecond.formatted(1)],
          ]))
    }
  }

  private static func rows(_ path: String) throws -> [EvaluationRow] {
    let bytes: Data
    do { bytes = try Data(contentsOf: URL(fileURLWithPath: path)) } catch {
      throw SternaError(.io, "cannot be read", at: path, expected: "a file with one JSON object a line")
    }
    return try EvaluationRow.parse(Array(bytes), from: path)
  }
}
