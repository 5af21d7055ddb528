import Basics
import Foundation
import Glibc
import Testing

/// A broker of a few bytes that knows one trick: it sees in which order things reach the wire.
final class WireBroker {
  let port: Int
  private let listener: Int32
  private var connection: Int32 = -1
  /// Connections that go on, unread.
  private var others: [Int32] = []

  init() throws {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = self.listener
    var port = 0
    withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = bind(listener, $0, size)
        listen(listener, 4)
        getsockname(listener, $0, &size)
      }
    }
    port = Int(in_port_t(bigEndian: address.sin_port))
    self.port = port
  }

  deinit {
    for connection in others + [connection] { close(connection) }
    close(listener)
  }

  /// - Parameter isBeside: whether the connection of before goes on.
  func accept(isBeside: Bool = false) throws {
    var descriptor = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
    guard poll(&descriptor, 1, 20_000) == 1 else { throw Late(description: "nobody connects") }
    if isBeside { others.append(connection) } else if connection >= 0 { close(connection) }
    connection = Glibc.accept(listener, nil, nil)
  }

  func hangUp() {
    close(connection)
    connection = -1
  }

  func send(_ bytes: [UInt8]) { _ = Glibc.send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

  /// The next packet: its first byte and what follows the length. Nil when the connection ends, or after `seconds` of silence.
  func packet(within seconds: Double = 20) -> (type: UInt8, body: [UInt8])? {
    guard let first = byte(seconds) else { return nil }
    var (length, shift) = (0, 0)
    while let next = byte(seconds) {
      length |= Int(next & 127) << shift
      shift += 7
      if next < 128 { break }
    }
    var body: [UInt8] = []
    while body.count < length, let next = byte(seconds) { body.append(next) }
    return (first & 0xF0, body)
  }

  private func byte(_ seconds: Double) -> UInt8? {
    var descriptor = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
    guard poll(&descriptor, 1, Int32(seconds * 1000)) == 1 else { return nil }
    var byte: UInt8 = 0
    return read(connection, &byte, 1) == 1 ? byte : nil
  }

  /// CONNACK, and SUBACK for the first subscription.
  func greet() throws {
    #expect(try #require(packet()).type == 0x10)
    send([0x20, 3, 0, 0, 0])
    while let packet = packet() {
      guard packet.type == 0x80 else { continue }
      return confirm(packet.body)
    }
  }

  /// SUBACK.
  func confirm(_ subscription: [UInt8], granting reason: UInt8 = 1) { send([0x90, 4, subscription[0], subscription[1], 0, reason]) }

  /// Goes on until the agent publishes something with this text in it.
  func follow(until text: String, subscription: ([UInt8]) -> Void) throws {
    while case let packet = try #require(packet(), "the agent says \(text)"), packet.type != 0x30 || !String(decoding: packet.body, as: UTF8.self).contains(text) {
      if packet.type == 0x80 { subscription(packet.body) }
    }
  }

  func publish(_ topic: String, _ payload: String, number: UInt8) {
    let body = [UInt8(topic.utf8.count >> 8), UInt8(topic.utf8.count & 255)] + Array(topic.utf8) + [0, number, 0] + Array(payload.utf8)
    send([0x32, UInt8(body.count & 127 | 128), UInt8(body.count >> 7)] + body)
  }
}

@Suite(.serialized) struct Order {
  static func configuration(_ wire: WireBroker, _ folder: String, version: String = "5") -> String {
    """
    agent.id = "test"
    model.path = "none"
    [mqtt]
    port = \(wire.port)
    version = "\(version)"
    reconnect_ms = 20
    reconnect_max_ms = 100
    [journal]
    path = "\(folder)/journal.sqlite"
    """
  }

  static func folder() throws -> String {
    let folder = NSTemporaryDirectory() + "sterna-order-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    return folder
  }

  @Test func theAcknowledgementLeavesAfterTheJobIsInTheJournal() throws {
    let (wire, folder) = (try WireBroker(), try Self.folder())
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let gate = Gate()
    let agent = try RunningAgent(toml: Self.configuration(wire, folder), engine: gate.engine)
    try wire.accept()
    try wire.greet()
    wire.publish(jobs + "classify", classify("first-on-disk"), number: 7)
    while true {
      let packet = try #require(wire.packet())
      if packet.type == 0x30, packet.body.count > 2 {
        // The agent's retained words: acknowledge nothing, they may wait.
        continue
      }
      guard packet.type == 0x40 else { continue }
      #expect(packet.body.prefix(2) == [0, 7])
      let written = ["", "-wal"].contains {
        FileManager.default.contents(atPath: folder + "/journal.sqlite" + $0)?.range(of: Data("first-on-disk".utf8)) != nil
      }
      #expect(written)
      break
    }
    gate.open()
    agent.stop()
  }
}
