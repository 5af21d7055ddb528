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
