import Basics
import Glibc

/// A connected session for callers that have nothing else to do: the submit client, checks.
final class Client {
  let session: Session

  /// Connects, with MQTT 3.1.1 where the broker refuses 5.
  ///
  /// - Parameter timeout: seconds for the broker's answer, after the connection is made.
  init(_ configuration: AgentConfiguration.MQTT, clientID: String, timeout: Double) throws(SternaError) {
    let broker = "\(configuration.host):\(configuration.port)"
    let versions: [AgentConfiguration.MQTT.Version] = configuration.version == .auto ? [.v5, .v311] : [configuration.version]
    var silence: SternaError?
    for version in versions {
      let session = try Session(configuration, clientID: clientID, version: version, will: nil, payloadLimit: Session.maximumPacket)
      if let reason = session.connect(configuration) {
        throw silence ?? SternaError(.io, "cannot connect to the broker", at: broker, remedy: "check host and port, and that the broker runs", cause: reason)
      }
      let code: Int32
      do { code = try Self.greet(session, broker, version == versions.last ? timeout : min(timeout, 5)) } catch {
        // Brokers that know only 3.1.1 may say so, hang up, or say nothing. With TLS it is rather the handshake that failed.
        guard !session.speaksTLS else { throw error }
        silence = silence ?? error
        continue
      }
      if code == 0 {
        self.session = session
        return
      }
      if version == .v5, versions.count > 1, code == 0x84 || code == 1 { continue }
      throw SternaError(
        .io, "the broker refused", at: broker, remedy: "check user name and password: mqtt.username, and STERNA_MQTT_PASSWORD, mqtt.password_file or the credential mqtt-password", cause: session.refusal(code))
    }
    throw silence ?? SternaError(.io, "the broker speaks neither MQTT 5 nor 3.1.1", at: broker)
  }

  private static func greet(_ session: Session, _ broker: String, _ timeout: Double) throws(SternaError) -> Int32 {
    let end = Clock.uptime + Int(timeout * 1000)
    while Clock.uptime < end {
      let reason = turn(session, 200)
      if let code = session.events.connected {
        _ = session.takeEvents()
        return code
      }
      if let reason { throw SternaError(.io, "the broker hung up", at: broker, remedy: session.speaksTLS ? nil : "does it speak TLS on this port? Then so must we: [mqtt.tls], or --tls, --ca and their like", cause: reason) }
    }
    throw SternaError(.io, "the broker does not answer", at: broker)
  }

  /// Waits up to `milliseconds`, reads, writes.
  ///
  /// - Returns: nil, or why the connection is over.
  private static func turn(_ session: Session, _ milliseconds: Int) -> String? {
    if session.wantsToWrite, let reason = session.write() { return reason }
    var descriptor = pollfd(fd: session.socket, events: Int16(POLLIN | (session.wantsToWrite ? POLLOUT : 0)), revents: 0)
    _ = poll(&descriptor, 1, Int32(milliseconds))
    if let reason = session.read(messages: 256, bytes: 8 << 20) { return reason }
    if session.wantsToWrite, let reason = session.write() { return reason }
    return session.tick()
  }

  /// One round of waiting for at most `milliseconds`, then what happened in it.
  func turn(_ milliseconds: Int) throws(SternaError) -> Session.Events {
    let reason = Self.turn(session, milliseconds)
    let events = session.takeEvents()
    if let reason, events.messages.isEmpty { throw SternaError(.io, "the connection to the broker is lost", cause: reason) }
    return events
  }

  deinit {
    session.disconnect()
    _ = session.write()
  }
}
