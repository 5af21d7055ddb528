import Basics
import Jobs
import Logging

// From an accepted job to a published answer: refusals, the engine's turn, the outbox.

extension Loop {
  func message(_ entry: Journal.Entry, meta: JSON? = nil) -> ResultMessage {
    ResultMessage(
      id: entry.id, task: entry.task ?? entry.kind, agent: configuration.id, attempt: entry.attempt, receivedAt: Clock.text(entry.received),
      finishedAt: Clock.text(Clock.wall), meta: meta)
  }

  /// The payload of a refusal, and the messages that carry it.
  func refusal(_ entry: Journal.Entry, _ error: SternaError, retryAfter: Int? = nil)
    -> (Journal.Finished, Session.Outgoing, Session.Outgoing?)
  {
    let json = message(entry).failure(error, retryAfterMilliseconds: retryAfter)
    let finished = Journal.Finished(status: "error", code: error.code.forClients.rawValue, result: json.compactBytes)
    let properties = Self.properties(status: finished.status, code: finished.code)
    let output = Session.Outgoing(topic: entry.output, payload: finished.result, properties: properties)
    let copy = entry.response.map {
      Session.Outgoing(topic: $0, payload: finished.result, correlation: entry.correlation, properties: properties)
    }
    return (finished, output, copy)
  }

  static func properties(status: String, code: String?) -> [(name: String, value: String)] {
    [("status", status)] + (code.map { [("code", $0)] } ?? []) + [("v", "1")]
  }

  /// Writes a refusal down, like a result; where the queue is full it is only said.
  func refuse(_ entry: inout Journal.Entry, _ error: SternaError, _ journal: Journal, _ effects: inout Effects) throws(SternaError) {
    let (finished, output, copy) = refusal(entry, error)
    effects.refused += 1
    logger.info("refused: \(error.code.rawValue)\(error.place.map { " at \($0)" } ?? "")", metadata: ["id": "\(entry.id)"])
    guard backlog < configuration.limits.queueJobs else {
      effects.transient.append(output)
      if let copy { effects.transient.append(copy) }
      return
    }
    entry.key = Randomness.bytes(16)  // the id stays free for the job put right
    let sequence = try journal.refuse(entry, with: finished)
    effects.unsent.append((sequence, entry.response == nil ? .output : [.output, .response]))
  }

  func refuseInMemory(_ entry: Journal.Entry, _ error: SternaError, retryAfter: Int? = nil) {
    let (_, output, copy) = refusal(entry, error, retryAfter: retryAfter)
    counters.refused += 1
    outbox.append(.transient(output))
    if let copy { outbox.append(.transient(copy)) }
  }

  func finish(_ done: InferenceThread.Done) {
    guard let job = running[done.sequence] else { return }
    if case .failure(let error) = done.outcome.result, error.code == .expired { return answer(done.sequence, job.entry, error, job.meta) }
    var message = message(job.entry, meta: job.meta)
    message.model = model
    message.queuedMilliseconds = max(0, done.started - job.entry.uptime)
    message.runMilliseconds = done.ended - done.started
    var code: String?
    if case .failure(let error) = done.outcome.result {
      // Interrupted by our own end: it stays in the journal and runs after the next start.
      if error.code == .cancelled, case .stopping = phase { return }
      code = error.code.forClients.rawValue
      counters.failed += 1
      logger.warning("a job failed: \(error.code.rawValue): \(error.message)", metadata: ["id": "\(job.entry.id)"])
    } else {
      counters.done += 1
      logger.debug("answered in \(done.ended - done.started) ms", metadata: ["id": "\(job.entry.id)"])
    }
    counters.averageRun += (Double(done.ended - done.started) - counters.averageRun) / 8
    finished.append((done.sequence, .init(status: code == nil ? "ok" : "error", code: code, result: message.json(done.outcome).compactBytes)))
  }

  /// Hands jobs to the engine: those that run together and the next, so that it never waits for a transaction. The rest waits in the journal.
  /// A job that is more urgent than one that runs need not wait for a place.
  func feed(_ now: Int) {
    guard case .running = phase, let journal, finished.count < 16 else { return }
    while journalFailure == nil, running.count <= inference.width || waiting.isUrgent(over: running.values.lazy.map(\.priority)) && running.count <= inference.width + 4, let next = waiting.take() {
      guard let (entry, job) = begin(next, journal) else { continue }
      switch job {
      case .success(let job):
        if let deadline = next.deadline, deadline <= now {
          answer(next.sequence, entry, .overdue(hasBegun: false), job.meta)
        } else {
          inference.give(.init(sequence: next.sequence, job: job, deadline: next.deadline))
        }
      case .failure(let error): answer(next.sequence, entry, error, nil)
      }
    }
  }

  /// Answers waiting jobs whose time to live has passed, wherever in the queue they are; a few in a turn, so that a crowd of them does not keep the engine waiting.
  func dropOverdue(_ now: Int) {
    guard case .running = phase, let journal else { return }
    while journalFailure == nil, finished.count < 64, let next = waiting.takeOverdue(now) {
      guard let (entry, job) = begin(next, journal) else { continue }
      answer(next.sequence, entry, .overdue(hasBegun: false), (try? job.get())?.meta)
    }
  }

  /// Takes a job over from the queue: from now on it is among the running. Nil when the journal does not give it.
  private func begin(_ next: WaitingJob, _ journal: Journal) -> (entry: Journal.Entry, job: Result<Job, SternaError>)? {
    var entry: Journal.Entry
    let job: Result<Job, SternaError>
    if let arrival = parsed.removeValue(forKey: next.sequence) {
      (entry, job) = (arrival.entry, arrival.job)
    } else {
      do {
        guard let stored = try journal.entry(next.sequence) else { return nil }
        (entry, job) = (stored, intake.job(of: stored))
      } catch {
        failed(error)
        return nil
      }
    }
    entry.payload = []
    running[next.sequence] = Running(entry: entry, meta: (try? job.get())?.meta, priority: next.priority)
    return (entry, job)
  }

  /// An answer without the engine.
  func answer(_ sequence: Int, _ entry: Journal.Entry, _ error: SternaError, _ meta: JSON?) {
    counters.failed += 1
    finished.append(
      (sequence, .init(status: "error", code: error.code.forClients.rawValue, result: message(entry, meta: meta).failure(error).compactBytes)))
  }

  /// Publishes from the outbox, as much as the broker takes at a time. The library's own queue, which is lost in a crash, stays empty.
  func publish(_ now: Int) {
    guard case .up(let session) = link else { return }
    while inFlight.count < window, let delivery = outbox.first {
      var message: Session.Outgoing
      switch delivery {
      case .note: outbox.removeFirst(); continue
      case .transient(let outgoing): message = outgoing
      case .stored(let sequence, let target):
        guard let journal else { return }
        let stored: Journal.Message?
        do { stored = try journal.message(sequence, target) } catch { return failed(error) }
        guard let stored else { outbox.removeFirst(); continue }
        message = .init(
          topic: stored.topic, payload: stored.payload, correlation: stored.correlation, properties: Self.properties(status: stored.status, code: stored.code))
      }
      switch session.publish(message) {
      case .success(let number):
        outbox.removeFirst()
        inFlight[number] = delivery
      case .failure(let error) where error.isOversize:
        outbox.removeFirst()
        logger.error("a result of \(message.payload.count) bytes is over the broker's packet limit and cannot be sent")
        if case .stored(let sequence, let target) = delivery { sent.append((sequence, target)) }
      case .failure(let error): return drop(error.text)
      }
    }
  }
}
