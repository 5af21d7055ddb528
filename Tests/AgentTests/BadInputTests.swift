import Basics
import Foundation
import Testing

extension WithBroker {
  /// What strangers send. Each message gets an answer that names the place, and the agent goes on.
  @Suite(.serialized) struct BadInput {
    struct Case: CustomTestStringConvertible {
      var name: String
      var kind = "classify"
      var payload: [UInt8]
      var code: String
      var field: String?
      var testDescription: String { name }

      init(_ name: String, kind: String = "classify", _ payload: String, _ code: String, at field: String? = nil) {
        (self.name, self.kind, self.payload, self.code, self.field) = (name, kind, Array(payload.utf8), code, field)
      }
    }

    static let cases: [Case] = [
      Case("no JSON", "hello", "bad_json", at: "byte 0"),
      Case("JSON cut short", #"{"id":"bad","input":"x"#, "bad_json"),
      Case("an empty payload", "", "bad_json"),
      Case("an array", "[]", "bad_field"),
      Case("no labels", #"{"id":"bad","input":"x"}"#, "bad_field", at: "labels"),
      Case("no input", #"{"id":"bad","labels":["a","b"]}"#, "bad_field", at: "input"),
      Case("an empty text", #"{"id":"bad","input":"","labels":["a","b"]}"#, "bad_field", at: "input"),
      Case("a label that is none", #"{"id":"bad","input":"x","labels":["a",3]}"#, "bad_field", at: "labels[1]"),
      Case("an id that would be a topic", #"{"id":"a/b","input":"x","labels":["a","b"]}"#, "bad_field", at: "id"),
      Case("an unknown option", #"{"id":"bad","input":"x","labels":["a","b"],"options":{"hurry":1}}"#, "bad_field", at: "options.hurry"),
      Case("no fields", kind: "extract", #"{"id":"bad","input":"x"}"#, "bad_field", at: "fields"),
      Case("an unknown kind", kind: "translate", #"{"id":"bad","input":"x"}"#, "unknown_task"),
      Case(
        "10,000 labels", #"{"id":"bad","input":"x","labels":["# + (0..<10_000).map { "\"label \($0)\"" }.joined(separator: ",") + "]}", "bad_field",
        at: "labels"),
      Case("deep nesting", #"{"id":"bad","input":"x","labels":"# + String(repeating: "[", count: 5000), "bad_json"),
      Case("2 MB", #"{"id":"bad","input":""# + String(repeating: "x", count: 2_000_000) + #"","labels":["a","b"]}"#, "payload_too_large"),
    ]

    @Test func everyBadMessageGetsItsAnswerAndTheAgentGoesOn() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      var cases = Self.cases
      var invalid = Case("invalid UTF-8", "", "bad_json")
      invalid.payload = Array(#"{"id":"bad","input":""#.utf8) + [0xC3, 0x28] + Array(#"","labels":["a","b"]}"#.utf8)
      cases.append(invalid)
      let listener = try Listener(broker, "sterna/clients/tester/replies")
      for (i, bad) in cases.enumerated() {
        try publish(
          broker, jobs + bad.kind, bad.payload,
          arguments: ["-D", "publish", "response-topic", "sterna/clients/tester/replies", "-D", "publish", "correlation-data", "case-\(i)"])
        let answer = try listener.first(bad.name) { $0.properties.compact.contains("\"case-\(i)\"") }
        #expect(answer["status"] == "error", "\(bad.name)")
        #expect(answer["error.code"] == .string(bad.code), "\(bad.name): \(answer.payload)")
        if let field = bad.field { #expect(answer["error.field"] == .string(field), "\(bad.name): \(answer.payload)") }
      }
      // The id of a refused job is free for the same job put right.
      try publish(broker, jobs + "classify", classify("bad"), arguments: ["-D", "publish", "response-topic", "sterna/clients/tester/replies"])
      try listener.wait("the job put right") { $0["id"] == "bad" && $0["status"] == "ok" }
      agent.stop()
    }

    @Test func whatIsTooLargeIsAnsweredUnderItsId() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      let payload = #"{"options":{"id":"not this"},"input":""# + String(repeating: "x", count: 2_000_000) + #"","id":"big-1"}"#
      try publish(broker, jobs + "classify", payload)
      let answer = try listener.first("the answer")
      #expect(answer.topic == results + "big-1")
      #expect(answer["error.code"] == "payload_too_large")
      #expect(answer["error.http"] == 413)
      agent.stop()
    }

    @Test func aRetainedJobIsRefusedOnceAndNotRun() throws {
      let broker = try Broker()
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("kept"), arguments: ["-r"])
      let agent = try RunningAgent(broker)
      try online(broker)
      try listener.wait("the refusal of what was there before") { $0.topic == results + "kept" && $0["error.code"] == "retained_job" }
      try publish(broker, jobs + "classify", classify("live"), arguments: ["-r"])
      try listener.wait("the refusal of what comes now") { $0.topic == results + "live" && $0["error.code"] == "retained_job" }
      try publish(broker, jobs + "classify", classify("good"))
      try listener.wait("the good one") { $0.topic == results + "good" }
      #expect(listener.all.filter { $0["status"] == "ok" }.count == 1)
      agent.stop()
    }
  }
}
