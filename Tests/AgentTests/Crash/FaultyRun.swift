import Basics
import Foundation
import Glibc
import Synchronization
import Testing

/// `Tests/faults/faults.c`, built for this run of the tests. Nil where there is no C compiler.
let faultLibrary = preloadable("faults")
let clockLibrary = preloadable("clock")

private func preloadable(_ name: String) -> String? {
  let library = NSTemporaryDirectory() + "sterna-\(name)-\(getpid()).so"
  atexit { for name in ["faults", "clock"] { unlink(NSTemporaryDirectory() + "sterna-\(name)-\(getpid()).so") } }
  let isBuilt = ["cc", "clang"].contains { compiler in
    (try? execute("/usr/bin/env", [compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", library, repository + "/Tests/faults/\(name).c", "-ldl"]))?.status == 0
  }
  return isBuilt ? library : nil
}

/// One call on an agent's files that goes wrong, and what happens to the machine then.
struct Fault {
  enum Aftermath: String, CaseIterable {
    /// The agent died, or went on: the files are as it left them.
    case none
    /// The power failed, and nothing that was not synced is there.
    case powerCut = "power cut"
    /// The power failed, and of what was not synced some blocks of 512 bytes are there.
    case tornPowerCut = "torn power cut"
  }

  /// Counted from 1; 0: none.
  var at = 0
  /// As in faults.c.
  var kind = "kill"
  var aftermath = Aftermath.none
  /// Whether calls go on failing until `FaultyAgent.heal`.
  var isLasting = false

  var text: String { at == 0 ? "no fault" : "\(isLasting ? "lasting " : "")\(kind) at call \(at)\(aftermath == .none ? "" : ", then a \(aftermath.rawValue)")" }
}

/// An agent of its own for each fault, many at a time on one broker: they mostly wait.
final class FaultyRuns: @unchecked Sendable {
  // Sendable: `answers`, `acknowledged` and `brokerLog` are only used inside `lock`.
  let broker: Broker
  private let lock = NSLock()
  private let answers: Answers
  private let brokerLog: Tail
  private var acknowledged: [String: Set<String>] = [:]

  init() throws {
    broker = try Broker(settings: "allow_anonymous true\nuser \(NSUserName())\nlog_type all\nmax_queued_messages 100000")
    answers = try Answers(broker, filters: ["sterna/+/results/#"])
    brokerLog = Tail(broker.path("mosquitto.log"))
  }

  /// Runs every case on some threads.
  ///
  /// - Parameter each: what went wrong, or nil.
  /// - Returns: everything that went wrong.
  static func all(_ cases: [Fault], lanes: Int = 10, each: @escaping @Sendable (Int, Fault) throws -> String?) -> [String] {
    let next = Atomic<Int>(0)
    let wrong = Mutex<[String]>([])
    let group = DispatchGroup()
    for _ in 0..<lanes {
      group.enter()
      Foundation.Thread.detachNewThread {
        while case let i = next.add(1, ordering: .relaxed).oldValue, i < cases.count {
          var text: String?
          do { text = try each(i, cases[i]) } catch { text = "\(error)" }
          if let text { wrong.withLock { $0.append("\(cases[i].text): \(text)") } }
        }
        group.leave()
      }
    }
    group.wait()
    return wrong.withLock { $0 }
  }

  var contradictions: [String] { lock.withLock { answers.contradictions } }

  /// Distinct `result` members of all answers.
  var results: Set<String> {
    lock.withLock {
      Set(answers.byJob.values.joined().map { answer in
        guard case .object(let message)? = try? JSON.parse(answer), let result = message["result"] else { return answer }
        return result.compact
      })
    }
  }

  /// How many of these jobs have an answer.
  func answered(_ ids: [String]) throws -> Int {
    try lock.withLock {
      try answers.read()
      return ids.filter { answers.byJob[$0] != nil }.count
    }
  }

  /// Those of these jobs that were turned away since the last call.
  func turnedAway(_ ids: [String]) -> [String] {
    lock.withLock {
      defer { answers.turnedAway.removeAll { ids.contains($0) } }
      return answers.turnedAway.filter { ids.contains($0) }
    }
  }

  /// How many deliveries the broker knows to have arrived at a client.
  func acknowledged(by client: String) throws -> Int {
    try lock.withLock {
      for line in try brokerLog.read() {
        guard let from = line.range(of: "Received PUBACK from "), let open = line.range(of: " (Mid: ") else { continue }
        acknowledged[String(line[from.upperBound..<open.lowerBound]), default: []].insert(String(line[open.upperBound...].prefix { $0 != "," }))
      }
      return acknowledged[client]?.count ?? 0
    }
  }
}

/// One agent on a folder of its own, and what is done to it.
final class FaultyAgent {
  /// The files that are to go wrong.
  enum Files { case journal, prefixes }

  let id: String
  /// Published so far.
  private(set) var jobs: [String] = []
  private let runs: FaultyRuns
  private let files: Files
  private let folder: String
  private(set) var child: Child?
  private var starts = 0
  /// Files that count.
  private var state: String { folder + (files == .journal ? "/state" : "/prefixes") }
  private var durable: String { folder + "/durable" }
  var journal: String { folder + "/state/journal.sqlite" }
  private var gate: String { folder + "/gate" }

  /// Four jobs wait at the broker before the agent starts for the first time.
  ///
  /// - Parameter files: with `prefixes` the agent has the pocket model; else an engine that answers when it is told to.
  init(_ runs: FaultyRuns, _ id: String, files: Files = .journal) throws {
    self.runs = runs
    self.id = id
    self.files = files
    folder = runs.broker.path(id)
    for name in ["/state", "/prefixes", "/durable"] { try FileManager.default.createDirectory(atPath: folder + name, withIntermediateDirectories: true) }
    try """
      [agent]
      id = "\(id)"
      [mqtt]
      port = \(runs.broker.port)
      reconnect_ms = 20
      reconnect_max_ms = 200
      [model]
      path = "\(repository)/Models/pocket.gguf"
      threads = 1
      [journal]
      path = "\(journal)"
      [prefixes]
      path = "\(folder)/prefixes"
      """.write(toFile: folder + "/agent.toml", atomically: true, encoding: .utf8)
    let subscribed = try execute("/usr/bin/mosquitto_sub", session + ["-c", "-x", "3600", "-i", "sterna-\(id)", "-t", "sterna/\(id)/jobs/+", "-E"])
    guard subscribed.status == 0 else { throw Late(description: "mosquitto_sub: \(subscribed.output)") }
    try publish(4)
  }

  private var session: [String] { ["-V", "mqttv5", "-p", "\(runs.broker.port)", "-q", "1"] }

  /// Publishes jobs that all have the same answer.
  func publish(_ count: Int) throws {
    let new = (jobs.count..<jobs.count + count).map { "\(id)-\($0)" }
    jobs += new
    try send(new)
  }

  private func send(_ jobs: [String]) throws {
    let lines = folder + "/jobs"
    try jobs.map { classify($0) + "\n" }.joined().write(toFile: lines, atomically: true, encoding: .utf8)
    let input = open(lines, O_RDONLY | O_CLOEXEC)
    defer { close(input) }
    let publisher = try Child("/usr/bin/mosquitto_pub", session + ["-t", "sterna/\(id)/jobs/classify", "-l"], input: input)
    try eventually("mosquitto_pub ends") { publisher.exit != nil }
    guard publisher.exit == 0 else { throw Late(description: "mosquitto_pub failed") }
  }

  /// - Parameter isCounted: whether the library is there, which also keeps what a power cut would leave.
  func start(_ fault: Fault = Fault(), isCounted: Bool = true, isAnswering: Bool) throws {
    if isAnswering { _ = FileManager.default.createFile(atPath: gate, contents: nil) }
    starts += 1
    var environment = ProcessInfo.processInfo.environment
    if isCounted {
      environment["LD_PRELOAD"] = faultLibrary
      environment["FAULT_FOLDER"] = state
      environment["FAULT_LOG"] = callLog
      environment["FAULT_DURABLE"] = durable
      environment["FAULT_AT"] = "\(fault.at)"
      environment["FAULT_KIND"] = fault.kind
      if fault.isLasting { environment["FAULT_UNTIL"] = folder + "/healed" }
    }
    let (program, arguments) = files == .journal ? ("/agent-test-helper", [folder + "/agent.toml", gate]) : ("/sterna", ["run", "--config", folder + "/agent.toml"])
    child = try Child(buildFolder + program, arguments, environment: environment, output: log, errors: log)
  }

  /// A lasting fault is over.
  func heal() { _ = FileManager.default.createFile(atPath: folder + "/healed", contents: nil) }

  private var log: String { folder + "/log-\(starts)" }
  private var callLog: String { folder + "/calls-\(starts)" }
  var said: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }
  /// Calls of the last start, one a line.
  var calls: [Substring] { ((try? String(contentsOfFile: callLog, encoding: .utf8)) ?? "").split(separator: "\n") }

  /// Waits until something is so or the agent is dead.
  ///
  /// - Returns: whether it is so.
  func wait(_ what: String, _ condition: () throws -> Bool) throws -> Bool {
    var isSo = false
    do {
      try eventually(what, within: 40) {
        isSo = try condition()
        return isSo || child?.exit != nil
      }
    } catch { throw Late(description: "\(error); \(said.suffix(1500))") }
    return isSo
  }

  /// Waits until every job is answered or the agent is dead. A job that is turned away for want of room is sent again.
  ///
  /// - Returns: whether all are answered.
  func waitForAnswers() throws -> Bool {
    try wait("all answered") {
      let answered = try runs.answered(jobs)
      let again = runs.turnedAway(jobs)
      if !again.isEmpty { try send(again) }
      return answered == jobs.count && said.contains("connected to")
    }
  }

  /// Ends the agent as systemd would.
  ///
  /// - Returns: its exit status.
  func stop() throws -> Int32 {
    child?.send(SIGTERM)
    try eventually("the agent ends", within: 40) { child?.exit != nil }
    return child?.exit ?? -1
  }

  /// The power fails while the agent is dead.
  func cutPower(tornBy random: inout Seeded, isTorn: Bool) throws {
    let files = FileManager.default
    for name in try files.contentsOfDirectory(atPath: durable) where isTorn {
      guard let now = files.contents(atPath: state + "/" + name), var kept = files.contents(atPath: durable + "/" + name) else { continue }
      // Half of the time the file is as long as it was at the end.
      if Bool.random(using: &random) { kept.count < now.count ? kept.append(Data(count: now.count - kept.count)) : kept.removeLast(kept.count - now.count) }
      for begin in stride(from: 0, to: min(kept.count, now.count), by: 512) where Bool.random(using: &random) {
        let end = min(begin + 512, kept.count, now.count)
        kept.replaceSubrange(begin..<end, with: now[begin..<end])
      }
      try kept.write(to: URL(fileURLWithPath: durable + "/" + name))
    }
    try files.removeItem(atPath: state)
    try files.copyItem(atPath: durable, toPath: state)
  }

  /// What is left when all is over.
  ///
  /// - Returns: what is wrong with it.
  func complaint() throws -> String? {
    let files = try FileManager.default.contentsOfDirectory(atPath: folder + "/state")
    if let aside = files.first(where: { $0.contains("damaged") }) { return "the journal was set aside: \(aside)" }
    let left = try JournalCopy(of: journal)
    if left.integrity != "ok" { return "integrity: \(left.integrity)" }
    if Set(left.rows.keys) != Set(jobs) { return "jobs in the journal: \(left.rows.keys.sorted())" }
    if !left.unfinished.isEmpty || !left.unsent.isEmpty { return "not finished \(left.unfinished), not sent \(left.unsent)" }
    return nil
  }
}
