import Agent
import Testing

/// The same order, said plainly: everything is looked at every time.
private struct PlainQueue {
  private var jobs: [WaitingJob] = []
  /// The round of sources, for each priority.
  private var rounds: [Int: [String]] = [:]

  var count: Int { jobs.count }
  var bytes: Int { jobs.reduce(0) { $0 + $1.bytes } }
  var priority: Int? { jobs.map(\.priority).max() }

  private func line(_ job: WaitingJob) -> [WaitingJob] { jobs.filter { $0.priority == job.priority && $0.source == job.source } }

  mutating func add(_ job: WaitingJob) {
    if line(job).isEmpty { rounds[job.priority, default: []].append(job.source) }
    jobs.append(job)
  }

  private mutating func remove(_ job: WaitingJob) -> WaitingJob {
    jobs.removeAll { $0.sequence == job.sequence }
    if line(job).isEmpty { rounds[job.priority]?.removeAll { $0 == job.source } }
    return job
  }

  mutating func take() -> WaitingJob? {
    guard let priority, let source = rounds[priority]?.first else { return nil }
    rounds[priority]?.removeFirst()
    rounds[priority]?.append(source)
    func due(_ job: WaitingJob) -> Int { min(job.deadline ?? .max, job.arrived + 600_000) }
    return jobs.filter { $0.priority == priority && $0.source == source }.min { (due($0), $0.sequence) < (due($1), $1.sequence) }.map { remove($0) }
  }

  mutating func takeOverdue(_ now: Int) -> WaitingJob? {
    jobs.filter { $0.deadline ?? .max <= now }.min { ($0.deadline ?? .max, $0.sequence) < ($1.deadline ?? .max, $1.sequence) }.map { remove($0) }
  }
}

@Suite struct JobQueueTests {
  private func job(_ sequence: Int, _ source: String = "task a", priority: Int = 0, arrived: Int = 0, deadline: Int? = nil) -> WaitingJob {
    WaitingJob(sequence: sequence, priority: priority, bytes: 1, source: source, arrived: arrived, deadline: deadline)
  }

  private func all(_ queue: inout JobQueue) -> [Int] {
    var order: [Int] = []
    while let next = queue.take() { order.append(next.sequence) }
    return order
  }

  @Test(arguments: 0..<40) func itIsWhatThePlainQueueIs(_ seed: Int) {
    var random = SystemRandomNumberGenerator()
    var (queue, plain) = (JobQueue(), PlainQueue())
    var (sequence, now) = (0, -2_000_000)
    // Some runs fill the queue, some keep it nearly empty.
    let adds = [30, 50, 70][seed % 3]
    for _ in 0..<600 {
      now += Int.random(in: 0...20_000, using: &random)
      switch Int.random(in: 0..<100, using: &random) {
      case ..<adds:
        sequence += 1
        let ttl = Bool.random(using: &random) ? [1, 20_000, 500_000, 5_000_000].randomElement(using: &random) : nil
        let job = WaitingJob(
          sequence: sequence, priority: Int.random(in: 0...2, using: &random), bytes: Int.random(in: 0...9, using: &random),
          source: "a source with a name of some length \(Int.random(in: 0...4, using: &random))", arrived: now, deadline: ttl.map { now + $0 })
        queue.add(job)
        plain.add(job)
      case ..<95: #expect(queue.take() == plain.take())
      default:
        while true {
          let (a, b) = (queue.takeOverdue(now), plain.takeOverdue(now))
          #expect(a == b)
          if a == nil || a != b { break }
        }
      }
      #expect(queue.count == plain.count && queue.bytes == plain.bytes)
      for priority in 0...2 { #expect(queue.isUrgent(over: [priority]) == (plain.priority ?? -1 > priority)) }
    }
    while let next = plain.take() { #expect(queue.take() == next) }
    #expect(queue.count == 0 && queue.bytes == 0 && queue.take() == nil)
  }

  @Test func tenThousandJobsOfOneTaskHoldAJobOfAnotherUpForOne() {
    var queue = JobQueue()
    for i in 0..<10_000 { queue.add(job(i, "task flood")) }
    for i in 0..<20 { #expect(queue.take()?.sequence == i) }
    queue.add(job(10_000, "task other"))
    #expect([queue.take()?.sequence, queue.take()?.sequence] == [20, 10_000])
  }

  /// One that comes back at once whenever it was served does not go in front of those that wait.
  @Test func aSourceWithOneJobAtATimeGetsNoMoreThanItsTurn() {
    var queue = JobQueue()
    for i in 0..<10 { queue.add(job(i, "task a")) }
    for i in 10..<20 { queue.add(job(i, "task b")) }
    var order: [String] = []
    for i in 100..<127 {
      if i == 100 || order.last == "client c" { queue.add(job(i, "client c")) }
      order.append(queue.take()?.source ?? "")
    }
    for source in ["task a", "task b", "client c"] { #expect(order.filter { $0 == source }.count == 9) }
  }

  @Test func littleTimeGoesFirstWithinItsSourceAndNobodyIsPassedForEver() {
    var queue = JobQueue()
    queue.add(job(1))
    queue.add(job(2, deadline: 90_000))
    queue.add(job(3, deadline: 80_000))
    queue.add(job(4, arrived: 1))
    queue.add(job(5, arrived: 599_000, deadline: 600_001))
    #expect(all(&queue) == [3, 2, 1, 4, 5])
  }

  @Test func priorityComesBeforeEverything() {
    var queue = JobQueue()
    queue.add(job(1, "task a", deadline: 1))
    queue.add(job(2, "task b", priority: 9))
    queue.add(job(3, "task b", priority: 9))
    #expect(all(&queue) == [2, 3, 1])
  }

  @Test func extremeTimesDoNoHarm() {
    var queue = JobQueue()
    queue.add(job(1, arrived: .max, deadline: .max))
    queue.add(job(2, arrived: .min, deadline: .min))
    #expect(queue.takeOverdue(0)?.sequence == 2)
    #expect(queue.takeOverdue(0) == nil)
    #expect(all(&queue) == [1])
  }
}
