import Basics

extension Evaluation {
  /// How well texts were given all labels that fit them.
  public struct MultiReport: Sendable {
    struct Prediction: Sendable {
      var expected: Set<String>
      /// One for each label on offer; empty: the job ended in an error.
      var scores: [Float]
    }

    public let question: ClassificationQuestion
    var predictions: [Prediction] = []
    public internal(set) var seconds = 0.0

    public init(_ question: ClassificationQuestion) { self.question = question }

    public var rows: Int { predictions.count }
    public var errors: Int { predictions.count { $0.scores.isEmpty } }
    public var jobsPerSecond: Double { seconds > 0 ? Double(rows) / seconds : 0 }

    /// Labels chosen at one threshold for all, or at those of the labels and the job.
    public struct Choice: Sendable {
      /// Over all labels of all rows.
      public var all = Counts()
      public var perLabel: [String: Counts] = [:]
      /// Rows whose labels are exactly the expected ones.
      public var rowsRight = 0
      public var macroF1: Double { mean(perLabel.values.map(\.f1)) }
    }

    /// - Parameter threshold: nil: those of the labels, then that of the job, then 0.5.
    public func choosing(at threshold: Double?) -> Choice {
      var choice = Choice()
      for prediction in predictions {
        var chosen: Set<String> = []
        for (label, score) in zip(question.labels, prediction.scores) where Double(score) >= threshold ?? question.options.threshold(of: label) { chosen.insert(label.name) }
        for label in chosen.union(prediction.expected) {
          var counts = Counts()
          switch (chosen.contains(label), prediction.expected.contains(label)) {
          case (true, true): counts.right = 1
          case (true, false): counts.wrong = 1
          default: counts.missed = 1
          }
          choice.all.add(counts)
          choice.perLabel[label, default: Counts()].add(counts)
        }
        if !prediction.scores.isEmpty, chosen == prediction.expected { choice.rowsRight += 1 }
      }
      return choice
    }

    private static let usualThresholds = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    public var thresholds: [(threshold: Double, choice: Choice)] { Self.usualThresholds.map { ($0, choosing(at: $0)) } }

    /// Every label of every row is an answer of its own: yes with this probability.
    var observations: [CalibrationCurve.Observation] { predictions.flatMap(observations) }
    private func observations(_ prediction: Prediction) -> [CalibrationCurve.Observation] {
      zip(question.labels, prediction.scores).map { .init($1, isRight: prediction.expected.contains($0.name)) }
    }

    public var reliability: Reliability { Reliability(observations) }
    public func fitted() throws(SternaError) -> CalibrationCurve { try CalibrationCurve(fitting: observations) }

    /// As `ClassificationReport.crossValidated`.
    public func crossValidated() throws(SternaError) -> MultiReport {
      let folds = ClassificationReport.folds
      var report = self
      for fold in 0..<folds {
        let curve = try CalibrationCurve(fitting: predictions.indices.filter { $0 % folds != fold }.flatMap { observations(predictions[$0]) })
        for i in predictions.indices where i % folds == fold { report.predictions[i].scores = predictions[i].scores.map { Float(curve.rate(at: Double($0))) } }
      }
      return report
    }

    public var json: JSON {
      let choice = choosing(at: nil)
      var labels = JSON.Object()
      for (label, counts) in choice.perLabel.sorted(by: { $0.key < $1.key }) { labels[label] = counts.json }
      func share(_ part: Int) -> JSON { .number(rows == 0 ? 0 : Double(part) / Double(rows)) }
      return [
        "task": "classify", "multi": true, "rows": .number(rows), "labels": .number(question.labels.count), "errors": .number(errors),
        "precision": .number(choice.all.precision), "recall": .number(choice.all.recall), "f1": .number(choice.all.f1), "macro_f1": .number(choice.macroF1),
        "rows_right": share(choice.rowsRight), "calibration_error": .number(reliability.expectedCalibrationError), "reliability": reliability.json,
        "thresholds": .array(
          thresholds.map {
            [
              "threshold": .number($0.threshold), "precision": .number($0.choice.all.precision), "recall": .number($0.choice.all.recall),
              "f1": .number($0.choice.all.f1), "rows_right": share($0.choice.rowsRight),
            ]
          }), "jobs_per_second": .number(jobsPerSecond), "seconds": .number(seconds), "per_label": .object(labels),
      ]
    }
  }

  /// Gives every row's text the labels that fit it.
  ///
  /// - Parameter progress: called after each job with the number of rows done.
  public static func classifyMulti(
    _ rows: [EvaluationRow], _ question: ClassificationQuestion, with runner: some JobRunner, progress: (Int) -> Void = { _ in }
  ) -> MultiReport {
    var report = MultiReport(question)
    report.predictions = rows.map { MultiReport.Prediction(expected: Set($0.labels), scores: []) }
    report.seconds = run(rows, with: runner) { question.job($0.text, multi: true) } finish: { row, outcome, done in
      if case .success(.classification(let answer)) = outcome.result { report.predictions[row].scores = answer.scores.map(\.score) }
      progress(done)
    }
    return report
  }
}
