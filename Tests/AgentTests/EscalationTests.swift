import Agent
import Basics
import Foundation
import Glibc
import Jobs
import Testing

extension WithBroker {
  /// Answers that are not the last word until a pool was asked.
  @Suite(.serialized) struct Escalating {
    static func task(_ escalate: String) -> String {
      """
      [[tasks]]
      name = "alarms"
      kind = "classify"
      input = "plant/alarm"
      output = "out/alarms"
      labels = ["leak", { name = "noise", description = "only loud" }]
      options = { alternatives = 1 }
      [tasks.escalate]
      pool = "large"
      \(escalate)
      """
    }

    static let member = "[pool]\nnames = [\"large\"]"

    /// An engine that gives the first label this score.
    static func unsure(_ score: Float) -> @Sendable () -> any JobRunner {
      { FakeEngine { _, _ in Outcome(.success(.classification(.init(scores: [("leak", score), ("noise", 1 - score)], best: 0)))) } }
    }

    static func failing(_ code: String = "no_valid_output") -> @Sendable () -> any JobRunner {
      { FakeEngine { _, _ in Outcome(.failure(SternaError(.init(rawValue: code), "the model has no answer"))) } }
    }

    /// An agent with a large model, which says noise.
    static func large(_ broker: Broker, engine: @escaping Agent.EngineFactory = Escalating.sure) throws -> RunningAgent {
      let agent = try RunningAgent(broker, member, journal: "large.sqlite", id: "large", engine: engine)
      let listener = try Listener(broker, "sterna/large/health")
      try eventually("it is in its pool") { listener.all.last?["pools"] == (["large"] as JSON) }
      return agent
    }

    static let sure: @Sendable () -> any JobRunner = {
      FakeEngine { _, _ in Outcome(.success(.classification(.init(scores: [("leak", 0.25), ("noise", 0.75)], best: 1)))) }
    }

