import Basics
import Glibc
import ModelFile

/// Reads pieces of a model's file: the one place where experts meet the disk.
package protocol RecordReader: Sendable {
  var reads: RecordReads { get }

  /// As `pread` does it: bytes that were read, perhaps fewer than asked for, 0 at the end of the file, or -errno.
  ///
  /// - Parameters: with direct reads offset, count and the address of `target` are multiples of 4096.
  func read(_ offset: Int, into target: UnsafeMutableRawPointer, count: Int) -> Int
}

/// How records are read.
public enum RecordReads: String, Sendable, CaseIterable {
  /// Past the page cache.
  case direct
  /// Through the page cache, which is told at once to forget them: their memory is the pool's.
  case buffered
}

/// Reads the very file that is mapped, whatever has its name by now.
package final class FileRecords: RecordReader {
  package let reads: RecordReads
  private let file: MappedFile
  /// Of its own where reads are direct.
  private let descriptor: Int32

  /// `O_DIRECT`, which the Glibc module does not show.
  #if arch(arm64)
    private static let directFlag: Int32 = 0o200000
  #else
    private static let directFlag: Int32 = 0o40000
  #endif

  /// Nil where the file system has no such reads.
  package init?(_ file: MappedFile, _ reads: RecordReads) {
    self.file = file
    self.reads = reads
    descriptor = reads == .buffered ? file.descriptor : open("/proc/self/fd/\(file.descriptor)", O_RDONLY | O_CLOEXEC | Self.directFlag)
    guard descriptor >= 0 else { return nil }
    // Read-ahead beyond a record would only fill the page cache.
    if reads == .buffered { posix_fadvise(file.descriptor, 0, 0, POSIX_FADV_RANDOM) }
  }

  deinit { if reads == .direct, descriptor >= 0 { close(descriptor) } }

  package func read(_ offset: Int, into target: UnsafeMutableRawPointer, count: Int) -> Int {
    let got = pread(descriptor, target, count, offset)
    guard got >= 0 else { return -Int(errno) }
    if reads == .buffered { posix_fadvise(descriptor, offset, got, POSIX_FADV_DONTNEED) }
    return got
  }
}

/// A record on disk.
package struct RecordPlace: Sendable {
  package let offset: Int
  package let bytes: Int
  /// For people: `expert 12 of block 3`.
  package let name: String
  /// What `ct_kernels.checksum` gives for its bytes; nil: nobody knows.
  package let checksum: UInt64?

  package init(offset: Int, bytes: Int, name: String, checksum: UInt64?) {
    self.offset = offset
    self.bytes = bytes
    self.name = name
    self.checksum = checksum
  }
}

extension RecordReader {
  /// The whole record, however many calls that takes, or why not. What fails is tried again: a bus that was busy, a cable that was touched.
  ///
  /// - Parameters:
  ///   - path: of the file, for the message.
  ///   - retries: told of every reading that had to be repeated.
  func readRecord(
    _ place: RecordPlace, into target: UnsafeMutableRawPointer, path: String, checksum: (UnsafeRawPointer, Int) -> UInt64, retries: () -> Void
  ) -> SternaError? {
    var failure: SternaError?
    for pause in [0, 1_000_000, 20_000_000, 200_000_000] {  // nanoseconds
      if pause > 0 {
        retries()
        var time = timespec(tv_sec: 0, tv_nsec: pause)
        nanosleep(&time, nil)
      }
      failure = readOnce(place, into: target, path: path)
      guard failure == nil else { continue }
      guard let expected = place.checksum else { return nil }
      let found = checksum(target, place.bytes)
      if found == expected { return nil }
      failure = SternaError(
        .modelIO, "is damaged", at: "\(path): \(place.name)", expected: "checksum \(String(expected, radix: 16))", found: String(found, radix: 16),
        remedy: "check the disk, and copy the model again: sterna inspect --verify says whether all of it is what was packed")
    }
    return failure
  }

  private func readOnce(_ place: RecordPlace, into target: UnsafeMutableRawPointer, path: String) -> SternaError? {
    var done = 0
    while done < place.bytes {
      let got = read(place.offset + done, into: target + done, count: place.bytes - done)
      if got == -Int(EINTR) { continue }
      guard got > 0, got <= place.bytes - done else {
        return SternaError(
          .modelIO, got == 0 ? "the model's file was cut short while it was in use" : "the model's file cannot be read",
          at: "\(path): \(place.name) (byte \(place.offset + done))", remedy: "check the disk; never write into a model's file in place",
          cause: got < 0 ? String(cString: strerror(Int32(clamping: -got))) : nil)
      }
      // Direct reads begin at a page: of a short one what lies behind its last whole page is read again.
      let end = reads == .direct && done + got < place.bytes ? (done + got) / 4096 * 4096 : done + got
      guard end > done else {
        return SternaError(.modelIO, "the disk gives less than a page at a time", at: "\(path): \(place.name) (byte \(place.offset + done))", found: "\(got) bytes")
      }
      done = end
    }
    return nil
  }
}
