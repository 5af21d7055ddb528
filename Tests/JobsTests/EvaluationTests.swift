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
    let report = Evaluation.classify(rows, labels: ["A", "B", "C"], with: Scripted { job in
      guard let label = given[job.input], case .classify(let labels) = job.work else { return Outcome(.failure(SternaError(.internal, "no"))) }
      let scores = labels.map { ($0.name, Float($0.name == label ? 1 : 0)) }
      return Outcome(.success(.classification(Answer.Classification(scores: scores, best: labels.firstIndex { $0.name == label } ?? 0))))
    })
    #expect(report.rows == 4 && report.right == 2 && report.errors == 1 && report.accuracy == 0.5)
    // A: 1 right, 1 wrong: F1 2/3. B: 1 right, 1 missed: 2/3. C: 0.
    #expect(abs(report.macroF1 - (2.0 / 3 + 2.0 / 3) / 3) < 1e-12)
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
