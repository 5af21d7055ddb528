import Basics
import Jobs
import Testing

/// A runner that plays the model: what it answers is decided by the test.
private final class Scripted: JobRunner {
  let model = ModelIdentity(name: "scripted", sha256: "")
  let answer: (Job) -> Outcome
  init(_ answer: @escaping (Job) -> Outcome) { self.answer = answer }
  func run(_ job: Job, control: RunControl) -> Outcome { answer(job) }
}

@Suite struct EvaluationTests {
  private let rows = [
    EvaluationRow(text: "a a", label: "A", spans: [.init(field: "x", text: "2", start: 4, end: 5), .init(field: "x", text: "1", start: 0, end: 1)]),
    EvaluationRow(text: "b", label: "B", spans: [.init(field: "y", text: "b", start: 0, end: 1)]),
    EvaluationRow(text: "c", label: "B", spans: []),
    EvaluationRow(text: "d", label: "C", spans: []),
  ]

  @Test func rowsAreRead() throws {
    let text = #"{"text":"a","label":"L","spans":[{"field":"f","text":"a","start":0,"end":1}],"more":1}"# + "\n\n" + #"{"text":"b","label":"M"}"# + "\r\n"
    #expect(
      try EvaluationRow.parse(Array(text.utf8), from: "data")
        == [EvaluationRow(text: "a", label: "L", spans: [.init(field: "f", text: "a", start: 0, end: 1)]), EvaluationRow(text: "b", label: "M")])
    do {
      _ = try EvaluationRow.parse(Array((text + "{\"text\":7}").utf8), from: "data.jsonl")
      Issue.record("accepted")
    } catch {
      #expect(error.place == "data.jsonl:4: text")
    }
  }

  @Test func labelsAndFieldsAreThoseOfTheRows() {
    #expect(EvaluationRow.labels(of: rows) == ["A", "B", "C"])
    #expect(EvaluationRow.fields(of: rows) == ["A": ["x"], "B": ["y"], "C": []])
  }

  @Test func accuracyAndMacroF1CountEveryRow() {
    // A right; B given as A; B right; C not answered.
    let given = ["a a": "A", "b": "A", "c": "B"]
    let report = Evaluation.classify(rows, .init(labels: ["A", "B", "C"].map { Job.Label($0) }), with: Scripted { job in
      guard let label = given[job.input], case .classify(let labels) = job.work else { return Outcome(.failure(SternaError(.internal, "no"))) }
      let scores = labels.map { ($0.name, Float($0.name == label ? 1 : 0)) }
      return Outcome(.success(.classification(Answer.Classification(scores: scores, best: labels.firstIndex { $0.name == label } ?? 0))))
    })
    #expect(report.rows == 4 && report.right == 2 && report.errors == 1 && report.accuracy == 0.5)
    // A: 1 right, 1 wrong: F1 2/3. B: 1 right, 1 missed: 2/3. C: 0.
    #expect(abs(report.macroF1 - (2.0 / 3 + 2.0 / 3) / 3) < 1e-12)
  }

  /// Rows named by what is answered and how surely: `A 0.9`.
  private func report(_ rows: [(String, String)], labels: [String] = ["A", "B"], outOfScope: String? = nil, abstainBelow: Double? = nil) -> Evaluation.ClassificationReport {
    let question = Evaluation.ClassificationQuestion(labels: labels.map { Job.Label($0) }, outOfScope: outOfScope, abstainBelow: abstainBelow)
    return Evaluation.classify(
      rows.map { EvaluationRow(text: $0.0, label: $0.1) }, question,
      with: Scripted { job in
        let parts = job.input.split(separator: " ")
        guard case .classify(let labels) = job.work, let score = Float(parts[1]) else { return Outcome(.failure(SternaError(.internal, "no"))) }
        let scores = labels.map { ($0.name, $0.name == parts[0] ? score : (1 - score) / Float(labels.count - 1)) }
        return Outcome(.success(.classification(Answer.Classification(scores: scores, best: labels.firstIndex { $0.name == parts[0] } ?? 0))))
      })
  }

  @Test func rowsOutOfScopeAreRightWhenAbstained() {
    let rows = [("A 0.9", "A"), ("A 0.6", "A"), ("B 0.9", "A"), ("B 0.6", "X"), ("A 0.9", "X"), ("A 0.7", "Y")]
    let plain = report(rows)
    #expect(plain.rowsOutOfScope == 3 && plain.right == 2)
    let careful = report(rows, abstainBelow: 0.8)
    // Right: the first row, and two of those out of scope. Abstained: A 0.6, B 0.6, A 0.7.
    #expect(careful.right == 3)
    let at = careful.abstaining(below: 0.8)
    #expect(at.recall == 2.0 / 3 && at.precision == 2.0 / 3 && at.inScopeAccuracy == 1.0 / 3 && at.accuracy == 0.5)
    #expect(careful.thresholds.contains(at))
    #expect(careful.abstaining(below: 0).recall == 0 && careful.abstaining(below: 0).precision == 0)
    #expect(careful.abstaining(below: 1).recall == 1 && careful.abstaining(below: 1).inScopeAccuracy == 0)
    // F1: A 1 right, 2 missed (abstained and B in its place), 1 wrong; B 1 wrong; X 1 right, 1 missed; Y right.
    #expect(abs(careful.macroF1 - (2.0 / 5 + 0 + 2.0 / 3 + 1) / 4) < 1e-12)
  }

  @Test func aLabelForWhatIsOutOfScopeIsAnAbstention() {
    let rows = [("A 0.9", "A"), ("none 0.9", "none"), ("none 0.9", "A"), ("B 0.9", "none")]
    let offered = report(rows, labels: ["A", "B", "none"], outOfScope: "none")
    #expect(offered.rowsOutOfScope == 2 && offered.right == 2)
    let at = offered.abstaining(below: 0)
    #expect(at.recall == 0.5 && at.precision == 0.5 && at.inScopeAccuracy == 0.5 && at.accuracy == 0.5)
  }

  @Test func calibrationIsMeasuredOnRowsItHasNotSeen() throws {
    // Always 0.9 sure, right half of the time.
    let rows = (0..<200).map { ("A 0.9", $0 % 2 == 0 ? "A" : "B") }
    let raw = report(rows)
    #expect(abs(raw.reliability.expectedCalibrationError - 0.4) < 1e-6)
    let calibrated = try raw.crossValidated()
    #expect(calibrated.reliability.expectedCalibrationError < 0.01 && calibrated.right == raw.right)
    #expect(try abs(raw.fitted().rate(at: 0.9) - 0.5) < 0.01)
    // Fold 0 is right throughout, the others never: a curve that had seen its own rows would say a fifth.
    let split = try report((0..<200).map { ("A 0.9", $0 % 5 == 0 ? "A" : "B") }, labels: (0..<50).map { "\($0)" } + ["A", "B"]).crossValidated()
    #expect(split.predictions[0].score < 0.03)
    #expect(throws: SternaError.self) { try report(Array(rows.prefix(20))).crossValidated() }
  }

  @Test func severalLabelsAreCountedOneByOne() throws {
    let given: [String: [Float]] = ["one": [0.9, 0.2, 0.6], "two": [0.4, 0.6, 0.1], "three": [0.1, 0.1, 0.1]]
    let rows = [EvaluationRow(text: "one", labels: ["A", "C"]), EvaluationRow(text: "two", labels: ["A"]), EvaluationRow(text: "three", labels: []), EvaluationRow(text: "no", labels: ["B"])]
    var question = Evaluation.ClassificationQuestion(labels: ["A", "B", "C"].map { Job.Label($0) })
    question.labels[2].threshold = 0.7
    let report = Evaluation.classifyMulti(rows, question, with: Scripted { job in
      guard job.options.multi, let scores = given[job.input] else { return Outcome(.failure(SternaError(.internal, "no"))) }
      return Outcome(.success(.classification(Answer.Classification(scores: Array(zip(["A", "B", "C"], scores)), best: 0))))
    })
    // Chosen: A of "one"; B of "two"; nothing of "three". C of "one" is under its own threshold.
    let choice = report.choosing(at: nil)
    #expect(choice.all.right == 1 && choice.all.wrong == 1 && choice.all.missed == 3 && choice.rowsRight == 1 && report.errors == 1)
    #expect(report.choosing(at: 0.3).all.right == 3)
    #expect(report.reliability.count == 9)
  }

  @Test func rowsMayHaveSeveralLabels() throws {
    let text = #"{"text":"a","labels":["M","L"]}"# + "\n" + #"{"text":"b","labels":[]}"#
    let rows = try EvaluationRow.parse(Array(text.utf8), from: "data")
    #expect(rows.map(\.labels) == [["M", "L"], []] && EvaluationRow.labels(of: rows) == ["L", "M"])
    let error = #expect(throws: SternaError.self) { try EvaluationRow.parse(Array(#"{"text":"a","labels":["M",""]}"#.utf8), from: "data") }
    #expect(error?.place == "data:1: labels[1]")
  }

  @Test func valuesMustMatchExactlyAndTheFirstSpanCounts() {
    let given = ["a a": "1", "b": "B", "c": "c"]
    let report = Evaluation.extract(rows, fields: EvaluationRow.fields(of: rows), with: Scripted { job in
      guard case .extract(let fields) = job.work else { return Outcome(.failure(SternaError(.internal, "no"))) }
      return Outcome(
        .success(.extraction(Answer.Extraction(values: fields.map { .init(name: $0.name, value: given[job.input].map { .string($0) } ?? .null, evidence: nil, confidence: 1) }))))
    })
    // "1" is the first span of x: right. "B" for "b": wrong and missed. "c" where nothing is: wrong. The row of C has no fields.
    #expect(report.rows == 3 && report.rowsRight == 1)
    #expect(report.all.right == 1 && report.all.wrong == 2 && report.all.missed == 1)
    #expect(abs(report.all.f1 - 2.0 / 5) < 1e-12)
    #expect(report.perField["x"]?.f1 == 1 && report.perField["y"]?.f1 == 0)
  }
}
