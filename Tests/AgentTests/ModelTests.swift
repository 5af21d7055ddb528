import Agent
import Basics
import Foundation
import Glibc
import Jobs
import Testing

private let requests = "sterna/test/request/"
private let responses = "sterna/test/response/"

/// An engine whose model is what stands in its file: `good`, `broken` (answers as it likes), or anything else: cannot be loaded.
private func load(_ path: String, gate: Gate) throws -> any JobRunner {
  let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? "first good"
  let words = text.split(separator: " ").map(String.init)
  guard words.count == 2, words[1] == "good" || words[1] == "broken" else { throw SternaError(.badFile, "this is no model", at: path) }
  let calls = Calls()
  return NamedEngine(ModelIdentity(name: words[0], sha256: String(repeating: "0", count: 64))) { job, control in
    if job.input == "hold", !gate.pass(control) { return Outcome(.failure(SternaError(.cancelled, "stopped"))) }
    if words[1] == "broken", calls.next() > 1 { return Outcome(.failure(SternaError(.noValidOutput, "no idea"))) }
    return FakeEngine.firstLabel(job)
  }
}

private final class Calls: @unchecked Sendable {
  // Sendable: used by the one inference thread.
  private var count = 0
  func next() -> Int {
    count += 1
    return count
  }
}

private final class NamedEngine: JobRunner {
  let model: ModelIdentity
  private let answer: @Sendable (Job, RunControl) -> Outcome

  init(_ model: ModelIdentity, _ answer: @escaping @Sendable (Job, RunControl) -> Outcome) { (self.model, self.answer) = (model, answer) }

  func run(_ job: Job, control: RunControl) -> Outcome { answer(job, control) }
}

/// The folder of installed models of an agent that keeps its journal in the broker's folder.
private func put(_ text: String, _ broker: Broker, as digit: Character) throws -> String {
  let name = String(repeating: digit, count: 16) + ".gguf"
  try FileManager.default.createDirectory(atPath: broker.path("models"), withIntermediateDirectories: true)
  try text.write(toFile: broker.path("models/\(name)"), atomically: true, encoding: .utf8)
  return name
}

private func ask(_ broker: Broker, _ listener: Listener, _ verb: String, _ payload: String) throws -> Listener.Message {
  let before = listener.all.count
  try publish(broker, requests + verb, payload)
  try listener.wait("an answer to \(verb)", count: before + 1)
  return listener.all[before]
}

