import Basics
import Foundation
import Jobs
import Testing

extension WithBroker {
  /// SIGHUP and `systemctl reload`.
  @Suite(.serialized) struct Reload {
    static func task(_ name: String, _ input: String, labels: String = #""leak", "noise""#) -> String {
      """
      [[tasks]]
      name = "\(name)"
      kind = "classify"
      input = "\(input)"
      output = "out/\(name)"
      labels = [\(labels)]

      """
    }

    @Test func tasksChangeWhileJobsAndTheConnectionGoOn() throws {
      let broker = try Broker()
      let systemd = NotifySocket(broker.path("notify"))
      let gate = Gate()
      let agent = try RunningAgent(broker, Self.task("old", "old/+") + Self.task("both", "both/+"), environment: ["NOTIFY_SOCKET": broker.path("notify")], engine: gate.engine)
      try online(broker)
      let listener = try Listener(broker, "out/#")
      let states = try Listener(broker, "sterna/test/state")
      let infos = try Listener(broker, "sterna/test/info")
      try publish(broker, "old/1", "under way")
      try eventually("the engine has it") { gate.count == 1 }
      try publish(broker, "both/1", "next at the engine")
      try publish(broker, "both/2", "in the queue")

      agent.reload(RunningAgent.toml(broker, Self.task("both", "both/+", labels: #""drip", "hum""#) + Self.task("new", "new/+")))
      try infos.wait("the new tasks are said") { $0.payload.contains("new/+") && !$0.payload.contains("old/+") }
      let lines = systemd.read()
      let begun = try #require(lines.firstIndex(of: "RELOADING=1"))
      #expect(lines[begun + 1].hasPrefix("MONOTONIC_USEC="))
      try eventually("ready again") { systemd.count("READY=1") == 2 }

      try publish(broker, "old/2", "nobody listens any more")
      try publish(broker, "new/1", "somebody listens now")
      gate.open()
      #expect(try listener.first("the new task") { $0.topic == "out/new" }["result.label"] == "leak")
      #expect(try listener.first("the job that ran") { $0.topic == "out/old" }["result.label"] == "leak")
      #expect(try listener.first("the job that waited") { $0["meta.topic"] == "both/2" }["result.label"] == "drip", "as the task is now")
      try publish(broker, "both/3", "still")
      try listener.wait("the task that stayed", count: 3) { $0.topic == "out/both" }
      #expect(listener.all.count { $0.topic == "out/old" } == 1)
      #expect(states.all.allSatisfy { $0["state"] == "online" })
      #expect(agent.log.count("info: connected to") == 1)
      agent.stop()
    }

    /// Nobody is left to say what they mean; but nothing is lost without a word.
    @Test func jobsOfATaskThatGoesAreAnswered() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, Self.task("one", "one/+"), engine: gate.engine)
      try online(broker)
      let listener = try Listener(broker, "out/#")
      for i in 0..<4 { try publish(broker, "one/\(i)", "text \(i)") }
      try listenHealth(broker, accepted: 4, agent)
      agent.reload(RunningAgent.toml(broker))
      try eventually("it is gone") { agent.log.text.contains("read again; 0 tasks") }
      gate.open()
      let answers = try listener.wait("all are answered", count: 4)
      #expect(answers.contains { $0["status"] == "ok" } && answers.contains { $0["error.code"] == "unknown_task" && $0.payload.contains("does not have this task any more") })
      #expect(answers.allSatisfy { $0["status"] == "ok" || $0["error.code"] == "unknown_task" })
      agent.stop()
    }

    @Test func aMistakeChangesNothingAndIsSaid() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.task("alarms", "plant/+"))
      try online(broker)
      let states = try Listener(broker, "sterna/test/state")
      let listener = try Listener(broker, "out/#")
      agent.reload(RunningAgent.toml(broker, Self.task("alarms", "plant/#/wrong")))
      let word = try states.first("the reason") { $0["reason"] != nil }
      #expect(word["state"] == "online", "it works as before")
      guard case .string(let reason)? = word["reason"] else { return }
      #expect(reason.contains("tasks[0].input") && reason.contains("line"), "\(reason)")
      #expect(agent.log.count("error: the changed configuration is not in use") == 1)
      try publish(broker, "plant/1", "as before")
      try listener.wait("the old task")
      agent.reload(RunningAgent.toml(broker, Self.task("alarms", "factory/+")))
      try states.wait("no reason any more") { !$0.isRetained && $0["reason"] == nil }
      try publish(broker, "factory/1", "as put right")
      try listener.wait("the new input", count: 2)
      agent.stop()
    }

