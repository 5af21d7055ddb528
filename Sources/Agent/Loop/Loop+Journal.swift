import Basics
import Jobs
import Logging

// What is written down: arrivals, answers and the broker's acknowledgements, in one transaction a turn; and a journal that fails.

extension Loop {
  func openJournal() throws(SternaError) {
    let (journal, setAside) = try Journal.openOrReplace(path: configuration.journal.path)
    if let setAside {
      journalSetAside = setAside
      logger.error("\(setAside)")
    }
    waiting = JobQueue()
    parsed = [:]
    for job in try journal.waiting(source: intake.source) where running[job.sequence] == nil { waiting.add(job) }
    let known = Set(inFlight.values.map(\.sequence))
    outbox = Fifo(outbox.filter { if case .transient = $0 { true } else { false } })
    for (sequence, targets) in try journal.unsent() where !known.contains(sequence) { enqueue(sequence, targets) }
    self.journal = journal
    if waiting.count + outbox.count > 0 { logger.info("going on with \(waiting.count) jobs and \(outbox.count) results from before") }
  }

  private func enqueue(_ sequence: Int, _ targets: Journal.Unsent) {
    for target in [Journal.Unsent.output, .response] where targets.contains(target) { outbox.append(.stored(sequence: sequence, target: target)) }
  }

  func failed(_ error: SternaError) {
    journalRetryAt = Clock.uptime + 2000
    if journalFailure != error {
      logger.error("\(error)")
      journalFailure = error
      sayState()
    }
    // After an error of the disk nobody knows what is in SQLite's memory and what is not: start over from the file.
    if error.code != .journalFull { journal = nil }
  }

  func retryJournal(_ now: Int) {
    do {
      if journal == nil { try openJournal() }
      try journal?.probe()
      journalFailure = nil
      logger.info("the journal works again")
      sayState()
    } catch { failed(error) }
  }

  /// What follows from a transaction, once it is on stable storage.
  struct Effects {
    var accepted: [(WaitingJob, Arrival)] = []
    var unsent: [(Int, Journal.Unsent)] = []
    var transient: [Session.Outgoing] = []
    var refused = 0
    var repeated = 0
  }

  /// Writes down what arrived and what is finished, in one transaction.
  ///
  /// - Returns: false when the messages are neither stored nor answered, so that their acknowledgements must not go out.
  func store(_ messages: [Session.Incoming], _ now: Int) -> Bool {
    for done in inference.takeDone(now) { finish(done) }
    let arrivals = messages.flatMap { intake.examine($0) }
    // Acknowledgements of the broker may wait for company, but not for ever: until then a crash would publish those results again.
    let areSentDue = !sent.isEmpty && (now - sentSince > 2000 || sent.count > 200)
    guard !arrivals.isEmpty || !finished.isEmpty || areSentDue else { return true }
    guard let journal, journalFailure == nil || journalFailure?.code == .journalFull else { return arrivals.isEmpty }
    if journalFailure != nil, arrivals.isEmpty { return true }  // not in every turn: `retryJournal` looks after it
    do {
      let effects = try journal.transaction { () throws(SternaError) in try write(arrivals, in: journal) }
      for (sequence, _) in finished {
        running[sequence] = nil
      }
      finished = []
      sent = []
      apply(effects)
      return true
    } catch {
      failed(error)
      // A full disk is a reason to tell clients; devices cannot be told, so their messages stay with the broker.
      guard error.code == .journalFull, arrivals.allSatisfy(\.isFromClient), outbox.count < configuration.limits.queueJobs else { return arrivals.isEmpty }
      for arrival in arrivals {
        let full = SternaError(.storageFull, "the disk of the agent is full")
        if case .failure(let error) = arrival.job { refuseInMemory(arrival.entry, error) } else { refuseInMemory(arrival.entry, full, retryAfter: 30_000) }
      }
      return true
    }
  }

  func write(_ arrivals: [Arrival], in journal: Journal) throws(SternaError) -> Effects {
    var effects = Effects()
    for (sequence, answer) in finished { effects.unsent.append((sequence, try journal.finish(sequence, with: answer, at: Clock.wall))) }
    for (sequence, target) in sent { try journal.sent(sequence, target) }
    if !finished.isEmpty || !sent.isEmpty {
      try journal.forget(olderThan: Clock.wall - configuration.journal.keepSeconds * 1000, keeping: configuration.journal.keepJobs)
    }
    for arrival in arrivals {
      var entry = arrival.entry
      switch arrival.job {
      case .failure(let error): try refuse(&entry, error, journal, &effects)
      case .success:
        if let known = try journal.find(key: entry.key) {
          guard known.hash == entry.hash else {
            try refuse(&entry, SternaError(.idConflict, "this id was used before, for another job", at: "id", found: "\"\(entry.id)\""), journal, &effects)
            continue
          }
          effects.repeated += 1
          try journal.redirect(known.sequence, response: entry.response, correlation: entry.correlation)
          if known.isFinished {
            try journal.resend(known.sequence)
            effects.unsent.append((known.sequence, entry.response == nil ? .output : [.output, .response]))
          }
          continue
        }
        guard backlog + effects.accepted.count < configuration.limits.queueJobs, waiting.bytes < configuration.limits.queueBytes else {
          effects.transient.append(refusal(entry, SternaError(.queueFull, "the queue is full"), retryAfter: retryAfter).1)
          if let copy = refusal(entry, SternaError(.queueFull, "the queue is full"), retryAfter: retryAfter).2 { effects.transient.append(copy) }
          effects.refused += 1
          continue
        }
        let sequence = try journal.accept(entry)
        let waiting = WaitingJob(
          sequence: sequence, priority: entry.priority, bytes: entry.payload.count,
          source: intake.source(task: entry.task, kind: entry.kind, response: entry.response), arrived: entry.uptime, deadline: entry.ttl.map { entry.uptime + $0 })
        effects.accepted.append((waiting, arrival))
      }
    }
    return effects
  }

  /// Jobs that are not over: waiting, running, or finished with the broker still to be told.
  var backlog: Int { waiting.count + running.count + outbox.count }

  /// How long the queue needs, as far as one can tell.
  var retryAfter: Int { min(60_000, max(1000, Int(counters.averageRun * Double(waiting.count) / 4))) }

  private func apply(_ effects: Effects) {
    counters.accepted += effects.accepted.count
    counters.refused += effects.refused
    counters.repeated += effects.repeated
    for (job, arrival) in effects.accepted {
      logger.debug("accepted", metadata: ["id": "\(arrival.entry.id)", "kind": "\(arrival.entry.kind)"])
      waiting.add(job)
      if parsed.count < 8 { parsed[job.sequence] = arrival }
    }
    for (sequence, targets) in effects.unsent { enqueue(sequence, targets) }
    for message in effects.transient { outbox.append(.transient(message)) }
  }
}
