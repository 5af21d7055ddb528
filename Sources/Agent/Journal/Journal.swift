import Basics
import Glibc

/// What the agent has promised: accepted jobs, finished ones whose result the broker does not have yet, and finished ones that are
/// remembered so that a repeat gets the same answer.
///
/// One SQLite table in arrival order: neighbours in time share pages, so a job costs few of them, and the oldest are found first when it
/// is time to forget. Written with `synchronous=FULL`: what a transaction returned from survives a power cut. Used by the loop thread alone.
final class Journal {
  /// The layout below. Older ones are brought up to it; a newer number is refused, not guessed at.
  static let version = 2
  private static let applicationID = 0x5354_524E

  let path: String
  let database: Database
  let boot: Int
  /// No number is ever given twice, neither after a rollback nor to the rows of a journal that takes the place of this one.
  private(set) var nextSequence: Int
  /// Rows of finished jobs, for the bound on their number.
  var rememberedJobs: Int
  let mainPlace: Place?
  var logPlace: Place?

  /// Opens the journal, or makes one.
  ///
  /// - Parameter first: the lowest number for a new job; jobs of a journal that was here before may still be at the engine or on their way to the broker.
  /// - Throws: `badFile` when it is damaged, `unsupported` when a newer version or another program wrote it, `io` when another process uses it.
  init(path: String, numberingFrom first: Int = 1) throws(SternaError) {
    // Whoever owns the folder says how it is reached: for a dynamic user, systemd makes /var/lib/sterna a link to /var/lib/private/sterna. The file
    // itself must not be a link, and SQLite's NOFOLLOW refuses one anywhere in the path.
    let path = withRealFolder(path)
    self.path = path
    // SQLite gives its helper files the mode of the main one.
    let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else {
      throw SternaError(.io, "the journal cannot be opened", at: path, remedy: "look at the disk, and at journal.path and its permissions", cause: String(cString: strerror(errno)))
    }
    close(file)
    mainPlace = Place(path)
    database = try Database(path)
    // The lock is held for good: two agents on one journal would answer jobs twice, and there is no shared-memory file to write.
    try database.execute("PRAGMA locking_mode=EXCLUSIVE")
    let found = try Self.check(database, path)
    chmod(path, 0o600)
    // Pages are written whole: two in the transaction that accepts a job, one in the one that answers it, and a job takes less than half of such a page (docs/reliability.md). Older files keep theirs.
    if found == 0 { try database.execute("PRAGMA page_size=2048") }
    guard try database.text("PRAGMA journal_mode=WAL") == "wal" else { throw SternaError(.io, "the file system cannot hold a journal", at: path) }
    try database.execute("PRAGMA synchronous=FULL; PRAGMA cache_size=-1024; PRAGMA wal_autocheckpoint=2000; PRAGMA journal_size_limit=4194304; PRAGMA trusted_schema=OFF")
    guard try database.text("PRAGMA quick_check(1)") == "ok" else { throw SternaError(.badFile, "the journal is damaged", at: path) }
    // What an earlier process wrote just before it died, or this one before an error, may be in the kernel's memory only, and the kernel forgets that a sync failed. Read back it counts as
    // known, and a repeat of it is acknowledged without another write. So put it where it belongs first; after an orderly stop there is nothing to do.
    try database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if found == 0 { try Self.create(database) } else if found < 2 { try Self.migrateTo2(database) }
    // Older programs do not mind a table that they do not know, so it needs no new version.
    try database.execute(Self.keptTable)
    for columns in Self.columns { _ = try database.statement("SELECT \(columns) LIMIT 0") }
    boot = try Self.thisBoot(database)
    nextSequence = max(first, (try database.int("SELECT max(seq) FROM jobs") ?? 0) + 1)
    rememberedJobs = try database.int("SELECT count(*) FROM jobs WHERE state = 1") ?? 0
  }

