import Agent
import Basics
import Foundation
import Glibc
import Testing

let poolJobs = "sterna/pool/line/jobs/"
let poolResults = "sterna/pool/line/results/"

/// Sends jobs to the pool `line` until all have their answers.
func submit(to port: Int, _ ids: [String], more: (inout Submitter.Options) -> Void = { _ in }) throws -> [String: Submitter.Reply] {
  var options = Submitter.Options()
  options.mqtt.port = port
  options.pool = "line"
  options.resendAfter = 1
  options.window = 1000
  more(&options)
  var replies: [String: Submitter.Reply] = [:]
  let jobs = ids.map { Submitter.Submission(kind: "classify", job: ["id": .string($0), "input": "oil on the floor", "labels": ["leak", "noise"], "options": ["ack": true]]) }
  try Submitter(options: options).submit(jobs) { replies[$0.id] = $1 }
  return replies
}

extension Submitter.Reply {
  subscript(name: String) -> JSON? { JSONReader(json ?? .null)[name].value }
}

extension WithBroker {
  /// Agents that share jobs.
  @Suite(.serialized) struct Pools {
    static let member = "[pool]\nnames = [\"line\"]"

    /// Waits until agents have said that they are in the pool, or out of it.
    static func wait(_ broker: Broker, for ids: [String], in pools: JSON = ["line"]) throws {
      let listener = try Listener(broker, "sterna/+/health")
      for id in ids { try eventually("\(id) is in \(pools.compact)") { listener.all.last { $0.topic == "sterna/\(id)/health" }?["pools"] == pools } }
    }

    /// Whether the journal's files hold a text.
    static func journal(of id: String, at broker: Broker, contains text: String) -> Bool {
      ["", "-wal"].contains { FileManager.default.contents(atPath: broker.path("\(id).sqlite\($0)"))?.range(of: Data(text.utf8)) != nil }
    }

