import Basics
import Jobs

/// A client that sends jobs to an agent or a pool of them and waits for the results: `sterna submit`, the demo, and tests.
///
/// It subscribes to a reply topic of its own, sends each job with response topic and correlation data, and sends a job again, with the same id,
/// as long as there is no answer: the broker's acknowledgement proves nothing about the agent. A refusal that names a time to try again is no answer. Over MQTT
/// 3.1.1, which has no response topics, it listens to the agent's results instead.
///
/// In a pool a job sent again goes to another agent, so it waits longer each time, lest one slow job keeps all of them busy; but where an agent has said that it
/// accepted the job, and goes away, the job is sent again at once.
public final class Submitter {
  /// Where to and how.
  public struct Options: Sendable {
    public var mqtt = AgentConfiguration.MQTT()
    public var base = "sterna"
    /// The agent's id.
    public var agent = "gateway"
    /// The name of a pool, in place of an agent.
    public var pool: String?
    /// Nil: a random one.
    public var clientID: String?
    /// Seconds after which a job without answer is sent again; in a pool twice as many each time, up to eight times as many.
    public var resendAfter: Double = 10
    /// Seconds after which waiting ends, counted from the last answer.
    public var timeout: Double = 60
    /// Jobs on their way at the same time.
    public var window = 20

    public init() { mqtt.sessionExpiry = 0 }
  }

  /// One job to send.
  public struct Submission: Sendable {
    /// `classify` or `extract`: the last level of the topic.
    public var kind: String
    /// As in the payload.
    public var id: String
    /// The payload as it goes out.
    public var payload: [UInt8]

    /// - Parameter job: the job's members; its `id` is used, or a random one added.
    public init(kind: String, job: JSON.Object) {
      self.kind = kind
      var job = job
      if case .string(let id)? = job["id"], Job.isValid(id: id) {
        self.id = id
      } else {
        id = Randomness.id()
        if job["id"] == nil { job["id"] = .string(id) }
      }
      payload = JSON.object(job).compactBytes
    }

    /// Any bytes, for trying out what an agent says to them. The answer is recognised by the correlation data.
    public init(kind: String, id: String, payload: [UInt8]) {
      self.kind = kind
      self.id = id
      self.payload = payload
    }
  }

  /// What came back.
  public struct Reply: Sendable {
    public var topic: String
    public var payload: [UInt8]
    /// The payload, where it is JSON.
    public var json: JSON? { try? JSON.parse(payload) }
  }

  private let options: Options
  private let clientID: String
  private var client: Client?
  /// Jobs whose message the broker has not confirmed, by the number of the message.
  private var unconfirmed: [Int32: String] = [:]

  public init(options: Options) {
    self.options = options
    clientID = options.clientID ?? "submit-" + String(Randomness.id().prefix(12))
  }

  private var replies: String { "\(options.base)/clients/\(clientID)/replies" }
  /// In front of `jobs/` and `results/`.
  private var target: String { options.pool.map { "\(options.base)/pool/\($0)/" } ?? "\(options.base)/\(options.agent)/" }
  private var results: String { target + "results/" }

  private struct Pending {
    var submission: Submission
    /// When it is sent again, in milliseconds since boot.
    var dueAt: Int
    /// Milliseconds for which the next answer is waited for.
    var patience: Double
    /// The agent that said it has the job.
    var holder: String?
  }

