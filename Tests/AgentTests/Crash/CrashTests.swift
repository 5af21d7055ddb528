import Agent
import Basics
import Foundation
import Glibc
import Synchronization
import Testing

extension WithBroker {
  /// SIGKILL at random moments, under load. `docs/reliability.md` has the counts of longer runs of the same.
  @Suite(.serialized) struct Crashes {
    /// Jobs are published once. The agent alone is to blame for one that has no answer.
    @Test func anAgentThatIsKilledLosesNothing() throws {
      let run = try CrashRun("agent killed", settings: "")
      for _ in 0..<Self.kills {
        try run.feed(milliseconds: .random(in: 5...350, using: &run.random))
        try run.killAgent()
      }
      try run.stopFeeding()
      try run.waitForAnswers()
      try run.end()
      run.report("agent killed")
    }

    /// A broker that dies loses what it has not saved. Clients send again until they have an answer, as `sterna submit` does.
    @Test func aBrokerThatIsKilledTooLosesNothing() throws {
      let run = try CrashRun("agent and broker killed", settings: "persistence true\nautosave_on_changes true\nautosave_interval 50")
      let submitting = Submitting(run.broker)
      for i in 0..<Self.kills {
        usleep(.random(in: 5000...350_000, using: &run.random))
        if i % 3 == 2 { try run.killBroker() }
        if i % 6 != 2 { try run.killAgent() }
        try run.answers.read()
        // A job that was at the engine alone when the agent died waits until the agent has lived for seconds without it, and the client for that job.
        if i % 50 == 49 { usleep(.random(in: 2_000_000...12_000_000, using: &run.random)) }
      }
      for (id, payload) in try submitting.end() {
        run.add([id])
        run.answers.heard(id, payload)
      }
      try run.end()
      run.report("agent and broker killed")
    }

    /// The disk fills up and empties again, and the agent dies in between.
    @Test(.enabled(if: SmallDisk.isPossible, "only root can mount a small disk")) func aFullDiskLosesNothing() throws {
      var disk: SmallDisk?
      let run = try CrashRun("disk full", settings: "", journal: "small/journal.sqlite") { disk = try SmallDisk($0.path("small"), megabytes: 12) }
      let small = try #require(disk)
      var turnedAway = 0
      for _ in 0..<8 {
        try run.feed(milliseconds: .random(in: 20...200, using: &run.random))
        small.fill()
        try run.feed(milliseconds: .random(in: 20...400, using: &run.random))
        if Bool.random(using: &run.random) { try run.killAgent() }
        try run.feed(milliseconds: .random(in: 20...400, using: &run.random))
        small.empty()
        if Bool.random(using: &run.random) { try run.killAgent() }
        do {
          var patience = Date().addingTimeInterval(5)
          try eventually("every job is answered or turned away") {
            try run.answers.read()
            turnedAway += try run.feedAgain()
            // A refusal is no promise: of an agent that is killed over it nobody hears it. What was accepted was in the journal when the agent died, and is looked for there.
            if Date() > patience {
              patience = .distantFuture
              try run.sendAgain()
            }
            return run.unanswered == 0
          }
        } catch { throw Late(description: "\(error); \(run.unansweredJobs); \(run.log.suffix(3000))") }
      }
      try run.stopFeeding()
      #expect(run.log.contains("the disk is full"))
      try run.end()
      run.report("disk full", ", \(turnedAway) turned away and sent again")
    }

    /// How often each is killed: 60, or as the environment says.
    private static let kills = ProcessInfo.processInfo.environment["STERNA_CRASH_KILLS"].flatMap(Int.init) ?? 60
  }
}

/// A client that has jobs without end, on a thread of its own.
private final class Submitting: Sendable {
  private let answers = Mutex<[String: String]>([:])
  private let failure = Mutex<String?>(nil)
  private let isOver = Atomic<Bool>(false)
  private let done = DispatchSemaphore(value: 0)

  init(_ broker: Broker) {
    var options = Submitter.Options()
    options.mqtt.port = broker.port
    options.agent = "test"
    options.clientID = "press"
    options.resendAfter = 1
    options.window = 200
    options.timeout = 120
    Foundation.Thread.detachNewThread { [self, options] in
      let submitter = Submitter(options: options)
      var number = 0
      do {
        while !isOver.load(ordering: .acquiring) {
          let batch = (number..<number + 500).map { i in Submitter.Submission(kind: "classify", id: "job-\(i)", payload: Array(CrashRun.job("job-\(i)").utf8)) }
          number += batch.count
          try submitter.submit(batch) { submission, reply in answers.withLock { $0[submission.id] = String(decoding: reply.payload, as: UTF8.self) } }
        }
      } catch { failure.withLock { $0 = "\(error)" } }
      done.signal()
    }
  }

  /// Waits for the answers that are missing.
  ///
  /// - Returns: the answer of every job that was submitted.
  func end() throws -> [String: String] {
    isOver.store(true, ordering: .releasing)
    done.wait()
    if let text = failure.withLock({ $0 }) { throw Late(description: text) }
    return answers.withLock { $0 }
  }
}

/// A file system in memory that is soon full.
final class SmallDisk {
  let path: String

  init(_ path: String, megabytes: Int) throws {
    self.path = path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    guard mount("tmpfs", path, "tmpfs", 0, "size=\(megabytes)m,mode=700") == 0 else { throw Late(description: "mount: \(String(cString: strerror(errno)))") }
  }

  deinit { umount2(path, Int32(MNT_DETACH)) }

  static let isPossible: Bool = {
    let folder = NSTemporaryDirectory() + "sterna-mount-\(UUID().uuidString.prefix(8))"
    defer { rmdir(folder) }
    return (try? SmallDisk(folder, megabytes: 1)) != nil
  }()

  /// To the last byte.
  func fill() {
    let file = open(path + "/ballast", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    defer { close(file) }
    for bytes in [1 << 20, 4096] {
      let block = [UInt8](repeating: 0, count: bytes)
      while write(file, block, bytes) > 0 {}
    }
  }

  func empty() { unlink(path + "/ballast") }
}
