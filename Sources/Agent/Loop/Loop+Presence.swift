import Basics
import Jobs

// What the agent says about itself: `state`, `info` and `health`, retained on the broker.

extension Loop {
  @discardableResult
  func say(_ topic: String, _ json: JSON) -> Int32? { say(topic, json.compactBytes) }

  @discardableResult
  func say(_ topic: String, _ payload: [UInt8]) -> Int32? {
    guard case .up(let session) = link else { return nil }
    guard case .success(let number) = session.publish(.init(topic: topic, payload: payload, isRetained: true)) else { return nil }
    inFlight[number] = .note(topic: topic)
    return number
  }

  /// What the agent says of itself, and why.
  var state: (word: String, reason: String?) {
    switch phase {
    case .stopping: return ("draining", nil)
    case .leaving, .over: return ("stopped", nil)
    case .running: break
    }
    if let trouble = journalFailure ?? journalSetAside ?? brokerRefusal ?? subscriptionRefusal {
      return ("degraded", [trouble.message, trouble.cause, trouble.remedy].compactMap { $0 }.joined(separator: "; "))
    }
    if isDraining { return ("draining", #"asked by request/queue/drain; {"on":false} there takes jobs again"#) }
    // The agent works as before, so it is not degraded; but whoever changed the file wants to know.
    let reason = configurationFailure.map { failure in
      "the changed configuration is not in use: \([failure.place, failure.message, failure.remedy].compactMap { $0 }.joined(separator: "; "))"
    }
    return ("online", reason)
  }

  /// Says `state`, and `health` with it: who looks at one because the other has changed sees both as they are now.
  ///
  /// - Returns: the number of the message with the state.
  @discardableResult
  func sayState() -> Int32? {
    writeMetrics()
    let (word, reason) = state
    if stateSaid.word != word || stateSaid.reason != reason { stateSaid = (word, reason, Clock.wall) }
    var object: JSON.Object = ["state": .string(word)]
    if let reason { object["reason"] = .string(reason) }
    object["since"] = .string(Clock.text(stateSaid.since))
    object["boot"] = .string(Clock.bootID)
    let number = say(topics.state, .object(object))
    sayHealth()
    return number
  }

  func sayHealth() {
    guard isUp else { return }
    lastHealth = Clock.uptime
    say(topics.health, health(lastHealth))
  }

  var info: JSON {
    let limits = configuration.limits
    return [
      "v": 1, "agent": .string(configuration.id), "version": .string(Agent.version), "model": model.json,
      "jobs": .array(JobTask.allCases.map { .string($0.rawValue) }),
      "tasks": .array(
        configuration.tasks.map {
          [
            "name": .string($0.name), "kind": .string($0.work.task.rawValue), "input": .array($0.inputs.map { .string($0) }),
            "output": .string($0.output), "escalate": $0.escalation.map { JSON.string($0.pool) } ?? JSON.null,
          ]
        }),
      "limits": [
        "payload_bytes": .number(limits.job.payloadBytes), "input_bytes": .number(limits.job.inputBytes), "labels": .number(limits.job.labels),
        "fields": .number(limits.job.fields), "queue_jobs": .number(limits.queueJobs), "queue_bytes": .number(limits.queueBytes),
      ],
      "pools": .array(configuration.pool.names.map { .string($0) }),
      "response_topics": .array(configuration.allowedResponseTopics.map { .string($0) }),
      "started_at": .string(Clock.text(startedAt)),
    ]
  }

  func health(_ now: Int) -> JSON {
    var health: JSON.Object = [
      "v": 1, "at": .string(Clock.text(Clock.wall)), "uptime_s": .number((now - startedUptime) / 1000), "queue": .number(queued),
      "queue_bytes": .number(waiting.bytes + suspects.bytes), "unsent": .number(outbox.count + inFlight.count), "accepted": .number(counters.accepted),
      "done": .number(counters.done), "failed": .number(counters.failed), "refused": .number(counters.refused),
      "repeated": .number(counters.repeated), "unheard": .number(counters.unheard), "denied": .number(counters.denied), "average_run_ms": .number(Int(counters.averageRun)),
      "journal_bytes": .number(journal?.bytes ?? 0), "rss_bytes": .number(ProcessMemory.residentBytes),
      "peak_rss_bytes": .number(ProcessMemory.peakResidentBytes),
    ]
    if !configuration.pool.names.isEmpty { health["pools"] = .array(pool.isMember ? configuration.pool.names.map { .string($0) } : []) }
    if configuration.tasks.contains(where: { $0.escalation != nil }) {
      health["escalations"] = [
        "open": .number(escalations.open.count), "answered": .number(escalations.counters.answered), "failed": .number(escalations.counters.failed),
        "paused": .array(escalations.paused(now).map { .string($0) }),
      ]
    }
    if let experts = inference.expertCosts { health["experts"] = experts }
    // What the kernel holds against a limit, page cache and all.
    if let group = ProcessMemory.group {
      health["memory_limit_bytes"] = .number(group.limitBytes)
      health["memory_bytes"] = .number(group.currentBytes)
      if let peak = group.peakBytes { health["memory_peak_bytes"] = .number(peak) }
      if let refaults = group.refaults { health["pages_read_again"] = .number(refaults) }
    }
    return .object(health)
  }
}