    @Test func anUnsureAnswerIsProvisionalUntilThePoolHasSpoken() throws {
      let broker = try Broker()
      let pool = try Self.large(broker)
      let asked = try Listener(broker, "sterna/pool/large/jobs/+")
      let agent = try RunningAgent(broker, Self.task("below = 0.6"), engine: Self.unsure(0.5))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      try publish(broker, "plant/alarm", "oil on the floor")
      let both = try listener.wait("both answers", count: 2)
      #expect(both[0]["provisional"] == true && both[0]["result.label"] == "leak")
      #expect(both[0]["escalation.reason"] == "confidence" && both[0]["escalation.confidence"] == JSON.number(0.5 as Double) && both[0]["escalation.below"] == JSON.number(0.6 as Double))
      #expect(both[1]["provisional"] == nil && both[1]["result.label"] == "noise" && both[1]["status"] == "ok")
      #expect(both[1]["escalation.agent"] == "large" && both[1]["escalation.reason"] == "confidence" && both[1]["agent"] == "test")
      for name in ["id", "task", "meta.topic", "received_at", "escalation.pool"] { #expect(both[0][name] != nil && both[0][name] == both[1][name], "\(name)") }
      // What the pool is asked is what the task asks.
      let question = try asked.first("the question")
      #expect(question["input"] == "oil on the floor" && question["options.alternatives"] == 1 && question["options.ttl_ms"] == 60000)
      #expect(question["labels"] == (["leak", ["name": "noise", "description": "only loud"]] as JSON))
      #expect(question["id"] != both[0]["id"])
      #expect(listener.all.count == 2 && asked.all.count == 1)
      agent.stop()
      pool.stop()
    }

    @Test func aSureAnswerStays() throws {
      let broker = try Broker()
      let asked = try Listener(broker, "sterna/pool/#")
      let agent = try RunningAgent(broker, Self.task("below = 0.5"), engine: Self.unsure(0.5))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      for _ in 0..<2 { try publish(broker, "plant/alarm", "oil on the floor") }
      #expect(try listener.wait("both", count: 2).allSatisfy { $0["provisional"] == nil && $0["escalation"] == nil })
      #expect(asked.all.isEmpty)
      agent.stop()
    }

    /// No valid answer, or none in time, begun or not.
    @Test(arguments: ["no_valid_output", "deadline", "expired"]) func aModelWithoutAnAnswerAsksToo(code: String) throws {
      let broker = try Broker()
      let pool = try Self.large(broker)
      let agent = try RunningAgent(broker, Self.task("below = 0.1"), engine: Self.failing(code))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      try publish(broker, "plant/alarm", "oil on the floor")
      let both = try listener.wait("both answers", count: 2)
      #expect(both[0]["status"] == "error" && both[0]["error.code"] == .string(code) && both[0]["provisional"] == true)
      #expect(both[1]["status"] == "ok" && both[1]["result.label"] == "noise" && both[1]["error"] == nil && both[1]["escalation.reason"] == .string(code))
      agent.stop()
      pool.stop()
    }

    @Test func aPoolWithoutAnAnswerLeavesTheLocalOne() throws {
      let broker = try Broker()
      let pool = try Self.large(broker, engine: Self.failing())
      let agent = try RunningAgent(broker, Self.task("below = 0.6\nfailures = 1"), engine: Self.unsure(0.5))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      // Twice: that the pool has no answer to a text does not keep the next one from it.
      for i in 1...2 {
        try publish(broker, "plant/alarm", "oil on the floor")
        let answers = try listener.wait("both answers", count: 2 * i)
        #expect(answers[2 * i - 2]["provisional"] == true)
        #expect(answers[2 * i - 1]["provisional"] == nil && answers[2 * i - 1]["result.label"] == "leak" && answers[2 * i - 1]["escalation.failed"] == "no_valid_output")
      }
      agent.stop()
      pool.stop()
    }

    /// Nobody is in the pool: the first job waits for its time, the next are spared, and one at a time sees whether the pool is back.
    @Test func aPoolThatDoesNotAnswerIsLeftAloneForAWhile() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.task("below = 0.6\ntimeout_s = 1\nfailures = 1\npause_s = 3"), engine: Self.unsure(0.5))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      let asked = try Listener(broker, "sterna/pool/large/jobs/+")
      try publish(broker, "plant/alarm", "first")
      let first = try listener.wait("both answers", count: 2)
      #expect(first[0]["provisional"] == true)
      #expect(first[1]["provisional"] == nil && first[1]["escalation.failed"] == "timeout" && first[1]["result.label"] == "leak")
      try publish(broker, "plant/alarm", "second")
      let second = try #require(try listener.wait("the second", count: 3).last)
      #expect(second["provisional"] == nil && second["escalation.failed"] == "paused")
      #expect(asked.all.allSatisfy { $0["input"] == "first" } && !asked.all.isEmpty)
      #expect(agent.log.count("warning: the pool large has no answer: timeout") == 1, "\(agent.log.text)")
      let pool = try Self.large(broker)
      var count = 3
      try eventually("a job reaches the pool again") {
        try publish(broker, "plant/alarm", "again")
        count += 1
        return try listener.wait("an answer", count: count).contains { $0["provisional"] == true && $0["received_at"] != first[0]["received_at"] }
      }
      try listener.wait("the pool's answer") { $0["escalation.agent"] == "large" }
      agent.stop()
      pool.stop()
    }

    @Test func aDayHasItsBudgetAlsoAfterARestart() throws {
      let broker = try Broker()
      let pool = try Self.large(broker)
      let listener = try Listener(broker, "out/alarms")
      for i in 0..<2 {
        let agent = try RunningAgent(broker, Self.task("below = 0.6\ndaily = 1"), engine: Self.unsure(0.5))
        try online(broker)
        try publish(broker, "plant/alarm", "number \(i)")
        try listener.wait("the final answer", count: i + 1) { $0["provisional"] == nil }
        agent.stop()
      }
      let final = listener.all.filter { $0["provisional"] == nil }
      #expect(final[0]["escalation.agent"] == "large" && final[0]["escalation.failed"] == nil)
      #expect(final[1]["escalation.failed"] == "budget" && final[1]["result.label"] == "leak")
      pool.stop()
    }

