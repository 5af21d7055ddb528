import Basics

/// A connection on which agents are heard.
public final class FleetWatcher {
  public private(set) var view: FleetView
  private let client: Client
  private let base: String
  private let agent: String?
  /// How many of `topics` the broker does not let this client hear.
  private var refused = 0
  private var askedAt: Int

  private static let topics = ["state", "info", "health", "response/health_check"]

  /// Milliseconds between questions, and how many agents are asked at a time: a fleet is not to be busy with who watches it. The others report once a minute by themselves.
  private static let pause = 2000
  private static let mostAsked = 50

  /// - Parameters:
  ///   - base: the first levels of every topic.
  ///   - agent: nil: all of them.
  /// - Throws: what the broker or the network said.
  public init(_ mqtt: AgentConfiguration.MQTT, base: String, agent: String? = nil) throws(SternaError) {
    guard isPublishTopic(base), agent.map(isAgentID) ?? true else {
      throw SternaError(.badConfiguration, "is not a name for topics", at: agent.map { "\(base)/\($0)" } ?? base, expected: "a base such as sterna, and an agent of 1 to 32 characters of a-z, 0-9 and -")
    }
    var mqtt = mqtt
    mqtt.sessionExpiry = 0
    client = try Client(mqtt, clientID: "top-" + Randomness.id().prefix(12), timeout: 15)
    view = FleetView(base: base)
    (self.base, self.agent) = (base, agent)
    askedAt = Clock.uptime - Self.pause + 300  // by then those that are there have been heard
    for topic in Self.topics { client.session.subscribe("\(base)/\(agent ?? "+")/\(topic)") }
  }

  /// Waits for at most `milliseconds`, and takes note of what came.
  ///
  /// - Parameter asking: whether agents are asked for their health now and then. Where the broker does not let this client ask, nothing happens.
  /// - Throws: when the connection is lost, or the broker lets this client hear nothing.
  public func turn(_ milliseconds: Int, asking: Bool) throws(SternaError) {
    let events = try client.turn(milliseconds)
    refused += events.subscribed.count { $0.granted.contains { $0 >= 128 } }
    if refused == Self.topics.count {
      throw SternaError(.io, "the broker does not let this client hear agents", at: "\(base)/\(agent ?? "+")/state", remedy: "check its access rules, and --username")
    }
    for message in events.messages { view.take(topic: message.topic, payload: message.payload, at: Clock.uptime) }
    guard asking, Clock.uptime - askedAt >= Self.pause else { return }
    askedAt = Clock.uptime
    for agent in view.agents.lazy.filter(\.isHere).prefix(Self.mostAsked) {
      _ = client.session.publish(.init(topic: "\(base)/\(agent.id)/request/health_check", payload: [], expiry: 5))
    }
  }
}
