import Basics
import Decoding
import Foundation
import Inference
import Jobs
import TestSupport
import Testing

/// Schemas, texts and models by chance: whatever is asked of whom, an answer is valid, grounded, and the same in every company.
@Suite struct SchemaAnswerTests {
  /// Jobs whose schemas compile: of those by chance some can be fulfilled by no value.
  private static func jobs(_ count: Int, seed: UInt64, budgets: ClosedRange<Int>, allowsFree: Bool = true) -> [Job] {
    var schemas = RandomSchemas(random: SplitMix64(seed: seed))
    var jobs: [Job] = []
    while jobs.count < count {
      guard let schema = try? Job.Schema(compiling: schemas.document(allowsFree: allowsFree && jobs.count % 2 == 0)) else { continue }
      // Two texts, for what one text cannot give another may.
      for _ in 0..<2 {
        var job = Job(input: richText(&schemas.random), work: .fill(schema))
        job.options.maxTokens = Int.random(in: budgets, using: &schemas.random)
        job.options.priority = Int.random(in: 0...2, using: &schemas.random)
        jobs.append(job)
      }
    }
    return jobs
  }

  // MARK: - What must hold for every answer

  private static func leaves(_ value: JSON, _ path: String = "") -> [(path: String, value: JSON)] {
    switch value {
    case .array(let elements) where !elements.isEmpty: elements.enumerated().flatMap { leaves($1, "\(path)[\($0)]") }
    case .object(let object) where object.count > 0: object.members.flatMap { leaves($0.value, path.isEmpty ? $0.name : "\(path).\($0.name)") }
    default: [(path, value)]
    }
  }

  /// Whether the members of all objects stand in the schema's order.
  private static func keepsOrder(_ value: JSON, _ node: Int, _ constraint: Constraint) -> Bool {
    switch (constraint.nodes[node], value) {
    case (.anyOf(let nodes), _): return nodes.contains { keepsOrder(value, $0, constraint) }
    case (.array(let rule), .array(let elements)):
      return elements.enumerated().allSatisfy { at, element in (at < rule.prefix.count ? rule.prefix[at] : rule.items).map { keepsOrder(element, $0, constraint) } ?? false }
    case (.object(let rule), .object(let object)):
      let order = object.members.map { member in rule.properties.firstIndex { $0.name.utf8.elementsEqual(member.name.utf8) } ?? -1 }
      return !order.contains(-1) && order == order.sorted() && zip(order, object.members).allSatisfy { keepsOrder($1.value, rule.properties[$0].node, constraint) }
    case (.literals(let values), _): return values.contains(value)
    case (.string, .string), (.number, .number): return true
    default: return false
    }
  }

