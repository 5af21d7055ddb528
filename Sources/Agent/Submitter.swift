import Basics
import Jobs

/// A client that sends jobs to an agent and waits for the results: `sterna submit`, the demo, and tests.
///
/// It subscribes to a reply topic of its own, sends each job with response topic and correlation data, and sends a job again, with the same id,
/// as long as there is no answer: the broker's acknowledgement proves nothing about the agent. Over MQTT 3.1.1, which has no response topics,
/// it listens to the agent's results instead.
public final class Submitter {
  /// Where to and how.
  public struct Options: Sendable {
    public var mqtt = AgentConfiguration.MQTT()
    public var base = "sterna"
    /// The agent's id.
    public var agent = "gateway"
    /// Nil: a random one.
    public var clientID: String?
    /// Seconds after which a job without answer is sent again.
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

  public init(options: Options) {
    self.options = options
    clientID = options.clientID ?? "submit-" + String(Randomness.id().prefix(12))
  }

  private var replies: String { "\(options.base)/clients/\(clientID)/replies" }
  private var results: String { "\(options.base)/\(options.agent)/results/" }

  private struct Pending {
    var submission: Submission
    var sentAt: Int
  }

  /// Sends jobs and waits until each has its answer.
  ///
  /// - Parameter each: called for every answer as it arrives, errors of the agent included.
  /// - Throws: when the broker cannot be reached or answers are missing after `timeout`.
  public func submit(_ submissions: [Submission], each: (Submission, Reply) -> Void) throws(SternaError) {
    var waiting = submissions[...]
    var pending: [String: Pending] = [:]
    var lastAnswer = Clock.uptime
    while !waiting.isEmpty || !pending.isEmpty {
      guard Double(Clock.uptime - lastAnswer) < options.timeout * 1000 else {
        throw SternaError(
          .deadline, "\(pending.count + waiting.count) of \(submissions.count) jobs have no answer", at: "agent \(options.agent)",
          remedy: "is the agent running, and connected to this broker? Its retained state is on \(options.base)/\(options.agent)/state")
      }
      do {
        let client = try connect()
        while pending.count < options.window, let next = waiting.first, pending[next.id] == nil {
          waiting = waiting.dropFirst()
          pending[next.id] = Pending(submission: next, sentAt: Clock.uptime)
          try send(next, client)
        }
        for message in try client.turn(200).messages {
          guard let id = answered(message), let job = pending.removeValue(forKey: id) else { continue }
          lastAnswer = Clock.uptime
          each(job.submission, Reply(topic: message.topic, payload: message.payload))
        }
        for (id, job) in pending where Double(Clock.uptime - job.sentAt) > options.resendAfter * 1000 {
          pending[id]?.sentAt = Clock.uptime
          try send(job.submission, client)
        }
      } catch {
        // Never connected at all: say so at once. Connected before: the broker may come back.
        guard client != nil else { throw error }
        client = nil
        let end = lastAnswer + Int(options.timeout * 1000)
        while client == nil {
          do { _ = try connect() } catch {
            guard Clock.uptime < end else { throw error }
            pause(milliseconds: 500)
          }
        }
        for id in pending.keys { pending[id]?.sentAt = 0 }
      }
    }
  }

  private func connect() throws(SternaError) -> Client {
    if let client { return client }
    let new = try Client(options.mqtt, clientID: clientID, timeout: 15)
    new.session.subscribe(new.session.version == .v5 ? replies : results + "+")
    client = new
    return new
  }

  private func send(_ submission: Submission, _ client: Client) throws(SternaError) {
    let message = Session.Outgoing(
      topic: "\(options.base)/\(options.agent)/jobs/\(submission.kind)", payload: submission.payload, responseTopic: replies,
      correlation: Array(submission.id.utf8))
    if case .failure(let error) = client.session.publish(message) {
      throw SternaError(.io, "a job cannot be sent", at: submission.id, cause: error.text)
    }
  }

  /// The id of the job that a message answers; nil for messages that are not final.
  private func answered(_ message: Session.Incoming) -> String? {
    if case .object(let object)? = try? JSON.parse(message.payload), object["status"] == .string("accepted") { return nil }
    if let correlation = message.correlation { return String(decoding: correlation, as: UTF8.self) }
    return message.topic.hasPrefix(results) ? String(message.topic.dropFirst(results.count)) : nil
  }
}
