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

/// The same path with its folder freed of symbolic links; the last component stays as it is. Unchanged where there is no such folder.
public func withRealFolder(_ path: String) -> String {
  let slash = path.lastIndex(of: "/")
  let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
  guard let real = realpath(folder, nil) else { return path }
  defer { free(real) }
  return String(cString: real) + "/" + path[(slash.map { path.index(after: $0) } ?? path.startIndex)...]
}
