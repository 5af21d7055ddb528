import Basics
import Foundation
import Glibc
import Testing

/// `agent-test-helper` in a process of its own.
final class HelperProcess {
  let process = Process()
  let gate: String

  /// - Parameter environment: added to this process's.
  init(_ broker: Broker, _ toml: String = "", id: String = "test", journal: String? = nil, environment: [String: String] = [:]) throws {
    gate = broker.path("gate-\(id)")
    let configuration = broker.path("agent-\(id).toml")
    try RunningAgent.toml(broker, toml, journal: journal ?? (id == "test" ? "journal.sqlite" : "\(id).sqlite"), id: id).write(toFile: configuration, atomically: true, encoding: .utf8)
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    process.executableURL = URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent("agent-test-helper")
    process.arguments = [configuration, gate]
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardError = FileHandle(forWritingAtPath: "/dev/null")
    try process.run()
  }

  func openGate() { _ = FileManager.default.createFile(atPath: gate, contents: nil) }

  func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

  func end() -> Int32 {
    process.waitUntilExit()
    return process.terminationStatus
  }

  deinit {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
  }
}

extension WithBroker {
  /// Agents and brokers that come and go.
  @Suite(.serialized) struct Lifecycle {
    @Test func theAgentWaitsForABrokerThatComesLater() throws {
      let broker = try Broker(isRunning: false)
      let agent = try RunningAgent(broker)
      try eventually("the agent says that there is no broker") { agent.log.count("no connection") > 0 }
      try broker.start()
      try online(broker)
      #expect(agent.log.count("warning: no connection") == 1, "said once: \(agent.log.text)")
      agent.stop()
    }

