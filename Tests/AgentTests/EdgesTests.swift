import Agent
import Basics
import Foundation
import Glibc
import Testing

extension WithBroker {
  /// Brokers that refuse, journals of others, and the access rules that are shipped.
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

    @Test func theShippedAccessRulesAreEnoughAndNoMore() throws {
      let rules = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../device-config/mosquitto-sterna.acl")
      // Under the name of the tests' agent, and with a tester who sees everything.
      let text = try String(contentsOf: rules, encoding: .utf8).replacingOccurrences(of: "sterna/gateway/", with: "sterna/test/")
      let place = try Broker(isRunning: false)
      try (text + "\nuser tester\ntopic readwrite #\n").write(toFile: place.path("acl"), atomically: true, encoding: .utf8)
      chmod(place.path("acl"), 0o644)
      let broker = try Broker(settings: "allow_anonymous true\nacl_file \(place.path("acl"))")
      let tester = ["-u", "tester"]
      let agent = try RunningAgent(broker, mqtt: "username = \"sterna\"")
      let listener = try Listener(broker, "#", arguments: tester)
      try listener.wait("online") { $0["state"] == "online" }
      try listener.wait("info") { $0.topic == "sterna/test/info" }
      try listener.wait("health") { $0.topic == "sterna/test/health" }
      let reply = ["-D", "publish", "response-topic", "sterna/clients/tester/replies"]
      try publish(broker, jobs + "classify", classify("ruled"), arguments: tester + reply)
      try listener.wait("the result") { $0.topic == results + "ruled" && $0["status"] == "ok" }
      try listener.wait("the reply") { $0.topic == "sterna/clients/tester/replies" && $0["status"] == "ok" }
      #expect(!agent.log.text.contains("refuses"), "\(agent.log.text)")
      // The agent's user elsewhere: the broker drops it, and what the tester sends behind it arrives.
      for topic in ["plant/valve/set", "sterna/other/state", "sterna/other/jobs/classify", "homeassistant/sensor/x/config"] {
        _ = try? publish(broker, topic, "not allowed", arguments: ["-u", "sterna"])
      }
      try publish(broker, "plant/behind", "allowed", arguments: tester)
      try listener.wait("the tester's own") { $0.topic == "plant/behind" }
      #expect(!listener.all.contains { $0.payload == "not allowed" })
      agent.stop()
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
