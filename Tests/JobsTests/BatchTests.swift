import Basics
import Inference
import Jobs
import TestSupport
import Testing

/// Jobs that run together must not know of each other.
@Suite struct BatchTests {
  private func jobs(_ count: Int, seed: UInt64) -> [Job] {
    var random = SplitMix64(seed: seed)
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

  @Test(arguments: ["qwen2-moe", "deepseek-v3"]) func mixturesAnswerTheSameAloneAndTogether(_ model: String) throws {
    let jobs = jobs(16, seed: 23)
    let alone = try engine(model) { $0.kv = .q8 }
    let expected = try jobs.map { try text(alone.run($0)) }
    let together = try engine(model) {
      $0.kv = .q8
      $0.threads = 2
      $0.batchTokens = 24
    }
    #expect(try together.run(all: jobs).map(text) == expected)
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

  // MARK: - Long texts and late answers

  private let long = Job(input: (0..<120).map { "word \($0)" }.joined(separator: " "), work: .classify([Job.Label("x"), Job.Label("y")]))

  /// Runs jobs that come together.
  /// - Returns: outcomes by number, and the numbers in the order in which they ended.
  private func run(_ jobs: [Job], on engine: JobEngine, control: RunControl = RunControl()) -> (outcomes: [Int: Outcome], order: [Int]) {
    var next = 0
    var order: [Int] = []
    var outcomes: [Int: Outcome] = [:]
    engine.serve(control: control) { _ in
      guard next < jobs.count else { return nil }
      defer { next += 1 }
      return (next, jobs[next])
    } finish: {
      order.append($0)
      outcomes[$0] = $1
    }
    return (outcomes, order)
  }

  @Test func aLongTextDoesNotHoldShortOnesUp() throws {
    let engine = try engine { $0.batchTokens = 16 }
    let short = (0..<3).map { Job(input: "pump \($0) leaks", work: .classify([Job.Label("x"), Job.Label("y")])) }
    let extraction = Job(input: "pump 12 is at 3.5 bar", work: .extract([Job.Field("serialNumber"), Job.Field("pressure", kind: .number)]))
    let (outcomes, order) = run([long, extraction] + short, on: engine)
    #expect(order.last == 0)
    // The others had all their passes, the extraction's decisions among them, while the long text was read.
    let reading = (outcomes[0]?.usage.inputTokens ?? 0) / 16
    #expect(reading > (outcomes[1]?.usage.forwardPasses ?? 0) && outcomes[1]?.usage.forwardPasses ?? 0 > 1)
  }

  @Test func longTextsAmongShortOnesChangeNothing() throws {
    var jobs = jobs(14, seed: 23)
    jobs.insert(long, at: 0)
    jobs.insert(Job(input: long.input + " 3.5 bar", work: .extract([Job.Field("place"), Job.Field("pressure", kind: .number)])), at: 7)
    let alone = try engine()
    let expected = try jobs.map { try text(alone.run($0)) }
    for batch in [5, 24, 128] {
      let together = try engine { $0.batchTokens = batch }
      #expect(try together.run(all: jobs).map(text) == expected)
    }
  }

  @Test func aPassIsSharedByUrgencyThenLengthWithAPartForTheFirst() {
    var random = SplitMix64(seed: 24)
    for _ in 0..<2000 {
      let readers = (0..<Int.random(in: 0...8, using: &random)).map { _ in (priority: Int.random(in: 0...2, using: &random), left: Int.random(in: 0...200, using: &random)) }
        .sorted { $0.priority > $1.priority }
      let tokens = Int.random(in: 0...256, using: &random)
      let shares = JobBatch.share(tokens, among: readers)
      #expect(shares.count == readers.count)
      #expect(zip(shares, readers).allSatisfy { 0 <= $0 && $0 <= $1.left })
      #expect(shares.reduce(0, +) == min(tokens, readers.reduce(0) { $0 + $1.left }))
      if let first = readers.first, tokens > 0 { #expect(shares[0] >= min(first.left, max(1, tokens / 4))) }
      for a in readers.indices {
        for b in readers.indices {
          // Who is more urgent is done before the other begins.
          if readers[a].priority > readers[b].priority { #expect(shares[a] == readers[a].left || shares[b] == 0) }
          // So is who is shorter, but for the first of its priority.
          let isFirst = b == readers.firstIndex { $0.priority == readers[b].priority }
          if readers[a].priority == readers[b].priority, readers[a].left < readers[b].left, !isFirst { #expect(shares[a] == readers[a].left || shares[b] == 0) }
        }
      }
    }
  }

  /// However many short texts keep coming.
  @Test func theFirstTextGetsOn() {
    var left = 1000
    var passes = 0
    while left > 0 {
      left -= JobBatch.share(128, among: [(0, left)] + [(priority: Int, left: Int)](repeating: (0, 30), count: 15))[0]
      passes += 1
    }
    #expect(passes <= 1000 / 32 + 1)
  }

  @Test func lateJobsEndAloneAndTheOthersGoOn() throws {
    let engine = try engine { $0.batchTokens = 16 }
    let jobs = [Job(input: "pump 12 is at 3.5 bar", work: .extract([Job.Field("place"), Job.Field("pressure", kind: .number)])), long, long, self.jobs(1, seed: 25)[0]]
    let alone = try jobs.map { try text(engine.run($0)) }
    let fresh = try JobsTests.engine { $0.batchTokens = 16 }
    var passes = 0
    let control = RunControl(progress: { passes += 1 }, isOverdue: { $0 == 2 || $0 == 1 && passes >= 8 })
    let (outcomes, order) = run(jobs, on: fresh, control: control)
    #expect(order.first == 2 && order.count == 4)
    for (ticket, code) in [(1, SternaError.Code.deadline), (2, .expired)] {
      guard case .failure(let error)? = outcomes[ticket]?.result else { Issue.record("answered"); continue }
      #expect(error.code == code)
    }
    #expect((1...8).contains(outcomes[1]?.usage.forwardPasses ?? 0))
    for ticket in [0, 3] { #expect(try outcomes[ticket].map(text) == alone[ticket]) }
    // What it left behind does not show in its answer the next time.
    #expect(try text(fresh.run(jobs[1])) == alone[1])
  }

  /// Of two jobs that wait for the scores of texts without content, the one that they run for leaves.
  @Test func aLateJobLeavesItsPriorToOthers() throws {
    func job(_ input: String) -> Job {
      var job = Job(input: input, work: .classify([Job.Label("leak"), Job.Label("fire")]))
      job.options.contextual = true
      return job
    }
    let expected = try text(try engine().run(job("water")))
    var passes = 0
    let (outcomes, _) = run([job("smoke"), job("water")], on: try engine(), control: RunControl(progress: { passes += 1 }, isOverdue: { $0 == 0 && passes >= 1 }))
    guard case .failure(let error)? = outcomes[0]?.result else { Issue.record("answered"); return }
    #expect(error.code == .deadline)
    #expect(try outcomes[1].map(text) == expected)
  }

  /// One label needs no pass. Who waits for the next job inside `take` must have its answer before.
  @Test func aJobThatNeedsNoPassIsAnsweredBeforeTheNextIsAskedFor() throws {
    let engine = try engine()
    let jobs = [
      Job(input: "x", work: .classify([Job.Label("only")])), Job(input: String(repeating: "overlong ", count: 600), work: .extract([Job.Field("a")])),
      Job(input: "x", work: .classify([Job.Label("only")])),
    ]
    var events: [String] = []
    var next = 0
    engine.serve(control: RunControl()) { _ in
      events.append("take")
      guard next < jobs.count else { return nil }
      defer { next += 1 }
      return (next, jobs[next])
    } finish: { ticket, _ in events.append("\(ticket)") }
    #expect(events == ["take", "0", "take", "1", "take", "2", "take"])
  }
}
