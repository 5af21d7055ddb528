import CSQLite
import Foundation
import Glibc

/// What a dead agent left in its journal, read from a copy: reading the original would repair it.
struct JournalCopy {
  struct Row {
    var received: Int
    /// 0 accepted, 1 finished, 2 refused.
    var state: Int
    /// The message that was or will be published.
    var result: String?
    var unsent: Int
  }

  var rows: [String: Row] = [:]
  /// SQLite's own opinion: `ok`.
  var integrity = ""
  var unfinished: [String] { rows.filter { $1.state == 0 }.keys.sorted() }
  var unsent: [String] { rows.filter { $1.unsent != 0 }.keys.sorted() }

  init(of path: String) throws {
    let copy = NSTemporaryDirectory() + "sterna-journal-\(UUID().uuidString.prefix(8))"
    let suffixes = ["", "-wal", "-journal"]
    defer { suffixes.forEach { unlink(copy + $0) } }
    for suffix in suffixes where access(path + suffix, F_OK) == 0 { try FileManager.default.copyItem(atPath: path + suffix, toPath: copy + suffix) }
    guard access(copy, F_OK) == 0 else { return }
    var handle: OpaquePointer?
    defer { sqlite3_close_v2(handle) }
    guard sqlite3_open_v2(copy, &handle, SQLITE_OPEN_READWRITE, nil) == SQLITE_OK else { throw Late(description: "the journal cannot be opened") }
    try query(handle, "PRAGMA integrity_check") { integrity = text($0, 0) ?? "" }
    guard integrity == "ok" else { return }
    var tables = 0
    try query(handle, "SELECT count(*) FROM sqlite_schema WHERE name='jobs'") { tables = Int(sqlite3_column_int64($0, 0)) }
    guard tables == 1 else { return }
    try query(handle, "SELECT id, received, state, result, unsent FROM jobs") { row in
      let result = sqlite3_column_blob(row, 3).map { String(decoding: UnsafeRawBufferPointer(start: $0, count: Int(sqlite3_column_bytes(row, 3))), as: UTF8.self) }
      rows[text(row, 0) ?? ""] = Row(
        received: Int(sqlite3_column_int64(row, 1)), state: Int(sqlite3_column_int64(row, 2)), result: result, unsent: Int(sqlite3_column_int64(row, 4)))
    }
  }

  private func text(_ row: OpaquePointer?, _ column: Int32) -> String? { sqlite3_column_text(row, column).map { String(cString: $0) } }

  private func query(_ handle: OpaquePointer?, _ sql: String, _ row: (OpaquePointer?) -> Void) throws {
    var statement: OpaquePointer?
    defer { sqlite3_finalize(statement) }
    guard sqlite3_prepare_v2(handle, sql, -1, &statement, nil) == SQLITE_OK else { throw Late(description: "\(sql): \(String(cString: sqlite3_errmsg(handle)))") }
    var code = sqlite3_step(statement)
    while code == SQLITE_ROW {
      row(statement)
      code = sqlite3_step(statement)
    }
    guard code == SQLITE_DONE else { throw Late(description: "\(sql): \(String(cString: sqlite3_errmsg(handle)))") }
  }
}
