import Basics
import CSQLite
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

    private func change(_ broker: Broker, _ sql: String) throws {
      var database: OpaquePointer?
      #expect(sqlite3_open(broker.path("journal.sqlite"), &database) == SQLITE_OK)
      defer { sqlite3_close(database) }
      #expect(sqlite3_exec(database, sql, nil, nil, nil) == SQLITE_OK)
    }

    /// Gateways without a battery start in 1970. Nobody's job is 56 years old for that.
    @Test func aClockThatWasWrongExpiresNobody() throws {
      let broker = try Broker()
      try placeOldJournal(broker)
      let day = 86_400_000
      let now = Int(Date().timeIntervalSince1970 * 1000)
      try change(broker, "UPDATE jobs SET ttl=\(30 * day), received=5000 WHERE id='old-1'; UPDATE jobs SET ttl=\(30 * day), received=\(now - 31 * day) WHERE id='old-2'")
      let listener = try Listener(broker, results + "#")
      let agent = try RunningAgent(broker)
      #expect(try listener.first("accepted by a clock that was not set") { $0.topic == results + "old-1" }["status"] == "ok")
      #expect(try listener.first("accepted 31 days ago") { $0.topic == results + "old-2" }["error.code"] == "expired")
      agent.stop()
    }

    /// The time comes from the network an hour after the start, or a battery is empty. Neither ages a job, nor makes the agent forget or live long.
    @Test(.enabled(if: clockLibrary != nil, "needs a C compiler")) func aClockThatJumpsChangesNothing() throws {
      let broker = try Broker()
      let year = 365 * 86400
      func setClock(_ offset: Int) throws { try "\(offset)".write(toFile: broker.path("offset"), atomically: true, encoding: .utf8) }
      func start() throws -> HelperProcess { try HelperProcess(broker, environment: ["LD_PRELOAD": clockLibrary ?? "", "CLOCK_OFFSET": broker.path("offset")]) }
      try setClock(0)
      let listener = try Listener(broker, "sterna/test/#")
      var helper = try start()
      try listener.wait("online") { $0["state"] == "online" }
      try publish(broker, jobs + "classify", classify("waits", more: ",\"options\":{\"ttl_ms\":3600000,\"ack\":true}"))
      try listener.wait("accepted") { $0["status"] == "accepted" }
      var answers = 0
      for (i, offset) in [2 * year, -50 * year, 0].enumerated() {
        try setClock(offset)
        if i == 1 {
          helper.send(SIGKILL)
          _ = helper.end()
          helper = try start()
        }
        helper.openGate()
        for id in ["waits", "again"] { try publish(broker, jobs + "classify", classify(id, more: id == "waits" ? ",\"options\":{\"ttl_ms\":3600000,\"ack\":true}" : "")) }
        answers += 1
        for id in ["waits", "again"] {
          let heard = try listener.wait("an answer of \(id)", count: answers) { $0.topic == results + id && $0["status"] != "accepted" }
          #expect(heard[0]["status"] == "ok" && Set(heard.map(\.payload)).count == 1, "\(heard.map(\.payload))")
        }
        try publish(broker, "sterna/test/request/health_check", "{\"transaction\":\(i)}")
        let health = try listener.first("health") { $0.topic.hasSuffix("/response/health_check") && $0["transaction"] == JSON.number(i) }
        guard case .number(let uptime)? = health["data.uptime_s"], let seconds = Int(uptime.text) else { throw Late(description: health.payload) }
        #expect((0..<600).contains(seconds), "\(seconds)")
        // The process was told the time.
        #expect(health["data.at"]?.compact.contains("\"19") == (i == 1), "\(health.payload)")
      }
      helper.send(SIGTERM)
      #expect(helper.end() == 0)
    }

    /// An agent that has accepted the jobs `early-0` to `early-4`, and answers none.
    struct FiveJobs {
      static let ack = ",\"options\":{\"ack\":true}"
      let broker: Broker
      /// Where the journal alone is.
      let folder: String
      let listener: Listener
      let agent: HelperProcess
      var journal: String { folder + "/journal.sqlite" }

      /// - Parameter environment: of the agent, by the folder.
      init(environment: (String) -> [String: String] = { _ in [:] }) throws {
        broker = try Broker()
        folder = broker.path("state")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        listener = try Listener(broker, "sterna/test/#")
        agent = try HelperProcess(broker, journal: "state/journal.sqlite", environment: environment(folder))
        try listener.wait("online") { $0["state"] == "online" }
        for i in 0..<5 { try publish(broker, jobs + "classify", classify("early-\(i)", more: Self.ack)) }
        try listener.wait("they are accepted", count: 5) { $0["status"] == "accepted" }
      }

      /// Starts the agent again, which answers now.
      func areAnswered(and more: [String]) throws {
        let second = try HelperProcess(broker, journal: "state/journal.sqlite")
        second.openGate()
        for id in (0..<5).map({ "early-\($0)" }) + more { try listener.wait("the answer of \(id)") { $0.topic == results + id && $0["status"] == "ok" } }
        second.send(SIGTERM)
        #expect(second.end() == 0)
      }
    }

    enum Misfortune: CaseIterable { case removed, replaced, logRemoved, folderRemoved }

    /// Somebody cleans up. SQLite would go on with files that have no name any more, and everything accepted since would be gone with the process.
    @Test(arguments: Misfortune.allCases) func aJournalThatIsTakenAwayInUseIsPutBack(how: Misfortune) throws {
      let (held, files) = (try FiveJobs(), FileManager.default)
      let (broker, folder, path, listener) = (held.broker, held.folder, held.journal, held.listener)
      switch how {
      case .removed: for suffix in ["", "-wal"] { try files.removeItem(atPath: path + suffix) }
      case .replaced: try Data("another file".utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
      case .logRemoved: try files.removeItem(atPath: path + "-wal")
      case .folderRemoved:
        try files.removeItem(atPath: folder)
        let state = try listener.first("degraded") { $0["state"] == "degraded" }
        for part in ["removed or replaced", "unable to open", "do not end the agent"] { #expect(state["reason"]?.compact.contains(part) == true, "\(state.payload)") }
        try files.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try listener.wait("online again", count: 2) { $0["state"] == "online" }
      }
      for i in 0..<5 { try publish(broker, jobs + "classify", classify("late-\(i)", more: FiveJobs.ack)) }
      try listener.wait("these, too", count: 10) { $0["status"] == "accepted" }
      #expect(try files.contentsOfDirectory(atPath: folder).contains { $0.hasPrefix("journal.sqlite.replaced-") } == (how == .replaced))
      if how == .replaced { try listener.wait("what was found is named") { $0["state"] == "degraded" && $0["reason"]?.compact.contains("journal.sqlite.replaced-") == true } }
      #expect(try files.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
      held.agent.send(SIGKILL)
      _ = held.agent.end()
      try held.areAnswered(and: (0..<5).map { "late-\($0)" })
    }

    /// The agent dies while it does that: from the moment that the copy is whole, the next start goes on with it.
    @Test(
      .enabled(if: faultLibrary != nil, "needs a C compiler"),
      arguments: [("rename /journal.sqlite.rescued", "after"), ("rename /journal.sqlite.replaced-*[0-9]", "kill"), ("rename /journal.sqlite.replaced-*[0-9]", "after"), ("rename /journal.sqlite", "kill"), ("rename /journal.sqlite", "after")])
    func anAgentKilledWhileItPutsItsJournalBackGoesOnWithIt(call: String, kind: String) throws {
      let held = try FiveJobs { ["LD_PRELOAD": faultLibrary ?? "", "FAULT_FOLDER": $0, "FAULT_CALL": call, "FAULT_KIND": kind] }
      try Data("another file".utf8).write(to: URL(fileURLWithPath: held.journal), options: .atomic)
      try publish(held.broker, jobs + "classify", classify("late", more: FiveJobs.ack))
      #expect(held.agent.end() == SIGKILL)
      try held.areAnswered(and: ["late"])
      let aside = try FileManager.default.contentsOfDirectory(atPath: held.folder).filter { $0.contains(".replaced-") && !$0.hasSuffix("-wal") }
      #expect(try aside.map { try String(contentsOfFile: held.folder + "/" + $0, encoding: .utf8) } == ["another file"], "nothing is deleted: \(aside)")
    }

    @Test func aFullJournalSaysWhenToTryAgainAndForgetsAnswersFirst() throws {
      let broker = try Broker()
      let listener = try Listener(broker, results + "#")
      let gate = Gate()
      let agent = try RunningAgent(broker, "max_mb = 1", engine: gate.engine)
      try online(broker)
      let text = String(repeating: "the pump leaks. ", count: 1500)
      for i in 0..<60 { try publish(broker, jobs + "classify", classify("big-\(i)", text)) }
      let refused = try listener.first("a refusal") { $0["error.code"] == "storage_full" }
      #expect(refused["error.http"] == 507)
      #expect(refused["error.retryable"] == true)
      #expect(refused["error.retry_after_ms"] != nil)
      gate.open()
      let accepted = 60 - listener.all.filter { $0["error.code"] == "storage_full" }.count
      #expect(accepted > 20)
      try listener.wait("the accepted ones", count: accepted) { $0["status"] == "ok" }
      try publish(broker, jobs + "classify", classify("later", text))
      try listener.wait("there is room again") { $0.topic == results + "later" && $0["status"] == "ok" }
      agent.stop()
    }

    /// Not even what the last agent left can be put in order; messages stay with the broker until it can.
    @Test(.enabled(if: SmallDisk.isPossible, "only root can mount a small disk")) func anAgentThatStartsOnAFullDiskSaysSoAndWaits() throws {
      let broker = try Broker()
      let disk = try SmallDisk(broker.path("disk"), megabytes: 2)
      let listener = try Listener(broker, "sterna/test/#")
      let first = try HelperProcess(broker, journal: "disk/journal.sqlite")
      try listener.wait("online") { $0["state"] == "online" }
      let text = String(repeating: "the pump leaks. ", count: 1000)
      for i in 0..<10 { try publish(broker, jobs + "classify", classify("job-\(i)", text, more: ",\"options\":{\"ack\":true}")) }
      try listener.wait("all are accepted", count: 10) { $0["status"] == "accepted" }
      first.send(SIGKILL)
      _ = first.end()
      disk.fill()
      let second = try HelperProcess(broker, journal: "disk/journal.sqlite")
      second.openGate()
      try listener.wait("degraded") { $0["state"] == "degraded" && ($0["reason"].map { $0.compact.contains("disk is full") } ?? false) }
      try publish(broker, jobs + "classify", classify("late"))
      disk.empty()
      try listener.wait("the answers to what was accepted, and to what came meanwhile", count: 11) { $0["status"] == "ok" }
      second.send(SIGTERM)
      #expect(second.end() == 0)
    }

    /// A small file system of its own, which only root can make.
    @Test(.enabled(if: SmallDisk.isPossible, "only root can mount a small disk")) func aFullDiskIsSaidAndTheAgentRecoversByItself() throws {
      let broker = try Broker()
      let disk = try SmallDisk(broker.path("disk"), megabytes: 2)
      let listener = try Listener(broker, "sterna/test/#")
      let agent = try RunningAgent(broker, journal: "disk/journal.sqlite")
      try listener.wait("online") { $0["state"] == "online" }
      try publish(broker, jobs + "classify", classify("before"))
      try listener.wait("the first result") { $0.topic == results + "before" }
      disk.fill()
      // The write-ahead log may have a little room left.
      let text = String(repeating: "the pump leaks. ", count: 1000)
      var i = 0
      while !listener.all.contains(where: { $0["error.code"] == "storage_full" }), i < 200 {
        try publish(broker, jobs + "classify", classify("job-\(i)", text))
        i += 1
      }
      let refused = try listener.first("a refusal") { $0["error.code"] == "storage_full" }
      #expect(refused["error.retry_after_ms"] != nil)
      let state = try listener.first("degraded") { $0["state"] == "degraded" }
      guard case .string(let reason)? = state["reason"] else { throw Late(description: "no reason") }
      #expect(reason.contains("disk is full"))
      disk.empty()
      try eventually("online again") { listener.all.last { $0.topic.hasSuffix("/state") }?["state"] == "online" }
      try publish(broker, jobs + "classify", classify("after"))
      try listener.wait("a result again") { $0.topic == results + "after" && $0["status"] == "ok" }
      // What was accepted while the disk ran full has its answer, and everything else was told.
      for j in 0..<i { try listener.wait("an answer of job-\(j)") { $0.topic == results + "job-\(j)" } }
      agent.stop()
    }

    /// It hangs up on every message that it cannot store; who looks meanwhile sees why.
    @Test(.enabled(if: SmallDisk.isPossible, "only root can mount a small disk")) func anAgentWithoutJournalIsDegradedAlsoWhileItIsNotConnected() throws {
      let broker = try Broker()
      let disk = try SmallDisk(broker.path("disk"), megabytes: 2)
      let agent = try RunningAgent(broker, Tasks.toml, journal: "disk/journal.sqlite")
      try online(broker)
      disk.fill()
      let text = String(repeating: "the pump leaks. ", count: 1000)
      for _ in 0..<40 { try publish(broker, "plant/7/alarm", text) }
      try eventually("it hangs up, again and again") { agent.log.count("the journal failed") > 2 }
      #expect(agent.log.count("the journal failed; trying again") == 1, "said once: \(agent.log.text)")
      try eventually("it is degraded") { try Listener(broker, "sterna/test/state").first("a state") { $0["state"] != nil }["state"] == "degraded" }
      for _ in 0..<5 {
        let state = try Listener(broker, "sterna/test/state").first("a state") { $0["state"] != nil }
        #expect(state["state"] == "degraded" && state["reason"]?.compact.contains("disk is full") == true, "\(state.payload)")
        usleep(150_000)
      }
      disk.empty()
      try eventually("online again") { try Listener(broker, "sterna/test/state").first("a state") { $0["state"] != nil }["state"] == "online" }
      agent.stop()
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

    /// A bit of the tables' own description: SQLite's checks find nothing wrong with it.
    @Test(arguments: ["unsent INTEGER", "deaths INTEGER", "pool TEXT"]) func damageToTheTablesIsFoundAtTheStart(column: String) throws {
      let broker = try Broker()
      let first = try RunningAgent(broker)
      try online(broker)
      first.stop()
      let path = URL(fileURLWithPath: broker.path("journal.sqlite"))
      var bytes = try Data(contentsOf: path)
      let found = try #require(bytes.range(of: Data(column.utf8)))
      bytes[found.lowerBound] ^= 2
      try bytes.write(to: path)
      let agent = try RunningAgent(broker)
      try online(broker, state: "degraded")
      #expect(agent.log.text.contains("the journal is damaged") && agent.log.text.contains("kept as"), "\(agent.log.text)")
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("goes-on"))
      try listener.wait("the result")
      agent.stop()
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
