import Glibc

/// A file at one moment, to see later whether somebody has written into it. One that was removed or has another in its place is as it was for whoever has it open.
struct FileMark: Sendable {
  let path: String
  private let status: stat

  /// Nil where there is no such file.
  init?(_ path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    (self.path, self.status) = (path, status)
  }

  var isChanged: Bool {
    guard let now = FileMark(path)?.status, now.st_dev == status.st_dev, now.st_ino == status.st_ino else { return false }
    return now.st_size != status.st_size || now.st_mtim.tv_sec != status.st_mtim.tv_sec || now.st_mtim.tv_nsec != status.st_mtim.tv_nsec
  }
}
