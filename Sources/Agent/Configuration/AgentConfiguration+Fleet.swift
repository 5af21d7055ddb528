import Basics
import Jobs

// The keys with which an agent works together with others.

extension AgentConfiguration {
  static func readPool(_ reader: JSONReader, _ pool: inout Pool) throws(SternaError) {
    try reader.allow(["names", "full_jobs"])
    if let names = reader["names"].optional {
      for name in try names.array(count: 0...16) { pool.names.append(try name.poolName()) }
      guard Set(pool.names).count == pool.names.count else { throw names.error("names a pool twice", expected: "each pool once") }
    }
    if let jobs = reader["full_jobs"].optional { pool.fullJobs = try jobs.int(in: 1...1_000_000) }
  }

  /// What does not fit together.
  func checkFleet() throws(SternaError) {
    guard id != "pool" else { throw SternaError(.badConfiguration, "is taken: \(base)/pool/ is where pools are", at: "agent.id", expected: "another name") }
    for (i, task) in tasks.enumerated() {
      for input in task.inputs where TopicFilter(input).matches(Topics(self).secondOpinions) {
        throw SternaError(
          .badConfiguration, "would feed the answers of pools back to the agent", at: "tasks[\(i)].input",
          expected: "a filter outside \(base)/clients/#", found: "\"\(input)\"")
      }
      if let escalation = task.escalation, pool.names.contains(escalation.pool) {
        throw SternaError(
          .badConfiguration, "would ask itself", at: "tasks[\(i)].escalate.pool", expected: "a pool of which this agent is no member", found: "\"\(escalation.pool)\"")
      }
      for pool in pool.names {
        for input in task.inputs where TopicFilter(input).matches("\(base)/pool/\(pool)/results/x") {
          throw SternaError(
            .badConfiguration, "would feed the answers of a pool back to the agent", at: "tasks[\(i)].input", expected: "a filter outside \(base)/pool/#",
            found: "\"\(input)\"")
        }
        if TopicFilter("\(base)/pool/\(pool)/jobs/+").matches(task.output) {
          throw SternaError(
            .badConfiguration, "would feed results back into the agent", at: "tasks[\(i)].output", expected: "a topic outside \(base)/pool/#",
            found: "\"\(task.output)\"")
        }
      }
    }
  }
}

extension AgentConfiguration {
  /// When a task asks a pool of larger models, and how long it waits for them.
  public struct Escalation: Sendable, Equatable {
    public var pool: String
    /// Answers with less confidence go to the pool; nil: none do for that.
    public var below: Double?
    /// Jobs that end in one of these go to the pool.
    public var errors: [SternaError.Code] = Escalation.defaultErrors
    /// Milliseconds that the pool has.
    public var timeout = 60_000
    /// Jobs that may go to the pool in one day (UTC).
    public var daily = 1000
    /// After so many failures in a row the pool gets no jobs for `pause` milliseconds.
    public var failures = 3
    public var pause = 60_000
    /// What the pool is asked about the text: members of a job's payload.
    public var question = JSON.Object()

    static let defaultErrors: [SternaError.Code] = ["no_valid_output", "deadline", "expired"]
    static let possibleErrors = defaultErrors + ["input_too_long", "model_io", "internal"]

    var breaker: Breaker.Settings { .init(failures: failures, pause: pause) }
  }

  /// - Parameters:
  ///   - reader: `tasks[i].escalate`.
  ///   - task: the task's own keys, from which the question is made.
  static func readEscalation(_ reader: JSONReader, task: JSONReader, limits: JobLimits) throws(SternaError) -> Escalation {
    try reader.allow(["pool", "below", "on", "timeout_s", "daily", "failures", "pause_s"])
    var escalation = Escalation(pool: try reader["pool"].poolName())
    escalation.below = try reader["below"].optional?.double(in: 0...1)
    if let codes = reader["on"].optional {
      escalation.errors = []
      for code in try codes.array(count: 0...Escalation.possibleErrors.count) {
        let name = try code.string()
        guard let known = Escalation.possibleErrors.first(where: { $0.rawValue == name }) else {
          throw code.error("is no reason to ask a pool", expected: Escalation.possibleErrors.map { "\"\($0.rawValue)\"" }.joined(separator: ", "))
        }
        escalation.errors.append(known)
      }
    }
    guard escalation.below != nil || !escalation.errors.isEmpty else { throw reader.error("would never happen", expected: "below, or errors in on") }
    if let seconds = reader["timeout_s"].optional { escalation.timeout = try seconds.int(in: 1...86_400) * 1000 }
    if let jobs = reader["daily"].optional { escalation.daily = try jobs.int(in: 1...1_000_000) }
    if let count = reader["failures"].optional { escalation.failures = try count.int(in: 1...1000) }
    if let seconds = reader["pause_s"].optional { escalation.pause = try seconds.int(in: 1...86_400) * 1000 }
    for name in ["labels", "fields"] { if let value = task[name].optional?.value { escalation.question[name] = value } }
    if let schema = task["schema"].optional {
      if case .string(let path)? = schema.value {
        escalation.question["schema"] = try JSON.parse(try readWholeFile(path, limit: limits.payloadBytes))
      } else {
        escalation.question["schema"] = schema.value
      }
    }
    var options = (try? task["options"].object()) ?? JSON.Object()
    // What comes too late here is no work for the pool either.
    options["ttl_ms"] = .number(escalation.timeout)
    escalation.question["options"] = .object(options)
    return escalation
  }
}

extension JSONReader {
  fileprivate func poolName() throws(SternaError) -> String {
    let name = try string()
    guard isAgentID(name) else { throw error("is not the name of a pool", expected: "1 to 32 characters of a-z, 0-9 and -") }
    return name
  }
}
