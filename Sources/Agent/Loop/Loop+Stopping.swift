import Basics
import Jobs
import Logging

// The end: a job that runs may finish, results go out, and `stopped` is said before the farewell.

extension Loop {
  func beginStop(_ now: Int) {
    phase = .stopping(since: now)
    logger.info("stopping; \(queued) jobs stay in the journal")
    notifier.send("STOPPING=1", "STATUS=stopping")
    inference.stop()
    sayState()
  }

  /// In order: the job that runs, the results, `stopped`, the farewell. Each may take a while; together less than systemd's patience.
  func advanceStop(_ now: Int) {
    switch phase {
    case .running, .over: return
    case .stopping(let since):
      if inference.isBusy {
        if now - since > 5000 { inference.interrupt() }
        guard now - since > 15_000 else { return }
      } else if jobEndedAt == 0 {
        jobEndedAt = now
      }
      let isFlushed = finished.isEmpty && outbox.isEmpty && pool.unconfirmed == 0 && !inFlight.values.contains { if case .note = $0 { false } else { true } }
      guard isFlushed || !isUp || now - max(since, jobEndedAt) > 3000 else { return }
      phase = .leaving(since: now, note: nil)
      phase = .leaving(since: now, note: sayState())
      isHurried = true
    case .leaving(let since, let note):
      let isSaid = note.map { inFlight[$0] == nil } ?? true
      guard isSaid || !isUp || now - since > 2000 else { return }
      if let journal, !sent.isEmpty || !running.isEmpty {
        try? journal.transaction { () throws(SternaError) in
          for (sequence, target) in sent { try journal.sent(sequence, target) }
          try journal.absolve()
        }
      }
      if let session, isUp {
        session.disconnect()
        _ = session.write()
      }
      if case .up(let session) = pool.link {
        session.disconnect()
        _ = session.write()
      }
      link = .down(retryAt: .max)
      journal = nil
      phase = .over
    }
  }
}