  /// Reads which layout this is, before anything is written.
  ///
  /// - Returns: 0 for a new file.
  private static func check(_ database: Database, _ path: String) throws(SternaError) -> Int {
    let found = try database.int("PRAGMA user_version") ?? 0
    if found == 0, try database.int("SELECT count(*) FROM sqlite_schema") == 0 { return 0 }
    guard try database.int("PRAGMA application_id") == applicationID else {
      throw SternaError(.unsupported, "this is a database of another program", at: path, remedy: "give the journal a path of its own: journal.path")
    }
    guard (1...version).contains(found) else {
      throw SternaError(
        .unsupported, "a newer version of Sterna wrote this journal", at: path, expected: "version \(version) or older", found: "version \(found)",
        remedy: "go back to that version of Sterna, or let it finish the jobs (request/queue/drain) first; or move the file away, and the jobs in it are not answered")
    }
    return found
  }

  private static func create(_ database: Database) throws(SternaError) {
    try database.transaction { () throws(SternaError) in
      try database.execute(
        """
        CREATE TABLE jobs(
          seq INTEGER PRIMARY KEY,  -- arrival order
          key BLOB NOT NULL,        -- 16 bytes, from the id and who chose it
          id TEXT NOT NULL,
          hash BLOB NOT NULL,       -- 16 bytes, of kind and payload
          kind TEXT NOT NULL,
          task TEXT,                -- name of the configured task; then payload is the message as it came
          source TEXT,              -- topic that a task's message came from
          payload BLOB,             -- until the job is finished
          state INTEGER NOT NULL,   -- 0 accepted, 1 finished, 2 refused, 3 answered provisionally while a pool is asked
          attempt INTEGER NOT NULL,   -- how often it was given to the engine
          priority INTEGER NOT NULL,
          received INTEGER NOT NULL,  -- ms since 1970, as far as the clock can be trusted
          boot INTEGER NOT NULL,      -- of which `uptime` counts
          uptime INTEGER NOT NULL,    -- ms since boot, at arrival
          ttl INTEGER,                -- ms
          output TEXT NOT NULL,       -- topic of the result
          response TEXT,              -- topic of the copy for the client
          correlation BLOB,
          finished INTEGER,
          status TEXT, code TEXT,
          result BLOB,                -- the payload as published: repeats are the same bytes
          unsent INTEGER NOT NULL,    -- 1 output, 2 response: not acknowledged by the broker yet
          running INTEGER NOT NULL DEFAULT 0,  -- 1 at the engine
          deaths INTEGER              -- null: beyond suspicion; else it runs alone, and so often the agent died meanwhile
        );
        CREATE UNIQUE INDEX jobs_key ON jobs(key);
        CREATE TABLE boots(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
        \(escalationTables)
        \(keptTable)
        PRAGMA application_id=\(applicationID);
        PRAGMA user_version=\(version);
        """)
    }
  }

  /// Version 1 did not say which jobs were at the engine, and counted attempts from 1.
  private static func migrateTo2(_ database: Database) throws(SternaError) {
    try database.transaction { () throws(SternaError) in
      try database.execute(
        """
        ALTER TABLE jobs ADD COLUMN running INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE jobs ADD COLUMN deaths INTEGER;
        UPDATE jobs SET attempt=0 WHERE state=0;
        \(escalationTables)
        PRAGMA user_version=2;
        """)
    }
  }

  /// Everything that the statements of this version name, so that damaged tables are found before a job is lost in them.
  private static let columns = [
    """
    seq, key, id, hash, kind, task, source, payload, state, attempt, priority, received, boot, uptime, ttl, output, response, correlation, finished, status, code, result, unsent,
    running, deaths FROM jobs
    """, "n, id FROM boots", "seq, id, pool, kind, payload FROM escalations", "task, day, jobs FROM budgets", "kind, name FROM kept",
  ]

