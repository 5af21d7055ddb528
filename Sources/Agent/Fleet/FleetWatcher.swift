import Basics
import Jobs

/// What agents of one broker say about themselves, as of now: for `sterna top`.
public struct FleetView: Sendable {
  /// One agent.
  public struct Agent: Sendable {
    public var id: String
    /// `online`, `degraded`, `draining`, `stopped` or `offline`; nil as long as nothing was heard.
    public var state: String?
    /// Why it is not simply online.
    public var reason: String?
    public var model: String?
    public var version: String?
    public var queue: Int?
    public var unsent: Int?
    public var done: Int?
    public var failed: Int?
    /// Answers in a second, between the last two reports; nil with only one.
    public var rate: Double?
    public var averageRunMilliseconds: Int?
    public var residentBytes: Int?
    public var uptimeSeconds: Int?
    /// The newest error that the agent reports.
    public var lastError: String?

    /// Answers and milliseconds, here, of the report before.
    fileprivate var before: (answers: Int, uptime: Int)?
  }

  private let base: String
  private var known: [String: Agent] = [:]

  /// - Parameter base: the first levels of every topic.
  public init(base: String) { self.base = base }

  /// All that were heard of, by name.
  public var agents: [Agent] { known.values.sorted { $0.id < $1.id } }

  /// Takes note of a message; others than those of agents about themselves are ignored, and so is what is not as it should be.
  ///
  /// - Parameter now: milliseconds on any clock that only goes forward.
  public mutating func take(topic: String, payload: [UInt8], at now: Int) {
    guard topic.hasPrefix(base + "/") else { return }
    let levels = topic.dropFirst(base.utf8.count + 1).split(separator: "/", maxSplits: 1).map(String.init)
    guard levels.count == 2, isAgentID(levels[0]), known[levels[0]] != nil || known.count < 10_000 else { return }
    var agent = known[levels[0]] ?? Agent(id: levels[0])
    guard let json = try? JSON.parse(payload), case let message = JSONReader(json) else { return }
    switch levels[1] {
    case "state":
      guard let state = try? message["state"].string() else { return }
      (agent.state, agent.reason) = (state, try? message["reason"].string())
    case "info":
      agent.version = try? message["version"].string()
      guard let name = try? message["model"]["name"].string(), let hash = try? message["model"]["sha256"].string() else { break }
      agent.model = "\(name) \(hash.prefix(8))"
    case "health": agent.take(health: message, now)
    case "response/health_check": agent.take(health: message["data"], now)
    default: return
    }
    known[agent.id] = agent
  }
}

extension FleetView.Agent {
  fileprivate mutating func take(health: JSONReader, _ now: Int) {
    guard let uptime = try? health["uptime_s"].int(in: 0...Int.max), let done = try? health["done"].int(in: 0...Int.max >> 1), let failed = try? health["failed"].int(in: 0...Int.max >> 1) else { return }
    // Reports come when they come; what counts is how much there is between two.
    let isSameRun = uptimeSeconds.map { $0 <= uptime } ?? true
    if let before, isSameRun, now - before.uptime >= 500, done + failed >= before.answers { rate = Double(done + failed - before.answers) * 1000 / Double(now - before.uptime) }
    if before == nil || !isSameRun || now - (before?.uptime ?? 0) >= 500 { before = (done + failed, now) }
    if !isSameRun { rate = nil }
    (self.done, self.failed, uptimeSeconds) = (done, failed, uptime)
    queue = try? health["queue"].int()
    unsent = try? health["unsent"].int()
    averageRunMilliseconds = try? health["average_run_ms"].int()
    residentBytes = try? health["rss_bytes"].int()
    lastError = (try? health["last_error"].string()) ?? (try? health["last_error"]["message"].string())
  }

  public var json: JSON {
    var object: JSON.Object = ["agent": .string(id)]
    func add(_ name: String, _ value: JSON?) { if let value { object[name] = value } }
    add("state", state.map { .string($0) })
    add("reason", reason.map { .string($0) })
    add("model", model.map { .string($0) })
    add("version", version.map { .string($0) })
    add("queue", queue.map { .number($0) })
    add("unsent", unsent.map { .number($0) })
    add("done", done.map { .number($0) })
    add("failed", failed.map { .number($0) })
    add("jobs_per_s", rate.map { .number($0) })
    add("average_run_ms", averageRunMilliseconds.map { .number($0) })
    add("rss_bytes", residentBytes.map { .number($0) })
    add("uptime_s", uptimeSeconds.map { .number($0) })
    add("last_error", lastError.map { .string($0) })
    return .object(object)
  }
}

/// A connection on which agents are heard.
public final class FleetWatcher {
  public private(set) var view: FleetView
  private let client: Client
  private let base: String
  private var askedAt: Int

  /// - Parameter agent: nil: all of them.
  /// - Throws: what the broker or the network said.
  public init(_ mqtt: AgentConfiguration.MQTT, base: String, agent: String? = nil) throws(SternaError) {
    var mqtt = mqtt
    mqtt.sessionExpiry = 0
    client = try Client(mqtt, clientID: "top-" + Randomness.id().prefix(12), timeout: 15)
    view = FleetView(base: base)
    self.base = base
    askedAt = Clock.uptime
    for topic in ["state", "info", "health", "response/health_check"] { client.session.subscribe("\(base)/\(agent ?? "+")/\(topic)") }
  }

  /// Waits for at most `milliseconds`, and takes note of what came.
  ///
  /// - Parameter asking: whether agents are asked for their health now and then; they report it by themselves once a minute. Where the broker does not let this client ask, nothing happens.
  /// - Throws: when the connection is lost.
  public func turn(_ milliseconds: Int, asking: Bool) throws(SternaError) {
    for message in try client.turn(milliseconds).messages { view.take(topic: message.topic, payload: message.payload, at: Clock.uptime) }
    guard asking, Clock.uptime - askedAt >= 2000 else { return }
    askedAt = Clock.uptime
    for agent in view.agents where agent.state == "online" || agent.state == "degraded" || agent.state == "draining" {
      _ = client.session.publish(.init(topic: "\(base)/\(agent.id)/request/health_check", payload: []))
    }
  }
}
