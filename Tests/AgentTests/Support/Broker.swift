import Foundation
import Glibc
import Testing

/// A real mosquitto on a free loopback port, with a folder of its own that goes away with it.
final class Broker {
  static let executable: String? = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"].first {
    access($0, X_OK) == 0
  }
  static var isMissing: Bool { executable == nil || access("/usr/bin/mosquitto_pub", X_OK) != 0 }

  let port: Int
  let folder: String
  private var process: Process?
  private var settings: String

  /// - Parameters:
  ///   - settings: lines for mosquitto.conf besides the listener.
  ///   - isRunning: false for a broker that comes later.
  init(settings: String = "allow_anonymous true", isRunning: Bool = true) throws {
    folder = NSTemporaryDirectory() + "sterna-agent-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    port = Self.freePort()
    self.settings = settings
    if isRunning { try start() }
  }

  deinit {
    kill()
    try? FileManager.default.removeItem(atPath: folder)
  }

  func path(_ name: String) -> String { folder + "/" + name }

  func start() throws {
    let file = path("mosquitto.conf")
    try """
      listener \(port) 127.0.0.1
      persistence false
      persistence_location \(folder)/
      log_dest file \(path("mosquitto.log"))
      \(settings)

      """.write(toFile: file, atomically: true, encoding: .utf8)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(Self.executable))
    process.arguments = ["-c", file]
    process.standardError = FileHandle.nullDevice
    try process.run()
    self.process = process
    try eventually("mosquitto listens") { Self.connects(port) }
  }

  /// Starts with other settings, which may name files of this broker's folder.
  func restart(settings: String) throws {
    kill()
    self.settings = settings
    try start()
  }

  func kill() {
    guard let process else { return }
    Glibc.kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    self.process = nil
  }

  /// Stops it without ending it: connections stay open, and nobody answers.
  func freeze() { if let process { Glibc.kill(process.processIdentifier, SIGSTOP) } }
  func thaw() { if let process { Glibc.kill(process.processIdentifier, SIGCONT) } }

  private static func freePort() -> Int {
    var port = 0
    withSocket(port: 0) { socket, address in
      var size = socklen_t(MemoryLayout<sockaddr_in>.size)
      _ = bind(socket, &address, size)
      getsockname(socket, &address, &size)
      withUnsafeBytes(of: &address) { port = Int($0[2]) << 8 | Int($0[3]) }
    }
    return port
  }

  private static func connects(_ port: Int) -> Bool {
    var result: Int32 = -1
    withSocket(port: port) { socket, address in result = connect(socket, &address, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    return result == 0
  }

  private static func withSocket(port: Int, _ body: (Int32, inout sockaddr) -> Void) {
    let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(socket) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    address.sin_port = in_port_t(port).bigEndian
    withUnsafeMutablePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body(socket, &$0.pointee) } }
  }
}

struct Late: Error, CustomStringConvertible { var description: String }

/// Waits until something is so, for at most a generous time.
func eventually(_ what: String, within seconds: Double = 20, _ condition: () throws -> Bool) throws {
  let end = Date().addingTimeInterval(seconds)
  while try !condition() {
    guard Date() < end else { throw Late(description: "not in \(seconds) s: \(what)") }
    usleep(5000)
  }
}
