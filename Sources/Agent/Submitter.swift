import Basics

/// A client that sends jobs to an agent and waits for the results: `sterna submit`, the demo, and tests.
///
/// It subscribes to a reply topic of its own, sends each job with response topic and correlation data, and sends a job again, with the same id,
/// as long as there is no answer: the broker's acknowledgement proves nothing about the agent.
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

    public init() {}
  }

  /// One job to send.
  public struct Submission: Sendable {
    /// `classify` or `extract`: the last level of the topic.
    public var kind: String
    public var id: String
    /// The payload as it goes out.
    public var payload: [UInt8]

    /// - Parameter job: the job's members; its `id` is used, or a random one added.
    public init(kind: String, job: JSON.Object) {
      self.kind = kind
      id = ""
      payload = JSON.object(job).compactBytes
    }
  }

  /// What came back.
  public struct Reply: Sendable {
    public var id: String
    public var topic: String
    public var payload: [UInt8]
    /// The payload, where it is JSON.
    public var json: JSON? { try? JSON.parse(payload) }
  }

  public init(options: Options) {}

  /// Sends jobs and waits until each has its answer.
  ///
  /// - Parameter each: called for every answer as it arrives, errors of the agent included.
  /// - Throws: when the broker cannot be reached or answers are missing after `timeout`.
  public func submit(_ submissions: [Submission], each: (Submission, Reply) -> Void) throws(SternaError) {}
}
