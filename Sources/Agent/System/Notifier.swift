import Glibc

/// The notify protocol of systemd: one datagram with `NAME=value` lines to the socket that it names. Does nothing where there is no systemd.
struct Notifier: Sendable {
  private let address: [UInt8]
  /// Milliseconds between signs of life that systemd asks for; nil when it does not watch.
  let watchdog: Int?

  /// - Parameter environment: `NOTIFY_SOCKET` (a path, or a name in the abstract space behind `@`), `WATCHDOG_USEC`, `WATCHDOG_PID`.
  init(environment: [String: String]) {
    let socket = Array((environment["NOTIFY_SOCKET"] ?? "").utf8)
    address = socket.first == UInt8(ascii: "/") || socket.first == UInt8(ascii: "@") ? socket : []
    let isForUs = environment["WATCHDOG_PID"].map { Int32($0) == getpid() } ?? true
    let microseconds = environment["WATCHDOG_USEC"].flatMap { Int($0) } ?? 0
    watchdog = isForUs && microseconds > 0 && !address.isEmpty ? max(1, microseconds / 1000) : nil
  }

  func send(_ lines: String...) {
    guard !address.isEmpty else { return }
    var target = sockaddr_un()
    guard address.count < MemoryLayout.size(ofValue: target.sun_path) else { return }
    target.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &target.sun_path) { $0.copyBytes(from: address) }
    // An abstract name starts with a zero byte and is as long as the address says; a path ends with one.
    let isAbstract = address[0] == UInt8(ascii: "@")
    if isAbstract { target.sun_path.0 = 0 }
    let size = MemoryLayout<sa_family_t>.size + address.count + (isAbstract ? 0 : 1)
    let socket = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard socket >= 0 else { return }
    defer { close(socket) }
    let message = Array(lines.joined(separator: "\n").utf8)
    withUnsafePointer(to: &target) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = sendto(socket, message, message.count, Int32(MSG_NOSIGNAL), $0, socklen_t(size))
      }
    }
  }
}

/// The environment of this process.
package func processEnvironment() -> [String: String] {
  var all: [String: String] = [:]
  var entry = environ
  while let text = entry.pointee {
    let parts = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    if parts.count == 2 { all[String(parts[0])] = String(parts[1]) }
    entry += 1
  }
  return all
}
