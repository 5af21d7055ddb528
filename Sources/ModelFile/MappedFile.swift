import Basics
import CTernary
import Glibc
import Synchronization

/// A regular file, mapped read-only for as long as this object lives, and open as long for those who would rather read than map.
// @unchecked: the mapping is read-only and immutable for the object's life.
public final class MappedFile: @unchecked Sendable {
  public let path: String
  public let bytes: UnsafeRawBufferPointer
  /// Of the very file that is mapped, whatever has its name by now.
  public let descriptor: Int32
  /// What `keepInMemory` took out of the file.
  private let kept = Mutex<[Range<Int>]>([])

  /// - Throws: `io` when the file cannot be opened or mapped, or is not a regular file.
  public init(_ path: String) throws(SternaError) {
    func refused(_ message: String) -> SternaError {
      SternaError(.io, message, at: path, cause: String(cString: strerror(errno)))
    }
    // O_NONBLOCK: opening a pipe must not wait for a writer. It means nothing for a regular file.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw refused("cannot open this file") }
    do throws(SternaError) {
      var status = stat()
      guard fstat(descriptor, &status) == 0 else { throw refused("cannot read the size of this file") }
      guard status.st_mode & S_IFMT == S_IFREG else {
        throw SternaError(.io, "this is not a regular file", at: path, remedy: "give the path of a file")
      }
      let count = Int(status.st_size)
      guard count > 0 else {
        bytes = UnsafeRawBufferPointer(start: nil, count: 0)
        self.path = path
        self.descriptor = descriptor
        return
      }
      guard let start = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
        throw refused("cannot map this file (\(count) bytes)")
      }
      bytes = UnsafeRawBufferPointer(start: start, count: count)
    } catch {
      close(descriptor)
      throw error
    }
    self.path = path
    self.descriptor = descriptor
  }

  /// Takes the pages of a range out of this process's memory; they are read again when they are touched. For passes over files
  /// larger than memory.
  /// - Parameter range: of bytes from the beginning of the file.
  func release(_ range: Range<Int>) {
    let page = max(sysconf(Int32(_SC_PAGESIZE)), 4096)
    let first = (max(range.lowerBound, 0) + page - 1) / page * page
    let last = min(range.upperBound, bytes.count) / page * page
    guard first < last, let start = bytes.baseAddress else { return }
    // Memory of our own would come back as zeros.
    guard !kept.withLock({ $0.contains { $0.overlaps(first..<last) } }) else { return }
    madvise(UnsafeMutableRawPointer(mutating: start + first), last - first, MADV_DONTNEED)
  }

  /// Asks for huge pages in a range that will be read from end to end, again and again: fewer pages to look up, 3 to 4 % of decode. Linux has them for files
  /// on ext4 since 6.16, for pages that it has yet to read; where there are none, nothing happens.
  func preferHugePages(_ range: Range<Int>) {
    let page = max(sysconf(Int32(_SC_PAGESIZE)), 4096)
    let first = max(range.lowerBound, 0) / page * page
    let last = min(range.upperBound, bytes.count)
    guard first < last, let start = bytes.baseAddress else { return }
    madvise(UnsafeMutableRawPointer(mutating: start + first), last - first, MADV_HUGEPAGE)
  }

  /// Puts memory of this process's own in the place of a range, with the same bytes: pages of a file may be taken away when others are read, and then every
  /// pass reads them again. Addresses stay, and whoever reads meanwhile sees the same bytes. Without swap this memory stays; with it, it is locked where that is allowed.
  ///
  /// - Parameter range: of bytes from the beginning of the file; widened to whole pages.
  /// - Throws: `io` when the file cannot be read, or there is no memory.
  package func keepInMemory(_ range: Range<Int>) throws(SternaError) {
    let page = max(sysconf(Int32(_SC_PAGESIZE)), 4096)
    let first = max(range.lowerBound, 0) / page * page
    let last = min((range.upperBound + page - 1) / page * page, (bytes.count + page - 1) / page * page)
    guard first < last, let start = bytes.baseAddress, !kept.withLock({ $0.contains(first..<last) }) else { return }
    func refused(_ message: String) -> SternaError { SternaError(.io, message, at: path, cause: String(cString: strerror(errno))) }
    // At the same place within a huge page as its target, so that huge pages move whole.
    let target = UnsafeMutableRawPointer(mutating: start + first)
    let huge = 2 << 20
    guard let room = mmap(nil, last - first + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), room != MAP_FAILED else {
      throw refused("there is no memory for what every pass reads (\(last - first) bytes)")
    }
    let copy = room + Int((UInt(bitPattern: target) &- UInt(bitPattern: room)) % UInt(huge))
    if copy > room { munmap(room, copy - room) }
    munmap(copy + (last - first), room + huge - copy)
    madvise(copy, last - first, MADV_HUGEPAGE)
    var done = 0
    let wanted = min(last, bytes.count) - first
    while done < wanted {
      let got = pread(descriptor, copy + done, min(8 << 20, wanted - done), first + done)
      if got < 0, errno == EINTR { continue }
      guard got > 0 else {
        munmap(copy, last - first)
        throw refused("cannot read this file")
      }
      // Once is enough: the copy is what is used.
      posix_fadvise(descriptor, first + done, got, POSIX_FADV_DONTNEED)
      done += got
    }
    mprotect(copy, last - first, PROT_READ)
    mlock(copy, last - first)
    kept.withLock { $0.append(first..<last) }
    // One step for the kernel: there is no moment in which the range is not mapped.
    guard ct_move_mapping(copy, last - first, target) else {
      munmap(copy, last - first)
      throw refused("cannot put memory in the place of the file's")
    }
  }

  deinit {
    close(descriptor)
    if let start = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: start), bytes.count) }
  }
}
