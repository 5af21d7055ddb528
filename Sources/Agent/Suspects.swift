/// Accepted jobs that were at the engine when the agent died.
///
/// Each runs alone, so that the next death says whose it was; three deaths alone, and the job is not tried again. Who kills the agent from outside must not condemn the job that happens to
/// run. So a job with which the agent died alone does not run again before the agent has lived for a while with others: a third death that comes 10 seconds after a start, just when
/// this job begins, is its own.
package struct Suspects {
  /// Deaths alone after which a job is answered with `poisoned`.
  package static let fatal = 3
  /// Milliseconds that the agent has to live before a job is tried that it died of so often.
  private static let proof = [0, 2_000, 10_000]

  /// Those with the fewest deaths first, then the oldest.
  private var jobs: [WaitingJob] = []

  package init() {}

  package var count: Int { jobs.count }
  package var bytes: Int { jobs.reduce(0) { $0 + $1.bytes } }

  package mutating func add(_ job: WaitingJob) {
    let place = jobs.firstIndex { ($0.deaths ?? 0, $0.sequence) > (job.deaths ?? 0, job.sequence) }
    jobs.insert(job, at: place ?? jobs.count)
  }

  /// Whether one is to be tried, or answered.
  ///
  /// - Parameter lived: milliseconds since the start.
  package func isDue(lived: Int) -> Bool { next(lived) != nil }

  package mutating func take(lived: Int) -> WaitingJob? { next(lived).map { jobs.remove(at: $0) } }

  /// A job whose deadline has passed.
  package mutating func takeOverdue(_ now: Int) -> WaitingJob? { overdue(now).map { jobs.remove(at: $0) } }
  package func hasOverdue(_ now: Int) -> Bool { overdue(now) != nil }

  @discardableResult
  package mutating func remove(_ sequence: Int) -> WaitingJob? {
    jobs.firstIndex { $0.sequence == sequence }.map { jobs.remove(at: $0) }
  }

  private func next(_ lived: Int) -> Int? {
    jobs.firstIndex { job in
      let deaths = job.deaths ?? 0
      return deaths >= Self.fatal || lived >= Self.proof[deaths]
    }
  }

  private func overdue(_ now: Int) -> Int? { jobs.firstIndex { $0.deadline.map { $0 <= now } ?? false } }
}
