import Basics
import Jobs
import Logging

// What is written down: arrivals, answers and the broker's acknowledgements, in one transaction a turn; and a journal that fails.

extension Loop {
  func openJournal() throws(SternaError) {
    let opened = try Journal.openOrReplace(path: configuration.journal.path, numberingFrom: firstNumber, mayBegin: !hasHadJournal)
    let journal = opened.journal
    if let damage = opened.damage {
      journalSetAside = damage
      logger.error("\(damage)")
    }
    if let replaced = opened.replaced {
      var said = SternaError(.io, "the journal was removed or replaced while in use; it is there again with all that it held", at: journal.path)
      if !replaced.isEmpty {
        said.remedy = "what was in its place is kept as \(replaced.joined(separator: " and ")); if that is a journal, jobs in it are not answered, unless their senders send them again"
        journalSetAside = said
      }
      logger.error("\(said)")
    }
    // Whoever opens it again because of an error has not died.
    if !hasHadJournal {
      let suspects = try journal.countDeaths()
      hasHadJournal = true
      if !suspects.isEmpty { logger.warning("the agent died while \(suspects.count) jobs were at the engine; they are tried again, each alone: \(suspects.joined(separator: ", "))") }
    }
    waiting = JobQueue()
    suspects = Suspects()
    parsed = [:]
    for job in try journal.waiting(source: intake.source) where running[job.sequence] == nil { queue(job) }
    let known = Set(inFlight.values.map(\.sequence))
    outbox = Fifo(outbox.filter { if case .transient = $0 { true } else { false } })
    for (sequence, targets) in try journal.unsent() where !known.contains(sequence) { enqueue(sequence, targets) }
    try resumeEscalations(journal, Clock.uptime)
    self.journal = journal
    if queued + outbox.count > 0 { logger.info("going on with \(queued) jobs and \(outbox.count) results from before") }
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
    // After an error of the disk nobody knows what is in SQLite's memory and what is not: start over from the file. Unless that is gone: then what is open here is all there is.
    if error.code != .journalFull, journal?.isInPlace != false {
      if let journal { firstNumber = journal.nextSequence }
      journal = nil
    }
  }

  func retryJournal(_ now: Int) {
    do throws(SternaError) {
      if let journal, !journal.isInPlace {
        do throws(SternaError) { try journal.rescue() } catch {
          // One that cannot be read either is no help any more: its disk is gone, and what is there now counts.
          guard !journal.isReadable else { throw error }
        }
        firstNumber = journal.nextSequence
        self.journal = nil
      }
      if journal == nil { try openJournal() }
      try journal?.probe()
      journalFailure = nil
      logger.info("the journal works again")
      sayState()
    } catch { failed(error) }
  }

  /// What follows from a transaction, once it is on stable storage.
  struct Effects {
    /// Taken over from the queue, and those of them that go to the engine.
    var taken: [WaitingJob] = []
    var begun: [InferenceThread.Work] = []
    var accepted: [(WaitingJob, Arrival)] = []
    var unsent: [(Int, Journal.Unsent)] = []
    var transient: [Session.Outgoing] = []
    var refused = 0
    var repeated = 0
  }

  /// Writes down what arrived, what is finished and what begins, in one transaction.
  ///
  /// - Parameters:
  ///   - messages: of the agent's own connection.
  ///   - dealt: of the pools.
  /// - Returns: false when the messages are neither stored nor answered, so that their acknowledgements must not go out.
  func store(_ messages: [Session.Incoming], dealt: [Session.Incoming], _ now: Int) -> Bool {
    let done = inference.takeDone(now)
    // What came of a file that was written into is no answer: those jobs run again.
    if !done.isEmpty { modelFailure = modelFailure ?? models.spoilt }
    if modelFailure == nil { for done in done { finish(done) } }
    let messages = takeSecondOpinions(messages, now)
    let arrivals = messages.flatMap { intake.examine($0) } + dealt.compactMap { intake.examine(dealt: $0) }
    // Acknowledgements of the broker may wait for company, but not for ever: until then a crash would publish those results again.
    let areSentDue = !sent.isEmpty && (now - sentSince > 2000 || sent.count > 200)
    guard !arrivals.isEmpty || !finished.isEmpty || areSentDue || hasChoice(now) else { return true }
    guard let journal, journalFailure == nil || journalFailure?.code == .journalFull else { return arrivals.isEmpty }
    if journalFailure != nil, arrivals.isEmpty { return true }  // not in every turn: `retryJournal` looks after it
    guard journal.isInPlace else {
      retryJournal(now)
      return arrivals.isEmpty
    }
    var effects = Effects()
    do {
      try journal.transaction { () throws(SternaError) in try write(arrivals, now, in: journal, &effects) }
      apply(effects)
      return true
    } catch {
      undo(effects)
      failed(error)
      // A full disk is a reason to tell clients; devices cannot be told, so their messages stay with the broker. Neither can more be told than go out at once: a refusal is not in the
      // journal, and were the agent killed with the job acknowledged and the refusal still here, nobody would ever hear of it. After a hang-up less is read at a time.
      guard error.code == .journalFull, arrivals.allSatisfy(\.isFromClient), arrivals.count <= max(1, window / 2) else { return arrivals.isEmpty }
      for arrival in arrivals {
        let full = SternaError(.storageFull, "the disk of the agent is full")
        if case .failure(let error) = arrival.job { refuseInMemory(arrival.entry, error) } else { refuseInMemory(arrival.entry, full, retryAfter: 30_000) }
      }
      return true
    }
  }