  private static func thisBoot(_ database: Database) throws(SternaError) -> Int {
    let id = Clock.bootID
    if let known = try database.statement("SELECT n FROM boots WHERE id=?").rows(.text(id), read: { $0.int(0) }).first { return known }
    return try database.transaction { () throws(SternaError) in
      try database.execute("DELETE FROM boots WHERE n NOT IN (SELECT boot FROM jobs)")
      try database.statement("INSERT INTO boots(id) VALUES(?)").run(.text(id))
      return try database.int("SELECT max(n) FROM boots") ?? 0
    }
  }

  /// All of `body` or nothing of it, on stable storage when this returns.
  func transaction<Value>(_ body: () throws(SternaError) -> Value) throws(SternaError) -> Value {
    let before = rememberedJobs
    do { return try database.transaction(body) } catch {
      rememberedJobs = before
      throw error
    }
  }

  /// Whether the disk takes writes again.
  func probe() throws(SternaError) {
    try transaction { () throws(SternaError) in try database.execute("PRAGMA user_version=\(Self.version)") }
  }

  /// Bytes of the file that hold something. Freed pages are used again, and the file does not shrink.
  func usedBytes() throws(SternaError) -> Int {
    let pages = (try database.int("PRAGMA page_count") ?? 0) - (try database.int("PRAGMA freelist_count") ?? 0)
    return pages * (try database.int("PRAGMA page_size") ?? 4096)
  }

  /// Bytes on disk, the write-ahead log included.
  var bytes: Int {
    [path, path + "-wal"].reduce(0) { sum, name in
      var status = stat()
      return stat(name, &status) == 0 ? sum + Int(status.st_size) : sum
    }
  }
}

// MARK: - Entries

extension Journal {
  /// Which of a job's two messages the broker still lacks.
  struct Unsent: OptionSet, Sendable {
    let rawValue: Int
    static let output = Unsent(rawValue: 1)
    static let response = Unsent(rawValue: 2)
  }

  /// A job as it is written down on arrival.
  struct Entry {
    var key: [UInt8]
    var id: String
    var hash: [UInt8]
    var kind: String
    var task: String?
    var source: String?
    var payload: [UInt8]
    /// How often it was given to the engine.
    var attempt = 0
    var priority = 0
    var received: Int
    var uptime: Int
    var ttl: Int?
    var output: String
    var response: String?
    var correlation: [UInt8]?
  }

  /// A message that answers a job, and what goes with it.
  struct Finished {
    var status: String
    var code: String?
    var result: [UInt8]
    /// The job was none: its id stays free for the job put right.
    var isRefusal = false
    /// With a provisional answer: what a pool is asked.
    var escalation: Escalation?
    /// Whether it takes the place of a provisional answer.
    var endsEscalation = false
  }

  /// What is known about an id.
  struct Known {
    var sequence: Int
    var hash: [UInt8]
    var isFinished: Bool
  }

  func find(key: [UInt8]) throws(SternaError) -> Known? {
    try database.statement("SELECT seq, hash, state FROM jobs WHERE key=?").rows(.blob(key)) {
      Known(sequence: $0.int(0), hash: $0.blob(1) ?? [], isFinished: [1, 2].contains($0.int(2)))
    }.first
  }

  /// Writes an accepted job down. Inside a transaction.
  func accept(_ entry: Entry) throws(SternaError) -> Int {
    try insert(entry, state: 0, finished: nil)
  }

  /// Writes a refusal down, which is forgotten as soon as the broker has it. Inside a transaction.
  func refuse(_ entry: Entry, with finished: Finished) throws(SternaError) -> Int {
    try insert(entry, state: 2, finished: finished)
  }

  /// Writes an answer down whose job is not in this journal, because it took the place of a damaged one. Inside a transaction.
  func adopt(_ entry: Entry, with finished: Finished) throws(SternaError) -> Int {
    if !finished.isRefusal { rememberedJobs += 1 }
    return try insert(entry, state: finished.isRefusal ? 2 : 1, finished: finished)
  }

