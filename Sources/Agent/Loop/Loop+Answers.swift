import Basics
import Jobs
import Logging

// From what the engine says to a published answer: refusals, answers, the outbox.

extension Loop {
  func message(_ entry: Journal.Entry, meta: JSON? = nil) -> ResultMessage {
    ResultMessage(
      id: entry.id, task: entry.task ?? entry.kind, agent: configuration.id, attempt: max(1, entry.attempt), receivedAt: Clock.text(entry.received),
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

  /// The messages which say that a job is on stable storage.
  func acceptance(_ entry: Journal.Entry, meta: JSON?) -> [Session.Outgoing] {
    var message = message(entry, meta: meta)
    // The same bytes whenever it is said.
    (message.attempt, message.finishedAt) = (1, nil)
    let payload = message.accepted().compactBytes
    let properties = Self.properties(status: "accepted", code: nil)
    let copy = entry.response.map { Session.Outgoing(topic: $0, payload: payload, correlation: entry.correlation, properties: properties) }
    return [Session.Outgoing(topic: entry.output, payload: payload, properties: properties)] + (copy.map { [$0] } ?? [])
  }

  static func properties(status: String, code: String?) -> [(name: String, value: String)] {
    [("status", status)] + (code.map { [("code", $0)] } ?? []) + [("v", "1")]
  }

  /// Writes a refusal down, like a result; where the queue is full it is only said.
  func refuse(_ entry: inout Journal.Entry, _ error: SternaError, _ journal: Journal, _ effects: inout Effects) throws(SternaError) {
    let (finished, output, copy) = refusal(entry, error)
    effects.refused += 1
    report("refused", entry, code: finished.code)
    logRefusal(error, entry)
    guard backlog < configuration.limits.queueJobs else {
      effects.transient.append(output)
      if let copy { effects.transient.append(copy) }
      return
    }
    entry.key = Randomness.bytes(16)  // the id stays free for the job put right
    let sequence = try journal.refuse(entry, with: finished)
    effects.unsent.append((sequence, entry.response == nil ? .output : [.output, .response]))
  }

  /// Place and message may hold names that the client chose: the place is for those who ask for everything, and in one line.
  private func logRefusal(_ error: SternaError, _ entry: Journal.Entry) {
    logger.info("refused: \(error.code.rawValue)", metadata: ["id": "\(entry.id)"])
    logger.debug("refused at \(JSON.string(error.place ?? "").compact)", metadata: ["id": "\(entry.id)"])
  }

  func refuseInMemory(_ entry: Journal.Entry, _ error: SternaError, retryAfter: Int? = nil) {
    let (finished, output, copy) = refusal(entry, error, retryAfter: retryAfter)
    counters.refused += 1
    report("refused", entry, code: finished.code)
    outbox.append(.transient(output))
    if let copy { outbox.append(.transient(copy)) }
  }

  func finish(_ done: InferenceThread.Done) {
    guard let job = running[done.sequence], !job.isAnswered else { return }
    if case .failure(let error) = done.outcome.result, error.code == .expired || job.isCancelled && error.code == .deadline {
      return answer(done.sequence, job.isCancelled ? .unwanted : error)
    }
    var message = message(job.entry, meta: job.meta)
    message.model = done.model
    message.queuedMilliseconds = max(0, done.started - job.entry.uptime)
    message.runMilliseconds = done.ended - done.started
    var isRefusal = false
    if case .failure(let error) = done.outcome.result {
      // Interrupted by our own end: it stays in the journal and runs after the next start.
      if error.code == .cancelled, case .stopping = phase { return }
      // A schema is read when its job runs.
      isRefusal = error.code == .badField || error.code == .unsupported
      if isRefusal { logRefusal(error, job.entry) } else { logger.warning("a job failed: \(error.code.rawValue): \(error.message)", metadata: ["id": "\(job.entry.id)"]) }
    } else {
      logger.debug("answered in \(done.ended - done.started) ms", metadata: ["id": "\(job.entry.id)"])
    }
    counters.averageRun += (Double(done.ended - done.started) - counters.averageRun) / 8
    settle(done.sequence, job.entry, message.json(done.outcome), done.outcome.result, isRefusal: isRefusal)
  }

  /// Publishes from the outbox, as much as the broker takes at a time. The library's own queue, which is lost in a crash, stays empty.
  func publish(_ now: Int) {
    guard case .up(let session) = link else { return }
    while inFlight.count < window, let delivery = outbox.first {
      var message: Session.Outgoing
      switch delivery {
      case .note: outbox.removeFirst(); continue
      case .transient(let outgoing): message = outgoing
      case .question(let id):
        guard let journal else { return }
        let question: Session.Outgoing?
        do { question = try self.question(id, journal) } catch { return failed(error) }
        guard let question else { outbox.removeFirst(); continue }
        message = question
      case .stored(let sequence, let target):
        guard let journal else { return }
        let stored: Journal.Message?
        do { stored = try journal.message(sequence, target) } catch { return failed(error) }
        guard let stored else {
          outbox.removeFirst()
          noLongerDenied(sequence)
          continue
        }
        message = .init(
          topic: stored.topic, payload: stored.payload, correlation: stored.correlation, properties: Self.properties(status: stored.status, code: stored.code))
      }
      var outcome = session.publish(message)
      if case .failure(let error) = outcome, error.isOversize, let words = tooLarge(message.payload, delivery) {
        logger.error("a message of \(message.payload.count) bytes is over the broker's packet limit; its reader is told")
        message.payload = words
        message.properties = Self.properties(status: "error", code: SternaError.Code.resultTooLarge.rawValue)
        outcome = session.publish(message)
      }
      switch outcome {
      case .success(let number):
        outbox.removeFirst()
        inFlight[number] = delivery
      case .failure(let error) where error.isOversize:
        logger.error("a message of \(message.payload.count) bytes is over the broker's packet limit and cannot be sent")
        outbox.removeFirst()
        if case .stored(let sequence, let target) = delivery { sent.append((sequence, target)) }
      case .failure(let error): return drop(error.text)
      }
    }
  }

  /// What is said in place of an answer that the broker takes no packet for; nil for what is no answer.
  private func tooLarge(_ payload: [UInt8], _ delivery: Delivery) -> [UInt8]? {
    if case .question = delivery { return nil }
    guard case .object(let answer)? = try? JSON.parse(payload, limits: .file) else { return nil }
    let error = SternaError(
      .resultTooLarge, "the result is over the broker's packet limit", found: "\(payload.count) bytes", remedy: "raise the limit (max_packet_size of mosquitto), or ask for less and with another id")
    var object = JSON.Object()
    for name in ["v", "id", "status", "task", "error", "transaction", "agent", "attempt", "received_at", "finished_at"] {
      object[name] = name == "status" ? "error" : name == "error" ? ResultMessage.error(error) : answer[name]
    }
    return JSON.object(object).compactBytes
  }
}
