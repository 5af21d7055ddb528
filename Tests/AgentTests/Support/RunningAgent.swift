import Agent
import Basics
import Foundation
import Glibc
import Jobs
import Logging
import Testing

/// Answers with the first label, or with the first word as every field, unless a test says otherwise.
final class FakeEngine: JobRunner {
  let model = ModelIdentity(name: "fake", sha256: String(repeating: "ab", count: 32))
  private let answer: @Sendable (Job, RunControl) -> Outcome

  init(_ answer: @escaping @Sendable (Job, RunControl) -> Outcome = { job, _ in FakeEngine.firstLabel(job) }) { self.answer = answer }

  func run(_ job: Job, control: RunControl) -> Outcome { answer(job, control) }

  static func firstLabel(_ job: Job) -> Outcome {
    switch job.work {
    case .classify(let labels):
      return Outcome(.success(.classification(.init(scores: labels.map { ($0.name, $0.name == labels[0].name ? 1 : 0) }, best: 0))))
    case .extract(let fields):
      let word = String(job.input.prefix { $0 != " " })
      let evidence = Answer.Extraction.Evidence(text: word, scalars: 0..<word.unicodeScalars.count, bytes: 0..<word.utf8.count)
      return Outcome(
        .success(.extraction(.init(values: fields.map { .init(name: $0.name, value: .string(word), evidence: evidence, confidence: 1) }))))
    case .fill: return Outcome(.success(.extraction(.init(document: .object(JSON.Object()), values: []))))
    }
  }
}

/// Lets a test hold the engine back.
final class Gate: Sendable {
  private let lock = NSCondition()
  nonisolated(unsafe) private var isOpen = false  // guarded by lock
  nonisolated(unsafe) private var arrivals = 0

  func pass(_ control: RunControl) -> Bool {
    lock.withLock {
      arrivals += 1
      while !isOpen {
        _ = lock.wait(until: Date().addingTimeInterval(0.01))
        if control.shouldStop?() == true { return false }
      }
      return true
    }
  }

  func open() {
    lock.withLock {
      isOpen = true
      lock.broadcast()
    }
  }

  var count: Int { lock.withLock { arrivals } }
  var isPassable: Bool { lock.withLock { isOpen } }

  var engine: @Sendable () -> any JobRunner {
    { FakeEngine { job, control in self.pass(control) ? FakeEngine.firstLabel(job) : Outcome(.failure(SternaError(.cancelled, "stopped"))) } }
  }
}

/// What an agent said on its log.
final class Log: LogHandler, @unchecked Sendable {
  // Sendable: lines are guarded by lock; the rest is not changed.
  private let lock = NSLock()
  private var lines: [String] = []
  var logLevel = Logger.Level.debug
  var metadata: Logger.Metadata = [:]
  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { nil }
    set {}
  }

  func log(event: LogEvent) {
    lock.withLock { lines.append("\(event.level): \(event.message)\((event.metadata ?? [:]).map { " \($0)=\($1)" }.joined())") }
  }

  var text: String { lock.withLock { lines.joined(separator: "\n") } }
  func count(_ part: String) -> Int { lock.withLock { lines.filter { $0.contains(part) }.count } }
}

/// A value that threads share.
final class Held<Value: Sendable>: @unchecked Sendable {
  // Sendable: the value is touched only under the lock.
  private let lock = NSLock()
  private var held: Value
  init(_ value: Value) { held = value }
  var value: Value {
    get { lock.withLock { held } }
    set { lock.withLock { held = newValue } }
  }
}

/// An agent inside the test's process.
final class RunningAgent {
  let agent: Agent
  let log = Log()
  /// The configuration file, as a reload finds it.
  private let file: Held<String>
  private let done = DispatchSemaphore(value: 0)
  private var isOver = false

  /// - Parameter toml: added to the configuration of the broker's address, a quick reconnect, and a journal in the broker's folder.
  convenience init(
    _ broker: Broker, _ toml: String = "", environment: [String: String] = [:], journal: String = "journal.sqlite",
    mqtt: String = "", id: String = "test", engine: @escaping Agent.EngineFactory = { FakeEngine() }
  ) throws {
    try self.init(toml: Self.toml(broker, toml, journal: journal, mqtt: mqtt, id: id), environment: environment, engine: engine)
  }

  convenience init(toml: String, environment: [String: String] = [:], engine: @escaping Agent.EngineFactory) throws {
    try self.init(toml: toml, environment: environment, load: { _ in try engine() })
  }

  init(toml: String, environment: [String: String] = [:], load: @escaping Agent.EngineLoader) throws {
    let configuration = try AgentConfiguration.parse(toml, name: "test", environment: environment)
    let log = self.log
    file = Held(toml)
    agent = Agent(
      configuration: configuration, environment: environment, logger: Logger(label: "test") { _ in log },
      reloader: { [file] () throws(SternaError) in try AgentConfiguration.parse(file.value, name: "test", environment: environment) }, load: load)
    let (agent, done) = (self.agent, self.done)
    Foundation.Thread.detachNewThread {
      do { try agent.run(handlesSignals: false) } catch { log.logError("\(error)") }
      done.signal()
    }
  }

  static func toml(_ broker: Broker, _ more: String = "", journal: String = "journal.sqlite", mqtt: String = "", id: String = "test") -> String {
    """
    [agent]
    id = "\(id)"
    log_level = "debug"
    [mqtt]
    port = \(broker.port)
    reconnect_ms = 20
    reconnect_max_ms = 200
    \(mqtt)
    [model]
    path = "none"
    [journal]
    path = "\(broker.path(journal))"
    \(more)
    """
  }

  func reload(_ toml: String) {
    file.value = toml
    agent.reload()
  }

  func stop() {
    guard !isOver else { return }
    isOver = true
    agent.stop()
    if done.wait(timeout: .now() + 30) == .timedOut { Issue.record("the agent does not stop: \(log.text)") }
  }

  deinit { stop() }
}

extension Log {
  func logError(_ text: String) { lock.withLock { lines.append("thrown: \(text)") } }
}

let jobs = "sterna/test/jobs/"
let results = "sterna/test/results/"

/// A classification job.
func classify(_ id: String? = nil, _ input: String = "the pump leaks", more: String = "") -> String {
  "{\(id.map { "\"id\":\"\($0)\"," } ?? "")\"input\":\"\(input)\",\"labels\":[\"leak\",\"noise\"]\(more)}"
}

/// Waits until an agent listens.
func online(_ broker: Broker, state: String = "online") throws {
  let listener = try Listener(broker, "sterna/test/state")
  try listener.wait("state \(state)") { $0["state"] == .string(state) }
}
