import Basics
import Jobs

/// Jobs of tasks that went on to a pool, from the local answer to the final one: when each is sent, how long it has, and which pools are left alone for a while. Knows nothing of
/// broker and journal; all times are milliseconds since boot.
struct Escalations {
  struct Open {
    /// Of the job in the journal.
    var sequence: Int
    var pool: String
    var timeout: Int
    var breaker: Breaker.Settings
    /// When the answer is given up; nil until the broker has the local answer, which comes first.
    var deadline: Int?
    var sendAt = 0
    var patience = firstPatience
  }

  /// Milliseconds until a job without answer is sent again; doubled each time, up to eight times as many.
  static let firstPatience = 10_000

  /// By the id under which the pool knows the job.
  private(set) var open: [String: Open] = [:]
  private var ids: [Int: String] = [:]
  private var breakers: [String: Breaker] = [:]
  /// How many jobs of a task went to a pool on a day (since 1970, UTC).
  private var spent: [String: (day: Int, jobs: Int)] = [:]
  var counters = Counters()

  struct Counters {
    var answered = 0
    var failed = 0
  }

  // MARK: - May it?

  /// Whether one more job of a task may go to its pool, which is then counted; if not, why.
  mutating func admit(task: String, _ settings: AgentConfiguration.Escalation, day: Int, now: Int) -> Refusal? {
    let used = spent[task].flatMap { $0.day == day ? $0.jobs : nil } ?? 0
    guard used < settings.daily else { return .budget }
    guard breakers[settings.pool, default: Breaker()].admits(now) else { return .paused }
    spent[task] = (day, used + 1)
    return nil
  }

  enum Refusal: String {
    case budget
    case paused
  }

  /// What the journal remembers.
  mutating func restore(spent: [(task: String, day: Int, jobs: Int)]) {
    for entry in spent { self.spent[entry.task] = (entry.day, entry.jobs) }
  }

  func spent(by task: String) -> (day: Int, jobs: Int)? { spent[task] }

  // MARK: - Under way

  func id(of sequence: Int) -> String? { ids[sequence] }

  mutating func begin(_ id: String, _ job: Open) {
    open[id] = job
    ids[job.sequence] = id
  }

  /// The broker has the local answer of a job; returns the id to send to the pool, if the job goes there.
  mutating func said(_ sequence: Int, _ now: Int) -> String? {
    guard let id = ids[sequence], let job = open[id], job.deadline == nil else { return nil }
    open[id]?.deadline = now + job.timeout
    open[id]?.sendAt = now + job.patience
    return id
  }

  /// The pool is full, or nobody is there.
  mutating func postpone(_ id: String, to time: Int) { open[id]?.sendAt = time }

  /// What to send again.
  mutating func due(_ now: Int) -> [String] {
    let due = open.filter { $1.deadline != nil && $1.sendAt <= now }.map(\.key)
    for id in due {
      guard let job = open[id] else { continue }
      let patience = min(2 * job.patience, 8 * Self.firstPatience)
      open[id]?.patience = patience
      open[id]?.sendAt = now + patience
    }
    return due
  }

  func overdue(_ now: Int) -> [String] { open.filter { $1.deadline.map { $0 <= now } ?? false }.map(\.key) }

  /// What a job says about the pool at its end.
  enum Verdict {
    /// The pool did its part.
    case works
    case failed
    /// Nothing: it was not waited for.
    case unknown
  }

  /// Ends a job.
  mutating func end(_ id: String, _ verdict: Verdict, _ now: Int) -> Open? {
    guard let job = open.removeValue(forKey: id) else { return nil }
    ids[job.sequence] = nil
    switch verdict {
    case .works: breakers[job.pool] = nil
    case .failed: breakers[job.pool, default: Breaker()].failed(now, job.breaker)
    case .unknown: breakers[job.pool]?.learnedNothing(now)
    }
    return job
  }

  /// Pools that get no jobs just now.
  func paused(_ now: Int) -> [String] { breakers.filter { !$1.isClosed }.map(\.key).sorted() }
}

/// Keeps jobs from a pool that does not answer: after some failures in a row it gets none for a while, then a single one to see, and after another failure none for twice as long.
package struct Breaker {
  package struct Settings: Equatable {
    package var failures: Int
    /// Milliseconds.
    package var pause: Int

    package init(failures: Int, pause: Int) { (self.failures, self.pause) = (failures, pause) }
  }

  private enum State {
    case closed(failures: Int)
    case open(until: Int, pause: Int)
    /// One job is out to see.
    case probing(pause: Int)
  }

  private var state = State.closed(failures: 0)
  private static let longestPause = 3_600_000

  package init() {}

  package var isClosed: Bool { if case .closed = state { true } else { false } }

  package mutating func admits(_ now: Int) -> Bool {
    switch state {
    case .closed: return true
    case .open(let until, let pause):
      guard now >= until else { return false }
      state = .probing(pause: pause)
      return true
    case .probing: return false
    }
  }

  package mutating func failed(_ now: Int, _ settings: Settings) {
    switch state {
    case .closed(let failures):
      state = failures + 1 < settings.failures ? .closed(failures: failures + 1) : .open(until: now + settings.pause, pause: settings.pause)
    case .open: break
    case .probing(let pause):
      let longer = min(2 * pause, max(pause, Self.longestPause))
      state = .open(until: now + longer, pause: longer)
    }
  }

  /// The job that was out to see has not come back with an answer either way: the next one may go.
  package mutating func learnedNothing(_ now: Int) {
    if case .probing(let pause) = state { state = .open(until: now, pause: pause) }
  }
}

extension Answer {
  /// The probability of the least certain part of an answer: the best label; with `multi` the yes or no that is least sure; the least sure value of an extraction.
  var confidence: Double {
    switch self {
    case .classification(let result):
      let scores = result.scores.map { Double($0.score) }
      if result.chosen != nil { return scores.map { max($0, 1 - $0) }.min() ?? 1 }
      return scores.indices.contains(result.best) ? scores[result.best] : 1
    case .extraction(let result): return result.values.map { Double($0.confidence) }.min() ?? 1
    }
  }
}
