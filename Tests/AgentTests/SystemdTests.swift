import Agent
import Foundation
import Glibc
import Testing

/// The other end of systemd's notify socket.
final class NotifySocket {
  private let socket: Int32
  private(set) var lines: [String] = []

  /// - Parameter name: a path, or a name in the abstract space behind `@`.
  init(_ name: String) {
    socket = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name.utf8) }
    if name.hasPrefix("@") { address.sun_path.0 = 0 }
    let size = socklen_t(2 + name.utf8.count + (name.hasPrefix("@") ? 0 : 1))
    let socket = self.socket
    _ = withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(socket, $0, size) } }
  }

  deinit { close(socket) }

  func read() -> [String] {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while case let count = recv(socket, &buffer, buffer.count, Int32(MSG_DONTWAIT)), count > 0 {
      lines += String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n").map(String.init)
    }
    return lines
  }

  func count(_ line: String) -> Int { read().filter { $0 == line }.count }
}

extension WithBroker {
  @Suite(.serialized) struct Systemd {
    @Test(arguments: [true, false]) func theAgentSpeaksTheNotifyProtocol(isAbstract: Bool) throws {
      let broker = try Broker()
      let name = isAbstract ? "@sterna-test-\(UUID().uuidString)" : broker.path("notify")
      let systemd = NotifySocket(name)
      let agent = try RunningAgent(broker, environment: ["NOTIFY_SOCKET": name])
      try eventually("ready") { systemd.count("READY=1") == 1 }
      try eventually("status") { systemd.read().contains { $0.hasPrefix("STATUS=connected to 127.0.0.1") } }
      agent.stop()
      #expect(systemd.count("STOPPING=1") == 1)
      #expect(systemd.count("WATCHDOG=1") == 0, "nobody watches")
    }

    @Test func theAgentIsReadyWithoutABroker() throws {
      let broker = try Broker(isRunning: false)
      let systemd = NotifySocket(broker.path("notify"))
      let agent = try RunningAgent(broker, environment: ["NOTIFY_SOCKET": broker.path("notify")])
      try eventually("ready") { systemd.count("READY=1") == 1 }
      agent.stop()
    }

    @Test func theWatchdogBeatsOnlyWhileTheEngineMovesOn() throws {
      let broker = try Broker()
      let systemd = NotifySocket(broker.path("notify"))
      let (moving, stuck) = (Gate(), Gate())
      let agent = try RunningAgent(broker, environment: ["NOTIFY_SOCKET": broker.path("notify"), "WATCHDOG_USEC": "1500000"]) {
        FakeEngine { job, control in
          if job.id == "moving" {
            while !moving.isPassable { control.progress?(); usleep(10_000) }
          } else if job.id == "stuck" {
            _ = stuck.pass(control)
          }
          return FakeEngine.firstLabel(job)
        }
      }
      try online(broker)
      try eventually("beats while idle") { systemd.count("WATCHDOG=1") >= 2 }
      try publish(broker, jobs + "classify", classify("moving"))
      let before = systemd.count("WATCHDOG=1")
      try eventually("beats while the engine moves") { systemd.count("WATCHDOG=1") >= before + 3 }
      let listener = try Listener(broker, results + "#")
      moving.open()
      try listener.wait("the first result")
      try publish(broker, jobs + "classify", classify("stuck"))
      try eventually("the engine is stuck") { stuck.count == 1 }
      let last = systemd.count("WATCHDOG=1")
      usleep(3_200_000)  // room for three beats, of which at most one may be for what went before
      #expect(systemd.count("WATCHDOG=1") <= last + 1)
      stuck.open()
      try listener.wait("the second result", count: 2)
      let after = systemd.count("WATCHDOG=1")
      try eventually("beats again") { systemd.count("WATCHDOG=1") > after }
      agent.stop()
    }
  }
}

@Suite struct Unit {
  static let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../systemd/sterna.service").standardized.path

  @Test(.disabled(if: access("/usr/bin/systemd-analyze", X_OK) != 0, "needs systemd-analyze: apt-get install systemd"))
  func theSandboxScores13OrBetter() throws {
    let (status, output) = try execute("/usr/bin/systemd-analyze", ["security", "--offline=true", "--threshold=13", "--no-pager", Self.path])
    #expect(status == 0, "\(output.split(separator: "\n").last ?? "")")
  }
  @Test(arguments: ["default", "arm-gateway", "x86-gateway"]) func everyGatewaysConfigurationFitsUnderItsMemoryLimit(name: String) throws {
    let unit = try String(contentsOfFile: Self.path, encoding: .utf8)
    let megabytes = try #require(unit.firstMatch(of: /\nMemoryMax=(\d+)M\n/).flatMap { Int($0.1) })
    let configuration = try AgentConfiguration.load(path: Configuration.folder + "/\(name).toml", environment: [:])
    let limit = try #require(configuration.memory.limitBytes)
    #expect(limit + limit / 20 <= megabytes << 20, "a twentieth for what nobody planned")
  }
}
