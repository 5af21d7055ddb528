import Agent
import Basics
import Foundation
import Glibc
import Testing

/// The holes that MQTT clients and inference servers had, each by its name (docs/security.md).
@Suite(.serialized) struct KnownFlawTests {
  /// A broker that says what a test wants, to one client.
  private final class RogueBroker {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    private(set) var configuration = AgentConfiguration.MQTT()
    private var peer: Int32 = -1

    init() throws {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_addr.s_addr = inet_addr("127.0.0.1")
      var size = socklen_t(MemoryLayout<sockaddr_in>.size)
      let isBound = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, $0, &size) == 0 }
      }
      try #require(isBound)
      configuration.port = Int(UInt16(bigEndian: address.sin_port))
    }

    deinit {
      close(listener)
      if peer >= 0 { close(peer) }
    }

    func greet() throws -> Session {
      let session = try Session(configuration, clientID: "test", version: .v5, will: nil, payloadLimit: 1 << 20)
      try #require(session.connect(configuration) == nil)
      peer = accept(listener, nil, nil)
      try #require(peer >= 0)
      _ = fcntl(peer, F_SETFL, O_NONBLOCK)
      send([0x20, 3, 0, 0, 0])
      return session
    }

    /// - Returns: how much of it was taken.
    @discardableResult func send(_ bytes: [UInt8]) -> Int { Glibc.send(peer, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
  }

  private func turns(_ session: Session, _ count: Int = 50) -> String? {
    for _ in 0..<count {
      if let reason = session.read(messages: 256, bytes: 8 << 20) ?? session.write() { return reason }
      usleep(1000)
    }
    return nil
  }

  /// An answer to a subscription without the reasons that belong in it was read past its end.
  @Test func answersWithoutReasons_CVE_2024_10525() throws {
    for packet: [UInt8] in [[0x90, 3, 0, 1, 0], [0x90, 2, 0, 1], [0x90, 0], [0xB0, 3, 0, 1, 0], [0x90, 4, 0, 1, 5, 0x1F], [0x40, 2, 0, 9], [0x40, 0]] {
      let broker = try RogueBroker()
      let session = try broker.greet()
      broker.send(packet)
      _ = turns(session)
      for answer in session.takeEvents().subscribed { #expect(answer.granted.count <= 1) }
    }
  }

  /// A packet may say that it has 256 MiB. Those are not collected: the connection ends after the 4 MiB that were agreed on.
  @Test func packetsWithoutEnd() throws {
    let broker = try RogueBroker()
    let session = try broker.greet()
    let before = ProcessMemory.residentBytes
    broker.send([0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, UInt8(ascii: "a"), 0])
    let part = [UInt8](repeating: 0x41, count: 1 << 16)
    var reason: String?
    var sent = 0
    for _ in 0..<20_000 where reason == nil && sent < 64 << 20 {
      sent += max(0, broker.send(part))
      reason = session.read(messages: 256, bytes: 8 << 20)
    }
    #expect(reason?.contains("more than 4194304 bytes") == true, "\(reason ?? "nothing was said") after \(sent) bytes")
    #expect(ProcessMemory.residentBytes - before < 48 << 20)
  }

  /// The largest that was agreed on still arrives, and many of them.
  @Test func packetsUpToTheLimit() throws {
    let broker = try RogueBroker()
    let session = try broker.greet()
    let body = [0, 1, UInt8(ascii: "a"), 0] + [UInt8](repeating: 0x41, count: (4 << 20) - 9)
    let packet: [UInt8] = [0x30] + [UInt8(body.count & 0x7F | 0x80), UInt8(body.count >> 7 & 0x7F | 0x80), UInt8(body.count >> 14 & 0x7F | 0x80), UInt8(body.count >> 21)] + body
    #expect(packet.count == 4 << 20)
    let all = packet + packet + packet
    var (sent, received) = (0, 0)
    for _ in 0..<100_000 where received < 3 {
      if sent < all.count { sent += max(0, broker.send(Array(all[sent..<min(sent + 65_536, all.count)]))) }
      try #require(session.read(messages: 256, bytes: 8 << 20) == nil)
      received += session.takeEvents().messages.count
    }
    #expect(received == 3)
  }

  /// Found by fuzzing: the number of a subscription that there is none of.
  @Test(arguments: [0, -1, 4, 1 << 28]) func numbersOfNoSubscription(number: Int) throws {
    let toml = "model.path = \"m\"\n[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"plant/alarm\"\noutput = \"out\"\nlabels = [\"a\", \"b\"]"
    let intake = Intake(try AgentConfiguration.parse(toml, name: "test", environment: [:]))
    func arrivals(_ number: Int) -> Int { intake.examine(.init(topic: "plant/alarm", payload: [0x61], size: 1, isRetained: false, subscriptions: [number])).count }
    #expect(arrivals(number) == 0 && arrivals(intake.identifier(of: "plant/alarm")) == 1)
  }

  /// Servers listened on every address, for everybody. The agent listens on none.
  @Test func nothingListens_ollama_0_0_0_0() throws {
    func listening() throws -> Int {
      let own = Set(try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap { try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/" + $0) })
      return try ["tcp", "tcp6"].map { name in
        try String(contentsOfFile: "/proc/self/net/" + name, encoding: .utf8).split(separator: "\n").dropFirst().count { line in
          let columns = line.split(separator: " ")
          return columns.count > 9 && columns[3] == "0A" && own.contains("socket:[\(columns[9])]")
        }
      }.reduce(0, +)
    }
    let before = try listening()
    let own = try RogueBroker()
    #expect(try listening() == before + 1, "the test can see what listens")
    withExtendedLifetime(own) {}
    let broker = try Broker()
    let agent = try RunningAgent(broker)
    try online(broker)
    #expect(try listening() <= before + 1)
    agent.stop()
  }
}
