import Agent
import Basics
import Decoding
import Foundation
import Jobs
import ModelFile
import Testing

extension WithBroker {
  /// Extractions that must fulfil a JSON Schema, answered by the model that comes with Sterna.
  @Suite(.serialized) struct SchemaJobs {
    private static let pocket = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Models/pocket.gguf").standardized.path
    private static let schema = """
      {"type":"object","properties":{"machine":{"type":"string"},"value":{"type":["number","null"]},"day":{"type":["string","null"],"format":"date"},
        "state":{"enum":["ok","worn"]},"parts":{"type":"array","items":{"type":"string"},"maxItems":2,"uniqueItems":true}},
       "required":["machine","value","day","state"],"additionalProperties":false}
      """
    private static let text = "pump 7 vibration 4.2 mm/s on 24.11.2026 on line B"

    private func constraint() throws -> Constraint { try Job.Schema(JSON.parse(Self.schema)).constraint() }

    /// What must hold whatever the model thinks.
    private func check(_ answer: Listener.Message, _ about: String) throws {
      #expect(answer["status"] == "ok", "\(about): \(answer.payload)")
      let document = try #require(answer["result.fields"])
      #expect(try constraint().accepts(document), "\(about): \(document.compact)")
      guard case .object(let object) = document, case .object(let evidence)? = answer["result.evidence"] else { Issue.record("\(about): \(answer.payload)"); return }
      let order = ["machine", "value", "day", "state", "parts"]
      #expect(object.members.map(\.name) == order.filter { object.index(of: $0) != nil })
      #expect([.null, "2026-11-24"].contains(object["day"]))
      for (_, place) in evidence.members {
        guard case .object(let place) = place, case .number(let start)? = place["start"], case .number(let end)? = place["end"], case .string(let words)? = place["text"] else {
          Issue.record("\(about): \(evidence)")
          continue
        }
        #expect(String(Array(Self.text)[(start.int ?? 0)..<(end.int ?? 0)]) == words)
      }
    }

    @Test func aJobWithASchemaAndATaskWithAFileAreAnswered() throws {
      let broker = try Broker()
      try Self.schema.write(toFile: broker.path("schema.json"), atomically: true, encoding: .utf8)
      let agent = try RunningAgent(
        broker,
        """
        [[tasks]]
        name = "notes"
        kind = "extract"
        input = "plant/note"
        output = "out/notes"
        schema = "\(broker.path("schema.json"))"
        """
      ) { try JobEngine(PackedModel.open(Self.pocket)) }
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "extract", #"{"id":"s-1","input":"\#(Self.text)","schema":\#(Self.schema)}"#)
      let answer = try listener.first("the result")
      try check(answer, "the job")
      let tasks = try Listener(broker, "out/#")
      try publish(broker, "plant/note", Self.text)
      let second = try tasks.first("the task's result")
      try check(second, "the task")
      // The same question, so the same bytes.
      #expect(second["result"]?.compact == answer["result"]?.compact)
      #expect(second["task"] == "notes")
      agent.stop()
    }

    @Test(arguments: [
      (#"{"properties":{"a":{"type":"array","contains":{}}}}"#, "unsupported", "schema.properties.a.contains"),
      (#"{"properties":{"a":{"type":"text"}}}"#, "bad_field", "schema.properties.a.type"),
      (#"{"type":"object","properties":{"a":{"type":"string","pattern":"(a)\\1"}}}"#, "unsupported", "schema.properties.a.pattern: offset 3"),
      (##"{"$ref":"#/$defs/none"}"##, "bad_field", "schema.$ref"), (#""object""#, "bad_field", "schema"), ("null", "bad_field", "schema"),
    ])
    func aWrongSchemaIsNamedWithItsPath(schema: String, code: String, field: String) throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker) { try JobEngine(PackedModel.open(Self.pocket)) }
      try online(broker)
      let listener = try Listener(broker, results + "w")
      try publish(broker, jobs + "extract", #"{"id":"w","input":"x","schema":\#(schema)}"#)
      let answer = try listener.first("the refusal")
      #expect(answer["error.code"] == .string(code), "\(answer.payload)")
      #expect(answer["error.field"] == .string(field), "\(answer.payload)")
      // A refusal does not use up the id.
      try publish(broker, jobs + "extract", #"{"id":"w","input":"x","fields":["machine"]}"#)
      _ = try listener.first("the job put right") { $0["status"] == "ok" }
      agent.stop()
    }

    /// One label needs no pass of the model, and the engine waits for the next job when it has answered.
    @Test func aSingleLabelIsAnsweredAtOnce() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker) { try JobEngine(PackedModel.open(Self.pocket)) }
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", #"{"id":"one","input":"x","labels":["only"]}"#)
      let answer = try listener.first("the result")
      #expect(answer["result.label"] == "only" && answer["result.score"] == 1)
      agent.stop()
    }
  }
}
