import Basics
import Jobs

/// What agents of one broker say about themselves, as of now: for `sterna top`.
public struct FleetView: Sendable {
  /// One agent. What was not heard, or is no longer true, is nil.
  public struct Agent: Sendable, Equatable {
    public var id: String
    /// `online`, `degraded`, `draining`, `stopped` or `offline`.
    public var state: String?
    /// Why it is not simply online.
    public var reason: String?
    public var model: String?
    public var version: String?
    /// Jobs without an answer.
    public var queue: Int?
    /// Answers that the broker does not have yet.
    public var unsent: Int?
    public var done: Int?
    public var failed: Int?
    /// Answers in a second, between the last two reports.
    public var rate: Double?
    public var averageRunMilliseconds: Int?
    public var residentBytes: Int?
    public var uptimeSeconds: Int?

    /// Answers of the report before, and when it came.
    fileprivate var before: (answers: Int, at: Int)?

    init(_ id: String) { self.id = id }

    /// Whether something happened; memory, uptime and rates are always a little different.
    public static func == (a: Agent, b: Agent) -> Bool {
      let (words, otherWords) = ([a.id, a.state, a.reason, a.model, a.version], [b.id, b.state, b.reason, b.model, b.version])
      let (counts, otherCounts) = ([a.queue, a.unsent, a.done, a.failed], [b.queue, b.unsent, b.done, b.failed])
      return words == otherWords && counts == otherCounts
    }

    public var isHere: Bool { ["online", "degraded", "draining"].contains(state) }
  }

  private let base: String
  private var known: [String: Agent] = [:]
  /// However many a broker gone mad names.
  private static let most = 10_000

  /// - Parameter base: the first levels of every topic.
  public init(base: String) { self.base = base }

  /// All that were heard of, by name.
  public var agents: [Agent] { known.values.sorted { $0.id < $1.id } }

  /// Takes note of a message; others than those of agents about themselves are ignored, and so is what is not as it should be.
  ///
  /// - Parameter now: milliseconds on any clock that only goes forward.
  public mutating func take(topic: String, payload: [UInt8], at now: Int) {
    guard topic.hasPrefix(base + "/") else { return }
    let levels = topic.dropFirst(base.count + 1).split(separator: "/", maxSplits: 1)
    guard levels.count == 2, case let id = String(levels[0]), isAgentID(id) else { return }
    guard !payload.isEmpty else {
      // An operator has taken its retained words off the broker: it is no more.
      if levels[1] == "state" { known[id] = nil }
      return
    }
    guard known[id] != nil || known.count < Self.most, let json = try? JSON.parse(payload) else { return }
    let message = JSONReader(json)
    var agent = known[id] ?? Agent(id)
    switch levels[1] {
    case "state":
      guard let state = try? message["state"].string() else { return }
      agent.take(state: state, reason: try? message["reason"].string())
    case "info":
      agent.version = try? message["version"].string()
      guard let name = try? message["model"]["name"].string(), let hash = try? message["model"]["sha256"].string() else { break }
      agent.model = "\(name) \(hash.prefix(8))"
    case "health": agent.take(health: message, now)
    case "response/health_check": agent.take(health: message["data"], now)
    default: return
    }
    known[id] = agent
  }
}

extension FleetView.Agent {
  fileprivate mutating func take(state: String, reason: String?) {
    (self.state, self.reason) = (state, reason)
    guard !isHere else { return }
    // The queue is on its disk; the rest was true of a process that is no more.
    (rate, averageRunMilliseconds, residentBytes, uptimeSeconds, before) = (nil, nil, nil, nil, nil)
  }

  fileprivate mutating func take(health: JSONReader, _ now: Int) {
    func count(_ name: String) -> Int? { try? health[name].int(in: 0...1 << 60) }
    guard let uptime = count("uptime_s"), let done = count("done"), let failed = count("failed") else { return }
    (self.done, self.failed, queue, unsent) = (done, failed, count("queue"), count("unsent"))
    // What is retained may be the last report of an agent that has gone.
    guard state == nil || isHere else { return }
    measureRate(answers: done + failed, isSameRun: uptimeSeconds.map { $0 <= uptime } ?? true, now)
    (averageRunMilliseconds, residentBytes, uptimeSeconds) = (count("average_run_ms"), count("rss_bytes"), uptime)
  }

  /// Reports come when they come; what counts is how much there is between two.
  private mutating func measureRate(answers: Int, isSameRun: Bool, _ now: Int) {
    guard let last = before, isSameRun, answers >= last.answers else {
      (before, rate) = ((answers, now), nil)
      return
    }
    let milliseconds = now - last.at
    guard milliseconds >= 500 else { return }
    rate = Double(answers - last.answers) * 1000 / Double(milliseconds)
    before = (answers, now)
  }

  /// What was heard, under the names that `health` has for it.
  public var json: JSON {
    var object: JSON.Object = ["agent": .string(id)]
    let words: [(String, String?)] = [("state", state), ("reason", reason), ("model", model), ("version", version)]
    for (name, word) in words { if let word { object[name] = .string(word) } }
    let counts: [(String, Int?)] = [
      ("queue", queue), ("unsent", unsent), ("done", done), ("failed", failed), ("average_run_ms", averageRunMilliseconds), ("rss_bytes", residentBytes), ("uptime_s", uptimeSeconds),
    ]
    for (name, count) in counts { if let count { object[name] = .number(count) } }
    if let rate { object["jobs_per_s"] = .number(rate) }
    return .object(object)
  }
}