    @Test func aKilledAgentGoesOnAskingAfterItsRestart() throws {
      let broker = try Broker()
      let toml = Self.task("below = 0.6")
      var helper = try HelperProcess(broker, toml)
      helper.openGate()
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      for i in 0..<5 { try publish(broker, "plant/alarm", "unsure about \(i)") }
      try listener.wait("the provisional answers", count: 5) { $0["provisional"] == true }
      helper.send(SIGKILL)
      _ = helper.end()
      let pool = try Self.large(broker)
      helper = try HelperProcess(broker, toml)
      try listener.wait("the final answers", count: 5) { $0["provisional"] == nil && $0["escalation.agent"] == "large" }
      let ids = { (isFinal: Bool) in Set(listener.all.filter { ($0["provisional"] == nil) == isFinal }.compactMap { $0["id"]?.compact }) }
      #expect(ids(true).count == 5 && ids(true) == ids(false))
      for id in ids(true) { #expect(Set(listener.all.filter { $0["id"]?.compact == id }.map(\.payload)).count == 2, "one provisional answer, one final") }
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
      pool.stop()
    }

    @Test func oldMQTTAsksAsWell() throws {
      let broker = try Broker()
      let pool = try Self.large(broker)
      let agent = try RunningAgent(broker, Self.task("below = 0.6"), mqtt: "version = \"3.1.1\"", engine: Self.unsure(0.5))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      try publish(broker, "plant/alarm", "oil on the floor")
      #expect(try listener.first("the final answer") { $0["provisional"] == nil }["result.label"] == "noise")
      agent.stop()
      pool.stop()
    }

    /// A pool that does not answer gets nothing for a while, then one job to see.
    @Test func aPoolThatFailsIsLeftAloneAndTriedAgain() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.task("below = 0.6\ntimeout_s = 1\nfailures = 2\npause_s = 4"), engine: Self.unsure(0.5))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      let asked = try Listener(broker, "sterna/pool/large/jobs/+")
      func ask(_ text: String) throws -> Listener.Message {
        let before = listener.all.count { $0["provisional"] == nil }
        try publish(broker, "plant/alarm", text)
        return try #require(listener.wait("the last word on \(text)", count: before + 1) { $0["provisional"] == nil }.last)
      }
      for text in ["first", "second"] { #expect(try ask(text)["escalation.failed"] == "timeout") }
      #expect(try ask("third")["escalation.failed"] == "paused")
      #expect(Set(asked.all.compactMap { $0["input"]?.compact }) == ["\"first\"", "\"second\""])
      let health = try Listener(broker, "sterna/test/response/health_check")
      try publish(broker, "sterna/test/request/health_check", "")
      let said = try health.first("health")
      #expect(said["data.escalations.paused"] == (["large"] as JSON) && said["data.escalations.failed"] == 2 && said["data.escalations.open"] == 0)
      let pool = try Self.large(broker)
      // Until the pause is over each is the agent's own business; the first one after it is answered by the pool, and so are those that follow.
      try eventually("the pool is asked again") { try ask("later")["escalation.agent"] == "large" }
      #expect(try ask("at last")["escalation.agent"] == "large")
      agent.stop()
      pool.stop()
    }

    @Test func aBreakerOpensAfterFailuresInARowAndEachTimeForLonger() {
      let settings = Breaker.Settings(failures: 2, pause: 1000)
      var breaker = Breaker()
      breaker.failed(0, settings)
      #expect(breaker.isClosed && breaker.admits(0))
      breaker.failed(10, settings)
      #expect(!breaker.isClosed && !breaker.admits(1009))
      // Late failures of jobs from before change nothing.
      breaker.failed(500, settings)
      #expect(breaker.admits(1010) && !breaker.admits(1011), "one job to see")
      breaker.failed(2000, settings)
      #expect(!breaker.admits(3999) && breaker.admits(4000) && !breaker.admits(4001), "twice as long")
      // The job that was out to see was cancelled: the next one may go.
      breaker.learnedNothing(5000)
      #expect(!breaker.isClosed && breaker.admits(5000))
      var now = 5000
      for _ in 0..<20 {
        breaker.failed(now, settings)
        #expect(!breaker.admits(now + 1999) && breaker.admits(now + 3_600_000), "at most an hour")
        now += 3_600_000
      }
    }

