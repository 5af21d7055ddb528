import Basics

/// Measures a model on labelled rows. It goes the way of every job, so that what is measured is what an agent answers.
public enum Evaluation {
  /// Right, wrong and missing answers of one kind.
  public struct Counts: Sendable, Equatable {
    public var right = 0
    /// Given, but not the expected one.
    public var wrong = 0
    /// Expected, but not given.
    public var missed = 0

    public init() {}
    /// Of what was given, the part that is right; 0 when nothing was given.
    public var precision: Double { right + wrong == 0 ? 0 : Double(right) / Double(right + wrong) }
    /// Of what was expected, the part that was given.
    public var recall: Double { right + missed == 0 ? 0 : Double(right) / Double(right + missed) }
    public var f1: Double { 2 * right + wrong + missed == 0 ? 0 : Double(2 * right) / Double(2 * right + wrong + missed) }

    var json: JSON { ["precision": .number(precision), "recall": .number(recall), "f1": .number(f1), "expected": .number(right + missed)] }
  }

  /// How well values were found.
  public struct ExtractionReport: Sendable {
    /// Rows that were asked about; those whose label has no fields are not.
    public var rows = 0
    /// Rows of which every field is right.
    public var rowsRight = 0
    public var errors = 0
    public var truncated = 0
    public var all = Counts()
    public var perField: [String: Counts] = [:]
    public var seconds = 0.0

    public var macroF1: Double { mean(perField.values.map(\.f1)) }
    public var jobsPerSecond: Double { seconds > 0 ? Double(rows) / seconds : 0 }

    /// What `sterna eval --json` prints; precision, recall and F1 are over all values of all rows (micro).
    public var json: JSON {
      var fields = JSON.Object()
      for (field, counts) in perField.sorted(by: { $0.key < $1.key }) { fields[field] = counts.json }
      return [
        "task": "extract", "rows": .number(rows), "errors": .number(errors), "truncated": .number(truncated), "precision": .number(all.precision),
        "recall": .number(all.recall), "f1": .number(all.f1), "macro_f1": .number(macroF1),
        "rows_right": .number(rows == 0 ? 0 : Double(rowsRight) / Double(rows)), "jobs_per_second": .number(jobsPerSecond),
        "seconds": .number(seconds), "per_field": .object(fields),
      ]
    }
  }

  /// Looks for the fields of each row's label in its text.
  ///
  /// Exact field and text: a value is right when the row has a span of that field with exactly that text; where it has several, the first one counts. A value where there
  /// should be another one is both wrong and missed; a value where there should be none is wrong; null where there should be one is missed.
  /// - Parameter fields: those on offer for each label; see `EvaluationRow.fields(of:)`. Rows whose label has none are left out.
  public static func extract(
    _ rows: [EvaluationRow], fields: [String: [String]], with runner: some JobRunner, progress: (Int, ExtractionReport) -> Void = { _, _ in }
  ) -> ExtractionReport {
    var report = ExtractionReport()
    let asked = rows.filter { fields[$0.label]?.isEmpty == false }
    report.seconds = run(asked, with: runner) { row in
      Job(input: row.text, work: .extract((fields[row.label] ?? []).map { Job.Field($0) }))
    } finish: { index, outcome, done in
      let row = asked[index]
      report.rows += 1
      if outcome.truncated { report.truncated += 1 }
      var given: [String: String] = [:]
      if case .success(.extraction(let answer)) = outcome.result {
        for value in answer.values { if case .string(let text) = value.value { given[value.name] = text } }
      } else {
        report.errors += 1
      }
      var expected: [String: String] = [:]
      for span in row.spans.sorted(by: { $0.start < $1.start }) where expected[span.field] == nil { expected[span.field] = span.text }
      var isRight = true
      for name in fields[row.label] ?? [] {
        var counts = Counts()
        switch (expected[name], given[name]) {
        case (nil, nil): continue
        case (let want?, let got?) where want == got: counts.right = 1
        case (let want, let got):
          counts.missed = want == nil ? 0 : 1
          counts.wrong = got == nil ? 0 : 1
          isRight = false
        }
        report.all.add(counts)
        report.perField[name, default: Counts()].add(counts)
      }
      if isRight { report.rowsRight += 1 }
      progress(done, report)
    }
    return report
  }

  static func seconds(since start: ContinuousClock.Instant) -> Double {
    let passed = (ContinuousClock.now - start).components
    return Double(passed.seconds) + Double(passed.attoseconds) * 1e-18
  }

  static func mean(_ values: [Double]) -> Double { values.isEmpty ? 0 : values.sorted().reduce(0, +) / Double(values.count) }
}

extension Evaluation.Counts {
  mutating func add(_ other: Evaluation.Counts) {
    right += other.right
    wrong += other.wrong
    missed += other.missed
  }
}
