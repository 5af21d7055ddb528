import Basics

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

extension JSONReader {
  fileprivate func poolName() throws(SternaError) -> String {
    let name = try string()
    guard isAgentID(name) else { throw error("is not the name of a pool", expected: "1 to 32 characters of a-z, 0-9 and -") }
    return name
  }
}
