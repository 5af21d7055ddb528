import Basics
import Foundation
import Jobs
import Testing

extension WithBroker {
  /// Who waits for whom, and for how long.
  @Suite(.serialized) struct Fairness {
    /// The first answers, in the order in which they were sent.
    private func answers(_ listener: Listener, count: Int) throws -> [Listener.Message] {
      try listener.wait("\(count) answers", count: count) { $0["status"] != nil }
    }

    private func isFlood(_ answer: Listener.Message) -> Bool { answer["task"] == "alarms" }

    @Test func aFloodOfOneTaskDoesNotStarveAnother() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, Tasks.toml, engine: gate.engine)
      try online(broker)
      let listener = try Listener(broker, "#")
      try publish(broker, "plant/2/alarm", "oil on the floor", arguments: ["--repeat", "300"])
      try listenHealth(broker, accepted: 300, agent)
      try publish(broker, "plant/2/order", #"{"order":{"number":17,"text":"Grinder needs oil"}}"#)
      try listenHealth(broker, accepted: 301, agent)
      for id in ["one", "two"] { try publish(broker, jobs + "classify", classify(id), arguments: ["-D", "publish", "response-topic", "sterna/clients/\(id)/replies/1"]) }
      try listenHealth(broker, accepted: 303, agent)
      gate.open()
      // Each job of a client is answered twice.
      let order = try answers(listener, count: 305)
      // Two alarms are at the engine, and each source has its turn.
      let first = order.filter { !$0.topic.hasPrefix("sterna/clients/") }.prefix(6)
      #expect(first.filter(isFlood).count == 3, "\(first.map(\.topic))")
      #expect(order.filter(isFlood).count == 300)
      agent.stop()
    }

    @Test func turnsAreTakenAfterARestartToo() throws {
      let broker = try Broker()
      let gate = Gate()
      var agent = try RunningAgent(broker, Tasks.toml, engine: gate.engine)
      try online(broker)
      try publish(broker, "plant/2/alarm", "oil on the floor", arguments: ["--repeat", "50"])
      try listenHealth(broker, accepted: 50, agent)
      try publish(broker, "plant/2/order", #"{"order":{"number":17,"text":"Grinder needs oil"}}"#)
      try publish(broker, jobs + "classify", classify("one"))
      try listenHealth(broker, accepted: 52, agent)
      agent.stop()
      let listener = try Listener(broker, "#")
      agent = try RunningAgent(broker, Tasks.toml)
      let order = try answers(listener, count: 52)
      #expect(order.prefix(3).filter(isFlood).count == 1, "\(order.prefix(3).map(\.topic))")
      agent.stop()
    }

    @Test func aWaitingJobIsToldWhenItsTimeIsOver() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, engine: gate.engine)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("runs"))
      try eventually("the first runs") { gate.count == 1 }
      let short = ",\"options\":{\"ttl_ms\":100},\"meta\":\"mine\""
      try publish(broker, jobs + "classify", classify("next", more: short))
      try publish(broker, jobs + "classify", classify("behind"))
      try publish(broker, jobs + "classify", classify("last", more: short))
      // Nothing moves: the first still runs.
      let expired = try listener.wait("both", count: 2)
      #expect(Set(expired.map(\.topic)) == [results + "next", results + "last"])
      for answer in expired {
        #expect(answer["error.code"] == "expired" && answer["error.http"] == 410)
        #expect(answer["meta"] == "mine")
      }
      gate.open()
      let all = try listener.wait("the others", count: 4)
      #expect(all.filter { $0["status"] == "ok" }.map(\.topic) == [results + "runs", results + "behind"])
      agent.stop()
    }

    @Test func aRunningJobEndsWithItsTime() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, engine: gate.engine)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("slow", more: ",\"options\":{\"ttl_ms\":3000}"))
      try publish(broker, jobs + "classify", classify("next"))
      try eventually("it runs") { gate.count >= 1 }
      let late = try listener.first("its end")
      #expect(late.topic == results + "slow")
      #expect(late["error.code"] == "deadline" && late["error.http"] == 408)
      #expect(!gate.isPassable)
      gate.open()
      try listener.wait("the next") { $0.topic == results + "next" && $0["status"] == "ok" }
      agent.stop()
    }
  }
}
