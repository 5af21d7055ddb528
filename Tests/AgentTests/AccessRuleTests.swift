import Agent
import Basics
import Foundation
import Glibc
import Testing

extension WithBroker {
  /// The rules in device-config/mosquitto-sterna.acl, on a broker that keeps them.
  @Suite(.serialized) struct AccessRules {
    private static let tester = ["-u", "tester"]

    /// A broker with the shipped rules, under the name of the tests' agent, and with a tester who may do everything.
    private func ruled(_ change: (String) -> String = { $0 }) throws -> Broker {
      let rules = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../device-config/mosquitto-sterna.acl")
      let text = try String(contentsOf: rules, encoding: .utf8).replacingOccurrences(of: "sterna/gateway/", with: "sterna/test/")
      let broker = try Broker(isRunning: false)
      try (change(text) + "\nuser tester\ntopic readwrite #\n").write(toFile: broker.path("acl"), atomically: true, encoding: .utf8)
      chmod(broker.path("acl"), 0o644)
      try broker.restart(settings: "allow_anonymous true\nacl_file \(broker.path("acl"))")
      return broker
    }

    @Test func theyAreEnoughForTheAgent() throws {
      let broker = try ruled()
      let agent = try RunningAgent(broker, mqtt: "username = \"sterna\"")
      let listener = try Listener(broker, "#", arguments: Self.tester)
      try listener.wait("online") { $0["state"] == "online" }
      try listener.wait("info") { $0.topic == "sterna/test/info" }
      try listener.wait("health") { $0.topic == "sterna/test/health" }
      let reply = ["-D", "publish", "response-topic", "sterna/clients/tester/replies"]
      try publish(broker, jobs + "classify", classify("ruled"), arguments: Self.tester + reply)
      try listener.wait("the result") { $0.topic == results + "ruled" && $0["status"] == "ok" }
      try listener.wait("the reply") { $0.topic == "sterna/clients/tester/replies" && $0["status"] == "ok" }
      agent.stop()
      try listener.wait("the farewell") { $0["state"] == "stopped" }
      #expect(!agent.log.text.contains("refuses"), "\(agent.log.text)")
    }

    @Test func theyAreEnoughForWhoWatches() throws {
      let broker = try ruled()
      let agent = try RunningAgent(broker, mqtt: "username = \"sterna\"")
      try Listener(broker, "sterna/test/health", arguments: Self.tester).wait("health")
      for (user, status) in [("operator", Int32(0)), ("nobody", 1)] {
        let top = try execute(buildFolder + "/sterna", ["top", "--port", "\(broker.port)", "--once", "--username", user])
        #expect(top.status == status && top.output.contains("fake") == (status == 0), "\(top.output)")
      }
      agent.stop()
    }

    /// Every topic that somebody on a shared broker may care for, tried with the agent's account.
    @Test func theAgentsAccountWritesNowhereElse() throws {
      let broker = try ruled()
      let listener = try Listener(broker, "#", arguments: Self.tester)
      let allowed = ["results/a", "state", "info", "health", "response/drain"].map { "sterna/test/" + $0 } + ["sterna/clients/x/replies", "sterna/clients/x/replies/7"]
      let forbidden =
        ["jobs/classify", "jobs/extract", "request/drain", "request/model/rollback", "results", "results/a/b", "state/x", "x", ""].map { "sterna/test/" + $0 }
        + ["results/a", "state", "jobs/classify", "request/drain"].map { "sterna/other/" + $0 }
        + ["sterna/test", "sterna", "sterna/clients/x", "sterna/clients/x/requests", "sterna/clients/x/y/replies", "Sterna/test/state", "/sterna/test/state", "plant/valve/set", "plant/7/alarm",
          "homeassistant/sensor/x/config", "zigbee2mqtt/lamp/set", "zigbee2mqtt/bridge/request/permit_join", "frigate/restart", "sterna/pool/x/jobs/classify", "x", "/"]
      for topic in forbidden + allowed { _ = try? publish(broker, topic, "tried \(topic)", arguments: ["-u", "sterna"]) }
      try publish(broker, "plant/behind", "behind", arguments: Self.tester)
      try listener.wait("the tester's own, behind all others") { $0.payload == "behind" }
      let arrived = Set(listener.all.map(\.topic).filter { $0 != "plant/behind" && !$0.hasPrefix("mark/") })
      #expect(arrived == Set(allowed))
      // The broker says so, with reason 135, where it is asked to (QoS 1, MQTT 5).
      let (_, said) = try execute("/usr/bin/mosquitto_pub", ["-V", "mqttv5", "-d", "-p", "\(broker.port)", "-q", "1", "-u", "sterna", "-t", "plant/valve/set", "-m", "x"])
      #expect(said.contains("Not authorized") || said.contains("RC:135"), "\(said)")
    }

