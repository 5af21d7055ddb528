import Basics
import Jobs
import Logging

// Whose turn it is at the engine. Jobs are chosen inside the transaction of the turn, which says that they run: it is on stable storage before they do, and costs no transaction of its own.

extension Loop {
  /// A job that the engine has, or that has an answer which is not written down yet.
  struct Running {
    var job: WaitingJob
    var entry: Journal.Entry
    var meta: JSON?
    var isAnswered = false
    var isCancelled = false
  }

  /// Whether `choose` would find something to do.
  func hasChoice(_ now: Int) -> Bool {
    guard case .running = phase, journalFailure == nil, finished.count < 16 else { return false }
    return !cancelled.isEmpty || hasTurn(now) || waiting.hasOverdue(now) || suspects.hasOverdue(now)
  }

  /// Whether a job may go to the engine: those that run together and the next, so that it never waits for a transaction. The rest waits in the journal.
  /// A job that is more urgent than one that runs need not wait for a place, and one under suspicion waits until it has the engine for itself.
  private func hasTurn(_ now: Int) -> Bool {
    let busy = running.values.filter { !$0.isAnswered }
    if suspects.isDue(lived: now - startedUptime) { return busy.isEmpty }
    guard waiting.count > 0, !busy.contains(where: { $0.job.deaths != nil }) else { return false }
    return busy.count <= inference.width || waiting.isUrgent(over: busy.lazy.map(\.job.priority)) && busy.count <= inference.width + 4
  }

  /// Takes over the jobs whose turn it is, and those whose time to live has passed, wherever in the queue they are; of these a few, so that a crowd of them does not keep the engine
  /// waiting. Inside a transaction.
  func choose(_ now: Int, _ journal: Journal, _ effects: inout Effects) throws(SternaError) {
    for sequence in cancelled {
      guard let job = waiting.remove(sequence) ?? suspects.remove(sequence) else { continue }
      if try take(job, journal, &effects) != nil { answer(sequence, .unwanted) }
    }
    guard case .running = phase else { return }
    while finished.count < 16, hasTurn(now), let next = suspects.take(lived: now - startedUptime) ?? waiting.take() {
      guard let (entry, job) = try take(next, journal, &effects) else { continue }
      switch job {
      case _ where next.deaths ?? 0 >= Suspects.fatal: answer(next.sequence, .poisonous)
      case .failure(let error): answer(next.sequence, error)
      case .success where next.deadline.map({ $0 <= now }) ?? false: answer(next.sequence, .overdue(hasBegun: false))
      case .success(let job):
        try journal.begin(next.sequence)
        running[next.sequence]?.entry.attempt = entry.attempt + 1
        effects.begun.append(.init(sequence: next.sequence, job: job, deadline: next.deadline))
      }
    }
    while finished.count < 64, let next = waiting.takeOverdue(now) ?? suspects.takeOverdue(now) {
      if try take(next, journal, &effects) != nil { answer(next.sequence, .overdue(hasBegun: false)) }
    }
  }

  /// Takes a job over from the queue: from now on it is among the running. Nil when the journal does not have it.
  func take(_ next: WaitingJob, _ journal: Journal, _ effects: inout Effects) throws(SternaError) -> (entry: Journal.Entry, job: Result<Job, SternaError>)? {
    effects.taken.append(next)
    var entry: Journal.Entry
    let job: Result<Job, SternaError>
    if let arrival = parsed.removeValue(forKey: next.sequence) {
      (entry, job) = (arrival.entry, arrival.job)
    } else {
      guard let stored = try journal.entry(next.sequence) else { return nil }
      (entry, job) = (stored, intake.job(of: stored))
    }
    entry.payload = []
    running[next.sequence] = Running(job: next, entry: entry, meta: (try? job.get())?.meta)
    return (entry, job)
  }

  func queue(_ job: WaitingJob) {
    if job.deaths == nil { waiting.add(job) } else { suspects.add(job) }
  }

  /// An answer without the engine.
  func answer(_ sequence: Int, _ error: SternaError) {
    guard let job = running[sequence], !job.isAnswered else { return }
    if error.code == .poisoned { logger.error("a job is given up: \(error.message)", metadata: ["id": "\(job.entry.id)"]) }
    let json = message(job.entry, meta: job.meta).failure(error)
    settle(sequence, job.entry, json, .failure(error))
  }

  /// - Parameter result: that `json` tells.
  func settle(_ sequence: Int, _ entry: Journal.Entry, _ json: JSON, _ result: Result<Answer, SternaError>, isRefusal: Bool = false) {
    running[sequence]?.isAnswered = true
    var answer = answer(sequence, entry, json, result)
    answer.isRefusal = isRefusal
    finished.append((sequence, answer))
  }
}

extension SternaError {
  static var unwanted: SternaError { SternaError(.cancelled, "the job was cancelled by request") }

  fileprivate static var poisonous: SternaError {
    SternaError(.poisoned, "the agent died \(Suspects.fatal) times while this job ran alone", remedy: "look into the agent's log, and report the job")
  }
}
