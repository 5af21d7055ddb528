import Basics

// What people ask about jobs.

extension Journal {
  /// What is known about a job, for people.
  struct Record {
    var sequence: Int
    var id: String
    /// Name of the configured task, else the kind of job.
    var task: String
    var isFinished: Bool
    /// Answered provisionally while a pool is asked.
    var isEscalated: Bool
    var priority: Int
    /// How often it was given to the engine.
    var attempt: Int
    /// Milliseconds since 1970.
    var received: Int
    /// Of its payload; 0 when it is finished.
    var bytes: Int
    /// The answer as published.
    var result: [UInt8]?
  }

  private static let columns = "seq, id, coalesce(task, kind), state, priority, attempt, received, coalesce(length(payload), 0)"

  private static func record(_ row: Statement) -> Record {
    Record(
      sequence: row.int(0), id: row.text(1) ?? "", task: row.text(2) ?? "", isFinished: [1, 2].contains(row.int(3)), isEscalated: row.int(3) == 3, priority: row.int(4), attempt: row.int(5),
      received: row.int(6), bytes: row.int(7))
  }

  /// The job to which a client gave this id; else the newest with it, from a task or from correlation data.
  func record(id: String) throws(SternaError) -> Record? {
    var found = try database.statement("SELECT seq FROM jobs WHERE key=?").rows(.blob(Intake.key(id: id))) { $0.int(0) }
    if found.isEmpty { found = try database.statement("SELECT seq FROM jobs WHERE id=? AND state!=2 ORDER BY seq DESC LIMIT 1").rows(.text(id)) { $0.int(0) } }
    guard let sequence = found.first else { return nil }
    return try database.statement("SELECT \(Self.columns), result FROM jobs WHERE seq=?").rows(.int(sequence)) {
      var record = Self.record($0)
      record.result = $0.blob(8)
      return record
    }.first
  }

  /// Jobs without an answer, the oldest first.
  func unfinished(limit: Int) throws(SternaError) -> [Record] {
    try database.statement("SELECT \(Self.columns) FROM jobs WHERE state=0 ORDER BY seq LIMIT ?").rows(.int(limit), read: Self.record)
  }
}
