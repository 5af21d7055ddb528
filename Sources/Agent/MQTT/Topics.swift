/// Names and patterns of topics, and who may be answered where.

/// A subscription pattern: `+` stands for one level, a final `#` for all that follow (and for none).
struct TopicFilter: Sendable, Equatable {
  let text: String
  private let levels: [Substring]

  init(_ text: String) {
    self.text = text
    levels = text.split(separator: "/", omittingEmptySubsequences: false)
  }

  /// As the standard has it, and at most 256 bytes.
  static func isValid(_ text: String) -> Bool {
    guard (1...256).contains(text.utf8.count), !text.utf8.contains(0) else { return false }
    let levels = text.split(separator: "/", omittingEmptySubsequences: false)
    for (i, level) in levels.enumerated() {
      if level.utf8.contains(UInt8(ascii: "#")), level != "#" || i != levels.count - 1 { return false }
      if level.utf8.contains(UInt8(ascii: "+")), level != "+" { return false }
    }
    return true
  }

  func matches(_ topic: String) -> Bool {
    let names = topic.split(separator: "/", omittingEmptySubsequences: false)
    // Topics of the broker itself are never meant by a wildcard in the first place.
    if topic.hasPrefix("$"), levels.first == "+" || levels.first == "#" { return false }
    for (i, level) in levels.enumerated() {
      if level == "#" { return true }
      guard i < names.count, level == "+" || level == names[i] else { return false }
    }
    return levels.count == names.count
  }

  /// A matching topic up to its first level that the filter does not name.
  func choice(in topic: String) -> String {
    let named = levels.prefix { $0 != "+" && $0 != "#" }.count
    return topic.split(separator: "/", omittingEmptySubsequences: false).prefix(named + 1).joined(separator: "/")
  }
}

/// A topic that the agent itself may publish to: no wildcard, no `$`, no NUL, 1 to 256 bytes.
func isPublishTopic(_ text: String) -> Bool {
  (1...256).contains(text.utf8.count) && !text.hasPrefix("$")
    && !text.utf8.contains { $0 == 0 || $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "#") }
}

func isAgentID(_ text: String) -> Bool {
  (1...32).contains(text.utf8.count) && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
}

/// All topics of one agent.
struct Topics: Sendable {
  let own: String
  let jobs: String
  let request: String
  let response: String
  let state: String
  let info: String
  let health: String
  /// What becomes of single jobs.
  let events: String
  /// In front of everything that configures Home Assistant.
  private let discovery: String
  /// In front of the names of all pools.
  let pools: String
  /// Where pools answer what this agent asks them (MQTT 5).
  let secondOpinions: String
  private let allowed: [TopicFilter]
  private let listened: [TopicFilter]

  init(_ configuration: AgentConfiguration) {
    own = "\(configuration.base)/\(configuration.id)"
    jobs = own + "/jobs/"
    request = own + "/request/"
    response = own + "/response/"
    state = own + "/state"
    info = own + "/info"
    health = own + "/health"
    events = own + "/events/job"
    discovery = (configuration.homeAssistant?.prefix ?? "homeassistant") + "/"
    pools = "\(configuration.base)/pool/"
    // Among the topics that the usual access rules leave to a client: those with its own client id.
    let isLevel = !configuration.clientID.utf8.contains { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "#") || $0 == 0 }
    secondOpinions = "\(configuration.base)/clients/\(isLevel ? configuration.clientID : "sterna-" + configuration.id)/replies/escalated"
    allowed = configuration.allowedResponseTopics.map(TopicFilter.init)
    listened = (["\(own)/jobs/+", "\(own)/request/#", secondOpinions] + configuration.tasks.flatMap(\.inputs)).map(TopicFilter.init)
  }

  /// Where the answer to a job goes that came to the agent itself, or to one of its pools.
  func result(_ id: String, pool: String? = nil) -> String { "\(pool.map { pools + $0 } ?? own)/results/\(id)" }

  /// With which every job of a pool goes to one of its members.
  func share(of pool: String) -> String { "$share/\(pool)/\(pools)\(pool)/jobs/+" }

  /// Whether a client may have its answer sent to this topic. The agent may write where clients may not, so it must not be
  /// talked into writing anywhere: only inside the allow list, never to its own topics, those of pools or one that it listens to, never to a
  /// `/set` topic, with which devices are switched, nor to Home Assistant's discovery.
  func allowsResponse(to topic: String) -> Bool {
    isPublishTopic(topic) && allowed.contains { $0.matches(topic) } && !listened.contains { $0.matches(topic) }
      && topic != own && !topic.hasPrefix(own + "/") && !topic.hasPrefix(pools) && !topic.hasSuffix("/set") && !topic.hasPrefix("homeassistant/") && !topic.hasPrefix(discovery)
  }

  /// The client behind a response topic: the beginning up to the level where the allow list leaves it the choice, `sterna/clients/line3` of `sterna/clients/line3/replies/7`.
  func client(answeredOn topic: String) -> String? { allowed.first { $0.matches(topic) }?.choice(in: topic) }
}
