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
      try wire.follow(until: "degraded") { wire.confirm($0, granting: String(decoding: $0, as: UTF8.self).contains("/jobs/") ? 0x87 : 1) }
      #expect(agent.log.text.contains("the broker does not let the agent listen to sterna/test/jobs/+") && !agent.log.text.contains("listen to sterna/test/request"))
    }

    /// Some that know only 3.1.1 do not say so. One that has answered MQTT 5 before is only in trouble, and 3.1.1 would cost clients their response topics.
    @Test func aBrokerThatHangsUpOnMQTT5IsTriedWith311() throws {
      let (wire, folder) = (try WireBroker(), try Order.folder())
      defer { try? FileManager.default.removeItem(atPath: folder) }
      func version() throws -> UInt8 {
        try wire.accept()
        let connect = try #require(wire.packet())
        return try #require(connect.body.dropFirst(6).first)
      }
      let agent = try RunningAgent(toml: Order.configuration(wire, folder, version: "auto")) { FakeEngine() }
      for expected: UInt8 in [5, 5] {
        #expect(try version() == expected)
        wire.hangUp()
      }
      #expect(try version() == 4)
      wire.send([0x20, 2, 0, 0])
      try eventually("it says which one it speaks") { agent.log.text.contains("connected to 127.0.0.1:\(wire.port) with MQTT 3.1.1") && agent.log.text.contains("mqtt.version = \"3.1.1\" connects sooner") }
      wire.hangUp()
      #expect(try version() == 5)
      wire.send([0x20, 3, 0, 0, 0])
      wire.hangUp()
      for _ in 0..<4 {
        #expect(try version() == 5)
        wire.hangUp()
      }
      agent.stop()
      // Commands that only want to ask something do not wait for the third time, nor long for an answer.
      let (done, configuration) = (Held(""), try AgentConfiguration.parse(Order.configuration(wire, folder, version: "auto"), name: "test", environment: [:]))
      Foundation.Thread.detachNewThread {
        do {
          try Agent.checkBroker(configuration)
          done.value = "connected"
        } catch { done.value = "\(error)" }
      }
      #expect(try version() == 5)
      #expect(try version() == 4)
      wire.send([0x20, 2, 0, 0])
      try eventually("it is connected") { done.value == "connected" }
    }

    @Test func aBrokerWithoutRetainedMessagesWillDo() throws {
      let broker = try Broker(settings: "allow_anonymous true\nretain_available false")
      let log = Tail(broker.path("mosquitto.log"))
      let agent = try RunningAgent(broker)
      try eventually("connected") { agent.log.text.contains("connected to") }
      #expect(agent.log.count("keeps no retained messages") == 1)
      let replies = try execute(buildFolder + "/sterna", ["submit", "classify", "--agent", "test", "--port", "\(broker.port)", "--labels", "a,b", "--text", "x"])
      #expect(replies.status == 0 && replies.output.contains("\"ok\""), "\(replies)")
      agent.stop()
      #expect(try !log.read().contains { $0.contains("Protocol error") })
    }

    /// As those of some clouds. Messages are told apart by their topics then.
    @Test func aBrokerWithoutSubscriptionIdentifiersIsNotSentAny() throws {
      let (wire, folder) = (try WireBroker(), try Order.folder())
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let agent = try RunningAgent(toml: Order.configuration(wire, folder)) { FakeEngine() }
      defer { agent.stop() }
      try wire.accept()
      _ = try #require(wire.packet())
      wire.send([0x20, 5, 0, 0, 2, 0x29, 0])
      var subscriptions = 0
      try wire.follow(until: results + "none") {
        #expect($0[2] == 0, "properties of the subscription")
        wire.confirm($0)
        if subscriptions == 0 { wire.publish(jobs + "classify", classify("none"), number: 7) }
        subscriptions += 1
      }
      #expect(subscriptions > 0)
    }

    /// As ejabberd's, which speaks MQTT 5 otherwise. Jobs of the agent's own go on.
    @Test func aBrokerWithoutSharedSubscriptionsIsSeen() throws {
      let (wire, folder) = (try WireBroker(), try Order.folder())
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let agent = try RunningAgent(toml: Order.configuration(wire, folder) + "\n[pool]\nnames = [\"line\"]") { FakeEngine() }
      defer { agent.stop() }
      try wire.accept()
      try wire.greet()
      try wire.accept(isBeside: true)
      #expect(try #require(wire.packet()).type == 0x10)
      wire.send([0x20, 3, 0, 0, 0])
      #expect(try #require(wire.packet()).type == 0x80)
      wire.send([0xE0, 2, 0x9E, 0])
      wire.hangUp()
      try eventually("it says so") { agent.log.text.contains("not in the pools: the broker has no shared subscriptions") }
      #expect(!agent.log.text.contains("no connection to"))
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