    @Test func aCancelledQuestionLeavesTheLocalAnswer() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.task("below = 0.6\ntimeout_s = 600\nfailures = 1"), engine: Self.unsure(0.5))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      let asked = try Listener(broker, "sterna/pool/large/jobs/+")
      let responses = try Listener(broker, "sterna/test/response/#")
      try publish(broker, "plant/alarm", "oil on the floor")
      let provisional = try listener.first("the provisional answer")
      try asked.wait("the question")
      let id = try #require(provisional["id"]).compact
      try publish(broker, "sterna/test/request/job/get", "{\"id\":\(id)}")
      #expect(try responses.first("what is known") { $0.topic.hasSuffix("job/get") }["data.state"] == "escalated")
      try publish(broker, "sterna/test/request/job/cancel", "{\"id\":\(id)}")
      #expect(try responses.first("the answer") { $0.topic.hasSuffix("job/cancel") }["data.state"] == "escalated")
      let last = try listener.first("the last word") { $0["provisional"] == nil }
      #expect(last["escalation.failed"] == "cancelled" && last["result.label"] == "leak" && last["id"] == provisional["id"])
      try publish(broker, "sterna/test/request/job/cancel", "{\"id\":\(id),\"transaction\":2}")
      #expect(try responses.first("too late") { $0["transaction"] == 2 }["data.state"] == "finished")
      // It was nobody's fault: the pool is asked the next time, although one failure is enough to be left alone.
      try publish(broker, "plant/alarm", "smoke")
      try asked.wait("the next question", count: 2)
      agent.stop()
    }

    /// What nobody was asked is no answer, and no answer at all does not count as one.
    @Test func forgedAndBrokenAnswersChangeNothing() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.task("below = 0.6\ntimeout_s = 600"), engine: Self.unsure(0.5))
      try online(broker)
      let listener = try Listener(broker, "out/alarms")
      let asked = try Listener(broker, "sterna/pool/large/jobs/+")
      try publish(broker, "plant/alarm", "oil on the floor")
      let question = try asked.first("the question")
      let replies = "sterna/clients/sterna-test/replies/escalated"
      try publish(broker, replies, #"{"id":"x","status":"ok","result":{}}"#)
      try publish(broker, replies, "not JSON")
      try publish(broker, replies, "\u{0}")
      guard case .string(let id)? = question["id"] else { throw Late(description: "no id") }
      try publish(broker, replies, #"{"id":"\#(id)","status":"accepted"}"#)
      // A full pool is asked again.
      try publish(broker, replies, #"{"id":"\#(id)","status":"error","error":{"code":"queue_full","http":503,"retry_after_ms":0}}"#)
      try asked.wait("the same again", count: 2) { $0.payload == question.payload }
      #expect(listener.all.count == 1)
      // An answer without a result is none.
      try publish(broker, replies, #"{"id":"\#(id)","status":"ok"}"#)
      #expect(try listener.first("the local answer") { $0["provisional"] == nil }["escalation.failed"] == "bad_answer")
      agent.stop()
    }

    @Test(arguments: [
      ("pool = \"Large\"", "escalate.pool"), ("pool = \"line\"\nbelow = 0.5", "would ask itself"), ("pool = \"large\"\non = []", "would never happen"),
      ("pool = \"large\"\non = [\"bad_json\"]", "escalate.on[0]"), ("pool = \"large\"\nbelow = 1.5", "escalate.below"), ("pool = \"large\"\nbelo = 0.5", "did you mean below"),
    ])
    func aConfigurationThatCannotWorkIsRefused(keys: String, part: String) throws {
      let toml = """
        [model]
        path = "none"
        [pool]
        names = ["line"]
        [[tasks]]
        name = "alarms"
        kind = "classify"
        input = "plant/alarm"
        output = "out/alarms"
        labels = ["leak", "noise"]
        [tasks.escalate]
        \(keys)
        """
      let error = #expect(throws: SternaError.self) { try AgentConfiguration.parse(toml, name: "test", environment: [:]) }
      #expect("\(try #require(error))".contains(part), "\(error.map { "\($0)" } ?? "")")
    }
  }
}
