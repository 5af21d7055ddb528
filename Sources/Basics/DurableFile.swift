import Glibc

/// A file that is written as a stream and gets its name only in `finish`, when all of it is on stable storage. Until then it has a temporary name
/// (`NAME.<process>.partial`), and it is removed when anything fails; or it is resumable.
public final class DurableFile {
  public let path: String
  private let temporaryPath: String
  private var descriptor: Int32
  /// Where the next byte goes.
  public private(set) var position = 0
  /// Whether the temporary file stays when it was not finished.
  private var isKept = false

  /// - Parameters:
  ///   - bytes: how long the file will be, where that is known: better told now than after ten minutes that the disk has no room.
  ///   - mode: who may read it; 0o600 for what is the owner's alone.
  public init(_ path: String, bytes: Int = 0, mode: mode_t = 0o644) throws(SternaError) {
    self.path = path
    temporaryPath = Self.temporaryPath(of: path)
    descriptor = open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw Self.refused("cannot create this file", temporaryPath) }
    try requireSpace(for: bytes)
  }

  /// What a file that is not resumable is called until it is finished.
  public static func temporaryPath(of path: String) -> String { "\(path).\(getpid()).partial" }

  /// A file whose writing another process may go on with: until it is finished it is `NAME.partial`, whatever happens to who writes it. `position` is at the end of what is there.
  /// - Throws: `io`, also while another process writes it.
  public init(resumable path: String) throws(SternaError) {
    self.path = path
    temporaryPath = path + ".partial"
    isKept = true
    descriptor = open(temporaryPath, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Self.refused("cannot create this file", temporaryPath) }
    var ours = stat()
    var named = stat()
    guard fstat(descriptor, &ours) == 0 else { throw Self.refused("cannot read the size of this file", temporaryPath) }
    guard ours.st_uid == geteuid(), ours.st_mode & S_IFMT == S_IFREG, ours.st_nlink <= 1 else {
      throw SternaError(.io, "this file is somebody else's", at: temporaryPath, remedy: "remove it, or give another name")
    }
    // Whoever finished it before we had the lock has given it its name: it is complete, and no longer ours to write.
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0, stat(temporaryPath, &named) == 0, named.st_ino == ours.st_ino else {
      throw SternaError(.io, "another process is writing this file", at: temporaryPath, remedy: "wait for it, or give another name")
    }
    try cut(to: Int(ours.st_size))
  }

  deinit {
    if descriptor >= 0 {  // not finished
      // In this order: once it is closed, and with that unlocked, the name may be another's.
      if !isKept { unlink(temporaryPath) }
      close(descriptor)
    }
  }

  /// Lets go of what was written: nobody will go on with it.
  public func abandon() { isKept = false }

  /// Refuses what the file system has no room for, before it is written.
  /// - Parameter bytes: to be written from here on.
  public func requireSpace(for bytes: Int) throws(SternaError) {
    var status = statvfs()
    guard fstatvfs(descriptor, &status) == 0 else { return }
    let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
    guard free >= UInt64(max(bytes, 0)) else {
      throw SternaError(
        .io, "there is not enough free space for this file", at: path, expected: "\(bytes) bytes", found: "\(free) bytes",
        remedy: "make room in \(folder(of: path)), or give a path on another disk")
    }
  }

  /// Forgets all behind a position, where the next byte goes then.
  public func cut(to bytes: Int) throws(SternaError) {
    guard ftruncate(descriptor, bytes) == 0, lseek(descriptor, bytes, SEEK_SET) == bytes else { throw Self.refused("cannot write this file", temporaryPath) }
    position = bytes
  }

  /// Waits until what was written is on stable storage, and leaves the memory that it took in the page cache to others.
  public func sync() throws(SternaError) {
    guard fdatasync(descriptor) == 0 else { throw Self.refused("cannot bring this file to stable storage", temporaryPath) }
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
  }

  /// All of a small file at once: whoever reads it finds the old bytes or these.
  public static func write(_ bytes: [UInt8], to path: String, mode: mode_t = 0o644) throws(SternaError) {
    let file = try DurableFile(path, bytes: bytes.count, mode: mode)
    try file.append(bytes)
    try file.finish()
  }

  public func append(_ bytes: UnsafeRawBufferPointer) throws(SternaError) {
    var rest = bytes
    while !rest.isEmpty {
      let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw Self.refused("cannot write this file", temporaryPath) }
      position += count
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  public func append(_ bytes: [UInt8]) throws(SternaError) {
    try bytes.withUnsafeBytes { raw in Result { () throws(SternaError) in try append(raw) } }.get()
  }

  /// Goes back to the first byte, to write the beginning again.
  public func rewind() throws(SternaError) {
    guard lseek(descriptor, 0, SEEK_SET) == 0 else { throw Self.refused("cannot write this file", temporaryPath) }
    position = 0
  }

  /// Waits until everything is on stable storage, and only then gives the file its name.
  public func finish() throws(SternaError) {
    guard fsync(descriptor) == 0 else { throw Self.refused("cannot bring this file to stable storage", temporaryPath) }
    guard rename(temporaryPath, path) == 0 else { throw Self.refused("cannot give this file its name", path) }
    close(descriptor)
    descriptor = -1
    syncFolder(of: path)
  }

  private static func refused(_ message: String, _ path: String) -> SternaError {
    SternaError(.io, message, at: path, cause: String(cString: strerror(errno)))
  }
}

/// Makes names durable that were given or taken in the folder of a path: they are, once the folder is.
public func syncFolder(of path: String) {
  let directory = open(folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  guard directory >= 0 else { return }
  fsync(directory)
  close(directory)
}

/// Everything before the last component: `a` of `a/b`, `/` of `/b`, `.` of `b`.
public func folder(of path: String) -> String {
  path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
}