    @Test func theAgentComesBackAfterTheBrokerWasAway() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      let before = try Listener(broker, "sterna/test/state").first("the state") { $0["state"] == "online" }
      broker.kill()
      try eventually("the agent notices") { agent.log.count("no connection") > 0 }
      // It has lost everything: sessions, subscriptions, retained messages.
      try broker.start()
      let after = try Listener(broker, "sterna/test/state").first("the state again") { $0["state"] == "online" }
      #expect(after["since"] == before["since"], "nothing has changed but the broker")
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("after"))
      try listener.wait("the result")
      agent.stop()
    }

    /// A connection on which nobody answers looks open from here: only the missing sign of life gives it away.
    @Test func aHalfOpenConnectionIsNoticed() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, mqtt: "keepalive_s = 5")
      try online(broker)
      broker.freeze()
      defer { broker.thaw() }
      try eventually("the agent notices", within: 30) { agent.log.count("no connection") > 0 }
      broker.thaw()
      let listener = try Listener(broker, results + "#")
      try eventually("it is back") { agent.log.count("connected to") > 1 }
      try publish(broker, jobs + "classify", classify("after"))
      try listener.wait("the result") { $0.topic == results + "after" }
      agent.stop()
    }

    @Test func resultsThatTheBrokerMissedAreSentLater() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, engine: gate.engine)
      try online(broker)
      try publish(broker, jobs + "classify", classify("late"))
      try eventually("the job runs") { gate.count == 1 }
      broker.kill()
      try eventually("the agent notices") { agent.log.count("no connection") > 0 }
      gate.open()
      // The listener must be there first, or nobody hears the result: the agent may come back at once.
      agent.stop()
      try broker.start()
      let listener = try Listener(broker, results + "#")
      let second = try RunningAgent(broker)
      #expect(try listener.first("the result")["status"] == "ok")
      second.stop()
    }

    @Test func aWrongPasswordIsSaidAndTriedAgain() throws {
      let broker = try Broker(settings: "allow_anonymous false\npassword_file /tmp/none", isRunning: false)
      let passwords = broker.path("passwords")
      func setPassword(_ password: String) throws {
        #expect(try execute("/usr/bin/mosquitto_passwd", ["-c", "-b", passwords, "gateway", password]).status == 0)
        chmod(passwords, 0o644)
      }
      try setPassword("right")
      let locked = try Broker(settings: "allow_anonymous false\npassword_file \(passwords)")
      let agent = try RunningAgent(locked, environment: ["STERNA_MQTT_PASSWORD": "wrong"], mqtt: "username = \"gateway\"")
      try eventually("the agent says so") { agent.log.count("does not let user \"gateway\" in") > 0 }
      #expect(!agent.log.text.contains("wrong"))
      try setPassword("wrong")
      locked.kill()
      try locked.start()
      try eventually("the agent is let in") { agent.log.count("connected to") > 0 }
      agent.stop()
    }

    @Test func acceptedJobsSurviveKill9() throws {
      let broker = try Broker()
      let listener = try Listener(broker, "sterna/test/#")
      var helper = try HelperProcess(broker)
      try listener.wait("online") { $0["state"] == "online" }
      for i in 0..<10 { try publish(broker, jobs + "classify", classify("k\(i)")) }
      // mosquitto_pub has the broker's acknowledgement, which proves nothing; the journal does.
      try eventually("the jobs are in the journal") {
        let bytes = ["", "-wal"].compactMap { FileManager.default.contents(atPath: broker.path("journal.sqlite" + $0)) }
        return (0..<10).allSatisfy { i in bytes.contains { $0.range(of: Data("k\(i)".utf8)) != nil } }
      }
      helper.send(SIGKILL)
      _ = helper.end()
      try listener.wait("the last will") { $0["state"] == "offline" }
      helper = try HelperProcess(broker)
      helper.openGate()
      for i in 0..<10 { try listener.wait("the result of k\(i)") { $0.topic == results + "k\(i)" && $0["status"] == "ok" } }
      for i in 0..<10 {
        #expect(Set(listener.all.filter { $0.topic == results + "k\(i)" }.map(\.payload)).count == 1, "repeats are the same bytes")
      }
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
    }

    @Test func sigtermLeavesStoppedBehindAndKeepsJobs() throws {
      let broker = try Broker()
      let listener = try Listener(broker, "sterna/test/#")
      let helper = try HelperProcess(broker)
      try listener.wait("online") { $0["state"] == "online" }
      try publish(broker, jobs + "classify", classify("one"))
      try publish(broker, jobs + "classify", classify("two"))
      try eventually("the jobs are in the journal") {
        FileManager.default.contents(atPath: broker.path("journal.sqlite-wal"))?.range(of: Data("\"two\"".utf8)) != nil
      }
      helper.send(SIGTERM)
      try listener.wait("draining") { $0["state"] == "draining" }
      helper.openGate()  // the running job may end
      #expect(helper.end() == 0)
      try listener.wait("stopped") { $0["state"] == "stopped" }
      let late = try Listener(broker, "sterna/test/state")
      #expect(try late.first("the retained state")["state"] == "stopped")
      #expect(listener.all.contains { $0.topic == results + "one" })
      // The other one was kept.
      let agent = try RunningAgent(broker)
      try listener.wait("the second result") { $0.topic == results + "two" }
      agent.stop()
    }

    @Test func aSecondSignalEndsTheAgentAtOnce() throws {
      let broker = try Broker()
      let listener = try Listener(broker, "sterna/test/state")
      let helper = try HelperProcess(broker)
      try listener.wait("online") { $0["state"] == "online" }
      try publish(broker, jobs + "classify", classify("stuck"))
      try eventually("the job is in the journal") {
        FileManager.default.contents(atPath: broker.path("journal.sqlite-wal"))?.range(of: Data("stuck".utf8)) != nil
      }
      helper.send(SIGINT)
      try listener.wait("draining") { $0["state"] == "draining" }
      helper.send(SIGINT)
      #expect(helper.end() == 128 + SIGINT)
    }

    @Test func aJournalThatCannotBeWrittenLosesNothing() throws {
      let broker = try Broker()
      let listener = try Listener(broker, "sterna/test/#")
      let helper = try HelperProcess(broker)
      helper.openGate()
      try listener.wait("online") { $0["state"] == "online" }
      let limit = { (bytes: String) in try execute("/usr/bin/prlimit", ["--pid", "\(helper.process.processIdentifier)", "--fsize=\(bytes):unlimited"]) }
      #expect(try limit("100").status == 0)
      try publish(broker, jobs + "classify", classify("patient"))
      let state = try listener.first("degraded") { $0["state"] == "degraded" }
      #expect(state["reason"] != nil)
      #expect(try limit("unlimited").status == 0)
      try listener.wait("the result, once the disk is back") { $0.topic == results + "patient" && $0["status"] == "ok" }
      try eventually("online again") { listener.all.last { $0.topic.hasSuffix("/state") }?["state"] == "online" }
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
    }

    @Test func aDamagedJournalIsSetAsideAndSaid() throws {
      let broker = try Broker()
      try Data(repeating: 0x5A, count: 8192).write(to: URL(fileURLWithPath: broker.path("journal.sqlite")))
      let agent = try RunningAgent(broker)
      try online(broker, state: "degraded")
      #expect(agent.log.text.contains("damaged"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: broker.folder).contains { $0.hasPrefix("journal.sqlite.damaged-") })
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("goes-on"))
      try listener.wait("the result")
      agent.stop()
    }

    /// systemd's state directory of a dynamic user is reached through a link; a link in place of the file is somebody's trick.
    @Test func theJournalsFolderMayBeALinkAndTheFileMayNot() throws {
      let broker = try Broker()
      try FileManager.default.createDirectory(atPath: broker.path("private"), withIntermediateDirectories: true)
      try FileManager.default.createSymbolicLink(atPath: broker.path("state"), withDestinationPath: "private")
      let agent = try RunningAgent(broker, journal: "state/journal.sqlite")
      try online(broker)
      agent.stop()
      #expect(FileManager.default.fileExists(atPath: broker.path("private/journal.sqlite")))
      try FileManager.default.createSymbolicLink(atPath: broker.path("link.sqlite"), withDestinationPath: "private/journal.sqlite")
      let second = try RunningAgent(broker, journal: "link.sqlite")
      try eventually("the link is refused") { second.log.text.contains("thrown:") && second.log.text.contains("link.sqlite") }
      second.stop()
    }

    @Test func theJournalIsForItsOwnerOnlyAndForOneAgent() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      for name in ["journal.sqlite", "journal.sqlite-wal"] {
        let mode = try FileManager.default.attributesOfItem(atPath: broker.path(name))[.posixPermissions] as? Int
        #expect(mode == 0o600, "\(name)")
      }
      let second = try HelperProcess(broker)  // locks between processes
      #expect(second.end() == 1)
      agent.stop()
    }

    @Test func anEngineThatCannotBeMadeIsAnErrorOfRun() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker) { throw SternaError(.badFile, "this model is damaged") }
      try eventually("run() throws it") { agent.log.text.contains("thrown: this model is damaged") }
      agent.stop()
    }

    @Test func anIdleAgentWakesAtMostTwiceASecondAndWritesNothing() throws {
      let broker = try Broker()
      let listener = try Listener(broker, "sterna/test/+")
      let helper = try HelperProcess(broker)
      helper.openGate()
      try listener.wait("health") { $0.topic.hasSuffix("/health") }
      try publish(broker, jobs + "classify", classify("warm"))
      func wakeups() throws -> Int {
        let tasks = "/proc/\(helper.process.processIdentifier)/task"
        return try FileManager.default.contentsOfDirectory(atPath: tasks).reduce(0) { sum, task in
          let status = try String(contentsOfFile: "\(tasks)/\(task)/status", encoding: .utf8)
          let line = status.split(separator: "\n").first { $0.hasPrefix("voluntary_ctxt_switches") }
          return sum + (line.flatMap { Int($0.split(separator: "\t").last ?? "") } ?? 0)
        }
      }
      sleep(4)  // the acknowledgements of the warm-up are written down by then
      func written() throws -> [Substring] {
        try String(contentsOfFile: "/proc/\(helper.process.processIdentifier)/io", encoding: .utf8).split(separator: "\n").filter { $0.hasPrefix("write_bytes") }
      }
      func changed() throws -> [Date?] {
        try ["journal.sqlite", "journal.sqlite-wal"].map { try FileManager.default.attributesOfItem(atPath: broker.path($0))[.modificationDate] as? Date }
      }
      let before = (wakeups: try wakeups(), written: try written(), changed: try changed())
      sleep(5)
      #expect(try wakeups() - before.wakeups <= 10)
      #expect(try written() == before.written)
      #expect(try changed() == before.changed)
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
    }

    @Test func infoAndHealthAreThere() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Tasks.toml)
      let listener = try Listener(broker, "sterna/test/+")
      let info = try listener.first("info") { $0.topic.hasSuffix("/info") }
      #expect(info["model.name"] == "fake")
      #expect(info["limits.labels"] == 1000)
      try listener.wait("health") { $0.topic.hasSuffix("/health") && $0["queue"] == 0 }
      agent.stop()
    }
  }
}
