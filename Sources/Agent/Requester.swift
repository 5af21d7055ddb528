import Basics
import Jobs

/// Sends one request to a running agent and waits for its answer.
public enum Requester {
  /// - Parameters:
  ///   - configuration: of the agent: where its broker is, and how it is called.
  ///   - verb: such as `model/load`.
  ///   - timeout: seconds.
  /// - Returns: the `data` of the answer.
  /// - Throws: the agent's error, or what the broker or the network said; `deadline` when no answer came.
  public static func request(_ verb: String, _ members: JSON.Object, of configuration: AgentConfiguration, timeout: Double = 600) throws(SternaError) -> JSON {
    let id = Randomness.id()
    let topics = Topics(configuration)
    var mqtt = configuration.mqtt
    mqtt.sessionExpiry = 0
    let client = try Client(mqtt, clientID: "request-" + id.prefix(12), timeout: 15)
    client.session.subscribe(topics.response + verb)
    var isAsked = false
    let end = Clock.uptime + Int(timeout * 1000)
    while Clock.uptime < end {
      let events = try client.turn(200)
      if !isAsked, let granted = events.subscribed.first?.granted {
        guard granted.allSatisfy({ $0 < 128 }) else { throw SternaError(.io, "the broker does not let this client read the answer", at: topics.response + verb, remedy: "check its access rules") }
        var members = members
        members["transaction"] = .string(id)
        if case .failure(let error) = client.session.publish(.init(topic: topics.request + verb, payload: JSON.object(members).compactBytes)) {
          throw SternaError(.io, "the request cannot be sent", at: topics.request + verb, cause: error.text)
        }
        isAsked = true
      }
      for message in events.messages {
        guard let json = try? JSON.parse(message.payload), case let answer = JSONReader(json), answer["transaction"].value == .string(id) else { continue }
        if answer["status"].value == "ok" { return answer["data"].value ?? .null }
        throw SternaError(.init(rawValue: (try? answer["error"]["code"].string()) ?? "internal"), (try? answer["error"]["message"].string()) ?? "the agent says no", at: "agent \(configuration.id)")
      }
    }
    throw SternaError(
      .deadline, "the agent does not answer", at: "agent \(configuration.id)", remedy: "is it connected to \(mqtt.host):\(mqtt.port), and may this client write to \(topics.request)#? Its state is on \(topics.state)")
  }
}
