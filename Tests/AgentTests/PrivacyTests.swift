import Basics
import Foundation
import Glibc
import Jobs
import Testing

extension WithBroker {
  /// What jobs say is for their clients, not for the log and not for other users of the machine.
  @Suite(.serialized) struct Privacy {
    @Test(arguments: ["debug", "info"]) func noTextOfAJobIsInTheLog(level: String) throws {
      let broker = try Broker()
      let toml = RunningAgent.toml(
        broker, "[[tasks]]\nname = \"alarms\"\nkind = \"classify\"\ninput = \"plant/alarm\"\noutput = \"out\"\nlabels = [\"a\", \"b\"]\ntext = \"/t\""
      ).replacingOccurrences(of: "log_level = \"debug\"", with: "log_level = \"\(level)\"")
      let agent = try RunningAgent(toml: toml) { FakeEngine { job, _ in job.input.contains("fail") ? Outcome(.failure(SternaError(.internal, "it failed"))) : FakeEngine.firstLabel(job) } }
      agent.log.logLevel = level == "debug" ? .debug : .info
      let listener = try Listener(broker, "#")
      try online(broker)
      let messages: [(topic: String, payload: String)] = [
        (jobs + "classify", classify("p1", "kumquat in the room", more: ",\"meta\":{\"kumquat\":\"kumquat\"}")), (jobs + "classify", classify("p2", "fail kumquat")),
        (jobs + "classify", "{\"id\":\"p3\",\"input\":\"kumquat"), (jobs + "classify", "kumquat"), (jobs + "kumquat", classify("p4")),
        (jobs + "classify", "{\"kumquat\":1,\"kumquat\":2}"), (jobs + "classify", "{\"id\":\"kumquat/\",\"input\":\"x\",\"labels\":[\"kumquat\",\"kumquat\"]}"),
        (jobs + "extract", "{\"id\":\"p5\",\"input\":\"kumquat\",\"fields\":[\"kumquat\",\"b:kumquat\"]}"), ("plant/alarm", "{\"t\":\"kumquat\"}"), ("plant/alarm", "{\"x\":\"kumquat\"}"),
        (jobs + "classify", classify("p1", "another kumquat")), (jobs + "classify", classify("last")),
      ]
      for (number, (topic, payload)) in messages.enumerated() {
        try publish(broker, topic, payload, arguments: ["-D", "publish", "response-topic", "sterna/clients/kumquat/replies", "-D", "publish", "correlation-data", "c-\(number)"])
      }
      try listener.wait("the last answer") { $0.topic == results + "last" }
      agent.stop()
      #expect(agent.log.text.contains("connected to"))
      #expect(!agent.log.text.contains("kumquat"), "\(agent.log.text)")
    }

    /// Names that a client chose are said at the level debug only, and never as more than one line.
    @Test func noLineOfTheLogIsAClients() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      let listener = try Listener(broker, results + "#")
      try online(broker)
      try publish(broker, jobs + "classify", classify("forged", more: ",\"options\":{\"x\\nerror: the disk is on fire\":1}"))
      try listener.wait("the refusal") { $0["status"] == "error" }
      agent.stop()
      #expect(agent.log.text.contains("the disk is on fire") && !agent.log.text.split(separator: "\n").contains { $0.hasPrefix("error: the disk") }, "\(agent.log.text)")
    }

    @Test func journalAndItsLogAreTheOwnersAlone() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      let listener = try Listener(broker, results + "#")
      try online(broker)
      try publish(broker, jobs + "classify", classify("a"))
      try listener.wait("the answer") { $0.topic == results + "a" }
      let files = try FileManager.default.contentsOfDirectory(atPath: broker.folder).filter { $0.hasPrefix("journal") }
      #expect(files.contains("journal.sqlite") && files.contains("journal.sqlite-wal"))
      for file in files {
        var status = stat()
        #expect(stat(broker.path(file), &status) == 0 && status.st_mode & 0o777 == 0o600, "\(file): \(String(status.st_mode & 0o777, radix: 8))")
      }
      agent.stop()
    }
  }
}
