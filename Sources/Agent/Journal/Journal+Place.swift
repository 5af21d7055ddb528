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
    try database.statement("VACUUM INTO ?").run(.text(copy))
    let file = open(copy, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard file >= 0, fchmod(file, 0o600) == 0, fsync(file) == 0 else { throw refused("cannot be written anew") }
    close(file)
    var aside: String?
    if let found = Place(path), found != mainPlace {
      let name = "\(path).replaced-\(Clock.wall / 1000)"
      guard rename(path, name) == 0 else { throw refused("cannot be set aside for the one that was here") }
      aside = name
    }
    // A log that is there now belongs to none of ours.
    unlink(path + "-wal")
    guard rename(copy, path) == 0 else { throw refused("cannot be written anew") }
    syncFolder(of: path)
    return aside
  }

  private func refused(_ message: String) -> SternaError {
    SternaError(.io, "the journal \(message)", at: path, remedy: "nothing is lost as long as this process lives: do not end it, and see that its folder is there and can be written", cause: String(cString: strerror(errno)))
  }
}
