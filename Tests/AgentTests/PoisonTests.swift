import Foundation
import Glibc
import Testing

extension WithBroker {
  /// Who is to blame when the agent dies.
  @Suite(.serialized) struct Poison {
    /// What the helper's engine was given so far, in all of its lives.
    private func runs(_ helper: HelperProcess) -> [Substring] {
      (try? String(contentsOfFile: helper.gate + ".runs", encoding: .utf8))?.split(separator: "\n") ?? []
    }

    @Test func aJobThatKillsTheAgentThreeTimesAloneIsPoisoned() throws {
      let broker = try Broker()
      let listener = try Listener(broker, results + "#")
      var helper = try HelperProcess(broker)
      try online(broker)
      for (id, input) in [("good-1", "a"), ("bad", "deadly"), ("good-2", "b"), ("good-3", "c")] { try publish(broker, jobs + "classify", classify(id, input)) }
      helper.openGate()
      var deaths = 0
      while deaths < 10, !listener.all.contains(where: { $0.topic == results + "bad" }) {
        if helper.process.isRunning {
          usleep(5000)
          continue
        }
        deaths += 1
        helper = try HelperProcess(broker)
      }
      let answer = try listener.first("the answer") { $0.topic == results + "bad" }
      #expect(answer["error.code"] == "poisoned")
      #expect(answer["error.http"] == 508)
      #expect(answer["error.retryable"] == false)
      #expect(answer["attempt"] == 4)
      #expect(deaths == 4, "once among others, and three times alone")
      for i in 1...3 { try listener.wait("the innocent") { $0.topic == results + "good-\(i)" && $0["status"] == "ok" } }
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
    }

    @Test func killsFromOutsideCondemnNobody() throws {
      let broker = try Broker()
      let listener = try Listener(broker, results + "#")
      var helper = try HelperProcess(broker)
      try online(broker)
      try publish(broker, jobs + "classify", classify("slow"))
      // In the first two lives the job is at the engine: in the second one alone, and at once. From then on the agent has to live first, and is not allowed to.
      for life in 1...6 {
        if life <= 2 { try eventually("the job runs") { runs(helper).count == life } } else { try online(broker) }
        helper.send(SIGKILL)
        _ = helper.end()
        helper = try HelperProcess(broker)
      }
      helper.openGate()
      let answer = try listener.first("the answer") { $0.topic == results + "slow" }
      #expect(answer["status"] == "ok")
      #expect(answer["attempt"] == 3)
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
    }

    @Test func whatRanTogetherRunsAloneAfterADeath() throws {
      let broker = try Broker()
      let helper = try HelperProcess(broker)
      try online(broker)
      for id in ["a", "b", "c"] { try publish(broker, jobs + "classify", classify(id)) }
      try eventually("a job runs") { runs(helper).count == 1 }
      // The next one is at the engine, too: not running, but nobody can tell.
      try eventually("all are in the journal") {
        ["", "-wal"].contains { FileManager.default.contents(atPath: broker.path("journal.sqlite" + $0))?.range(of: Data("\"c\"".utf8)) != nil }
      }
      helper.send(SIGKILL)
      _ = helper.end()
      let second = try HelperProcess(broker)
      try eventually("a job runs again") { runs(second).count == 2 }
      second.send(SIGKILL)
      _ = second.end()
      #expect(runs(second) == ["a", "a"])
      let listener = try Listener(broker, results + "#")
      let third = try RunningAgent(broker)
      for id in ["a", "b", "c"] { try listener.wait("the answer of \(id)") { $0.topic == results + id && $0["status"] == "ok" } }
      #expect(third.log.text.contains("died while 1 jobs were at the engine; they are tried again, each alone: a"))
      // With one death to its name it was tried when the other ones were through.
      #expect(listener.all.last?.topic == results + "a")
      third.stop()
    }

    @Test func aStopThatInterruptsAJobIsNoDeath() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, engine: gate.engine)
      try online(broker)
      try publish(broker, jobs + "classify", classify("patient"))
      try eventually("the job runs") { gate.count == 1 }
      agent.stop()
      let listener = try Listener(broker, results + "#")
      let second = try RunningAgent(broker)
      let answer = try listener.first("the answer")
      #expect(answer["status"] == "ok")
      #expect(answer["attempt"] == 2)
      #expect(second.log.count("the agent died") == 0)
      second.stop()
    }
  }
}