  private static func check(_ outcome: Outcome, _ job: Job) throws {
    guard case .fill(let schema) = job.work else { return }
    let about = "\(schema.document.compact) and \(JSON.string(job.input).compact) with \(job.options.maxTokens ?? 0)"
    switch outcome.result {
    case .failure(let error):
      #expect(error.code == .noValidOutput || error.code == .inputTooLong, "\(error) for \(about)")
    case .success(.classification): Issue.record("a classification")
    case .success(.extraction(let answer)):
      let document = answer.document
      let constraint = try schema.constraint()
      #expect(constraint.accepts(document), "\(document.compact), truncated \(outcome.truncated), for \(about)")
      #expect(keepsOrder(document, constraint.root, constraint), "\(document.compact) for \(about)")
      #expect(try JSON.parse(answer.json.compactBytes) == answer.json)
      #expect(outcome.usage.outputTokens <= job.options.maxTokens ?? .max)
      let leaves = leaves(document)
      #expect(leaves.map(\.path) == answer.values.map(\.name) && leaves.map(\.value) == answer.values.map(\.value), "\(document.compact) for \(about)")
      let mayBeFree = schema.document.compact.contains("\"free\"")
      let input = Array(job.input.utf8)
      for value in answer.values {
        #expect(value.confidence >= 0 && value.confidence <= 1)
        guard let evidence = value.evidence else {
          switch value.value {
          case .string(let text): #expect(mayBeFree || RandomSchemas.words.contains(text), "\(text) out of nothing for \(about)")
          case .number(let number): #expect(mayBeFree || number.text == "12" || number.text == "0.5", "\(number.text) out of nothing for \(about)")
          default: break
          }
          continue
        }
        guard evidence.bytes.upperBound <= input.count, evidence.scalars.upperBound <= job.input.unicodeScalars.count else { Issue.record("evidence behind the end for \(about)"); continue }
        #expect(Array(input[evidence.bytes]) == Array(evidence.text.utf8) && !evidence.text.isEmpty)
        #expect(String(String.UnicodeScalarView(Array(job.input.unicodeScalars)[evidence.scalars])) == evidence.text)
        switch value.value {
        case .string(let text):
          #expect(
            text.utf8.elementsEqual(evidence.text.utf8) || TextMoments.of(job.input).contains { $0.bytes == evidence.bytes && $0.iso == text },
            "\(text) from \(evidence.text) for \(about)")
        case .number(let number): #expect(TextNumbers.of(job.input).contains { $0.bytes == evidence.bytes && $0.json == .number(number) }, "\(number.text) for \(about)")
        default: Issue.record("\(value.value) was copied for \(about)")
        }
      }
    }
  }

  @Test(arguments: ["bitnet-offline", "llama-bitlinear"]) func everyAnswerFulfilsItsSchemaAndStandsInTheText(model: String) throws {
    let jobs = Self.jobs(500, seed: model == "bitnet-offline" ? 41 : 42, budgets: 40...120) + Self.jobs(300, seed: 43, budgets: 1...24)
    let engine = try engine(model)
    let outcomes = engine.run(all: jobs)
    for (job, outcome) in zip(jobs, outcomes) { try Self.check(outcome, job) }
    let answered = outcomes.count { (try? $0.result.get()) != nil }
    #expect(answered > 400 && outcomes.count(where: \.truncated) > 60)
  }

  // MARK: - The same in every company

  private static func text(_ outcome: Outcome) -> String {
    switch outcome.result {
    case .success(let answer): answer.json.compact + " \(outcome.truncated) \(outcome.usage.outputTokens)"
    case .failure(let error): "\(error.code) \(error.message) \(error.found ?? "")"
    }
  }

  private static func withFolder(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "sterna-answers-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
  }

  @Test(arguments: KVFormat.allCases) func anAnswerDependsOnNothingButItsJob(kv: KVFormat) throws {
    let jobs = Self.jobs(48, seed: 51, budgets: 8...80)
    let alone = try engine { $0.kv = kv }
    let expected = jobs.map { Self.text(alone.run($0)) }
    #expect(expected.count { $0.hasPrefix("{") } > 24)
    func compare(_ engine: JobEngine, _ what: String) {
      for (job, (found, expected)) in zip(jobs, zip(engine.run(all: jobs).map(Self.text), expected)) { #expect(found == expected, "\(what): \(job.input)") }
    }
    compare(alone, "together, everything cached")
    for (draft, threads, batch) in [(6, 2, 64), (3, 1, 11)] {
      let drafting = try engine { options in (options.kv, options.threads, options.batchTokens) = (kv, threads, batch) }
      drafting.draftLength = draft
      for (job, expected) in zip(jobs, expected) { #expect(Self.text(drafting.run(job)) == expected, "drafted alone: \(job.input)") }
      compare(drafting, "drafted together")
    }
    let narrow = try engine { options in (options.kv, options.kvBudgetBytes) = (kv, 700 * alone.network.kvBytesPerToken) }
    narrow.draftLength = 6
    compare(narrow, "in little memory")
    try Self.withFolder { folder in
      let packed = try PackedFixtures.shared["bitnet-offline"].get()
      var options = ModelOptions()
      options.kv = kv
      for round in 0..<2 {
        let files = JobEngine.PrefixFiles(path: folder, budgetBytes: 1 << 26)
        let engine = try JobEngine(packed: packed, model: Model(packed, options: options), template: shortTemplate, prefixFiles: files)
        compare(engine, "on disk, round \(round)")
        if round == 0 {
          try engine.rest { false }
          #expect(engine.prefixStatistics.filesWritten > 0)
        } else {
          #expect(engine.prefixStatistics.filesRead > 0)
        }
      }
    }
  }
}
