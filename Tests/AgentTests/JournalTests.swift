import Foundation
import Glibc
import Testing

extension WithBroker {
  /// Journals of other versions, of other programs, and such as break while in use.
  @Suite(.serialized) struct Journals {
    /// A journal that version 1 of the layout left behind, with the jobs `old-1` and `old-2` waiting and `old-0` answered.
    private func placeOldJournal(_ broker: Broker, patching offset: Int? = nil, with value: UInt32 = 0) throws {
      var bytes = try Data(contentsOf: URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Fixtures/journal-1.sqlite"))
      if let offset { withUnsafeBytes(of: value.bigEndian) { bytes.replaceSubrange(offset..<offset + 4, with: $0) } }
      try bytes.write(to: URL(fileURLWithPath: broker.path("journal.sqlite")))
    }

    @Test func aJournalOfVersion1IsTakenOver() throws {
      let broker = try Broker()
      try placeOldJournal(broker)
      let listener = try Listener(broker, results + "#")
      let agent = try RunningAgent(broker)
      for id in ["old-1", "old-2"] {
        let answer = try listener.first("the answer of \(id)") { $0.topic == results + id }
        #expect(answer["status"] == "ok")
        #expect(answer["attempt"] == 1)
      }
      agent.stop()
      let second = try RunningAgent(broker)
      try online(broker)
      #expect(second.log.count("thrown") == 0)
      second.stop()
    }

    @Test func aNewerJournalIsRefusedWithTheWayBackAndLeftAlone() throws {
      let broker = try Broker()
      try placeOldJournal(broker, patching: 60, with: 99)  // PRAGMA user_version
      let before = FileManager.default.contents(atPath: broker.path("journal.sqlite"))
      let agent = try RunningAgent(broker)
      try eventually("it is refused") { agent.log.text.contains("a newer version of Sterna wrote this journal") }
      #expect(agent.log.text.contains("version 99"))
      #expect(agent.log.text.contains("go back to that version"))
      agent.stop()
      #expect(FileManager.default.contents(atPath: broker.path("journal.sqlite")) == before)
    }

    @Test func theDatabaseOfAnotherProgramIsLeftAlone() throws {
      let broker = try Broker()
      try placeOldJournal(broker, patching: 68, with: 0)  // PRAGMA application_id
      let before = FileManager.default.contents(atPath: broker.path("journal.sqlite"))
      let agent = try RunningAgent(broker)
      try eventually("it is refused") { agent.log.text.contains("a database of another program") }
      agent.stop()
      #expect(FileManager.default.contents(atPath: broker.path("journal.sqlite")) == before)
    }

    @Test func aJournalThatBreaksInUseIsReplacedAndNoAnswerGoesToTheWrongJob() throws {
      let broker = try Broker()
      let listener = try Listener(broker, "sterna/test/#")
      let helper = try HelperProcess(broker)
      try listener.wait("online") { $0["state"] == "online" }
      try publish(broker, jobs + "extract", #"{"id":"held","input":"the pump leaks","fields":["part"]}"#)
      try eventually("the job runs") { FileManager.default.fileExists(atPath: helper.gate + ".runs") }
      let limit = { (bytes: String) in try execute("/usr/bin/prlimit", ["--pid", "\(helper.process.processIdentifier)", "--fsize=\(bytes):unlimited"]) }
      #expect(try limit("100").status == 0)
      try publish(broker, jobs + "classify", classify("fresh"))
      try listener.wait("degraded") { $0["state"] == "degraded" }
      // The disk has lost the journal meanwhile.
      try Data(repeating: 0x5A, count: 8192).write(to: URL(fileURLWithPath: broker.path("journal.sqlite")))
      try? FileManager.default.removeItem(atPath: broker.path("journal.sqlite-wal"))
      #expect(try limit("unlimited").status == 0)
      try eventually("the journal is set aside") {
        try FileManager.default.contentsOfDirectory(atPath: broker.folder).contains { $0.hasPrefix("journal.sqlite.damaged-") }
      }
      try eventually("the new job is in the new journal") {
        ["", "-wal"].contains { FileManager.default.contents(atPath: broker.path("journal.sqlite" + $0))?.range(of: Data("\"fresh\"".utf8)) != nil }
      }
      helper.openGate()
      let held = try listener.first("the answer of the job from before") { $0.topic == results + "held" }
      #expect(held["error.code"] == "unsupported" || held["error.code"] == "internal", "the helper's engine only classifies")
      let fresh = try listener.first("the answer of the new job") { $0.topic == results + "fresh" }
      #expect(fresh["status"] == "ok")
      #expect(fresh["result.label"] == "leak")
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
    }
  }
}
