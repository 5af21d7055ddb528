import Basics

extension Evaluation {
  /// What texts are sorted under, and when an answer counts as none.
  public struct ClassificationQuestion: Sendable {
    public var labels: [Job.Label]
    /// As every job gets them; their `abstainBelow` is left to the report.
    public var options: Job.Options
    public var calibration: Calibration?
    /// The label of rows that belong under no label. An answer of this label, where it is on offer, is an abstention.
    public var outOfScope: String?
    /// Answers with a lower score are abstentions.
    public var abstainBelow: Double?

    public init(
      labels: [Job.Label], options: Job.Options = Job.Options(), calibration: Calibration? = nil, outOfScope: String? = nil, abstainBelow: Double? = nil
    ) {
      self.labels = labels
      self.options = options
      self.calibration = calibration
      self.outOfScope = outOfScope
      self.abstainBelow = abstainBelow
    }

    func job(_ text: String, multi: Bool) -> Job {
      var job = Job(input: text, work: .classify(labels), options: options)
      job.options.abstainBelow = nil
      job.options.multi = multi
      job.calibration = calibration
      return job
    }
  }

  /// How well texts were sorted under one label each.
  public struct ClassificationReport: Sendable {
    /// One row's outcome.
    public struct Prediction: Sendable, Equatable {
      /// The row's own label.
      public var expected: String
      /// The label with the best score; nil: the job ended in an error.
      public var given: String?
      public var score: Float

      var observation: CalibrationCurve.Observation? { given.map { .init(score, isRight: $0 == expected) } }
    }

    public let question: ClassificationQuestion
    public internal(set) var predictions: [Prediction] = []
    public internal(set) var seconds = 0.0
    private let offered: Set<String>

    public init(_ question: ClassificationQuestion) {
      self.question = question
      offered = Set(question.labels.map(\.name))
    }

    public var rows: Int { predictions.count }
    /// Jobs that ended in an error; they count as not right.
    public var errors: Int { predictions.count { $0.given == nil } }
    public var jobsPerSecond: Double { seconds > 0 ? Double(rows) / seconds : 0 }

    /// Whether a row belongs under none of the labels on offer.
    func isOutOfScope(_ prediction: Prediction) -> Bool { prediction.expected == question.outOfScope || !offered.contains(prediction.expected) }

    func isAbstention(_ prediction: Prediction, below threshold: Double?) -> Bool {
      guard let given = prediction.given else { return false }
      return given == question.outOfScope || threshold.map { Double(prediction.score) < $0 } ?? false
    }

    /// A row in scope is right with its label, one out of scope with an abstention.
    func isRight(_ prediction: Prediction, below threshold: Double?) -> Bool {
      let abstains = isAbstention(prediction, below: threshold)
      return isOutOfScope(prediction) ? abstains : !abstains && prediction.given == prediction.expected
    }

    public var right: Int { predictions.count { isRight($0, below: question.abstainBelow) } }
    public var accuracy: Double { rows == 0 ? 0 : Double(right) / Double(rows) }

    /// One for each label that is expected or was given anywhere.
    public var perLabel: [String: Counts] {
      var counts: [String: Counts] = [:]
      for prediction in predictions {
        if isRight(prediction, below: question.abstainBelow) {
          counts[prediction.expected, default: Counts()].right += 1
        } else {
          counts[prediction.expected, default: Counts()].missed += 1
          if let given = prediction.given, !isAbstention(prediction, below: question.abstainBelow) { counts[given, default: Counts()].wrong += 1 }
        }
      }
      return counts
    }
    /// The mean of the labels' F1.
    public var macroF1: Double { mean(perLabel.values.map(\.f1)) }

    /// Of the best label's score, over all rows that were answered: those out of scope, too, for which no label on offer is right.
    public var reliability: Reliability { Reliability(predictions.compactMap(\.observation)) }

    /// What one threshold does to rows in and out of scope.
    public struct Threshold: Sendable, Equatable {
      public var threshold: Double
      /// Of the rows out of scope, the part that is abstained from.
      public var recall: Double
      /// Of the abstentions, the part that is out of scope.
      public var precision: Double
      /// Of the rows in scope, the part that gets its label.
      public var inScopeAccuracy: Double
      /// Of all rows, the part that is right.
      public var accuracy: Double

      var json: JSON {
        [
          "threshold": .number(threshold), "recall": .number(recall), "precision": .number(precision), "in_scope_accuracy": .number(inScopeAccuracy),
          "accuracy": .number(accuracy),
        ]
      }
    }

