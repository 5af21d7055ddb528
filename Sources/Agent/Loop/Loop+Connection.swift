import Basics
import CMosquitto
import Jobs
import Logging

// The connection: making it, being refused, losing it, and what the broker reports on it.

/// An attempt to connect, which may take minutes on its own thread.
final class Attempt: @unchecked Sendable {
  // Sendable: the thread uses the session until it sets `outcome`, the loop only after it has seen it there.
  let session: Session
  let outcome = Monitor<String??>(nil)

  init(_ session: Session, _ configuration: AgentConfiguration.MQTT, _ wake: Wake) {
    self.session = session
    Thread("connect") {
      let reason = self.session.connect(configuration)
      self.outcome.with { $0 = .some(reason) }
      wake.ring()
    }.detach()
  }
}

extension Loop {
  func advanceLink(_ now: Int) {
    switch link {
    case .down(let retryAt):
      guard now >= retryAt, case .running = phase else { return }
      do {
        let version: AgentConfiguration.MQTT.Version = switch configuration.mqtt.version {
        case .auto: brokerVersion ?? (doubts < 2 ? .v5 : .v311)
        case let chosen: chosen
        }
        // Without a journal the agent hangs up on every job, and who looks meanwhile is to see `degraded` with the reason, not `offline`.
        let will = Session.Will(
          topic: topics.state, payload: JSON.object(["state": "offline"]).compactBytes, delay: journalFailure == nil ? 0 : max(10, 2 * configuration.mqtt.reconnectLongest / 1000),
          isRetained: brokerRetains)
        let session = try Session(
          configuration.mqtt, clientID: configuration.clientID, version: version, will: will, payloadLimit: configuration.limits.job.payloadBytes)
        link = .connecting(Attempt(session, configuration.mqtt, wake))
      } catch { drop(error.description) }
    case .connecting(let attempt):
      guard let outcome = attempt.outcome.quietly({ $0 }) else { return }
      if let reason = outcome { drop(reason) } else { link = .greeting(attempt.session, since: now) }
    case .greeting(let session, _), .up(let session):
      // Refusals are not in the journal, so they go out with the acknowledgements of what they refuse: no more is read than can be refused at once.
      let most = journalFailure == nil ? 256 : max(1, (window - inFlight.count - outbox.count) / 2)
      let reason = session.read(messages: most, bytes: 8 << 20)
      if session.events.messages.count >= most || session.events.bytes >= 8 << 20 || session.events.connected != nil { isHurried = true }
      guard let reason else { return }
      // What came before the end was not acknowledged and comes again, except the broker's reasons.
      let events = session.takeEvents()
      if let code = events.connected, code != 0 { return refused(code, session) }
      if case .greeting = link { doubt(session, by: 1) }
      let isTakenOver = events.disconnected == 0x8E
      // Brokers tell only MQTT 5 why, mosquitto 2.0 not even that.
      let hint = isTakenOver || isShortLived && cutOffs > 1 ? "; is there another client with the id \"\(configuration.clientID)\"? Every agent needs its own: agent.id, or mqtt.client_id" : ""
      drop((events.disconnected.map { "the broker ended it: \(String(cString: mosquitto_reason_string($0)))" } ?? reason) + hint, slowly: isTakenOver)
    }
  }

  /// Brokers that know only 3.1.1 may hang up on what they do not understand, or say nothing; so does any broker that is just starting.
  func doubt(_ session: Session, by weight: Int) {
    doubts = session.version == .v5 ? doubts + weight : 0
  }

  func refused(_ code: Int32, _ session: Session) {
    let words = session.refusal(code)
    switch (session.version, code) {
    case (.v5, 0x84) where configuration.mqtt.version == .auto, (.v5, 1) where configuration.mqtt.version == .auto:
      brokerVersion = .v311
      logger.info("the broker does not speak MQTT 5; trying 3.1.1")
      link = .down(retryAt: Clock.uptime)
    case (.v5, 0x9A) where brokerRetains:
      brokerRetains = false
      link = .down(retryAt: Clock.uptime)
    case (.v5, 0x86), (.v5, 0x87), (.v311, 4), (.v311, 5):
      let who = configuration.mqtt.username.map { "user \"\($0)\"" } ?? "a client without user name"
      // Nothing changes by asking often, and brokers lock out who does.
      drop("the broker does not let \(who) in: \(words). Check mqtt.username and the password (STERNA_MQTT_PASSWORD, mqtt.password_file or the credential mqtt-password)", slowly: true, level: .error)
    default: drop("the broker refused: \(words)", slowly: true)
    }
  }

  /// Why it hangs up on messages that it cannot store.
  static let journalFailed = "the journal failed"

  private var isShortLived: Bool { isUp && Clock.uptime - connectedAt < 10_000 }

