import Foundation
import Glibc
import Testing

/// An agent with the pocket model that is killed again and again while jobs come in, and everything that was seen meanwhile.
final class CrashRun {
  let broker: Broker
  let answers: Answers
  private(set) var published: Set<String> = []
  private(set) var agentKills = 0
  private(set) var brokerKills = 0
  var random: Seeded

  private let journal: String
  private let configuration: String
  private var agent: Child?
  private var feeders: [String: Feeder] = [:]
  private var promises: [String: JournalCopy.Row] = [:]

  /// - Parameter journal: inside the broker's folder.
  init(_ name: String, settings: String, journal: String = "journal.sqlite", mount: ((Broker) throws -> Void)? = nil) throws {
    random = .announced(name)
    broker = try Broker(settings: "allow_anonymous true\nuser \(NSUserName())\nmax_queued_messages 100000\nmax_inflight_messages 100\n" + settings)
    try mount?(broker)
    self.journal = broker.path(journal)
    answers = try Answers(broker, filters: ["sterna/test/results/#", "sterna/clients/#"])
    configuration = broker.path("agent.toml")
    try """
      [agent]
      id = "test"
      [mqtt]
      port = \(broker.port)
      reconnect_ms = 20
      reconnect_max_ms = 200
      [model]
      path = "\(repository)/Models/pocket.gguf"
      threads = 1
      [journal]
      path = "\(self.journal)"
      keep_jobs = 1000000
      [limits]
      queue_jobs = 100000
      """.write(toFile: configuration, atomically: true, encoding: .utf8)
    try start()
    try online(broker)
  }

  // MARK: - Coming and going

  private func start() throws {
    agent = try Child(buildFolder + "/sterna", ["run", "--config", configuration], errors: broker.path("agent.log"))
  }

  var log: String { (try? String(contentsOfFile: broker.path("agent.log"), encoding: .utf8)) ?? "" }

  /// Kills the agent, looks at what it leaves, and starts it again.
  func killAgent() throws {
    guard let agent else { return }
    #expect(agent.exit == nil, "the agent ended by itself: \(log.suffix(2000))")
    agent.kill()
    agentKills += 1
    try look()
    try start()
  }

  /// The last thing that tests see of an agent: it ends when asked, and nothing is left to do.
  func end() throws {
    agent?.send(SIGTERM)
    try eventually("the agent ends") { agent?.exit != nil }
    #expect(agent?.exit == 0, "\(log.suffix(2000))")
    let left = try look()
    #expect(left.unfinished == [] && left.unsent == [])
    try answers.read()
    for (id, row) in promises where row.result != nil {
      #expect(answers.byJob[id] == [row.result ?? ""], "\(id): what the journal holds was published, and nothing else")
    }
    #expect(answers.contradictions == [])
    #expect(!answers.byJob.values.joined().contains { $0.contains("\"poisoned\"") })
  }

  func killBroker() throws {
    broker.kill()
    brokerKills += 1
    try broker.start()
  }

  /// Reads the journal of an agent that is dead. What was promised in it before must still be there, and the same.
  @discardableResult
  private func look() throws -> JournalCopy {
    let copy = try JournalCopy(of: journal)
    #expect(copy.integrity == "ok")
    for (id, promise) in promises {
      guard let row = copy.rows[id] else {
        Issue.record("\(id) was in the journal and is not any more")
        continue
      }
      // Were it lost and accepted again, it would have come later.
      #expect(row.received == promise.received, "\(id) was accepted twice")
      #expect(promise.result == nil || promise.result == row.result, "\(id) has another answer than before")
    }
    for (id, row) in copy.rows where row.state != 2 { promises[id] = row }
    return copy
  }

  // MARK: - Jobs

  /// Payload of a job whose text nobody else has, so that no two jobs have the same answer.
  static func job(_ id: String, extract: Bool = false) -> String {
    let what = extract ? "\"fields\":[\"machine\",\"place\"]" : "\"labels\":[\"leak\",\"fire\",\"noise\"]"
    return "{\"id\":\"\(id)\",\"input\":\"oil under pump \(id) on line B\",\(what)}"
  }

