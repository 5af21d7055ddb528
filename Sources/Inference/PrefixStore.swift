import Basics
import Crypto
import Glibc
import Tokenizer

/// A folder of files that each hold the keys and values of one prompt (docs/format.md, section 8).
///
/// Files are never trusted: what is not the very file that is looked for, whole, with its checksum, is removed. A file appears under its name complete or not
/// at all. Several processes may share a folder: who writes or tidies holds a lock on it, and nobody waits for that.
final class PrefixStore {
  enum Saved {
    case written, wasThere, stopped
    /// Another process is writing.
    case busy
    /// As the last time, which was reported.
    case failed
  }

  private let directory: String
  private let budgetBytes: Int
  /// Whether the last attempt to write failed, and was reported.
  private var isFailing = false
  /// Files that were not what they should be.
  private(set) var refused = 0

  private static let temporarySuffix = ".tmp"
  /// Read and hashed at a time: what the second cache holds.
  private static let readBytes = 512 << 10
  /// Written and synced at a time: how long a waiting job may have to wait.
  private static let writeBytes = 4 << 20

  init(_ directory: String, budgetBytes: Int) {
    self.directory = directory
    self.budgetBytes = budgetBytes
  }

  /// Removes what an interrupted write left behind, and what is over the budget.
  func sweep() {
    guard let folder = Folder(directory), folder.lock() else { return }
    tidy(folder, toMakeRoomFor: 0)
  }

  // MARK: - Reading

  /// - Parameter makeSequence: empty, for the key's tokens exactly; nil where there is no room. Called once the file is known to have the right size and key.
  /// - Returns: the sequence with its keys and values, or nil where there is no such file.
  func load(_ key: PrefixKey, makeSequence: () -> Sequence?) -> Sequence? {
    guard let folder = Folder(directory), let file = File(folder, key.name) else { return nil }
    guard holdsKey(file, key) else {
      refuse(folder, key)
      return nil
    }
    guard let sequence = makeSequence() else { return nil }
    var hash = SHA256()
    hash.update(data: key.bytes)
    var offset = key.bytes.count
    for begin in stride(from: 0, to: key.payloadBytes, by: Self.readBytes) {
      // Straight to where attention reads it.
      let part = UnsafeMutableRawBufferPointer(start: sequence.storage + begin, count: min(Self.readBytes, key.payloadBytes - begin))
      guard file.read(part, at: offset) else {
        refuse(folder, key)
        return nil
      }
      hash.update(bufferPointer: UnsafeRawBufferPointer(part))
      offset += part.count
    }
    guard file.bytes(PrefixKey.digestBytes, at: offset) == Array(hash.finalize()) else {
      refuse(folder, key)
      return nil
    }
    file.forgetPages()
    file.touch()
    sequence.advance(by: key.tokenCount)
    return sequence
  }

  /// Whether a file has the size and the beginning that it must have: all but its data is right then.
  private func holdsKey(_ file: File, _ key: PrefixKey) -> Bool {
    file.isOwnRegularFile && file.size == key.fileBytes && file.bytes(key.bytes.count, at: 0) == key.bytes
  }

  private func refuse(_ folder: Folder, _ key: PrefixKey) {
    refused += 1
    folder.remove(key.name)
  }

  // MARK: - Writing

  /// - Parameter sequence: of the key's tokens exactly.
  /// - Throws: `io`, once until a file was written again.
  func save(_ key: PrefixKey, _ sequence: Sequence, shouldStop: () -> Bool) throws(SternaError) -> Saved {
    do {
      let saved = try write(key, sequence, shouldStop)
      if saved == .written { isFailing = false }
      return saved
    } catch {
      guard !isFailing else { return .failed }
      isFailing = true
      throw error
    }
  }

  private func write(_ key: PrefixKey, _ sequence: Sequence, _ shouldStop: () -> Bool) throws(SternaError) -> Saved {
    mkdir(directory, 0o700)  // where there is none; what else is wrong, opening it says
    guard let folder = Folder(directory) else { throw failure("this folder cannot be opened", at: directory) }
    if let file = File(folder, key.name), holdsKey(file, key) { return .wasThere }
    guard key.fileBytes <= budgetBytes else {
      throw SternaError(
        .io, "the keys and values of a task's prompt do not fit the prefix cache's budget on disk", at: directory, expected: "at most \(budgetBytes) bytes",
        found: "\(key.fileBytes)", remedy: "a larger budget; until then the prompt is computed again after each start")
    }
    guard folder.lock() else { return .busy }
    tidy(folder, toMakeRoomFor: key.fileBytes)

    let temporary = key.name + Self.temporarySuffix
    guard let file = File(folder, creating: temporary) else { throw failure("a file cannot be made in this folder", at: directory) }
    do throws(SternaError) {
      sequence.clearUnused()
      var hash = SHA256()
      func append(_ part: UnsafeRawBufferPointer) throws(SternaError) {
        hash.update(bufferPointer: part)
        guard file.append(part) else { throw failure("this file cannot be written", at: "\(directory)/\(temporary)") }
      }
      try key.bytes.withUnsafeBytes { raw in Result { () throws(SternaError) in try append(raw) } }.get()
      for begin in stride(from: 0, to: key.payloadBytes, by: Self.writeBytes) {
        if shouldStop() {
          folder.remove(temporary)
          return .stopped
        }
        try append(UnsafeRawBufferPointer(start: sequence.storage + begin, count: min(Self.writeBytes, key.payloadBytes - begin)))
        guard file.sync() else { throw failure("this file cannot be brought to stable storage", at: "\(directory)/\(temporary)") }
      }
      let digest = Array(hash.finalize())
      guard digest.withUnsafeBytes(file.append), file.sync() else { throw failure("this file cannot be written", at: "\(directory)/\(temporary)") }
      file.forgetPages()
      guard folder.rename(temporary, to: key.name) else { throw failure("a file cannot be given its name", at: "\(directory)/\(key.name)") }
    } catch {
      folder.remove(temporary)
      throw error
    }
    return .written
  }

