import Glibc

/// The bytes of a regular file, at most `limit` of them.
public func readWholeFile(_ path: String, limit: Int) throws(SternaError) -> [UInt8] {
  let file = open(path, O_RDONLY | O_CLOEXEC)
  guard file >= 0 else { throw SternaError(.io, "cannot be opened", at: path, cause: String(cString: strerror(errno))) }
  defer { close(file) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 16 << 10)
  while true {
    let count = read(file, &buffer, buffer.count)
    if count < 0, errno == EINTR { continue }
    guard count >= 0 else { throw SternaError(.io, "cannot be read", at: path, cause: String(cString: strerror(errno))) }
    if count == 0 { return bytes }
    bytes.append(contentsOf: buffer[..<count])
    guard bytes.count <= limit else {
      throw SternaError(.io, "is too long", at: path, expected: "at most \(limit) bytes")
    }
  }
}

/// Whether there is a regular file of this name, links followed.
public func isFile(_ path: String) -> Bool { fileType(path) == S_IFREG }

/// Whether there is a folder of this name, links followed.
public func isFolder(_ path: String) -> Bool { fileType(path) == S_IFDIR }

private func fileType(_ path: String) -> mode_t? {
  var status = stat()
  return stat(path, &status) == 0 ? status.st_mode & S_IFMT : nil
}

/// The path without symbolic links; nil where there is nothing.
public func realPath(_ path: String) -> String? {
  guard let real = realpath(path, nil) else { return nil }
  defer { free(real) }
  return String(cString: real)
}

/// The same path with its folder freed of symbolic links; the last component stays as it is. Unchanged where there is no such folder.
public func withRealFolder(_ path: String) -> String {
  let slash = path.lastIndex(of: "/")
  guard let real = realPath(folder(of: path)) else { return path }
  return real + "/" + path[(slash.map { path.index(after: $0) } ?? path.startIndex)...]
}

/// The names in a folder, in their order; without `.` and `..`.
public func namesInFolder(_ path: String) throws(SternaError) -> [String] {
  guard let stream = opendir(path) else { throw SternaError(.io, "this folder cannot be opened", at: path, cause: String(cString: strerror(errno))) }
  defer { closedir(stream) }
  var names: [String] = []
  while let entry = readdir(stream) {
    names.append(withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } })
  }
  return names.filter { $0 != "." && $0 != ".." }.sorted()
}
