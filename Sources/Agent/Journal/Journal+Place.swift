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
  }

  /// Whether the files of this journal are still those that the next start would find.
  var isInPlace: Bool {
    // SQLite makes the log when it has something to write there.
    if logPlace == nil { logPlace = Place(path + "-wal") }
    return Place(path) == mainPlace && (logPlace == nil || Place(path + "-wal") == logPlace)
  }

  /// Writes everything that is in this journal to its place again. It is to be closed then, and opened anew.
  ///
  /// - Returns: where the file is that was found there, if one was.
  func putBack() throws(SternaError) -> String? {
    let copy = path + ".partial"
    unlink(copy)
    do { try database.statement("VACUUM INTO ?").run(.text(copy)) } catch { throw lost(error.cause) }
    let file = open(copy, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard file >= 0 else { throw lost(String(cString: strerror(errno))) }
    defer { close(file) }
    guard fchmod(file, 0o600) == 0, fsync(file) == 0 else { throw lost(String(cString: strerror(errno))) }
    var aside: String?
    if let found = Place(path), found != mainPlace {
      let name = "\(path).replaced-\(Clock.wall / 1000)"
      guard rename(path, name) == 0 else { throw lost(String(cString: strerror(errno))) }
      aside = name
    }
    // A log that is there now belongs to none of ours.
    unlink(path + "-wal")
    guard rename(copy, path) == 0 else { throw lost(String(cString: strerror(errno))) }
    syncFolder(of: path)
    return aside
  }

  private func lost(_ cause: String?) -> SternaError {
    SternaError(
      .io, "the journal was removed or replaced while in use, and cannot be put back", at: path, remedy: "do not end the agent, it still has everything; see that the folder is there, and that it may write there", cause: cause)
  }
}
