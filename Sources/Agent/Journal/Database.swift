import Basics
import CSQLite

/// One SQLite connection, used from one thread at a time. Every failure is a `SternaError` with SQLite's words.
final class Database {
  private let handle: OpaquePointer
  private let path: String
  private var statements: [String: Statement] = [:]

  /// - Parameter path: a file that is made when it is missing, readable for its owner only.
  init(_ path: String) throws(SternaError) {
    self.path = path
    var handle: OpaquePointer?
    let code = sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, nil)
    guard code == SQLITE_OK, let handle else {
      let error = Self.error(handle, code, path)
      sqlite3_close_v2(handle)
      throw error
    }
    sqlite3_extended_result_codes(handle, 1)
    self.handle = handle
  }

  deinit {
    statements.removeAll()  // each finalises itself; close_v2 waits for none
    sqlite3_close_v2(handle)
  }

  /// A statement, prepared once and kept.
  func statement(_ sql: String) throws(SternaError) -> Statement {
    if let known = statements[sql] { return known }
    var prepared: OpaquePointer?
    let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &prepared, nil)
    guard code == SQLITE_OK, let prepared else { throw Self.error(handle, code, path) }
    let statement = Statement(prepared, self)
    statements[sql] = statement
    return statement
  }

  /// Runs statements without parameters and without interest in rows.
  func execute(_ sql: String) throws(SternaError) {
    let code = sqlite3_exec(handle, sql, nil, nil, nil)
    guard code == SQLITE_OK else { throw Self.error(handle, code, path) }
  }

  /// Closing removes the write-ahead log by its name, as long as this was not called.
  func keepLogWhenClosed() {
    var isOn: Int32 = 1
    sqlite3_file_control(handle, "main", SQLITE_FCNTL_PERSIST_WAL, &isOn)
  }

  /// The first column of the first row.
  func text(_ sql: String) throws(SternaError) -> String? {
    try statement(sql).rows { $0.text(0) }.first ?? nil
  }

  func int(_ sql: String) throws(SternaError) -> Int? {
    try statement(sql).rows { $0.int(0) }.first
  }

  /// All of `body` or nothing of it; on stable storage when this returns.
  func transaction<Value>(_ body: () throws(SternaError) -> Value) throws(SternaError) -> Value {
    try statement("BEGIN IMMEDIATE").run()
    do {
      let value = try body()
      try statement("COMMIT").run()
      return value
    } catch {
      // SQLite may have rolled back already (disk full, I/O error); then this complains, which is fine.
      if sqlite3_get_autocommit(handle) == 0 { sqlite3_exec(handle, "ROLLBACK", nil, nil, nil) }
      throw error
    }
  }

  fileprivate func failure(_ code: Int32) -> SternaError { Self.error(handle, code, path) }

  private static func error(_ handle: OpaquePointer?, _ code: Int32, _ path: String) -> SternaError {
    let cause = handle.map { String(cString: sqlite3_errmsg($0)) } ?? String(cString: sqlite3_errstr(code))
    return switch code & 0xFF {
    case SQLITE_FULL: SternaError(.journalFull, "the disk is full", at: path, remedy: "make room; the agent goes on by itself", cause: cause)
    // The statements are right, so an error in one (SQLITE_ERROR) means that the tables are not what they were.
    case SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_ERROR: SternaError(.badFile, "the journal is damaged", at: path, cause: cause)
    case SQLITE_BUSY: SternaError(.io, "another process uses this journal", at: path, remedy: "give each agent its own journal.path", cause: cause)
    default: SternaError(.io, "the journal cannot be used", at: path, remedy: "look at the disk, and whether it is mounted read-only; the agent goes on by itself", cause: "\(cause) (SQLite \(code))")
    }
  }
}

extension SternaError.Code {
  static let journalFull: Self = "journal_full"
}

/// A prepared statement. Parameters are numbered from 1, columns from 0.
final class Statement {
  private let handle: OpaquePointer
  private unowned let database: Database

  fileprivate init(_ handle: OpaquePointer, _ database: Database) {
    self.handle = handle
    self.database = database
  }

  deinit { sqlite3_finalize(handle) }

  /// A value to bind.
  enum Value {
    case null
    case int(Int)
    case text(String)
    case blob([UInt8])

    init(_ text: String?) { self = text.map { .text($0) } ?? .null }
    init(_ int: Int?) { self = int.map { .int($0) } ?? .null }
    init(_ blob: [UInt8]?) { self = blob.map { .blob($0) } ?? .null }
  }

  func run(_ values: Value...) throws(SternaError) {
    _ = try step(values) { _ in () }
  }

  /// All rows, each through `read`.
  func rows<Row>(_ values: Value..., read: (Statement) -> Row) throws(SternaError) -> [Row] {
    try step(values, read)
  }

  func int(_ column: Int32) -> Int { Int(sqlite3_column_int64(handle, column)) }
  func optionalInt(_ column: Int32) -> Int? { sqlite3_column_type(handle, column) == SQLITE_NULL ? nil : int(column) }
  func text(_ column: Int32) -> String? { sqlite3_column_text(handle, column).map { String(cString: $0) } }
  func blob(_ column: Int32) -> [UInt8]? {
    guard sqlite3_column_type(handle, column) != SQLITE_NULL else { return nil }
    let count = Int(sqlite3_column_bytes(handle, column))
    guard count > 0, let bytes = sqlite3_column_blob(handle, column) else { return [] }
    return [UInt8](UnsafeRawBufferPointer(start: bytes, count: count))
  }

  private func step<Row>(_ values: [Value], _ read: (Statement) -> Row) throws(SternaError) -> [Row] {
    defer {
      sqlite3_reset(handle)
      sqlite3_clear_bindings(handle)
    }
    for (i, value) in values.enumerated() {
      let code = bind(value, at: Int32(i + 1))
      guard code == SQLITE_OK else { throw database.failure(code) }
    }
    var rows: [Row] = []
    while true {
      let code = sqlite3_step(handle)
      if code == SQLITE_DONE { return rows }
      guard code == SQLITE_ROW else { throw database.failure(code) }
      rows.append(read(self))
    }
  }

  private func bind(_ value: Value, at index: Int32) -> Int32 {
    // SQLITE_TRANSIENT, a macro that Swift does not import: SQLite copies the bytes.
    let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
    return switch value {
    case .null: sqlite3_bind_null(handle, index)
    case .int(let int): sqlite3_bind_int64(handle, index, Int64(int))
    case .text(let text): sqlite3_bind_text(handle, index, text, -1, transient)
    case .blob(let bytes):
      bytes.isEmpty
        ? sqlite3_bind_zeroblob(handle, index, 0)
        : bytes.withUnsafeBytes { sqlite3_bind_blob(handle, index, $0.baseAddress, Int32($0.count), transient) }
    }
  }
}
