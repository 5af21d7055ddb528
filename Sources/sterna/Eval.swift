import ArgumentParser
import Basics
import Jobs

struct Eval: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure how many jobs of a labelled file are answered right.",
    discussion: """
      DATA has one JSON object a line: {"text", "label"}, and for extraction {"spans": [{"field", "text", "start", "end"}]}. classify offers all
      labels of DATA, or those of --labels or --labels-from; extract offers the fields that occur with the row's label in --fields-from (or in DATA).

        sterna eval Models/pocket.gguf snips.jsonl --task extract \\
          --fields-from snips.train.jsonl --json
        sterna eval Models/pocket.gguf alarms.jsonl --task classify \\
          --calibrate alarms.calibration.json --svg alarms.svg
      """)

  @OptionGroup var model: ModelArguments
  @Argument(help: "The labelled file, one JSON object a line.", completion: .file(extensions: ["jsonl"]))
  var data: String
  @Option(help: "classify or extract.")
  var task: String
  @Option(help: "Offer these labels, separated by commas: NAME or NAME=DESCRIPTION.")
  var labels: String?
  @Option(help: "Offer the labels of this file.", completion: .file(extensions: ["jsonl"]))
  var labelsFrom: String?
  @Option(help: "Offer the fields that this file has with each label.", completion: .file(extensions: ["jsonl"]))
  var fieldsFrom: String?
  @Option(help: "Only the first rows of DATA.")
  var limit: Int?
  @OptionGroup var classification: ClassificationArguments
  @Option(help: "Answers with a lower score are abstentions, which are right for rows whose label is not on offer (0 to 1).")
  var abstainBelow: Double?
  @Option(help: "The label of rows that belong under none; not offered, unless --labels has it.")
  var outOfScope: String?
  @Option(help: "Fit a curve from scores to how often they are right, and write it to this file. What is printed is then cross-validated.", completion: .file())
  var calibrate: String?
  @Option(help: "Draw a reliability diagram into this file.", completion: .file(extensions: ["svg"]))
  var svg: String?
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard JobTask(rawValue: task) != nil else { throw ValidationError("--task is classify or extract, not \(task)") }
    if let limit, limit < 1 { throw ValidationError("--limit: expected at least 1, found \(limit)") }
    if let abstainBelow, !(0...1 ~= abstainBelow) { throw ValidationError("--abstain-below: expected 0 to 1, found \(abstainBelow)") }
    if labels != nil, labelsFrom != nil { throw ValidationError("--labels and --labels-from: one of them") }
    if calibrate != nil, classification.calibration != nil { throw ValidationError("--calibrate fits raw scores; leave out --calibration") }
    if classification.multi, abstainBelow != nil || outOfScope != nil { throw ValidationError("--multi has nothing to abstain from; use --threshold") }
    if task == "extract" {
      for (name, isThere) in [
        ("--labels", labels != nil), ("--labels-from", labelsFrom != nil), ("--abstain-below", abstainBelow != nil), ("--out-of-scope", outOfScope != nil),
        ("--calibrate", calibrate != nil), ("--svg", svg != nil), ("--multi", classification.multi), ("--threshold", classification.threshold != nil),
        ("--calibration", classification.calibration != nil), ("--contextual", classification.contextual != nil),
      ] where isThere { throw ValidationError("\(name) belongs to --task classify") }
    }
  }

  func run() throws {
    var rows = try Eval.rows(data)
    let source = try (task == "classify" ? labelsFrom : fieldsFrom).map(Eval.rows) ?? rows
    if let limit { rows = Array(rows.prefix(limit)) }
    guard !rows.isEmpty else { throw SternaError(.badFile, "holds no rows", at: data) }
    if task == "classify" { try classify(rows, source) } else { try extract(rows, source) }
  }

  // MARK: - Classification

  private func classify(_ rows: [EvaluationRow], _ source: [EvaluationRow]) throws {
    let offered = labels.map(parseLabels) ?? EvaluationRow.labels(of: source).filter { $0 != outOfScope }.map { Job.Label($0) }
    var options = Job.Options()
    classification.apply(to: &options)
    let calibration = try classification.loadCalibration(for: offered)
    let question = Evaluation.ClassificationQuestion(
      labels: offered, options: options, calibration: calibration, outOfScope: outOfScope, abstainBelow: abstainBelow)
    // What every row would be refused for is said before the first.
    try Job(input: data, work: .classify(offered), options: options).validate()
    let runner = try CommandRunner(model)
    try classification.check(calibration, runner.engine, options)
    let progress: (Int) -> Void = { done in if done % 200 == 0 { note("\(done) of \(rows.count)") } }

    if options.multi {
      let raw = Evaluation.classifyMulti(rows, question, with: runner.engine, progress: progress)
      let report = calibrate == nil ? raw : try raw.crossValidated()
      try store(raw.reliability, calibrate == nil ? nil : report.reliability, rows: raw.rows, question, runner.engine) { () throws(SternaError) in try raw.fitted() }
      printLine(output.json ? withRaw(report.json, raw.reliability).compact : describe(report, raw.reliability))
    } else {
      let raw = Evaluation.classify(rows, question, with: runner.engine, progress: progress)
      let report = calibrate == nil ? raw : try raw.crossValidated()
      try store(raw.reliability, calibrate == nil ? nil : report.reliability, rows: raw.rows, question, runner.engine) { () throws(SternaError) in try raw.fitted() }
      printLine(output.json ? withRaw(report.json, raw.reliability).compact : describe(report, raw.reliability))
    }
  }

  /// Writes the curve and the diagram, where they are wanted.
  private func store(
    _ raw: Reliability, _ calibrated: Reliability?, rows: Int, _ question: Evaluation.ClassificationQuestion, _ engine: JobEngine,
    fit: () throws(SternaError) -> CalibrationCurve
  ) throws {
    if let calibrate {
      let calibration = Calibration(
        curve: try fit(), labels: question.labels, multi: question.options.multi, contextual: engine.isContextual(question.options), model: engine.model, rows: rows)
      try DurableFile.write(Array((calibration.json.compact + "\n").utf8), to: calibrate)
    }
    if let svg {
      var series = [ReliabilityDiagram.Series(calibrated == nil ? "as answered" : "before calibration", raw)]
      if let calibrated { series.append(ReliabilityDiagram.Series("calibrated, cross-validated", calibrated)) }
      try DurableFile.write(Array(ReliabilityDiagram(title: "\(engine.model.name), \(question.labels.count) labels", series: series).svg.utf8), to: svg)
    }
  }

  private func withRaw(_ json: JSON, _ raw: Reliability) -> JSON {
    guard calibrate != nil, case .object(var object) = json else { return json }
    object["before_calibration"] = ["calibration_error": .number(raw.expectedCalibrationError), "reliability": raw.json]
    object["folds"] = .number(Evaluation.ClassificationReport.folds)
    return .object(object)
  }

  private func errorRows(_ now: Reliability, _ raw: Reliability) -> [[String]] {
    let error = ["calibration error", now.expectedCalibrationError.formatted(4)]
    return calibrate == nil ? [error] : [["calibration error before", raw.expectedCalibrationError.formatted(4)], ["calibrated, cross-validated", error[1]]]
  }

  private func describe(_ report: Evaluation.ClassificationReport, _ raw: Reliability) -> String {
    var text = table(
      [["accuracy", report.accuracy.formatted(4)], ["macro F1", report.macroF1.formatted(4)]] + errorRows(report.reliability, raw) + [
        ["labels offered", "\(report.question.labels.count)"], ["rows", "\(report.rows)"], ["rows out of scope", "\(report.rowsOutOfScope)"], ["errors", "\(report.errors)"],
        ["jobs a second", report.jobsPerSecond.formatted(1)],
      ])
    if !report.thresholds.isEmpty {
      text += "\n\n" + table(
        [["abstain below", "out-of-scope recall", "precision", "in-scope accuracy", "accuracy"]]
          + report.thresholds.map {
            [
              $0.threshold.formatted(2) + ($0.threshold == abstainBelow ? " *" : ""), $0.recall.formatted(3), $0.precision.formatted(3), $0.inScopeAccuracy.formatted(3),
              $0.accuracy.formatted(3),
            ]
          })
    }
    return text
  }

  private func describe(_ report: Evaluation.MultiReport, _ raw: Reliability) -> String {
    let choice = report.choosing(at: nil)
    func share(_ part: Int) -> String { (Double(part) / Double(max(1, report.rows))).formatted(4) }
    return table(
      [
        ["precision", choice.all.precision.formatted(4)], ["recall", choice.all.recall.formatted(4)], ["F1", choice.all.f1.formatted(4)],
        ["macro F1", choice.macroF1.formatted(4)], ["rows with exactly the right labels", share(choice.rowsRight)],
      ] + errorRows(report.reliability, raw) + [
        ["labels offered", "\(report.question.labels.count)"], ["rows", "\(report.rows)"], ["errors", "\(report.errors)"], ["jobs a second", report.jobsPerSecond.formatted(1)],
      ])
      + "\n\n"
      + table(
        [["threshold", "precision", "recall", "F1", "rows right"]]
          + report.thresholds.map {
            [
              $0.threshold.formatted(2), $0.choice.all.precision.formatted(3), $0.choice.all.recall.formatted(3), $0.choice.all.f1.formatted(3), share($0.choice.rowsRight),
            ]
          })
  }

  // MARK: - Extraction

  private func extract(_ rows: [EvaluationRow], _ source: [EvaluationRow]) throws {
    let total = rows.count
    let runner = try CommandRunner(model)
    let report = Evaluation.extract(rows, fields: EvaluationRow.fields(of: source), with: runner.engine) { done, report in
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

  // MARK: - Files

  private static func rows(_ path: String) throws(SternaError) -> [EvaluationRow] {
    try EvaluationRow.parse(readWholeFile(path, limit: 1 << 30), from: path)
  }
}
