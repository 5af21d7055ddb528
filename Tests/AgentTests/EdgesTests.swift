import Agent
import Basics
import Foundation
import Glibc
import Testing

extension WithBroker {
  /// Brokers that refuse, and journals of others.
  @Suite(.serialized) struct Edges {
    @Test func aJournalOfAnotherVersionIsRefusedByNameAndKept() throws {
      let broker = try Broker()
      let path = broker.path("journal.sqlite")
      let first = try RunningAgent(broker)
      try online(broker)
      first.stop()
      // SQLite keeps user_version in bytes 60 to 63 of the file, most significant first; a clean end leaves no log beside it.
      #expect(!FileManager.default.fileExists(atPath: path + "-wal"))
      var bytes = try #require(FileManager.default.contents(atPath: path))
      bytes.replaceSubrange(60..<64, with: [0, 0, 0, 99])
      try bytes.write(to: URL(fileURLWithPath: path))
      let second = try RunningAgent(broker)
      try eventually("run() throws") { second.log.text.contains("thrown: ") }
      for part in [path, "version 99", "or older", "move the file away"] {
        #expect(second.log.text.contains(part), "\(part): \(second.log.text)")
      }
      second.stop()
      #expect(FileManager.default.contents(atPath: path) == bytes, "the file is left as it was")
    }

    /// Each takes the broker's session from the other, for ever; mosquitto tells neither why.
    @Test(arguments: ["5", "3.1.1"]) func twoAgentsOfOneNameSaySo(version: String) throws {
      let broker = try Broker()
      let agents = try ["one", "two"].map { try RunningAgent(broker, journal: $0 + ".sqlite", mqtt: "version = \"\(version)\"") }
      try eventually("both say so") { agents.allSatisfy { $0.log.text.contains("is there another client with the id \"sterna-test\"? Every agent needs its own: agent.id") } }
      for agent in agents { #expect(!agent.log.text.contains("Unknown reason")) }
      agents[0].stop()
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("alone"))
      try listener.wait("the other goes on") { $0.topic == results + "alone" }
      agents[1].stop()
    }

    /// Deaf is not online, although everything else works.
    @Test func aRefusedSubscriptionIsSeen() throws {
      let (wire, folder) = (try WireBroker(), try Order.folder())
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let agent = try RunningAgent(toml: Order.configuration(wire, folder)) { FakeEngine() }
      defer { agent.stop() }
      try wire.accept()
      _ = try #require(wire.packet())
      wire.send([0x20, 3, 0, 0, 0])
      func text(_ body: [UInt8]) -> String { String(decoding: body, as: UTF8.self) }
      while case let packet = try #require(wire.packet(), "the state is said"), !(packet.type == 0x30 && text(packet.body).contains("degraded")) {
        guard packet.type == 0x80 else { continue }
        wire.send([0x90, 4, packet.body[0], packet.body[1], 0, text(packet.body).contains("/jobs/") ? 0x87 : 1])
      }
      #expect(agent.log.text.contains("the broker does not let the agent listen to sterna/test/jobs/+") && !agent.log.text.contains("listen to sterna/test/request"))
    }

    @Test func checkBrokerSaysWhatIsWrong() throws {
      let away = try Broker(isRunning: false)
      func check(_ broker: Broker, _ mqtt: String = "") throws {
        try Agent.checkBroker(try .parse(RunningAgent.toml(broker, mqtt: mqtt), name: "test", environment: mqtt.isEmpty ? [:] : ["STERNA_MQTT_PASSWORD": "hush"]))
      }
      func message(_ broker: Broker, _ mqtt: String = "") -> String {
        do { try check(broker, mqtt); return "" } catch { return "\(error)" }
      }
      let nobody = message(away)
      #expect(nobody.contains("cannot connect to the broker") && nobody.contains(":\(away.port)") && nobody.contains("host and port"), "\(nobody)")
      let locked = try Broker(settings: "allow_anonymous false")
      let refused = message(locked, "username = \"gateway\"")
      #expect(refused.contains("the broker refused") && refused.contains("user name and password"), "\(refused)")
      #expect(!refused.contains("hush"))
      let open = try Broker()
      let listener = try Listener(open, "#")
      try check(open)
      #expect(listener.all.isEmpty, "a check says nothing to others")
    }
  }
}