    @Test func theAgentsAccountReadsNothingElse() throws {
      let broker = try ruled()
      let agent = try Listener(broker, "#", arguments: Self.tester)  // sees all, to know when all has passed
      let spy = Process()
      spy.executableURL = URL(fileURLWithPath: "/usr/bin/mosquitto_sub")
      spy.arguments = ["-V", "mqttv5", "-p", "\(broker.port)", "-u", "sterna", "-q", "1", "-t", "#", "-F", "%t"]
      let pipe = Pipe()
      spy.standardOutput = pipe
      try spy.run()
      defer { kill(spy.processIdentifier, SIGKILL) }
      // Once the first message comes through, the subscription is there.
      var seen = ""
      for _ in 0..<200 where !seen.contains("jobs/mark") {
        try publish(broker, jobs + "mark", "mark", arguments: Self.tester)
        var descriptor = pollfd(fd: pipe.fileHandleForReading.fileDescriptor, events: Int16(POLLIN), revents: 0)
        if poll(&descriptor, 1, 100) > 0 { seen += String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self) }
      }
      for topic in ["sterna/other/jobs/classify", "sterna/clients/x/replies", "sterna/test/results/a", "plant/7/alarm", "homeassistant/status", "door/code", "sterna/test/request/drain", jobs + "last"] {
        try publish(broker, topic, "x", arguments: Self.tester)
      }
      try agent.wait("all") { $0.topic == jobs + "last" }
      while !seen.contains("jobs/last") { seen += String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self) }
      #expect(Set(seen.split(separator: "\n")) == ["sterna/test/jobs/mark", "sterna/test/request/drain", "sterna/test/jobs/last"])
    }

    /// Rules that forget the results: the agent says so where everybody looks, and loses nothing.
    @Test func aRefusedResultIsSeenAndWaits() throws {
      let broker = try ruled { $0.replacingOccurrences(of: "topic write sterna/test/results/+\n", with: "") }
      let agent = try RunningAgent(broker, mqtt: "username = \"sterna\"")
      let listener = try Listener(broker, "sterna/test/#", arguments: Self.tester)
      try listener.wait("online") { $0["state"] == "online" }
      try publish(broker, jobs + "classify", classify("denied"), arguments: Self.tester)
      let state = try listener.first("degraded") { $0["state"] == "degraded" }
      #expect(state.payload.contains("the broker refuses results") && state.payload.contains("Not authorized") && state.payload.contains("access rules"), "\(state.payload)")
      #expect(agent.log.text.contains("sterna/test/results"))
      agent.stop()
      // With the rules put right the answer is there, from the journal.
      broker.kill()
      let rules = try String(contentsOfFile: broker.path("acl"), encoding: .utf8)
      try (rules + "\nuser sterna\ntopic write sterna/test/results/+\n").write(toFile: broker.path("acl"), atomically: true, encoding: .utf8)
      try broker.start()
      let later = try Listener(broker, results + "#", arguments: Self.tester)
      let second = try RunningAgent(broker, mqtt: "username = \"sterna\"")
      try later.wait("the result") { $0.topic == results + "denied" && $0["status"] == "ok" }
      second.stop()
    }
  }
}