  private func write(_ arrivals: [Arrival], _ now: Int, in journal: Journal, _ effects: inout Effects) throws(SternaError) {
    for (sequence, target) in sent { try journal.sent(sequence, target) }
    for arrival in arrivals {
      var entry = arrival.entry
      switch arrival.job {
      case .failure(let error): try refuse(&entry, error, journal, &effects)
      case .success(let job):
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
          } else if job.options.acknowledge, let stored = try journal.entry(known.sequence) {
            effects.transient += acceptance(stored, meta: job.meta)
          }
          continue
        }
        if isDraining, arrival.isFromClient {
          turnAway(entry, SternaError(.draining, "the agent takes no new jobs just now"), after: 60_000, &effects)
          continue
        }
        guard backlog < configuration.limits.queueJobs, waiting.bytes + suspects.bytes < configuration.limits.queueBytes else {
          turnAway(entry, SternaError(.queueFull, "the queue is full"), after: retryAfter, &effects)
          continue
        }
        guard try hasRoom(journal) else {
          turnAway(entry, SternaError(.storageFull, "the journal of the agent is full"), after: max(retryAfter, 10_000), &effects)
          continue
        }
        let sequence = try journal.accept(entry)
        let next = WaitingJob(
          sequence: sequence, priority: entry.priority, bytes: entry.payload.count,
          source: intake.source(task: entry.task, kind: entry.kind, response: entry.response), arrived: entry.uptime, deadline: entry.ttl.map { entry.uptime + $0 })
        effects.accepted.append((next, arrival))
        queue(next)
        if job.options.acknowledge { effects.transient += acceptance(entry, meta: job.meta) }
        if parsed.count < 8 { parsed[sequence] = arrival }
      }
    }
    try choose(now, journal, &effects)
    for (sequence, answer) in finished { try write(answer, of: sequence, in: journal, &effects) }
    if !finished.isEmpty || !sent.isEmpty {
      try journal.forget(olderThan: configuration.journal.keepSeconds * 1000, keeping: configuration.journal.keepJobs)
    }
  }

  /// Says no without writing it down.
  private func turnAway(_ entry: Journal.Entry, _ error: SternaError, after milliseconds: Int, _ effects: inout Effects) {
    let (_, output, copy) = refusal(entry, error, retryAfter: milliseconds)
    effects.transient.append(output)
    if let copy { effects.transient.append(copy) }
    effects.refused += 1
  }

  /// Whether the journal may grow. Answers that are only remembered make room first.
  private func hasRoom(_ journal: Journal) throws(SternaError) -> Bool {
    guard try journal.usedBytes() >= configuration.journal.mostBytes else { return true }
    try journal.forget(olderThan: .min, keeping: 0)
    return try journal.usedBytes() < configuration.journal.mostBytes
  }

  private func write(_ answer: Journal.Finished, of sequence: Int, in journal: Journal, _ effects: inout Effects) throws(SternaError) {
    if let targets = try journal.finish(sequence, with: answer, at: Clock.wall) { return effects.unsent.append((sequence, targets)) }
    // The journal that accepted this job was set aside while it ran. (Or the answer is in this one already: a commit that failed may have got through.)
    guard let entry = running[sequence]?.entry, try journal.find(key: entry.key) == nil else { return }
    effects.unsent.append((try journal.adopt(entry, with: unescalated(answer)), entry.response == nil ? .output : [.output, .response]))
  }

  /// Puts back what a transaction that failed had taken in hand. Answers of the engine stay, to be written down later.
  private func undo(_ effects: Effects) {
    for job in effects.taken {
      running[job.sequence] = nil
      queue(job)
    }
    for (job, _) in effects.accepted {
      waiting.remove(job.sequence)
      parsed[job.sequence] = nil
    }
    let taken = Set(effects.taken.map(\.sequence))
    finished.removeAll { taken.contains($0.sequence) }
  }

  /// Jobs that are not over: waiting, running, or finished with the broker still to be told.
  var backlog: Int { queued + outbox.count }

  /// Jobs without an answer in the journal.
  var queued: Int { waiting.count + suspects.count + running.count }

  /// How long the queue needs, as far as one can tell.
  var retryAfter: Int { min(60_000, max(1000, Int(counters.averageRun * Double(queued) / 4))) }

  private func apply(_ effects: Effects) {
    report(effects)
    for (sequence, answer) in finished {
      running[sequence] = nil
      if let escalation = answer.escalation { begin(escalation, sequence) } else if answer.status == "ok" { counters.done += 1 } else { counters.failed += 1 }
    }
    finished = []
    sent = []
    cancelled = []
    for work in effects.begun { inference.give(work) }
    counters.accepted += effects.accepted.count
    counters.refused += effects.refused
    counters.repeated += effects.repeated
    for (_, arrival) in effects.accepted { logger.debug("accepted", metadata: ["id": "\(arrival.entry.id)", "kind": "\(arrival.entry.kind)"]) }
    for (sequence, targets) in effects.unsent { enqueue(sequence, targets) }
    for message in effects.transient { outbox.append(.transient(message)) }
    let told = whenWritten
    whenWritten = []
    for tell in told { tell() }
  }
}