  /// Gives the connection up, unsent acknowledgements with it, and plans the next one.
  func drop(_ reason: String, slowly: Bool = false, level: Logger.Level = .warning) {
    let wasUp = isUp
    for delivery in inFlight.values.sorted(by: { $0.sequence > $1.sequence }) {
      if case .note = delivery { continue }
      outbox.prepend(delivery)
    }
    inFlight = [:]
    if wasUp, journalFailure == nil {
      cutOffs = isShortLived ? cutOffs + 1 : 0
      failures = max(0, cutOffs - 1)
    }
    link = .down(retryAt: Clock.uptime + reconnectDelay(after: failures, slowly: slowly))
    failures += 1
    // Said once; a broker that is away for a week does not fill a log, nor a disk that is broken so long.
    let isNew = wasUp && journalFailure == nil || reason != lastComplaint
    logger.log(level: isNew ? level : .debug, "no connection to \(broker): \(reason)\(isNew ? "; trying again until it works" : "")")
    lastComplaint = reason
    notifier.send("STATUS=no connection to \(broker): \(reason)")
  }

  /// Milliseconds until the next attempt, with jitter, so that a fleet does not come back to its broker in one instant.
  func reconnectDelay(after failures: Int, slowly: Bool) -> Int {
    let longest = Double(configuration.mqtt.reconnectLongest)
    let delay = slowly ? longest : min(longest, Double(configuration.mqtt.reconnectFirst) * Double(1 << min(failures, 20)))
    return Int(Double.random(in: 0.5...1) * delay)
  }

  private func connected(_ session: Session, _ events: Session.Events) {
    if session.version == .v5 {
      brokerVersion = .v5
    } else if configuration.mqtt.version == .auto, brokerVersion == nil {
      logger.warning("the broker says nothing to MQTT 5, but knows 3.1.1. If that is so always, mqtt.version = \"3.1.1\" connects sooner")
    }
    brokerRetains = session.keepsRetained
    if !brokerRetains { logger.warning("the broker keeps no retained messages: who asks later than they are said does not hear state, info and health") }
    doubts = 0
    connectedAt = Clock.uptime
    let isRoundAgain = journalFailure != nil && lastComplaint == Self.journalFailed
    if !isRoundAgain { lastComplaint = "" }
    link = .up(session)
    window = min(configuration.limits.inFlight, events.receiveMaximum ?? 20)
    unconfirmedEnds = 0
    unconfirmedFilters = [:]
    refusedFilters = []
    listen(session)
    logger.log(level: isRoundAgain ? .debug : .info, "connected to \(broker) with MQTT \(session.version.rawValue), listening on \(topics.jobs)+")
    notifier.send("STATUS=connected to \(broker)")
    sayState()
    say(topics.info, info)
    introduce()
  }

  func handle(_ events: Session.Events, _ now: Int) {
    if let code = events.connected, let session {
      if code == 0 { connected(session, events) } else { return refused(code, session) }
    }
    for (number, granted) in events.subscribed { subscribed(number, isRefused: granted.contains { $0 >= 128 }, now) }
    if events.unsubscribed > 0, let session { unsubscribed(events.unsubscribed, session) }
    for (number, reason) in events.published {
      guard let delivery = inFlight.removeValue(forKey: number) else { continue }
      acknowledged(delivery, reason, now)
    }
  }

  private func acknowledged(_ delivery: Delivery, _ reason: Int32, _ now: Int) {
    if reason == 16 { counters.unheard += 1 }
    switch delivery {
    case .note(let topic):
      if reason >= 128 { logger.error("the broker refuses messages on \(topic): \(String(cString: mosquitto_reason_string(reason)))") }
    case .transient: break
    case .question(let id):
      // Nobody is in the pool, or all of it are full.
      if reason == 16 { escalations.postpone(id, to: now + 2000) }
    case .stored(let sequence, let target):
      if reason >= 128 {
        let words = String(cString: mosquitto_reason_string(reason))
        counters.denied += 1
        logger.warning("the broker refuses a result: \(words)", metadata: ["job": "\(sequence)"])
        // The agent's own topic is the operator's to put right, and the result waits for that; a client's reply topic is not.
        if target == .output {
          denied(sequence, words)
          return delayed.append((now + 60_000, delivery))
        }
      } else if target == .output {
        noLongerDenied(sequence)
      }
      if sent.isEmpty { sentSince = now }
      sent.append((sequence, target))
      said(sequence, now)
    }
  }

  /// Jobs are done and nobody hears of it: that is for everybody to see, not only in the log.
  private func denied(_ sequence: Int, _ words: String) {
    deniedResults.insert(sequence)
    guard brokerRefusal == nil else { return }
    let error = SternaError(
      .io, "the broker refuses results", at: topics.own + "/results, or the output of a task", remedy: "see that its access rules let this agent write there; the results wait", cause: words)
    logger.error("\(error)")
    brokerRefusal = error
    sayState()
  }

  /// The result has arrived after all, or is gone.
  func noLongerDenied(_ sequence: Int) {
    guard deniedResults.remove(sequence) != nil, deniedResults.isEmpty else { return }
    brokerRefusal = nil
    logger.info("the broker takes results again")
    sayState()
  }
}