  /// Publishes jobs, with QoS 1 and once, for so long: new ones, as many as keep `outstanding` of them unanswered.
  func feed(milliseconds: Int, outstanding: Int = 300) throws {
    let end = Date().addingTimeInterval(Double(milliseconds) / 1000)
    repeat {
      try answers.read()
      while unanswered < outstanding {
        let id = "job-\(published.count)"
        published.insert(id)
        try send(id)
      }
      usleep(3000)
    } while Date() < end
  }

  /// Jobs that were turned away, once more.
  func feedAgain() throws -> Int {
    let again = Set(answers.turnedAway).filter { answers.byJob[$0] == nil }
    answers.turnedAway = []
    for id in again.sorted() { try send(id) }
    return again.count
  }

  /// Everything that has no answer, once more.
  func sendAgain() throws { for id in published.sorted() where answers.byJob[id] == nil { try send(id) } }

  private func send(_ id: String) throws {
    let isExtraction = (Int(id.dropFirst(4)) ?? 0) % 8 == 7
    let kind = isExtraction ? "extract" : "classify"
    if feeders[kind] == nil { feeders[kind] = try Feeder(broker, topic: jobs + kind) }
    try feeders[kind]?.send(Self.job(id, extract: isExtraction))
  }

  /// The broker has acknowledged everything that was published.
  func stopFeeding() throws {
    for feeder in feeders.values { try feeder.end() }
    feeders = [:]
  }

  var unanswered: Int { published.count - answers.byJob.count }

  /// What became of those, as far as the journal tells.
  var unansweredJobs: String {
    let rows = (try? JournalCopy(of: journal))?.rows ?? [:]
    let missing = published.filter { answers.byJob[$0] == nil }.sorted()
    return "agent \(agent?.exit.map { "ended with \($0)" } ?? "runs"), \(missing.count) unanswered: " + missing.prefix(20).map { "\($0) \(rows[$0].map { "state \($0.state)" } ?? "unknown")" }.joined(separator: ", ")
  }

  func waitForAnswers() throws {
    try eventually("every job is answered; \(log.suffix(1000))", within: 60) {
      try answers.read()
      return unanswered == 0
    }
  }

  /// The figures of the run, on one line.
  func report(_ name: String, _ more: String = "") {
    let lost = published.filter { answers.byJob[$0] == nil }
    #expect(lost.isEmpty, "lost: \(lost.sorted().prefix(20))")
    print("\(name): \(published.count) jobs, agent killed \(agentKills) times, broker \(brokerKills), \(answers.duplicates) results delivered again, \(lost.count) lost\(more)")
  }

  /// Jobs that were published by somebody else.
  func add(_ ids: some Sequence<String>) { published.formUnion(ids) }
}

/// `mosquitto_pub` that publishes lines as they come.
private final class Feeder {
  private let child: Child
  private var pipe: [Int32] = [0, 0]

  init(_ broker: Broker, topic: String) throws {
    guard Glibc.pipe(&pipe) == 0 else { throw Late(description: "no pipe") }
    // Other children must not hold this end open.
    for end in pipe { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    child = try Child("/usr/bin/mosquitto_pub", ["-V", "mqttv5", "-p", "\(broker.port)", "-q", "1", "-t", topic, "-l"], input: pipe[0])
    close(pipe[0])
  }

  deinit { if pipe[1] >= 0 { close(pipe[1]) } }

  func send(_ line: String) throws {
    var bytes = Array((line + "\n").utf8)[...]
    while !bytes.isEmpty {
      let put = bytes.withUnsafeBytes { write(pipe[1], $0.baseAddress, $0.count) }
      guard put > 0 else { throw Late(description: "mosquitto_pub is gone") }
      bytes = bytes.dropFirst(put)
    }
  }

  func end() throws {
    close(pipe[1])
    pipe[1] = -1
    try eventually("mosquitto_pub ends", within: 60) { child.exit != nil }
    #expect(child.exit == 0, "the broker has every job")
  }
}
