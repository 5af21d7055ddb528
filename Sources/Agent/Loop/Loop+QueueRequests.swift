import Basics
import Jobs

// Requests about jobs: `job/cancel`, `job/get`, `queue/list`, `queue/drain`.

extension Loop {
  /// `{"id":..}`. The answer says where the job is; a job that waits or runs ends with `cancelled`, unless it is answered first; one for which a pool is
  /// asked ends with the local answer.
  func cancelJob(_ request: JSONReader, reply: @escaping Reply) throws(SternaError) {
    let id = try request["id"].string(bytes: 1...64)
    let found = try openJournalOrThrow().record(id: id)
    let state = state(of: found)
    let answer = JSON.object(["id": .string(id), "state": .string(state.rawValue)])
    guard let found else { return reply(.success(answer)) }
    switch state {
    case .running:
      running[found.sequence]?.isCancelled = true
      inference.cancel(found.sequence)
    case .queued:
      // Who hears that it is cancelled may forget about the job: only when that is written down.
      cancelled.insert(found.sequence)
      return whenWritten.append { reply(.success(answer)) }
    case .escalated:
      guard cancelEscalation(of: found.sequence, Clock.uptime) else {
        throw SternaError(.busy, "the local answer to this job is still on its way to the broker", at: "id", remedy: "ask again in a moment")
      }
      return whenWritten.append { reply(.success(answer)) }
    case .finished, .unknown: break
    }
    reply(.success(answer))
  }

  /// `{"id":..}`: what is known about a job, with its answer when there is one.
  func getJob(_ request: JSONReader) throws(SternaError) -> JSON {
    let id = try request["id"].string(bytes: 1...64)
    let found = try openJournalOrThrow().record(id: id)
    var object: JSON.Object = ["id": .string(id), "state": .string(state(of: found).rawValue)]
    if let found {
      for (name, value) in describe(found).members { object[name] = value }
      if let result = found.result { object["result"] = (try? JSON.parse(result)) ?? .null }
    }
    return .object(object)
  }

  /// `{"limit":100}`: jobs without an answer, the oldest first.
  func listQueue(_ request: JSONReader) throws(SternaError) -> JSON {
    let limit = try request["limit"].optional?.int(in: 1...1000) ?? 100
    let jobs = try openJournalOrThrow().unfinished(limit: limit)
    return [
      "queue": .number(queued), "unsent": .number(outbox.count + inFlight.count), "draining": .bool(isDraining),
      "jobs": .array(
        jobs.map { job in
          var object: JSON.Object = ["id": .string(job.id), "state": .string(state(of: job).rawValue)]
          for (name, value) in describe(job).members { object[name] = value }
          return .object(object)
        }),
    ]
  }

  /// `{"on":true}`: takes no more jobs of clients, and does those that are there; false takes jobs again.
  func drainQueue(_ request: JSONReader) throws(SternaError) -> JSON {
    let isOn = try request["on"].optional?.bool() ?? true
    if isOn != isDraining {
      isDraining = isOn
      sayState()
    }
    return ["draining": .bool(isDraining), "queue": .number(queued), "unsent": .number(outbox.count + inFlight.count)]
  }

  private enum JobState: String { case queued, running, escalated, finished, unknown }

  private func state(of record: Journal.Record?) -> JobState {
    guard let record else { return .unknown }
    if record.isFinished { return .finished }
    if record.isEscalated { return .escalated }
    return running[record.sequence].map { $0.isAnswered ? .finished : .running } ?? .queued
  }

  private func describe(_ record: Journal.Record) -> JSON.Object {
    [
      "task": .string(record.task), "priority": .number(record.priority), "attempt": .number(record.attempt), "received_at": .string(Clock.text(record.received)),
      "bytes": .number(record.bytes),
    ]
  }

  private func openJournalOrThrow() throws(SternaError) -> Journal {
    guard let journal else { throw SternaError(.storageFull, "the journal does not work just now", cause: journalFailure?.message) }
    return journal
  }
}
