import Basics
import Glibc
import ModelFile
import Synchronization

/// Reads slices of the head for several threads, without leaving them in the page cache.
final class HeadStream: @unchecked Sendable {
  // @unchecked: each buffer belongs to one worker.

  /// Large enough for a disk's full rate, small enough for the second cache.
  static let sliceBytes = 512 << 10
  private static let page = 4096
  /// `O_DIRECT`, which the Glibc module does not show.
  #if arch(arm64)
    private static let directFlag: Int32 = 0o200000
  #else
    private static let directFlag: Int32 = 0o40000
  #endif

  private let file: MappedFile
  /// For reads past the page cache; -1 where the file system has none such.
  private let direct: Int32
  private let buffers: [UnsafeMutableRawPointer]
  private let failure = Mutex<SternaError?>(nil)
  let bytes: Int

  init(_ file: MappedFile, workers: Int) {
    self.file = file
    // The very file that is open, by its descriptor: its name may be another file's by now.
    direct = open("/proc/self/fd/\(file.descriptor)", O_RDONLY | O_CLOEXEC | Self.directFlag)
    let size = Self.sliceBytes + 2 * Self.page
    buffers = (0..<workers).map { _ in .allocate(byteCount: size, alignment: Self.page) }
    bytes = workers * size
  }

  deinit {
    if direct >= 0 { close(direct) }
    for buffer in buffers { buffer.deallocate() }
  }

  /// - Returns: where the bytes are until the worker's next call, or nil when they cannot be read.
  func read(_ offset: Int, count: Int, worker: Int) -> UnsafeRawPointer? {
    let first = offset / Self.page * Self.page
    let end = min(file.bytes.count, (offset + count + Self.page - 1) / Self.page * Self.page)
    do throws(SternaError) {
      if direct >= 0, pread(direct, buffers[worker], end - first, first) == end - first { return UnsafeRawPointer(buffers[worker] + (offset - first)) }
      try readExactly(file, first, into: buffers[worker], count: end - first)
      posix_fadvise(file.descriptor, first, end - first, POSIX_FADV_DONTNEED)
      return UnsafeRawPointer(buffers[worker] + (offset - first))
    } catch {
      failure.withLock { $0 = $0 ?? error }
      return nil
    }
  }

  func takeFailure() -> SternaError? {
    failure.withLock { failure in
      defer { failure = nil }
      return failure
    }
  }
}
