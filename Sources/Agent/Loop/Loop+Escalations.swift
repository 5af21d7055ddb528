import Basics
import Jobs
import Logging

// Second opinions: an answer that the local model is not sure of, or does not have, is published at once, marked provisional, and the job goes to a pool of larger models. What comes
// back is the final answer, on the same topic with the same id; if nothing does, the local answer is.

extension Loop {
  /// Why a job of a task should go to a pool.
  enum Doubt {
    case confidence(Double)
    case error(SternaError.Code)

    init?(_ result: Result<Answer, SternaError>, _ settings: AgentConfiguration.Escalation) {
      switch result {
      case .success(let answer):
        guard let below = settings.below, case let confidence = answer.confidence, confidence < below else { return nil }
        self = .confidence(confidence)
      case .failure(let error):
        guard settings.errors.contains(error.code.forClients) else { return nil }
        self = .error(error.code.forClients)
      }
    }

    /// `{"pool":"large","reason":"confidence","confidence":0.41,"below":0.6}`
    func json(_ settings: AgentConfiguration.Escalation) -> JSON.Object {
      var object: JSON.Object = ["pool": .string(settings.pool)]
      switch self {
      case .confidence(let confidence):
        object["reason"] = "confidence"
        object["confidence"] = .number(Float(confidence))
        if let below = settings.below { object["below"] = .number(below) }
      case .error(let code): object["reason"] = .string(code.rawValue)
      }
      return object
    }
  }

  /// The answer to a job as it is written down: as it is, or provisional together with what a pool is asked.
  func answer(_ sequence: Int, _ entry: Journal.Entry, _ json: JSON, _ result: Result<Answer, SternaError>) -> Journal.Finished {
    var code: String?
    if case .failure(let error) = result { code = error.code.forClients.rawValue }
    var answer = Journal.Finished(status: code == nil ? "ok" : "error", code: code, result: json.compactBytes)
    guard let task = configuration.tasks.first(where: { $0.name == entry.task }), let settings = task.escalation, let doubt = Doubt(result, settings),
      case .object(var message) = json
    else { return answer }
    var escalation = doubt.json(settings)
    do throws(SternaError) {
      let payload = try question(sequence, task, settings)
      if let refusal = escalations.admit(task: task.name, settings, day: Clock.wall / 86_400_000, now: Clock.uptime) {
        escalation["failed"] = .string(refusal.rawValue)
      } else if let spent = escalations.spent(by: task.name) {
        message["provisional"] = true
        answer.escalation = .init(id: payload.id, task: task.name, pool: settings.pool, kind: entry.kind, payload: payload.bytes, spent: spent)
      }
    } catch {
      logger.warning("a job cannot go to the pool \(settings.pool): \(error.message)", metadata: ["id": "\(entry.id)"])
      escalation["failed"] = .string(error.code.forClients.rawValue)
    }
    message["escalation"] = .object(escalation)
    answer.result = JSON.object(message).compactBytes
    return answer
  }

  /// The job as the pool gets it.
  private func question(_ sequence: Int, _ task: AgentConfiguration.Task, _ settings: AgentConfiguration.Escalation) throws(SternaError) -> (id: String, bytes: [UInt8]) {
    guard let entry = try journal?.entry(sequence) else { throw SternaError(.internal, "the journal does not have the job's text") }
    let id = Randomness.id()
    var object: JSON.Object = ["v": 1, "id": .string(id), "input": .string(try intake.job(of: entry).get().input)]
    for (name, value) in settings.question.members { object[name] = value }
    return (id, JSON.object(object).compactBytes)
  }

  // MARK: - On the way

  /// An escalation is on stable storage.
  func begin(_ escalation: Journal.Escalation, _ sequence: Int) {
    guard let settings = settings(of: escalation.task) else { return }
    escalations.begin(escalation.id, .init(sequence: sequence, pool: escalation.pool, timeout: settings.timeout, breaker: settings.breaker))
    logger.debug("goes to the pool \(escalation.pool)", metadata: ["job": "\(sequence)"])
  }

  private func settings(of task: String) -> AgentConfiguration.Escalation? { configuration.tasks.first { $0.name == task }?.escalation }

  /// Takes up what an earlier start, or an earlier connection to the journal, left. Each job has its whole time again: no clock is to be trusted across a reboot.
  func resumeEscalations(_ journal: Journal, _ now: Int) throws(SternaError) {
    escalations.restore(spent: try journal.budgets())
    for job in try journal.escalations() where escalations.open[job.id] == nil && !finished.contains(where: { $0.sequence == job.sequence }) {
      let settings = settings(of: job.task)
      // Of a task that does not ask a pool any more: answered in the next turn as if the time were over.
      escalations.begin(
        job.id,
        .init(
          sequence: job.sequence, pool: job.pool, timeout: settings?.timeout ?? 0, breaker: settings?.breaker ?? .init(failures: .max, pause: 0)))
      if job.isSaid, let id = escalations.said(job.sequence, now), settings != nil { outbox.append(.question(id)) }
    }
  }

  /// The broker has an answer of the agent; if it is provisional the pool's turn has come.
  func said(_ sequence: Int, _ now: Int) {
    if let id = escalations.said(sequence, now) { outbox.append(.question(id)) }
  }

  /// Once a second.
  func tickEscalations(_ now: Int) {
    for id in escalations.overdue(now) { giveUp(id, "timeout", .failed, now) }
    guard isUp, case .running = phase else { return }
    for id in escalations.due(now) { outbox.append(.question(id)) }
  }