  private func failure(_ message: String, at place: String) -> SternaError {
    SternaError(
      .io, message, at: place, remedy: "make room, or let the agent write there; until then tasks' prompts are computed again after each start",
      cause: String(cString: strerror(errno)))
  }

  /// Removes temporary files, which are nobody's while the lock is held, and of the others those that the ones used later leave no room for.
  private func tidy(_ folder: Folder, toMakeRoomFor bytes: Int) {
    var files: [(name: String, bytes: Int, used: Int)] = []
    for name in folder.names {
      if name.hasSuffix(Self.temporarySuffix), PrefixKey.isName(name.dropLast(Self.temporarySuffix.count)) { folder.remove(name) }
      guard PrefixKey.isName(name), let file = folder.status(name) else { continue }
      files.append((name, file.bytes, file.modified))
    }
    var kept = bytes
    for file in files.sorted(by: { $0.used > $1.used }) {
      if file.bytes <= budgetBytes - kept { kept += file.bytes } else { folder.remove(file.name) }
    }
  }
}

/// An open folder.
private final class Folder {
  let descriptor: Int32

  init?(_ path: String) {
    descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Until the folder is closed; false where another process has it.
  func lock() -> Bool { flock(descriptor, LOCK_EX | LOCK_NB) == 0 }

  var names: [String] {
    // A descriptor of its own, from the beginning.
    let copy = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
    guard copy >= 0 else { return [] }
    guard let stream = fdopendir(copy) else {
      close(copy)
      return []
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      names.append(withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } })
    }
    return names
  }

  /// Of a regular file, not followed; `modified` in nanoseconds.
  func status(_ name: String) -> (bytes: Int, modified: Int)? {
    var status = stat()
    guard fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    return (Int(status.st_size), Int(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int(status.st_mtim.tv_nsec))
  }

  func remove(_ name: String) {
    let code = errno
    unlinkat(descriptor, name, 0)
    errno = code
  }

  /// Durable when it returns.
  func rename(_ name: String, to other: String) -> Bool {
    guard renameat(descriptor, name, descriptor, other) == 0 else { return false }
    fsync(descriptor)
    return true
  }
}

/// An open file of such a folder; symbolic links are not followed.
private final class File {
  private let descriptor: Int32

  /// To read. O_NONBLOCK: opening a pipe must not wait for a writer.
  ///
  /// nil where there is nothing of that name that can be opened; a symbolic link is removed.
  init?(_ folder: Folder, _ name: String) {
    descriptor = openat(folder.descriptor, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
    if descriptor < 0 {
      if errno == ELOOP { folder.remove(name) }
      return nil
    }
  }

  /// To write, for the owner's eyes only.
  init?(_ folder: Folder, creating name: String) {
    descriptor = openat(folder.descriptor, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return nil }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private var status: stat? {
    var status = stat()
    return fstat(descriptor, &status) == 0 ? status : nil
  }

  var isOwnRegularFile: Bool { status.map { $0.st_mode & S_IFMT == S_IFREG && $0.st_uid == geteuid() } ?? false }
  var size: Int { status.map { Int($0.st_size) } ?? 0 }

  func read(_ target: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
    guard let base = target.baseAddress else { return true }
    var done = 0
    while done < target.count {
      let got = pread(descriptor, base + done, target.count - done, offset + done)
      if got < 0 && errno == EINTR { continue }
      guard got > 0 else { return false }
      done += got
    }
    return true
  }

  func bytes(_ count: Int, at offset: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    return bytes.withUnsafeMutableBytes { read($0, at: offset) } ? bytes : nil
  }

  func append(_ part: UnsafeRawBufferPointer) -> Bool {
    guard let base = part.baseAddress else { return true }
    var done = 0
    while done < part.count {
      let put = write(descriptor, base + done, part.count - done)
      if put < 0 && errno == EINTR { continue }
      guard put > 0 else { return false }
      done += put
    }
    return true
  }

  func sync() -> Bool { fdatasync(descriptor) == 0 }

  /// The data is in this process's memory; a second time in the page cache would count against it.
  func forgetPages() { posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) }

  /// Notes that the file was used.
  func touch() { futimens(descriptor, nil) }
}
