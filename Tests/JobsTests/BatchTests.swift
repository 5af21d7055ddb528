import Basics
import Inference
import Jobs
import Testing

/// Jobs that run together must not know of each other.
@Suite struct BatchTests {
  private func jobs(_ count: Int, seed: UInt64) -> [Job] {
    var random = SeededGenerator(state: seed)
    let labelSets = [["leak", "fire"], ["leak", "leakage", "leak in pump", "le", "l"], (0..<30).map { "label number \($0)" }]
    let fieldSets = [[Job.Field("serialNumber"), Job.Field("pressure", kind: .number)], [Job.Field("place")]]
    return (0..<count).map { _ in
      let text = hardText(&random) + " pump 12 is at 3.5 bar"
      var job =
        Bool.random(using: &random)
        ? Job(input: text, work: .classify((labelSets.randomElement(using: &random) ?? []).map { Job.Label($0) }))
        : Job(input: text, work: .extract(fieldSets.randomElement(using: &random) ?? []))
      job.options.priority = Int.random(in: 0...2, using: &random)
      return job
    }
  }

  private func text(_ outcome: Outcome) throws -> String { try outcome.result.get().json.compact + " \(outcome.truncated) \(outcome.usage.outputTokens)" }

  @Test(arguments: [KVFormat.f32, .f16, .q8]) func answersAreTheSameAloneAndTogether(_ kv: KVFormat) throws {
    let jobs = jobs(40, seed: 21)
    let alone = try engine { $0.kv = kv }
    let expected = try jobs.map { try text(alone.run($0)) }
    for (threads, batch, budget) in [(1, 128, 400_000_000), (2, 9, 400_000_000), (2, 128, 3000)] {
      let together = try engine {
        $0.kv = kv
        $0.threads = threads
        $0.batchTokens = batch
        if budget < 100_000 { $0.kvBudgetBytes = budget * alone.network.kvBytesPerToken } else { $0.kvBudgetBytes = budget }
      }
      #expect(try together.run(all: jobs).map(text) == expected)
    }
  }

  /// So little memory that jobs push each other out and begin again.
  @Test func jobsThatHaveToWaitForMemoryGiveTheSameAnswers() throws {
    let jobs = jobs(24, seed: 22)
    let alone = try engine()
    let expected = try jobs.map { try text(alone.run($0)) }
    let longest = try jobs.map { try alone.template.render($0.work, text: $0.input, tokenizer: alone.tokenizer).count }.max() ?? 0
    for room in [120, 200, 400] {
      let narrow = try engine { $0.kvBudgetBytes = (longest + room) * alone.network.kvBytesPerToken }
      #expect(try narrow.run(all: jobs).map(text) == expected)
    }
  }

  @Test func jobsShareTheirPasses() throws {
    let engine = try engine()
    let jobs = (0..<8).map { Job(input: "pump \($0)", work: .classify([Job.Label("x"), Job.Label("y")])) }
    var passes = 0
    let outcomes = engine.run(all: jobs, control: RunControl(progress: { passes += 1 }))
    #expect(outcomes.allSatisfy { (try? $0.result.get()) != nil })
    // The task prompt, and the texts.
    #expect(passes == 2)
  }

  @Test func aJobThatCannotBeAnsweredLeavesTheOthersAlone() throws {
    let engine = try engine()
    let good = Job(input: "pump", work: .classify([Job.Label("x"), Job.Label("y")]))
    let bad = Job(input: String(repeating: "overlong ", count: 600), work: .extract([Job.Field("a")]))
    let outcomes = engine.run(all: [good, bad, good])
    #expect(try outcomes[0].result.get() == outcomes[2].result.get())
    guard case .failure(let error) = outcomes[1].result else { Issue.record("answered"); return }
    #expect(error.code == .inputTooLong)
  }

  @Test func theMoreUrgentJobIsReadFirst() throws {
    let engine = try engine { $0.batchTokens = 8 }
    var jobs = (0..<6).map { Job(input: "a rather long text about pump number \($0) and its pressure", work: .classify([Job.Label("x"), Job.Label("y")])) }
    jobs[5].options.priority = 9
    var order: [Int] = []
    var next = 0
    engine.serve(control: RunControl()) { _ in
      guard next < jobs.count else { return nil }
      defer { next += 1 }
      return (next, jobs[next])
    } finish: { ticket, _ in order.append(ticket) }
    #expect(order.first == 5)
    #expect(order.sorted() == [0, 1, 2, 3, 4, 5])
  }

  @Test func jobsJoinBetweenPasses() throws {
    let engine = try engine()
    let job = Job(input: "water on the floor", work: .extract([Job.Field("a"), Job.Field("b")]))
    let alone = try text(engine.run(job))
    var given = 0
    var looks = 0
    var answers: [String] = []
    engine.serve(control: RunControl()) { underWay in
      looks += 1
      guard given < 5, underWay == 0 || looks % 3 == 0 else { return nil }
      given += 1
      return (given, job)
    } finish: { answers.append((try? self.text($1)) ?? "failed") }
    #expect(answers == [String](repeating: alone, count: 5))
  }
}