extension WithBroker {
  @Suite(.serialized) struct Models {
    @Test func jobsUnderWayEndOnTheOldModelAndThoseThatWaitRunOnTheNew() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(toml: RunningAgent.toml(broker)) { try load($0, gate: gate) }
      defer { agent.stop() }
      try online(broker)
      let answers = try Listener(broker, results + "#"), said = try Listener(broker, responses + "#")
      try publish(broker, jobs + "classify", classify("running", "hold"))
      try eventually("the job runs") { gate.count == 1 }
      for i in 0..<10 { try publish(broker, jobs + "classify", classify("waiting-\(i)", "text \(i)")) }
      let name = try put("second good", broker, as: "a")
      try publish(broker, requests + "model/load", #"{"model":"\#(name)","transaction":7}"#)
      // While that waits for the running job, another one is too much.
      let busy = try ask(broker, said, "model/rollback", #"{"transaction":8}"#)
      #expect(busy["error.code"] == "busy" && busy["transaction"] == 8 && busy["error.http"] == 409)
      gate.open()
      let done = try said.first("the model is in place") { $0["transaction"] == 7 }
      #expect(done["status"] == "ok" && done["data.model.name"] == "second" && done["data.current.file"] == .string(name) && done["data.previous"] == "configured")
      try answers.wait("every job is answered", count: 11)
      for message in answers.all { #expect(message["status"] == "ok" && message["model.name"] == (message["id"] == "running" ? "first" : "second"), "\(message.payload)") }
      let info = try Listener(broker, "sterna/test/info")
      try info.wait("info names the new model") { $0["model.name"] == "second" }

      // Back, and forward again; and after the next start it is still so.
      #expect(try ask(broker, said, "model/rollback", "")["data.model.name"] == "first")
      #expect(try ask(broker, said, "model/rollback", "")["data.model.name"] == "second")
      agent.stop()
      let next = try RunningAgent(toml: RunningAgent.toml(broker)) { try load($0, gate: gate) }
      defer { next.stop() }
      try eventually("the agent has started") { next.log.text.contains("is ready") }
      #expect(next.log.text.contains("model second"))
    }

    @Test func aModelThatDoesNotWorkIsNotTaken() throws {
      let broker = try Broker()
      let gate = Gate()
      gate.open()
      let agent = try RunningAgent(toml: RunningAgent.toml(broker)) { try load($0, gate: gate) }
      defer { agent.stop() }
      try online(broker)
      let answers = try Listener(broker, results + "#"), said = try Listener(broker, responses + "#")
      for (digit, text, words) in [("b", "second broken", "does not answer its test jobs"), ("c", "rubbish", "this is no model")] {
        let name = try put(text, broker, as: Character(digit))
        let refused = try ask(broker, said, "model/load", #"{"model":"\#(name)"}"#)
        #expect(refused["status"] == "error" && refused["error.code"] == "bad_model" && refused.payload.contains(words), "\(refused.payload)")
      }
      #expect(try ask(broker, said, "model/rollback", "{}")["error.code"] == "not_found")
      #expect(try ask(broker, said, "model/list", "{}")["data.current"] == "configured")
      try publish(broker, jobs + "classify", classify("after"))
      try answers.wait("an answer") { $0["id"] == "after" && $0["model.name"] == "first" }
    }

    /// Someone copies the next model over the one in use: what the old one answers from then on is worth nothing. One that is renamed into place is another file.
    @Test(arguments: [true, false]) func aModelThatIsWrittenIntoAnswersNothingMore(isRunning: Bool) throws {
      let broker = try Broker()
      let gate = Gate()
      let path = URL(fileURLWithPath: broker.path("m.gguf"))
      try Data("first good".utf8).write(to: path)
      let toml = RunningAgent.toml(broker).replacingOccurrences(of: "path = \"none\"", with: "path = \"\(path.path)\"")
      let agent = try RunningAgent(toml: toml) { try load($0, gate: gate) }
      defer { agent.stop() }
      try online(broker)
      let answers = try Listener(broker, results + "#")
      try Data("third good".utf8).write(to: path, options: .atomic)
      try publish(broker, jobs + "classify", classify("before"))
      try answers.wait("an answer of the first model") { $0["id"] == "before" && $0["model.name"] == "first" }
      agent.stop()
      let second = try RunningAgent(toml: toml) { try load($0, gate: gate) }
      defer { second.stop() }
      try online(broker)
      if isRunning {
        try publish(broker, jobs + "classify", classify("held", "hold"))
        try eventually("the job runs") { gate.count == 1 }
      }
      try Data("fourth good".utf8).write(to: path)
      gate.open()
      try eventually("it ends") { second.log.text.contains("thrown: \(path.path): the model's file was changed while in use") }
      #expect(answers.all.count == 1)
      let third = try RunningAgent(toml: toml) { try load($0, gate: gate) }
      defer { third.stop() }
      try publish(broker, jobs + "classify", classify("after"))
      for id in ["after"] + (isRunning ? ["held"] : []) { try answers.wait("the answer to \(id)") { $0["id"] == .string(id) && $0["model.name"] == "fourth" } }
    }

    @Test func aModelThatIsCutShortInUseIsSaid() throws {
      let broker = try Broker()
      let path = broker.path("m.gguf")
      try FileManager.default.copyItem(atPath: repository + "/Models/pocket.gguf", toPath: path)
      try RunningAgent.toml(broker).replacingOccurrences(of: "path = \"none\"", with: "path = \"\(path)\"").write(toFile: broker.path("agent.toml"), atomically: true, encoding: .utf8)
      let agent = try Child(buildFolder + "/sterna", ["run", "--config", broker.path("agent.toml")], errors: broker.path("agent.log"))
      try online(broker)
      truncate(path, 0)
      try publish(broker, jobs + "classify", classify("cut"))
      try eventually("it ends") { agent.exit != nil }
      // Whichever sees it first, the processor or the next look at the file.
      let log = try String(contentsOfFile: broker.path("agent.log"), encoding: .utf8)
      #expect(log.contains("cannot be read any more (SIGBUS): the model was cut short") || log.contains("the model's file was changed while in use"), "\(log)")
    }

    @Test func requestsThatCannotBeMetAreAnswered() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(toml: RunningAgent.toml(broker).replacingOccurrences(of: "path = \"none\"", with: "path = \"none\"\nimport = [\"\(broker.folder)/stick\"]")) { try load($0, gate: gate) }
      defer { agent.stop() }
      try online(broker)
      let said = try Listener(broker, responses + "#")
      try FileManager.default.createDirectory(atPath: broker.path("stick"), withIntermediateDirectories: true)
      try "second good".write(toFile: broker.path("stick/m.gguf"), atomically: true, encoding: .utf8)
      try FileManager.default.createSymbolicLink(atPath: broker.path("stick/link.gguf"), withDestinationPath: "/etc/hostname")
      let wrong: [(verb: String, payload: String, code: JSON)] = [
        ("model/load", "{}", "bad_field"), ("model/load", "[]", "bad_field"), ("model/load", "{", "bad_json"), ("model/load", #"{"model":7}"#, "bad_field"),
        ("model/load", #"{"model":"dddddddddddddddd.gguf"}"#, "not_found"), ("model/load", #"{"model":"../journal.sqlite"}"#, "not_found"),
        ("model/load", #"{"path":"/etc/hostname"}"#, "not_found"), ("model/load", #"{"path":"\#(broker.path("stick/../mosquitto.conf"))"}"#, "not_found"),
        ("model/load", #"{"path":"\#(broker.path("stick/link.gguf"))"}"#, "not_found"), ("model/load", #"{"path":"\#(broker.path("stick"))"}"#, "not_found"),
        ("model/load", #"{"path":"\#(broker.path("stick/m.gguf"))"}"#, "bad_signature"), ("model/rollback", "", "not_found"),
      ]
      for (verb, payload, code) in wrong {
        let answer = try ask(broker, said, verb, payload)
        #expect(answer["error.code"] == code && answer["status"] == "error", "\(payload): \(answer.payload)")
      }
      // What is no request has no topic for an answer but the one that the client names.
      let replies = try Listener(broker, "sterna/clients/c/replies")
      try publish(broker, requests + "make/coffee", #"{"transaction":"x"}"#, arguments: ["-D", "publish", "response-topic", "sterna/clients/c/replies", "-D", "publish", "correlation-data", "k"])
      let answer = try replies.first("an answer")
      #expect(answer["error.code"] == "not_found" && answer["transaction"] == "x" && answer.payload.contains("model/rollback"))
      let health = try ask(broker, said, "health_check", "")
      #expect(health["status"] == "ok" && health["data.queue"] == 0)
      #expect(said.all.count >= wrong.count + 1)
    }
  }
}