    @Test func aFleetAnswersEverythingAlthoughOneOfItDiesForGood() throws {
      let broker = try Broker(settings: "allow_anonymous true\nmax_queued_messages 10000")
      let names = ["a", "b", "c", "d"]
      var agents = try names.map { try HelperProcess(broker, Self.member + "\nfull_jobs = 1000", id: $0) }
      try Self.wait(broker, for: names)
      // Nobody answers yet: each has a fourth of the jobs when the last one dies, with what it has accepted.
      let ids = (0..<200).map { "job-\($0)" }
      let (answers, port) = (Collected(), broker.port)
      Foundation.Thread.detachNewThread { answers.set(Result { try submit(to: port, ids) }) }
      try eventually("the victim has jobs") { Self.journal(of: "d", at: broker, contains: "job-") }
      agents[3].send(SIGKILL)
      _ = agents.removeLast().end()
      for agent in agents { agent.openGate() }
      try eventually("all answers", within: 60) { answers.isThere }
      let replies = try answers.get()
      #expect(Set(replies.keys) == Set(ids))
      #expect(replies.values.allSatisfy { $0["status"] == "ok" })
      let workers = Dictionary(grouping: replies.values) { $0["agent"]?.compact ?? "" }.mapValues(\.count)
      #expect(Set(workers.keys) == ["\"a\"", "\"b\"", "\"c\""])
      #expect(workers.values.allSatisfy { $0 >= 20 }, "\(workers)")
      for agent in agents { agent.send(SIGTERM) }
      for agent in agents { #expect(agent.end() == 0) }
    }

    /// The agent that has accepted a job never comes back: whoever waits for the answer gets it from another one.
    @Test func whatADeadAgentHadAcceptedIsSentAgain() throws {
      let broker = try Broker()
      let victim = try HelperProcess(broker, Self.member, id: "victim")
      try Self.wait(broker, for: ["victim"])
      let accepted = try Listener(broker, poolResults + "+")
      let (answers, port) = (Collected(), broker.port)
      // Only that agent's end can make it send again so soon.
      Foundation.Thread.detachNewThread { answers.set(Result { try submit(to: port, ["mine"]) { $0.resendAfter = 600 } }) }
      let output = broker.path("submitted")
      let command = try Child(
        buildFolder + "/sterna", ["submit", "classify", "--port", "\(port)", "--pool", "line", "--labels", "leak,noise", "--text", "oil on the floor", "--json"], output: output)
      try accepted.wait("it has accepted both", count: 2) { $0["status"] == "accepted" && $0["agent"] == "victim" }
      let heir = try HelperProcess(broker, Self.member, id: "heir")
      heir.openGate()
      try Self.wait(broker, for: ["heir"])
      #expect(!answers.isThere && command.exit == nil)
      victim.send(SIGKILL)
      _ = victim.end()
      try eventually("both have answers") { answers.isThere && command.exit != nil }
      #expect(try answers.get()["mine"]?["agent"] == "heir")
      let printed = try String(contentsOfFile: output, encoding: .utf8)
      #expect(command.exit == 0 && printed.split(separator: "\n").count == 1 && printed.contains("\"agent\":\"heir\""), "\(printed)")
      heir.send(SIGTERM)
      #expect(heir.end() == 0)
    }

    @Test func oldMQTTSharesAsWell() throws {
      let broker = try Broker()
      let names = ["old", "new"]
      let agents = try names.map { try RunningAgent(broker, Self.member, journal: "\($0).sqlite", mqtt: $0 == "old" ? "version = \"3.1.1\"" : "", id: $0) }
      try Self.wait(broker, for: names)
      let replies = try submit(to: broker.port, (0..<20).map { "job-\($0)" }) { $0.mqtt.version = .v311 }
      #expect(replies.count == 20 && Set(replies.values.map { $0["agent"]?.compact }) == ["\"old\"", "\"new\""])
      // A member that leaves is out of it over 3.1.1, too.
      try publish(broker, "sterna/old/request/queue/drain", "{}")
      try Self.wait(broker, for: ["old"], in: [])
      #expect(try submit(to: broker.port, (20..<30).map { "job-\($0)" }).values.allSatisfy { $0["agent"] == "new" })
      for agent in agents { agent.stop() }
    }

    @Test func anAgentThatIsFullLeavesItsPoolsAndComesBack() throws {
      let broker = try Broker()
      let gate = Gate()
      let busy = try RunningAgent(broker, Self.member + "\nfull_jobs = 4", journal: "busy.sqlite", id: "busy", engine: gate.engine)
      try Self.wait(broker, for: ["busy"])
      let listener = try Listener(broker, poolResults + "+")
      for i in 0..<4 { try publish(broker, poolJobs + "classify", classify("first-\(i)")) }
      try Self.wait(broker, for: ["busy"], in: [])
      // From now on all jobs are the other one's.
      let idle = try RunningAgent(broker, Self.member, journal: "idle.sqlite", id: "idle")
      try Self.wait(broker, for: ["idle"])
      for i in 0..<6 { try publish(broker, poolJobs + "classify", classify("second-\(i)")) }
      let second = try listener.wait("what the idle one answers", count: 6)
      #expect(second.allSatisfy { $0["agent"] == "idle" && $0.topic.hasPrefix(poolResults + "second-") })
      gate.open()
      try listener.wait("what was accepted", count: 4) { $0["agent"] == "busy" && $0.topic.hasPrefix(poolResults + "first-") }
      try Self.wait(broker, for: ["busy"])
      idle.stop()
      try publish(broker, poolJobs + "classify", classify("third"))
      #expect(try listener.first("the third") { $0["id"] == "third" }["agent"] == "busy")
      busy.stop()
    }

    @Test func aPoolWithoutMembersIsWaitedFor() throws {
      let broker = try Broker(settings: "allow_anonymous true\nsys_interval 1")
      let traffic = try Listener(broker, "$SYS/broker/publish/messages/received")
      func received() -> Int { traffic.all.last.flatMap { Int($0.payload) } ?? 0 }
      try traffic.wait("a first count")
      let before = received()
      let (answers, port) = (Collected(), broker.port)
      // Only what the broker says of listeners can make it send again so soon.
      Foundation.Thread.detachNewThread { answers.set(Result { try submit(to: port, ["early"]) { $0.resendAfter = 600 } }) }
      // One may be that of this listener itself.
      try eventually("the job is sent twice, and nobody takes it") { received() >= before + 3 }
      let agent = try RunningAgent(broker, Self.member)
      try eventually("the answer") { answers.isThere }
      #expect(try answers.get()["early"]?["status"] == "ok")
      agent.stop()
    }

    /// The session of a pool ends with its connection: an agent that is away has no jobs waiting at the broker that others could do.
    @Test func anAgentThatStopsLeavesNoQueueBehind() throws {
      let broker = try Broker()
      let first = try RunningAgent(broker, Self.member, journal: "first.sqlite", id: "first")
      try Self.wait(broker, for: ["first"])
      first.stop()
      let second = try RunningAgent(broker, Self.member, journal: "second.sqlite", id: "second")
      try Self.wait(broker, for: ["second"])
      let listener = try Listener(broker, poolResults + "+")
      for i in 0..<6 { try publish(broker, poolJobs + "classify", classify("n\(i)")) }
      #expect(try listener.wait("all of them", count: 6).allSatisfy { $0["agent"] == "second" })
      second.stop()
    }

    /// Two agents that get one job, the second after the first is gone, say the same.
    @Test func twoAgentsGiveTheSameResult() throws {
      let broker = try Broker()
      let listener = try Listener(broker, poolResults + "+")
      for id in ["one", "two"] {
        let agent = try RunningAgent(broker, Self.member, journal: "\(id).sqlite", id: id)
        try Self.wait(broker, for: [id])
        for _ in 0..<2 { try publish(broker, poolJobs + "classify", classify("same")) }
        let both = try listener.wait("answer and repeat of \(id)", count: 2) { $0["agent"] == .string(id) }
        #expect(both[0].payload == both[1].payload)
        agent.stop()
      }
      let bodies = Set(listener.all.map { JSONReader($0.json ?? .null)["result"].value?.compact })
      #expect(bodies.count == 1)
    }

    /// The same id means different jobs for the agent itself and for its pool, and answers go where the job came from.
    @Test func idsOfThePoolAndOfTheAgentAreApart() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.member)
      try Self.wait(broker, for: ["test"])
      let listener = try Listener(broker, "sterna/+/+/results/+")
      let own = try Listener(broker, results + "+")
      try publish(broker, jobs + "classify", classify("x", "water"))
      try publish(broker, poolJobs + "classify", classify("x", "oil"))
      #expect(try listener.first("of the pool")["status"] == "ok")
      #expect(try own.first("of the agent")["status"] == "ok")
      try publish(broker, poolJobs + "classify", classify("x", "fire"))
      try listener.wait("another job under this id") { $0["error.code"] == "id_conflict" }
      try publish(broker, poolJobs + "dance", classify("y"))
      try listener.wait("no such job") { $0.topic == poolResults + "y" && $0["error.code"] == "unknown_task" }
      // No answer of anybody goes to a topic of a pool because a client says so.
      try publish(broker, jobs + "classify", classify("z"), arguments: ["-D", "publish", "response-topic", poolJobs + "classify"])
      try own.wait("the answer on the usual topic") { $0["id"] == "z" && $0["status"] == "ok" }
      #expect(!listener.all.contains { $0["id"] == "z" })
      agent.stop()
    }

    @Test func aJournalThatCannotBeWrittenKeepsAnAgentOutOfItsPools() throws {
      let broker = try Broker()
      let helper = try HelperProcess(broker, Self.member)
      helper.openGate()
      try Self.wait(broker, for: ["test"])
      let limit = { (bytes: String) in try execute("/usr/bin/prlimit", ["--pid", "\(helper.process.processIdentifier)", "--fsize=\(bytes):unlimited"]) }
      #expect(try limit("100").status == 0)
      try publish(broker, jobs + "classify", classify("patient"))
      try Self.wait(broker, for: ["test"], in: [])
      #expect(try limit("unlimited").status == 0)
      try Self.wait(broker, for: ["test"])
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
    }
  }
}

/// What another thread brings.
final class Collected: @unchecked Sendable {
  // Sendable: guarded by lock.
  private let lock = NSLock()
  private var result: Result<[String: Submitter.Reply], any Error>?

  func set(_ result: Result<[String: Submitter.Reply], any Error>) { lock.withLock { self.result = result } }
  var isThere: Bool { lock.withLock { result != nil } }
  func get() throws -> [String: Submitter.Reply] { try #require(lock.withLock { result }).get() }
}
