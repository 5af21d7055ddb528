import Basics

// What others keep for this agent beyond its connection and its configuration. A task that is removed leaves a filter in the broker's session, for which messages go on coming, and sensors
// in Home Assistant, which wait for values; only who remembers them can take them back.

extension Journal {
  enum Kept: String {
    /// Topic filters, in the session at the broker.
    case filters
    /// Keys of sensors, in Home Assistant.
    case sensors
  }

  static let keptTable = "CREATE TABLE IF NOT EXISTS kept(kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY(kind, name)) WITHOUT ROWID;"

  func kept(_ kind: Kept) throws(SternaError) -> Set<String> {
    Set(try database.statement("SELECT name FROM kept WHERE kind=?").rows(.text(kind.rawValue)) { $0.text(0) ?? "" })
  }

  /// Remembers these and no others. Writes only what has changed, so in most starts nothing.
  func keep(_ names: Set<String>, as kind: Kept) throws(SternaError) {
    let before = try kept(kind)
    guard names != before else { return }
    try transaction { () throws(SternaError) in
      for name in before.subtracting(names) { try database.statement("DELETE FROM kept WHERE kind=? AND name=?").run(.text(kind.rawValue), .text(name)) }
      for name in names.subtracting(before) { try database.statement("INSERT INTO kept(kind, name) VALUES(?,?)").run(.text(kind.rawValue), .text(name)) }
    }
  }
}