    @Test func whatNeedsARestartIsSaid() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      agent.reload(RunningAgent.toml(broker, "[limits]\nqueue_jobs = 7\n[memory]\nlimit_mb = 64", mqtt: "keepalive_s = 77"))
      try eventually("it is said") { agent.log.count("what changed in [mqtt], [memory], [limits] needs a restart") == 1 }
      agent.stop()
    }

    /// The file's own names are those of the next start; in use are those of the last.
    @Test func aTaskThatWouldFeedTheAgentItselfIsRefused() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let file = RunningAgent.toml(broker, Self.task("echo", "sterna/test/results/+")).replacingOccurrences(of: #"id = "test""#, with: #"id = "other""#)
      agent.reload(file)
      try eventually("it is refused") { agent.log.count("would feed the agent's own messages back") == 1 }
      agent.stop()
    }

    /// The broker keeps filters for days: those of tasks that are gone since the last start are taken back.
    @Test(arguments: ["5", "3.1.1"]) func aTaskThatIsGoneAtTheNextStartIsNotListenedToAnyMore(version: String) throws {
      let broker = try Broker()
      let mqtt = "version = \"\(version)\""
      // The broker says whether anybody listens.
      func isHeard(_ topic: String) throws -> Bool {
        let said = try execute("/usr/bin/mosquitto_pub", ["-d", "-V", "mqttv5", "-p", "\(broker.port)", "-q", "1", "-t", topic, "-m", "x"]).output
        #expect(said.contains("RC:0") != said.contains("RC:16"), "\(said)")
        return said.contains("RC:0")
      }
      let escalating = Self.task("one", "one/+") + "[tasks.escalate]\npool = \"large\"\nbelow = 0.5\n"
      let replies = version == "5" ? "sterna/clients/sterna-test/replies/escalated" : "sterna/pool/large/results/x"
      let first = try RunningAgent(broker, escalating + Self.task("two", "two/+"), mqtt: mqtt)
      try online(broker)
      first.stop()
      #expect(try isHeard("one/1") && isHeard("two/1") && isHeard(replies))
      let second = try RunningAgent(broker, Self.task("two", "two/+"), mqtt: mqtt)
      try online(broker)
      try eventually("nobody listens") { try !isHeard("one/1") && !isHeard(replies) }
      #expect(try isHeard("two/1"))
      // A task that comes back is listened to again.
      second.reload(RunningAgent.toml(broker, Self.task("one", "one/+"), mqtt: mqtt))
      try eventually("one is back, two is gone") { try isHeard("one/1") && !isHeard("two/1") }
      second.stop()
      #expect(try isHeard("one/1") && !isHeard("two/1"))
    }

    @Test func whatTheBrokerKeptForATaskReachesItUnderAnotherConfiguration() throws {
      let broker = try Broker()
      let first = try RunningAgent(broker, Self.task("one", "one/+") + Self.task("two", "two/+"))
      try online(broker)
      first.stop()
      try publish(broker, "two/1", "while the agent is away")
      let listener = try Listener(broker, "out/#")
      let second = try RunningAgent(broker, Self.task("two", "two/+"))
      #expect(try listener.first("the answer").topic == "out/two")
      second.stop()
    }
  }
}