  private func insert(_ entry: Entry, state: Int, finished: Finished?) throws(SternaError) -> Int {
    let sequence = nextSequence
    let unsent: Unsent = finished == nil ? [] : Self.targets(response: entry.response)
    try database.statement(
      """
      INSERT INTO jobs(seq, key, id, hash, kind, task, source, payload, state, attempt, priority, received, boot, uptime, ttl, output, response,
        correlation, finished, status, code, result, unsent) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
      """
    ).run(
      .int(sequence), .blob(entry.key), .text(entry.id), .blob(entry.hash), .text(entry.kind), .init(entry.task), .init(entry.source),
      finished == nil ? .blob(entry.payload) : .null, .int(state), .int(entry.attempt), .int(entry.priority), .int(entry.received), .int(boot),
      .int(entry.uptime), .init(entry.ttl), .text(entry.output), .init(entry.response), .init(entry.correlation),
      finished == nil ? .null : .int(entry.received), .init(finished?.status), .init(finished?.code), .init(finished?.result), .int(unsent.rawValue))
    nextSequence += 1
    return sequence
  }

  private static func targets(response: String?) -> Unsent { response == nil ? .output : [.output, .response] }

  /// Writes the answer of an accepted job down; its payload is not needed any more. Inside a transaction.
  ///
  /// - Returns: which messages are to be sent; nil when there is no such job, or it has its answer.
  func finish(_ sequence: Int, with finished: Finished, at time: Int) throws(SternaError) -> Unsent? {
    if finished.endsEscalation { return try settleEscalation(sequence, with: finished, at: time) }
    if let escalation = finished.escalation { return try escalate(sequence, escalation, with: finished, at: time) }
    let unsent = try database.statement(
      """
      UPDATE jobs SET state=?, running=0, key=CASE WHEN ?1=2 THEN randomblob(16) ELSE key END, payload=NULL, finished=?, status=?, code=?, result=?,
        unsent=CASE WHEN response IS NULL THEN 1 ELSE 3 END
      WHERE seq=? AND state=0 RETURNING unsent
      """
    ).rows(.int(finished.isRefusal ? 2 : 1), .int(time), .text(finished.status), .init(finished.code), .blob(finished.result), .int(sequence)) { Unsent(rawValue: $0.int(0)) }
    if !finished.isRefusal { rememberedJobs += unsent.count }
    return unsent.first
  }

  /// A repeat of a job may want its answer somewhere else than the first time. Inside a transaction.
  func redirect(_ sequence: Int, response: String?, correlation: [UInt8]?) throws(SternaError) {
    guard let response else { return }
    try database.statement("UPDATE jobs SET response=?, correlation=? WHERE seq=?").run(.text(response), .init(correlation), .int(sequence))
  }

  /// Has the stored answer sent once more. Inside a transaction.
  func resend(_ sequence: Int) throws(SternaError) {
    try database.statement("UPDATE jobs SET unsent=CASE WHEN response IS NULL THEN 1 ELSE 3 END WHERE seq=?").run(.int(sequence))
  }

  /// The broker has this message. Inside a transaction.
  func sent(_ sequence: Int, _ target: Unsent) throws(SternaError) {
    try database.statement("UPDATE jobs SET unsent=unsent & ~? WHERE seq=?").run(.int(target.rawValue), .int(sequence))
    // A refusal is not an answer to remember: the client may send the same id again, put right.
    try database.statement("DELETE FROM jobs WHERE seq=? AND state=2 AND unsent=0").run(.int(sequence))
  }

  /// Forgets finished jobs that are old, or too many: a few at a time, so that it rides along with other writes. Inside a transaction.
  ///
  /// - Parameter age: milliseconds.
  func forget(olderThan age: Int, keeping count: Int) throws(SternaError) {
    let surplus = max(0, rememberedJobs - count)
    let now = (uptime: Clock.uptime, wall: Clock.wall)
    let oldest = try database.statement("SELECT seq, boot, uptime, finished FROM jobs WHERE state=1 AND unsent=0 ORDER BY seq LIMIT 16").rows {
      (sequence: $0.int(0), age: self.age(boot: $0.int(1), uptime: $0.int(2), wall: $0.int(3), now))
    }
    for (i, job) in oldest.enumerated() where i < surplus || job.age > age {
      try database.statement("DELETE FROM jobs WHERE seq=?").run(.int(job.sequence))
      rememberedJobs -= 1
    }
  }