  /// Sends jobs and waits until each has its answer.
  ///
  /// - Parameter each: called for every answer as it arrives, errors of the agent included.
  /// - Throws: when the broker cannot be reached or answers are missing after `timeout`.
  public func submit(_ submissions: [Submission], each: (Submission, Reply) -> Void) throws(SternaError) {
    guard isAgentID(options.pool ?? options.agent) else {
      throw SternaError(
        .badConfiguration, "is not the name of \(options.pool == nil ? "an agent" : "a pool")", at: options.pool ?? options.agent,
        expected: "1 to 32 characters of a-z, 0-9 and -")
    }
    guard isPublishTopic(options.base) else {
      throw SternaError(.badConfiguration, "is not the beginning of a topic", at: options.base, expected: "one or more levels, such as sterna or plant/sterna, without + and #")
    }
    var waiting = submissions[...]
    var pending: [String: Pending] = [:]
    var lastAnswer = Clock.uptime
    while !waiting.isEmpty || !pending.isEmpty {
      guard Double(Clock.uptime - lastAnswer) < options.timeout * 1000 else {
        throw SternaError(
          .deadline, "\(pending.count + waiting.count) of \(submissions.count) jobs have no answer", at: options.pool.map { "pool \($0)" } ?? "agent \(options.agent)",
          remedy: options.pool.map { "is an agent with \"\($0)\" in pool.names running, connected to this broker, and not full? See pools in \(options.base)/+/health" }
            ?? "is the agent running, and connected to this broker? Its retained state is on \(options.base)/\(options.agent)/state")
      }
      do {
        let client = try connect()
        while pending.count < options.window, let next = waiting.first, pending[next.id] == nil {
          waiting = waiting.dropFirst()
          pending[next.id] = Pending(submission: next, dueAt: 0, patience: options.resendAfter * 1000)
        }
        let now = Clock.uptime
        for (id, job) in pending where job.dueAt <= now {
          try send(job.submission, client)
          pending[id]?.dueAt = now + Int(job.patience)
          if options.pool != nil { pending[id]?.patience = min(job.patience * 2, options.resendAfter * 8000) }
        }
        let events = try client.turn(200)
        // Nobody listens: the agent was never there, or all of the pool are full.
        for (number, reason) in events.published { if let id = unconfirmed.removeValue(forKey: number), reason == 16 { pending[id]?.dueAt = Clock.uptime + 1000 } }
        for message in events.messages {
          if let agent = gone(message) {
            // A moment later, when the broker has noticed, too.
            for (id, job) in pending where job.holder == agent { pending[id]?.dueAt = Clock.uptime + 500 }
            continue
          }
          guard let id = subject(of: message), let job = pending[id] else { continue }
          switch Word(message) {
          case .accepted(let agent): pending[id]?.holder = agent
          case .later(let milliseconds): pending[id]?.dueAt = Clock.uptime + milliseconds
          case .final:
            pending[id] = nil
            lastAnswer = Clock.uptime
            each(job.submission, Reply(topic: message.topic, payload: message.payload))
          }
        }
      } catch {
        // Never connected at all: say so at once. Connected before: the broker may come back.
        guard client != nil, error.code == .io else { throw error }
        client = nil
        unconfirmed = [:]
        let end = lastAnswer + Int(options.timeout * 1000)
        while client == nil {
          do { _ = try connect() } catch {
            guard Clock.uptime < end else { throw error }
            pause(milliseconds: 500)
          }
        }
        for id in pending.keys { pending[id]?.dueAt = 0 }
      }
    }
  }

  private func connect() throws(SternaError) -> Client {
    if let client { return client }
    let new = try Client(options.mqtt, clientID: clientID, timeout: 15)
    new.session.subscribe(new.session.version == .v5 ? replies : results + "+")
    // Who has accepted a job and goes away will not answer it soon.
    if options.pool != nil { new.session.subscribe("\(options.base)/+/state") }
    client = new
    return new
  }

  private func send(_ submission: Submission, _ client: Client) throws(SternaError) {
    let message = Session.Outgoing(
      topic: "\(target)jobs/\(submission.kind)", payload: submission.payload, responseTopic: replies,
      correlation: Array(submission.id.utf8))
    switch client.session.publish(message) {
    case .success(let number): unconfirmed[number] = submission.id
    case .failure(let error) where error.isOversize:
      throw SternaError(.payloadTooLarge, "this job is larger than the broker takes", at: submission.id, found: "\(submission.payload.count) bytes", cause: error.text)
    case .failure(let error): throw SternaError(.io, "a job cannot be sent", at: submission.id, cause: error.text)
    }
  }

  /// What a message says about a job.
  private enum Word {
    case accepted(by: String?)
    /// Not now; milliseconds until it may be sent again.
    case later(Int)
    case final

    init(_ message: Session.Incoming) {
      let json = JSONReader((try? JSON.parse(message.payload)) ?? .null)
      if json["status"].value == "accepted" {
        self = .accepted(by: try? json["agent"].string())
      } else if let milliseconds = try? json["error"]["retry_after_ms"].int(in: 0...3_600_000) {
        self = .later(milliseconds)
      } else {
        self = .final
      }
    }
  }

  /// The id of the job that a message is about.
  private func subject(of message: Session.Incoming) -> String? {
    if let correlation = message.correlation { return String(decoding: correlation, as: UTF8.self) }
    return message.topic.hasPrefix(results) ? String(message.topic.dropFirst(results.count)) : nil
  }

  /// The agent that a message says has gone.
  private func gone(_ message: Session.Incoming) -> String? {
    let levels = message.topic.dropFirst(options.base.count + 1).split(separator: "/")
    guard message.topic.hasPrefix(options.base + "/"), levels.count == 2, levels[1] == "state", let json = try? JSON.parse(message.payload),
      ["offline", "stopped"].contains(JSONReader(json)["state"].value)
    else { return nil }
    return String(levels[0])
  }
}
