import Basics
import Foundation
import Glibc
import Testing

/// `mosquitto_sub` on a filter, collecting.
final class Listener: @unchecked Sendable {
  // Sendable: `messages` is guarded by `lock`, the rest never changes.
  struct Message {
    var topic: String
    var payload: String
    var isRetained: Bool
    /// MQTT 5 properties as mosquitto_sub prints them.
    var properties: JSON
    var json: JSON? { try? JSON.parse(payload) }
    /// A member of the payload by path, `error.code`.
    subscript(path: String) -> JSON? {
      var value = json
      for name in path.split(separator: ".") {
        guard case .object(let object)? = value else { return nil }
        value = object[String(name)]
      }
      return value
    }
  }

  private let process = Process()
  private let lock = NSLock()
  private var messages: [Message] = []
  private var buffer: [UInt8] = []

  init(_ broker: Broker, _ filter: String, arguments: [String] = []) throws {
    process.executableURL = URL(fileURLWithPath: "/usr/bin/mosquitto_sub")
    // The second topic tells us when the subscription is in force: a retained mark that is there before.
    let mark = "mark/\(UUID().uuidString)"
    try publish(broker, mark, "here", arguments: ["-r"] + arguments)
    process.arguments = ["-V", "mqttv5", "-p", "\(broker.port)", "-q", "1", "-F", "%j", "-t", filter, "-t", mark] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    pipe.fileHandleForReading.readabilityHandler = { [weak self] in self?.take($0.availableData) }
    try process.run()
    try eventually("mosquitto_sub listens") { lock.withLock { messages.contains { $0.topic == mark } } }
    lock.withLock { messages.removeAll { $0.topic == mark } }
  }

  deinit {
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }

  private func take(_ data: Data) {
    lock.withLock {
      buffer.append(contentsOf: data)
      while let end = buffer.firstIndex(of: 0x0A) {
        let line = Array(buffer[..<end])
        buffer.removeFirst(end + 1)
        guard case .object(let object)? = try? JSON.parse(line), case .string(let topic)? = object["topic"] else { continue }
        var payload = ""
        if case .string(let text)? = object["payload"] { payload = text }
        messages.append(
          Message(topic: topic, payload: payload, isRetained: object["retain"] == 1, properties: object["properties"] ?? .null))
      }
    }
  }

  var all: [Message] { lock.withLock { messages } }

  /// Waits for messages that satisfy a condition.
  @discardableResult
  func wait(_ what: String, count: Int = 1, within seconds: Double = 20, _ condition: (Message) -> Bool = { _ in true }) throws -> [Message] {
    do {
      try eventually(what, within: seconds) { all.filter(condition).count >= count }
    } catch {
      throw Late(description: "\(error); there is \(all.map { "\($0.topic) \($0.payload.prefix(300))" })")
    }
    return all.filter(condition)
  }

  func first(_ what: String, within seconds: Double = 20, _ condition: (Message) -> Bool = { _ in true }) throws -> Message {
    try #require(wait(what, within: seconds, condition).first)
  }
}

/// `mosquitto_pub` with QoS 1, MQTT 5.
func publish(_ broker: Broker, _ topic: String, _ payload: String, arguments: [String] = []) throws {
  try publish(broker, topic, Array(payload.utf8), arguments: arguments)
}

func publish(_ broker: Broker, _ topic: String, _ payload: [UInt8], arguments: [String] = []) throws {
  let file = broker.path("payload-\(UUID().uuidString)")
  try Data(payload).write(to: URL(fileURLWithPath: file))
  defer { try? FileManager.default.removeItem(atPath: file) }
  let version = arguments.contains("-V") ? [] : ["-V", "mqttv5"]
  let (status, output) = try execute("/usr/bin/mosquitto_pub", version + ["-p", "\(broker.port)", "-q", "1", "-t", topic, "-f", file] + arguments)
  guard status == 0 else { throw Late(description: "mosquitto_pub: \(output)") }
}

/// Runs a program to its end.
@discardableResult
func execute(_ path: String, _ arguments: [String], environment: [String: String]? = nil) throws -> (status: Int32, output: String) {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: path)
  process.arguments = arguments
  if let environment { process.environment = environment }
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = pipe
  try process.run()
  let output = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return (process.terminationStatus, String(decoding: output, as: UTF8.self))
}