    public var rowsOutOfScope: Int { predictions.count(where: isOutOfScope) }

    public func abstaining(below threshold: Double) -> Threshold {
      let outside = predictions.filter(isOutOfScope)
      let caught = outside.count { isAbstention($0, below: threshold) }
      let abstentions = predictions.count { isAbstention($0, below: threshold) }
      let right = predictions.count { isRight($0, below: threshold) }
      func share(_ part: Int, _ whole: Int) -> Double { whole == 0 ? 0 : Double(part) / Double(whole) }
      return Threshold(
        threshold: threshold, recall: share(caught, outside.count), precision: share(caught, abstentions),
        inScopeAccuracy: share(right - caught, rows - outside.count), accuracy: share(right, rows))
    }

    private static let usualThresholds = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    /// A table to choose a threshold from; empty where no row is out of scope and nobody asked.
    public var thresholds: [Threshold] {
      guard question.abstainBelow != nil || rowsOutOfScope > 0 else { return [] }
      return Set(Self.usualThresholds + [question.abstainBelow].compactMap { $0 }).sorted().map(abstaining)
    }

    // MARK: - Calibration

    /// The curve of all rows.
    public func fitted() throws(SternaError) -> CalibrationCurve { try CalibrationCurve(fitting: predictions.compactMap(\.observation)) }

    public static let folds = 5

    /// The same report with calibrated scores, each from a curve that has not seen its row: row i is in fold i mod 5, and its curve is fitted on the other folds.
    /// So what is printed is what new rows may expect.
    public func crossValidated() throws(SternaError) -> ClassificationReport {
      var report = self
      for fold in 0..<Self.folds {
        let others = predictions.indices.filter { $0 % Self.folds != fold }.compactMap { predictions[$0].observation }
        let curve = try CalibrationCurve(fitting: others)
        for i in predictions.indices where i % Self.folds == fold {
          // What `calibrated` makes of the largest score of a distribution.
          report.predictions[i].score = Float(max(curve.rate(at: Double(predictions[i].score)), 1 / Double(max(1, offered.count))))
        }
      }
      return report
    }

    /// What `sterna eval --json` prints.
    public var json: JSON {
      var labels = JSON.Object()
      for (label, counts) in perLabel.sorted(by: { $0.key < $1.key }) { labels[label] = counts.json }
      var object: JSON.Object = [
        "task": "classify", "rows": .number(rows), "labels": .number(question.labels.count), "errors": .number(errors), "accuracy": .number(accuracy),
        "macro_f1": .number(macroF1), "calibration_error": .number(reliability.expectedCalibrationError), "reliability": reliability.json,
      ]
      if let threshold = question.abstainBelow { object["abstain_below"] = .number(threshold) }
      if !thresholds.isEmpty { object["out_of_scope"] = ["rows": .number(rowsOutOfScope), "thresholds": .array(thresholds.map(\.json))] }
      object["jobs_per_second"] = .number(jobsPerSecond)
      object["seconds"] = .number(seconds)
      object["per_label"] = .object(labels)
      return .object(object)
    }
  }

  /// Sorts every row's text under the labels on offer. A row whose own label is not on offer can only be right by abstaining.
  ///
  /// - Parameter progress: called after each job with the number of rows done.
  public static func classify(
    _ rows: [EvaluationRow], _ question: ClassificationQuestion, with runner: some JobRunner, progress: (Int) -> Void = { _ in }
  ) -> ClassificationReport {
    var report = ClassificationReport(question)
    report.predictions = rows.map { ClassificationReport.Prediction(expected: $0.label, given: nil, score: 0) }
    report.seconds = run(rows, with: runner) { question.job($0.text, multi: false) } finish: { row, outcome, done in
      if case .success(.classification(let answer)) = outcome.result { (report.predictions[row].given, report.predictions[row].score) = answer.scores[answer.best] }
      progress(done)
    }
    return report
  }

  /// Runs a job for every row, as many together as the runner likes.
  /// - Returns: the seconds it took.
  static func run(
    _ rows: [EvaluationRow], with runner: some JobRunner, job: (EvaluationRow) -> Job, finish: (_ row: Int, Outcome, _ done: Int) -> Void
  ) -> Double {
    let start = ContinuousClock.now
    var next = 0
    var done = 0
    runner.serve(control: RunControl()) { underWay in
      guard next < rows.count, underWay < runner.width else { return nil }
      defer { next += 1 }
      return (next, job(rows[next]))
    } finish: { row, outcome in
      done += 1
      finish(row, outcome, done)
    }
    return seconds(since: start)
  }
}
