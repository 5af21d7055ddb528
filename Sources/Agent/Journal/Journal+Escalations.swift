import Basics

// Jobs whose local answer is out, marked provisional, and whose final one a pool is asked for. In `jobs` they have state 3, `result` is the provisional message, and what the pool
// is asked stands here: the job goes on after a crash, under the same id, so that a pool that has answered answers the same again.

extension Journal {
  static let escalationTables = """
    CREATE TABLE escalations(
      seq INTEGER PRIMARY KEY,  -- of the job
      id TEXT NOT NULL,         -- under which the pool knows it
      pool TEXT NOT NULL,
      kind TEXT NOT NULL,
      payload BLOB NOT NULL     -- the job as it is sent
    );
    CREATE TABLE budgets(
      task TEXT PRIMARY KEY,
      day INTEGER NOT NULL,     -- since 1970, UTC
      jobs INTEGER NOT NULL     -- that went to a pool on that day
    ) WITHOUT ROWID;
    """

  /// A job for a pool.
  struct Escalation {
    var id: String
    var task: String
    var pool: String
    var kind: String
    var payload: [UInt8]
    var spent: (day: Int, jobs: Int)
  }

  /// Writes a local answer down that is not the last word, and what the pool is asked. Inside a transaction.
  ///
  /// - Returns: which messages are to be sent; nil when there is no such job, or it has its answer.
  func escalate(_ sequence: Int, _ escalation: Escalation, with provisional: Finished, at time: Int) throws(SternaError) -> Unsent? {
    let unsent = try database.statement(
      "UPDATE jobs SET state=3, running=0, payload=NULL, finished=?, status=?, code=?, result=?, unsent=1 WHERE seq=? AND state=0 RETURNING unsent"
    ).rows(.int(time), .text(provisional.status), .init(provisional.code), .blob(provisional.result), .int(sequence)) { Unsent(rawValue: $0.int(0)) }
    guard let unsent = unsent.first else { return nil }
    try database.statement("INSERT INTO escalations(seq, id, pool, kind, payload) VALUES(?,?,?,?,?)").run(
      .int(sequence), .text(escalation.id), .text(escalation.pool), .text(escalation.kind), .blob(escalation.payload))
    try database.statement("INSERT OR REPLACE INTO budgets(task, day, jobs) VALUES(?,?,?)").run(
      .text(escalation.task), .int(escalation.spent.day), .int(escalation.spent.jobs))
    return unsent
  }

  /// Writes the final answer of such a job down. Inside a transaction.
  func settleEscalation(_ sequence: Int, with finished: Finished, at time: Int) throws(SternaError) -> Unsent? {
    let unsent = try database.statement("UPDATE jobs SET state=1, finished=?, status=?, code=?, result=?, unsent=1 WHERE seq=? AND state=3 RETURNING unsent")
      .rows(.int(time), .text(finished.status), .init(finished.code), .blob(finished.result), .int(sequence)) { Unsent(rawValue: $0.int(0)) }
    try database.statement("DELETE FROM escalations WHERE seq=?").run(.int(sequence))
    rememberedJobs += unsent.count
    return unsent.first
  }

  /// Jobs that a pool is asked about.
  /// - Returns: with each the name of its task, and whether the broker has the local answer.
  func escalations() throws(SternaError) -> [(sequence: Int, id: String, pool: String, task: String, isSaid: Bool)] {
    try database.statement("SELECT e.seq, e.id, e.pool, j.task, j.unsent FROM escalations e JOIN jobs j ON j.seq=e.seq WHERE j.state=3 ORDER BY e.seq").rows {
      ($0.int(0), $0.text(1) ?? "", $0.text(2) ?? "", $0.text(3) ?? "", $0.int(4) == 0)
    }
  }

  /// What a pool is asked.
  func escalation(_ sequence: Int) throws(SternaError) -> (kind: String, payload: [UInt8])? {
    try database.statement("SELECT kind, payload FROM escalations WHERE seq=?").rows(.int(sequence)) { ($0.text(0) ?? "", $0.blob(1) ?? []) }.first
  }

  func budgets() throws(SternaError) -> [(task: String, day: Int, jobs: Int)] {
    try database.statement("SELECT task, day, jobs FROM budgets").rows { ($0.text(0) ?? "", $0.int(1), $0.int(2)) }
  }
}
