import Foundation
import Glibc
import Testing

extension WithBroker {
  /// Every call by which the agent changes its journal goes wrong once, in each way that it can.
  @Suite(.serialized, .enabled(if: faultLibrary != nil, "needs a C compiler")) struct Faults {
    @Test func everyCallOnTheJournalMayGoWrong() throws {
      let seeded = Seeded.announced("faults")
      let runs = try FaultyRuns()
      // How many calls there are. Group commit makes that differ a little between runs.
      let dry = try FaultyAgent(runs, "dry")
      try dry.start(isAnswering: true)
      #expect(try dry.waitForAnswers())
      #expect(try dry.stop() == 0)
      let calls = dry.calls
      let isWrite = { (at: Int) in at > calls.count || calls[at - 1].contains(" write ") }
      let cases = (1...calls.count + 4).flatMap { at in
        Fault.Aftermath.allCases.flatMap { aftermath in ["kill", "after"].map { Fault(at: at, kind: $0, aftermath: aftermath) } }
          + (isWrite(at) ? ["torn", "short", "enospc", "eio"] : ["eio"]).map { Fault(at: at, kind: $0) }
      }
      let wrong = FaultyRuns.all(cases) { i, fault in
        let agent = try FaultyAgent(runs, "c\(i)")
        try agent.start(fault, isAnswering: true)
        let isAnswered = try agent.waitForAnswers()
        let status = isAnswered ? try agent.stop() : agent.child?.exit ?? -1
        let mayDie = ["kill", "after", "torn"].contains(fault.kind)
        // Where the journal cannot even be opened the agent says so and ends; systemd starts it again.
        guard status == 0 || status == (mayDie ? 128 + SIGKILL : 1) else { return "ended with \(status): \(agent.said.suffix(500))" }
        if status == 1, !agent.said.contains(agent.journal) { return "ended without a reason: \(agent.said)" }
        if fault.aftermath != .none {
          var random = Seeded(UInt64(i) &* 7919 &+ seeded.seed)
          try agent.cutPower(tornBy: &random, isTorn: fault.aftermath == .tornPowerCut)
        }
        try agent.start(isCounted: false, isAnswering: true)
        guard try agent.waitForAnswers() else { return "died again: \(agent.said)" }
        let second = try agent.stop()
        return second == 0 ? try agent.complaint() : "ended with \(second) the second time: \(agent.said)"
      }
      #expect(wrong == [])
      #expect(runs.contradictions == [])
      print("faults: \(calls.count) calls on the journal's files, \(cases.count) faults, \(wrong.count) wrong")
    }

    /// What is in the kernel's memory looks as if it were on the disk. After a kill, or after a sync that failed, the agent finds jobs in its journal that the next power cut takes away
    /// unless it sees to them before it acknowledges them.
    @Test func whatIsAcknowledgedSurvivesAKillOrAnErrorAndThenAPowerCut() throws {
      let runs = try FaultyRuns()
      let dry = try FaultyAgent(runs, "dry")
      try dry.start(isAnswering: false)
      #expect(try dry.wait("all acknowledged") { try runs.acknowledged(by: "sterna-dry") == 4 })
      let calls = dry.calls
      dry.child?.kill()
      let cases = calls.indices.flatMap { i in
        [Fault(at: i + 1, kind: "after", aftermath: .powerCut)]
          + (calls[i].contains(" sync ") ? [false, true] : []).map { Fault(at: i + 1, kind: "eio", aftermath: .powerCut, isLasting: $0) }
      }
      let wrong = FaultyRuns.all(cases) { i, fault in
        let agent = try FaultyAgent(runs, "c\(i)")
        try agent.start(fault, isAnswering: false)
        let acknowledged = {
          // By then SQLite has given up, too: on closing it would have put everything in order.
          if fault.isLasting, agent.said.contains("the journal failed") { agent.heal() }
          return try runs.acknowledged(by: "sterna-\(agent.id)") == 4
        }
        if try !agent.wait("all acknowledged or dead", acknowledged) {
          try agent.start(isAnswering: false)
          guard try agent.wait("all acknowledged", acknowledged) else { return "died again: \(agent.said)" }
        }
        agent.child?.kill()
        var random = Seeded(0)
        try agent.cutPower(tornBy: &random, isTorn: false)
        try agent.start(isCounted: false, isAnswering: true)
        guard try agent.waitForAnswers() else { return "died again: \(agent.said)" }
        let status = try agent.stop()
        return status == 0 ? try agent.complaint() : "ended with \(status): \(agent.said)"
      }
      #expect(wrong == [])
      print("power cuts: \(cases.count) behind kills and failed syncs, \(wrong.count) wrong")
    }

    /// A disk that fails, and is mounted again after a while. An empty journal in the meantime would hide the one that has the jobs.
    @Test func aJournalThatIsGoneAfterAnErrorIsWaitedFor() throws {
      let runs = try FaultyRuns()
      let dry = try FaultyAgent(runs, "dry")
      try dry.start(isAnswering: false)
      #expect(try dry.wait("all acknowledged") { try runs.acknowledged(by: "sterna-dry") == 4 })
      let last = try #require(dry.calls.lastIndex { $0.contains(" sync ") }) + 1
      dry.child?.kill()
      let agent = try FaultyAgent(runs, "agent")
      try agent.start(Fault(at: last, kind: "eio", isLasting: true), isAnswering: true)
      try agent.publish(2)
      #expect(try agent.wait("an error") { agent.said.contains("the journal cannot be used") })
      let (files, suffixes) = (FileManager.default, ["", "-wal"].filter { FileManager.default.fileExists(atPath: agent.journal + $0) })
      for suffix in suffixes { try files.moveItem(atPath: agent.journal + suffix, toPath: agent.journal + suffix + ".away") }
      agent.heal()
      #expect(try agent.wait("it is missed") { agent.said.contains("the journal is gone") })
      #expect(!files.fileExists(atPath: agent.journal))
      for suffix in suffixes { try files.moveItem(atPath: agent.journal + suffix + ".away", toPath: agent.journal + suffix) }
      #expect(try agent.waitForAnswers())
      #expect(try agent.stop() == 0)
      #expect(try agent.complaint() == nil)
    }

    /// A prefix file saves work. Whatever becomes of one, jobs are answered, and no answer changes.
    @Test func everyCallOnPrefixFilesMayGoWrong() throws {
      let runs = try FaultyRuns()
      let isWritten = { @Sendable (agent: FaultyAgent) in agent.calls.contains { $0.contains(" rename ") || $0.hasSuffix("*") } }
      let dry = try FaultyAgent(runs, "dry", files: .prefixes)
      try dry.start(isAnswering: true)
      #expect(try dry.waitForAnswers())
      #expect(try dry.wait("a prefix file is written") { isWritten(dry) })
      #expect(try dry.stop() == 0)
      let calls = dry.calls
      let cases = calls.indices.flatMap { i in
        [Fault(at: i + 1, kind: "after"), Fault(at: i + 1, kind: "kill", aftermath: .tornPowerCut), Fault(at: i + 1, kind: "eio")]
          + (calls[i].contains(" write ") ? ["torn", "short", "enospc"] : []).map { Fault(at: i + 1, kind: $0) }
      }
      let wrong = FaultyRuns.all(cases) { i, fault in
        let agent = try FaultyAgent(runs, "c\(i)", files: .prefixes)
        try agent.start(fault, isAnswering: true)
        if try agent.waitForAnswers(), try agent.wait("a prefix file is written", { isWritten(agent) }) {
          let status = try agent.stop()
          guard status == 0 || status == 128 + SIGKILL else { return "ended with \(status): \(agent.said)" }
        }
        var random = Seeded(UInt64(i))
        if fault.aftermath != .none { try agent.cutPower(tornBy: &random, isTorn: true) }
        try agent.publish(2)
        try agent.start(isAnswering: true)
        guard try agent.waitForAnswers() else { return "died again: \(agent.said)" }
        let status = try agent.stop()
        return status == 0 ? try agent.complaint() : "ended with \(status): \(agent.said)"
      }
      #expect(wrong == [])
      #expect(runs.results.count == 1, "\(runs.results)")
      print("prefix files: \(calls.count) calls, \(cases.count) faults, \(wrong.count) wrong")
    }
  }
}