  /// How long ago something was, in milliseconds. Within one boot the clock since boot tells, whatever happened to the wall clock. For what is older there is only the wall clock: one that was
  /// wrong then or is wrong now makes it as old as this boot, and one that runs backwards no younger than that.
  private func age(boot: Int, uptime: Int, wall: Int, _ now: (uptime: Int, wall: Int)) -> Int {
    if boot == self.boot { return now.uptime - uptime }
    let isCredible = wall >= Clock.firstCredible && now.wall >= Clock.firstCredible
    return max(now.uptime, isCredible ? now.wall - wall : 0)
  }
}

// MARK: - After a start

extension Journal {
  /// Accepted jobs, oldest first.
  /// - Parameter source: who sent a job, from the name of its task, its kind and the topic of the client's copy.
  func waiting(source: (_ task: String?, _ kind: String, _ response: String?) -> String) throws(SternaError) -> [WaitingJob] {
    let now = (uptime: Clock.uptime, wall: Clock.wall)
    return try database.statement("SELECT seq, priority, length(payload), ttl, boot, uptime, received, task, kind, response, deaths FROM jobs WHERE state=0 ORDER BY seq").rows {
      let arrived = now.uptime - self.age(boot: $0.int(4), uptime: $0.int(5), wall: $0.int(6), now)
      return WaitingJob(
        sequence: $0.int(0), priority: $0.int(1), bytes: $0.int(2), source: source($0.text(7), $0.text(8) ?? "", $0.text(9)), arrived: arrived,
        deadline: $0.optionalInt(3).map { ttl in arrived + ttl }, deaths: $0.optionalInt(10))
    }
  }

  /// Finished jobs with a message that the broker lacks, oldest first.
  func unsent() throws(SternaError) -> [(sequence: Int, targets: Unsent)] {
    try database.statement("SELECT seq, unsent FROM jobs WHERE unsent != 0 ORDER BY seq").rows { ($0.int(0), Unsent(rawValue: $0.int(1))) }
  }

  /// An accepted job.
  func entry(_ sequence: Int) throws(SternaError) -> Entry? {
    try database.statement(
      "SELECT key, id, hash, kind, task, source, payload, attempt, priority, received, uptime, ttl, output, response, correlation FROM jobs WHERE seq=? AND state=0"
    ).rows(.int(sequence)) {
      Entry(
        key: $0.blob(0) ?? [], id: $0.text(1) ?? "", hash: $0.blob(2) ?? [], kind: $0.text(3) ?? "", task: $0.text(4), source: $0.text(5),
        payload: $0.blob(6) ?? [], attempt: $0.int(7), priority: $0.int(8), received: $0.int(9), uptime: $0.int(10), ttl: $0.optionalInt(11),
        output: $0.text(12) ?? "", response: $0.text(13), correlation: $0.blob(14))
    }.first
  }

  /// A message to publish.
  struct Message {
    var topic: String
    var correlation: [UInt8]?
    var status: String
    var code: String?
    var payload: [UInt8]
  }

  func message(_ sequence: Int, _ target: Unsent) throws(SternaError) -> Message? {
    try database.statement("SELECT output, response, correlation, status, code, result FROM jobs WHERE seq=? AND state!=0").rows(.int(sequence)) {
      Message(
        topic: (target == .response ? $0.text(1) : $0.text(0)) ?? "", correlation: target == .response ? $0.blob(2) : nil,
        status: $0.text(3) ?? "", code: $0.text(4), payload: $0.blob(5) ?? [])
    }.first
  }
}
