import Basics
import Glibc

/// A regular file, mapped read-only for as long as this object lives, and open as long for those who would rather read than map.
// @unchecked: the mapping is read-only and immutable for the object's life.
public final class MappedFile: @unchecked Sendable {
  public let path: String
  public let bytes: UnsafeRawBufferPointer
  /// Of the very file that is mapped, whatever has its name by now.
  public let descriptor: Int32

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

  deinit {
    close(descriptor)
    if let start = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: start), bytes.count) }
  }
}