  /// The message that asks a pool; nil for a job that is over.
  func question(_ id: String, _ journal: Journal) throws(SternaError) -> Session.Outgoing? {
    guard let job = escalations.open[id], let stored = try journal.escalation(job.sequence) else { return nil }
    return .init(
      topic: "\(topics.pools)\(job.pool)/jobs/\(stored.kind)", payload: stored.payload, responseTopic: topics.secondOpinions, correlation: Array(id.utf8),
      expiry: job.deadline.map { max(1, ($0 - Clock.uptime) / 1000) })
  }

  /// Nobody wants the pool's opinion any more: the local answer is the last word.
  ///
  /// - Returns: false while that is still on its way to the broker, as what follows must not overtake it. Then nothing has changed.
  func cancelEscalation(of sequence: Int, _ now: Int) -> Bool {
    guard let id = escalations.id(of: sequence), escalations.open[id]?.deadline != nil else { return false }
    giveUp(id, SternaError.Code.cancelled.rawValue, .unknown, now)
    return true
  }

  // MARK: - What comes back

  func secondOpinionFilters(_ session: Session) -> [String] {
    let pools = Set(configuration.tasks.compactMap { $0.escalation?.pool })
    guard !pools.isEmpty else { return [] }
    return session.version == .v5 ? [topics.secondOpinions] : pools.map { topics.result("+", pool: $0) }
  }

  /// Takes the answers of pools out of what arrived.
  ///
  /// - Returns: the rest.
  func takeSecondOpinions(_ messages: [Session.Incoming], _ now: Int) -> [Session.Incoming] {
    messages.filter { message in
      // Without response topics (MQTT 3.1.1) answers come where those for everybody do.
      guard message.topic == topics.secondOpinions || session?.version == .v311 && message.topic.hasPrefix(topics.pools) else { return true }
      take(message, now)
      return false
    }
  }

  private func take(_ message: Session.Incoming, _ now: Int) {
    let json = JSONReader((try? JSON.parse(message.payload, limits: intake.jsonLimits)) ?? .null)
    let id = message.correlation.flatMap { String(validating: $0, as: UTF8.self) } ?? (try? json["id"].string()) ?? ""
    guard let job = escalations.open[id], let journal else { return }  // a repeat, or not ours; or it comes again, because the pool is asked again
    if json["status"].value == "accepted" { return }
    if json["status"].value == "ok", json["result"].isPresent, let reply = try? json.object() {
      let local: JSON.Object
      do { local = try self.local(job.sequence, journal) } catch { return failed(error) }
      var answer = JSON.Object()
      for name in ["v", "id"] { answer[name] = local[name] }
      answer["status"] = "ok"
      answer["task"] = local["task"]
      for name in ["result", "timing", "usage", "truncated", "model"] { answer[name] = reply[name] }
      for name in ["agent", "attempt", "received_at"] { answer[name] = local[name] }
      answer["finished_at"] = .string(Clock.text(Clock.wall))
      answer["meta"] = local["meta"]
      if case .object(var escalation)? = local["escalation"] {
        escalation["agent"] = reply["agent"]
        answer["escalation"] = .object(escalation)
      }
      _ = escalations.end(id, .works, now)
      escalations.counters.answered += 1
      settleEscalation(job.sequence, status: "ok", code: nil, answer)
    } else {
      if let milliseconds = try? json["error"]["retry_after_ms"].int(in: 0...3_600_000) { return escalations.postpone(id, to: now + milliseconds) }
      let code = (try? json["error"]["code"].string(bytes: 1...64)) ?? "bad_answer"
      // What the text or the question brings about says nothing against the pool.
      let status = (try? json["error"]["http"].int()) ?? 500
      giveUp(id, code, 400..<500 ~= status && status != 408 && status != 410 ? .works : .failed, now)
    }
  }

  /// The local answer is the last word.
  private func giveUp(_ id: String, _ reason: String, _ verdict: Escalations.Verdict, _ now: Int) {
    guard let sequence = escalations.open[id]?.sequence, let journal else { return }
    let local: JSON.Object
    do { local = try self.local(sequence, journal) } catch { return failed(error) }
    guard let job = escalations.end(id, verdict, now) else { return }
    escalations.counters.failed += 1
    logger.log(
      level: verdict == .failed ? .warning : .info,
      "the pool \(job.pool) has no answer: \(reason)\(escalations.paused(now).contains(job.pool) ? "; it gets no jobs for a while" : "")", metadata: ["job": "\(sequence)"])
    let answer = lastWord(local, failed: reason)
    let code = try? JSONReader(.object(answer))["error"]["code"].string()
    settleEscalation(sequence, status: code == nil ? "ok" : "error", code: code, answer)
  }

  /// A provisional answer whose job no journal has any more, as the last word.
  func unescalated(_ answer: Journal.Finished) -> Journal.Finished {
    guard answer.escalation != nil, case .object(let message)? = try? JSON.parse(answer.result) else { return answer }
    return Journal.Finished(status: answer.status, code: answer.code, result: JSON.object(lastWord(message, failed: "journal")).compactBytes)
  }

  private func lastWord(_ provisional: JSON.Object, failed reason: String) -> JSON.Object {
    var answer = provisional
    answer["provisional"] = nil
    if case .object(var escalation)? = answer["escalation"] {
      escalation["failed"] = .string(reason)
      answer["escalation"] = .object(escalation)
    }
    return answer
  }

  /// The provisional message of a job; empty where its journal was set aside.
  private func local(_ sequence: Int, _ journal: Journal) throws(SternaError) -> JSON.Object {
    guard let stored = try journal.message(sequence, .output), case .object(let object)? = try? JSON.parse(stored.payload) else { return JSON.Object() }
    return object
  }

  private func settleEscalation(_ sequence: Int, status: String, code: String?, _ answer: JSON.Object) {
    finished.append((sequence, .init(status: status, code: code, result: JSON.object(answer).compactBytes, endsEscalation: true)))
  }
}
