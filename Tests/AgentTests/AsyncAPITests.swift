import Agent
import Basics
import Foundation
import Glibc
import Jobs
import ModelFile
import Testing

private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
private let canValidate = (try? execute("/usr/bin/python3", ["-W", "ignore", "-c", "import yaml, jsonschema"]).status) == 0

/// Holds messages against docs/asyncapi.yaml.
private func check(_ messages: [(topic: String, payload: String)], _ broker: Broker) throws -> (status: Int32, output: String) {
  let file = broker.path("messages.jsonl")
  let lines = messages.map { JSON.object(["topic": .string($0.topic), "payload": .string($0.payload)]).compact + "\n" }
  try lines.joined().write(toFile: file, atomically: true, encoding: .utf8)
  return try execute("/usr/bin/python3", ["-W", "ignore", root.appendingPathComponent("Tests/asyncapi.py").path, root.appendingPathComponent("docs/asyncapi.yaml").path, file])
}

extension WithBroker {
  /// The document says what the agent says, no less and no more.
  @Suite(.serialized, .enabled(if: canValidate, "needs python3-yaml and python3-jsonschema")) struct AsyncAPI {
    /// What agents and a pool say to each other while one asks the other, with all ends that this may have.
    @Test func whatPoolsAndEscalationsSayIsDeclared() throws {
      let broker = try Broker()
      let everything = try Listener(broker, "#")
      let toml = RunningAgent.toml(broker, Escalating.task("below = 0.6\ntimeout_s = 3\ndaily = 3\nfailures = 1\n[[tasks]]\nname=\"b\"\nkind=\"classify\"\ninput=\"plant/b\"\noutput=\"out/b\"\nlabels=[\"x\",\"y\"]\n[tasks.escalate]\npool=\"large\"\ndaily=9\n"))
      let unsure = { @Sendable (job: Job) in
        job.input.contains("broken") ? Outcome(.failure(SternaError("no_valid_output", "none"))) : Outcome(.success(.classification(.init(scores: [("leak", 0.5), ("noise", 0.5)], best: 0))))
      }
      let agent = try RunningAgent(toml: toml.replacingOccurrences(of: "[agent]", with: "[agent]\nevents = true")) { FakeEngine { job, _ in unsure(job) } }
      try online(broker)
      let pool = try Escalating.large(broker) { FakeEngine { job, _ in job.input.contains("hopeless") ? unsure(Job(input: "broken", work: job.work)) : FakeEngine.firstLabel(job) } }
      func last(_ topic: String, _ text: String, _ count: Int) throws -> Listener.Message {
        try publish(broker, "plant/" + topic, text)
        return try #require(everything.wait("the last word", count: count) { $0.topic.hasPrefix("out/") && $0["provisional"] == nil }.last)
      }
      #expect(try last("alarm", "oil", 1)["escalation.agent"] == "large")
      #expect(try last("alarm", "hopeless", 2)["escalation.failed"] == "no_valid_output")
      #expect(try last("b", "broken", 3)["escalation.reason"] == "no_valid_output")
      try publish(broker, "sterna/pool/large/jobs/classify", classify("shared", more: ",\"options\":{\"ack\":true}"))
      try everything.wait("both words", count: 2) { $0.topic == "sterna/pool/large/results/shared" }
      pool.stop()
      #expect(try last("alarm", "silence", 4)["escalation.failed"] == "timeout")
      #expect(try last("b", "broken again", 5)["escalation.failed"] == "paused")
      #expect(try last("alarm", "too much", 6)["escalation.failed"] == "budget")
      for (verb, members) in [("health_check", ""), ("config/get", ""), ("queue/list", ""), ("job/get", "\"id\":\"x\""), ("job/cancel", "\"id\":\"x\""), ("queue/drain", "\"on\":false")] {
        try publish(broker, "sterna/test/request/\(verb)", "{\(members)}")
        try everything.wait("an answer to \(verb)") { $0.topic == "sterna/test/response/\(verb)" && $0["status"] == "ok" }
      }
      agent.stop()
      try everything.wait("the farewell") { $0.topic == "sterna/test/state" && $0["state"] == "stopped" }
      let said = everything.all.filter { !$0.topic.hasPrefix("plant/") && !$0.topic.hasPrefix("mark/") }.map { ($0.topic, $0.payload) }
      let (_, output) = try check(said, broker)
      #expect(!output.contains("no message") && !output.contains("no channel"), "\(output)")
      for seen in ["poolResults.accepted", "poolResults.result", "poolResults.failure", "replies.result", "taskOutput.result", "taskOutput.failure", "events.event", "health.health"] {
        #expect(output.contains("\"\(seen)\""), "\(output)")
      }
      // What is asked are jobs as clients send them.
      for question in everything.all where question.topic == "sterna/pool/large/jobs/classify" { #expect(question["v"] == 1 || question["id"] == "shared") }
      #expect(everything.all.contains { $0.topic == "sterna/test/health" && $0["escalations.open"] == 0 } )
    }

    @Test func everythingThatAnAgentSendsIsDeclared() throws {
      let broker = try Broker()
      let everything = try Listener(broker, "#")
      let tasks = """
        [limits]
        input_kb = 1
        payload_kb = 4
        [[tasks]]
        name = "alarms"
        kind = "classify"
        input = "plant/alarm"
        output = "plant/classified"
        labels = ["leak", "noise"]
        [tasks.escalate]
        pool = "large"
        below = 1
        [pool]
        names = ["line"]
        """
      let pocket = root.appendingPathComponent("Models/pocket.gguf").path
      let toml = RunningAgent.toml(broker, tasks).replacingOccurrences(of: "[agent]", with: "[agent]\nevents = true")
      let agent = try RunningAgent(toml: toml) { _ in try JobEngine(PackedModel.open(pocket)) }
      try everything.wait("the agent is there") { $0.topic == "sterna/test/health" }

      let text = #""input":"Water under pump 7 since 12:30, ask Miller""#
      let sent: [(id: String, kind: String, payload: String)] = [
        ("plain", "classify", #"{"id":"plain",\#(text),"labels":["leak","noise"],"meta":{"line":3}}"#),
        ("options", "classify", #"{"id":"options",\#(text),"labels":["alarm/leak","alarm/fire",{"name":"noise","description":"only loud"}],"options":{"alternatives":2,"abstain_below":0.99999}}"#),
        ("several", "classify", #"{"id":"several",\#(text),"labels":["alarm/leak","noise"],"options":{"multi":true,"alternatives":1}}"#),
        ("fields", "extract", #"{"id":"fields",\#(text),"fields":["person","time","hours:number"]}"#),
        ("bare", "extract", #"{"id":"bare",\#(text),"fields":["person"],"options":{"evidence":false}}"#),
        ("schema", "extract", #"{"id":"schema",\#(text),"schema":{"type":"object","properties":{"person":{"type":"string"},"kind":{"enum":["a","b"]}}}}"#),
        ("wrong", "classify", #"{"id":"wrong","input":7,"labels":["a","b"]}"#),
        ("no-kind", "translate", #"{"id":"no-kind",\#(text)}"#),
        ("late", "classify", #"{"id":"late",\#(text),"labels":["leak","noise"],"options":{"ttl_ms":1}}"#),
        ("long", "classify", #"{"id":"long","input":"\#(String(repeating: "pump ", count: 400))","labels":["leak","noise"]}"#),
        ("large", "classify", #"{"id":"large","input":"\#(String(repeating: "pump ", count: 1400))","labels":["leak","noise"]}"#),
      ]
      for job in sent { try publish(broker, jobs + job.kind, job.payload) }
      for job in sent { try everything.wait("an answer to \(job.id)") { $0.topic == results + job.id && $0["status"] != "accepted" } }
      try publish(broker, jobs + "classify", #"{"id":"plain",\#(text),"labels":["leak","fire"]}"#)
      try everything.wait("the conflict") { $0["error.code"] == "id_conflict" }
      try publish(broker, jobs + "classify", "{")
      try publish(broker, jobs + "classify", classify(nil), arguments: ["-D", "publish", "response-topic", "sterna/clients/panel/replies/a/b", "-D", "publish", "correlation-data", "c1"])
      try publish(broker, "plant/alarm", "the pump is leaking")
      try publish(broker, "sterna/pool/line/jobs/classify", classify("shared"))
      try publish(broker, jobs + "classify", classify("kept"), arguments: ["-r"])
      for verb in ["health_check", "model/list", "model/rollback", "model/load"] {
        try publish(broker, "sterna/test/request/\(verb)", #"{"transaction":{"n":1}}"#)
        try everything.wait("an answer to \(verb)") { $0.topic == "sterna/test/response/\(verb)" }
      }
      try publish(broker, "sterna/test/request/health_check", "", arguments: ["-D", "publish", "response-topic", "sterna/clients/panel/replies/health"])
      try everything.wait("a reply") { $0.topic == "sterna/clients/panel/replies/health" }
      try everything.wait("the answer without id") { $0.topic == "sterna/clients/panel/replies/a/b" && $0["status"] == "ok" }
      try everything.wait("the task's answer") { $0.topic == "plant/classified" && $0["provisional"] == true }
      try everything.wait("the pool's answer") { $0.topic == "sterna/pool/line/results/shared" && $0["status"] == "ok" }
      try everything.wait("a retained job's refusal") { $0["error.code"] == "retained_job" }
      agent.stop()
      try everything.wait("the farewell") { $0["state"] == "stopped" }
      // And what the broker says for one that was killed.
      let helper = try HelperProcess(broker)
      try everything.wait("the next agent is there", count: 2) { $0["state"] == "online" }
      helper.send(SIGKILL)
      try everything.wait("the last will") { $0["state"] == "offline" }

      let messages = everything.all.filter { $0.topic != "plant/alarm" && !$0.topic.hasPrefix("mark/") }.map { ($0.topic, $0.payload) }
      let (status, output) = try check(messages, broker)
      #expect(status == 0, "\(output)")
      for seen in ["results.result", "results.failure", "replies.result", "replies.response", "taskOutput.result", "state.state"] { #expect(output.contains("\"\(seen)\""), "\(output)") }

      // The check itself: what is undeclared, missing or of another type is found.
      let result = try #require(messages.first { $0.0 == results + "plain" && $0.1.contains("\"ok\"") })
      let wrong = [
        result.1.replacingOccurrences(of: "\"truncated\":false", with: "\"truncated\":false,\"mood\":\"good\""), result.1.replacingOccurrences(of: "\"abstained\":false", with: "\"abstained\":0"),
        result.1.replacingOccurrences(of: "\"passes\"", with: "\"laps\""),
      ]
      for payload in wrong {
        #expect(payload != result.1)
        let found = try check(messages + [(result.0, payload)], broker)
        #expect(found.status == 1 && found.output.contains("no message of channel results"), "\(payload)")
      }
      #expect(try check(messages + [("sterna/test/news", "{}")], broker).output.contains("sterna/test/news: no channel"))
    }
  }
}
