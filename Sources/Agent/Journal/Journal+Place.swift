import Basics
import Glibc

// SQLite goes on with files that somebody has removed or put others in place of: whatever it writes then is gone with the process.

extension Journal {
  /// Which file a name leads to.
  struct Place: Equatable {
    private let device: dev_t
    private let number: ino_t

    /// Nil where there is none.
    init?(_ path: String) {
      var status = stat()
      guard lstat(path, &status) == 0 else { return nil }
      (device, number) = (status.st_dev, status.st_ino)
    }

    /// Whether a name still leads here. A disk that cannot say has not said no.
    func isBehind(_ path: String) -> Bool {
      Place(path).map { $0 == self } ?? !Self.isMissing(path)
    }

    static func isMissing(_ path: String) -> Bool {
      var status = stat()
      return lstat(path, &status) != 0 && [ENOENT, ENOTDIR].contains(errno)
    }
  }

  /// Whether the files of this journal are still those that the next start would find.
  var isInPlace: Bool {
    // SQLite makes the log when it has something to write there.
    if logPlace == nil { logPlace = Place(path + "-wal") }
    return mainPlace?.isBehind(path) == true && logPlace?.isBehind(path + "-wal") != false
  }

  /// Whether everything in it can be had.
  var isReadable: Bool { (try? database.text("PRAGMA quick_check(1)")) == "ok" }

  /// The end of the name of a whole copy that waits for its place.
  private static let rescued = ".rescued"

  /// Writes everything that is in this journal to a copy beside its place. It is to be closed then, and `takePlace` goes on, in this process or in the next.
  func rescue() throws(SternaError) {
    let copy = path + ".partial"
    unlink(copy)
    do { try database.statement("VACUUM INTO ?").run(.text(copy)) } catch { throw lost(error.cause) }
    let file = open(copy, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard file >= 0 else { throw lost(String(cString: strerror(errno))) }
    defer { close(file) }
    guard fchmod(file, 0o600) == 0, fsync(file) == 0, rename(copy, path + Self.rescued) == 0 else { throw lost(String(cString: strerror(errno))) }
    syncFolder(of: path)
    // What is left of this journal under its own names is in the copy.
    if let place = Place(path), place == mainPlace { unlink(path) }
    if let place = Place(path + "-wal"), place == logPlace { unlink(path + "-wal") }
    database.keepLogWhenClosed()  // another one would be there now
  }

  /// Gives a rescued copy the place of the journal, if there is one.
  ///
  /// - Returns: how the files that were there are called now. Nil when there was nothing to do.
  static func takePlace(_ path: String) throws(SternaError) -> [String]? {
    guard Place(path + rescued) != nil else { return nil }
    let aside = try setAside(path, as: "replaced")
    guard rename(path + rescued, path) == 0 else { throw SternaError(.io, "the journal cannot be put back", at: path, cause: String(cString: strerror(errno))) }
    syncFolder(of: path)
    return aside
  }

  /// Renames the files that have the place of the journal. The log goes first: SQLite would throw it away when it finds no database with it.
  ///
  /// - Returns: their new names.
  static func setAside(_ path: String, as why: String) throws(SternaError) -> [String] {
    // Nothing that was set aside before gives way.
    let base = "\(path).\(why)-\(Clock.wall / 1000)"
    let free = ([base] + (2...99).map { "\(base)-\($0)" }).first { Place($0) == nil && Place($0 + "-wal") == nil } ?? base
    var names: [String] = []
    for suffix in ["-wal", "-shm", ""] where Place(path + suffix) != nil {
      guard rename(path + suffix, free + suffix) == 0 else {
        throw SternaError(.io, "what is in the place of the journal cannot be set aside", at: path + suffix, cause: String(cString: strerror(errno)))
      }
      names.append(free + suffix)
    }
    return names.reversed()
  }

  private func lost(_ cause: String?) -> SternaError {
    SternaError(
      .io, "the journal was removed or replaced while in use, and cannot be put back", at: path, remedy: "do not end the agent, it still has everything; see that the folder is there, and that it may write there", cause: cause)
  }
}

// MARK: - Opening

extension Journal {
  /// A journal that was opened, and what happened to the files that had its place.
  struct Opened {
    var journal: Journal
    /// Set when the one that was here is damaged.
    var damage: SternaError?
    /// Set when this is a rescued one: what was in its place.
    var replaced: [String]?
  }

  /// Opens the journal; a damaged one is renamed, never deleted, and a fresh one takes its place.
  ///
  /// - Parameter mayBegin: whether one may be missing. After an error of the disk a missing one is not taken for the first: its disk may be away, with all the jobs.
  static func openOrReplace(path: String, numberingFrom first: Int, mayBegin: Bool) throws(SternaError) -> Opened {
    let replaced = try takePlace(path)
    guard mayBegin || !Place.isMissing(path) else {
      throw SternaError(
        .io, "the journal is gone", at: path, remedy: "bring back the disk that it is on; or restart the agent, which then begins an empty one, and jobs that waited in the old one are not answered")
    }
    do { return Opened(journal: try Journal(path: path, numberingFrom: first), replaced: replaced) } catch {
      guard error.code == .badFile else { throw error }
      var said = error
      said.remedy = "kept as \(try setAside(path, as: "damaged").first ?? path); jobs in it are not answered, unless their senders send them again"
      return Opened(journal: try Journal(path: path, numberingFrom: first), damage: said, replaced: replaced)
    }
  }
}
