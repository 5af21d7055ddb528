import Basics
import CMosquitto
import Jobs
import Logging

// Membership in pools. It has a connection of its own, whose session ends with it: a member that dies must not leave a queue behind into which the
// broker goes on dealing jobs. What was dealt is accepted like any other job: journal first, acknowledgement after.

/// The connection on which the broker deals jobs of pools to this agent.
struct PoolMembership {
  var link = Loop.Link.down(retryAt: 0)
  var failures = 0
  var lastComplaint = ""
  /// Whether the broker was asked to deal jobs.
  var isWanted = false
  /// Whether it does.
  var isMember = false
  /// Subscriptions, or ends of them, that the broker has not confirmed.
  var unconfirmed = 0
}

extension Loop {
  /// Whether jobs of pools are welcome. An agent that is full, stopping, without journal or without its own connection leaves them to the others, and comes
  /// back with room for more than a few, so that it does not go back and forth with every job.
  var wantsPools: Bool {
    guard !configuration.pool.names.isEmpty, isUp, !isDraining, case .running = phase, journal != nil, journalFailure == nil else { return false }
    let most = configuration.pool.fullJobs
    return queued < (pool.isWanted ? most : (most + 1) / 2)
  }

  /// Makes the connection where it is wanted, and reads it.
  ///
  /// - Returns: the jobs dealt. Those of a connection that just broke are among them: the broker deals them to nobody else.
  func advancePool(_ now: Int) -> [Session.Incoming] {
    switch pool.link {
    case .down(let retryAt):
      guard wantsPools, now >= retryAt, let session else { return [] }
      var mqtt = configuration.mqtt
      mqtt.sessionExpiry = 0
      do {
        let member = try Session(
          mqtt, clientID: configuration.clientID + "-pool", version: session.version, will: nil, payloadLimit: configuration.limits.job.payloadBytes)
        pool.link = .connecting(Attempt(member, mqtt, wake))
      } catch { dropPool(error.description) }
      return []
    case .connecting(let attempt):
      guard let outcome = attempt.outcome.quietly({ $0 }) else { return [] }
      if let reason = outcome { dropPool(reason) } else { pool.link = .greeting(attempt.session, since: now) }
      return []
    case .greeting(let session, _), .up(let session):
      let reason = session.read(messages: 256, bytes: 8 << 20)
      let events = session.takeEvents()
      if events.messages.count >= 256 || events.bytes >= 8 << 20 || events.connected != nil { isHurried = true }
      let isRefused = events.subscribed.contains { $0.granted.contains { $0 >= 128 } }
      if case let count = events.subscribed.count + events.unsubscribed, count > 0, !isRefused { confirmed(count) }
      switch events.connected {
      case nil:
        if let code = events.disconnected {
          let isForGood = code == 0x9E
          dropPool(isForGood ? "the broker has no shared subscriptions, which pools need" : "the broker ended it: \(String(cString: mosquitto_reason_string(code)))", slowly: isForGood)
        } else if let reason {
          dropPool(reason)
        } else if isRefused {
          dropPool("the broker refuses to share jobs: check its access rules for \(configuration.pool.names.map(topics.share).joined(separator: ", "))", slowly: true)
        }
      case 0?: pool.link = .up(session)
      case let code?: dropPool("the broker refused: \(session.refusal(code))", slowly: true)
      }
      return events.messages
    }
  }

  /// Subscribes or unsubscribes, as the agent has room. The connection stays: what the broker has dealt to it already still arrives.
  func joinOrLeavePools() {
    guard case .up(let session) = pool.link, pool.unconfirmed == 0, case let wanted = wantsPools, wanted != pool.isWanted else { return }
    pool.isWanted = wanted
    pool.unconfirmed = configuration.pool.names.count
    for name in configuration.pool.names {
      guard wanted else {
        session.unsubscribe(topics.share(of: name))
        continue
      }
      // A job published with the retain flag is refused as such; what the broker has retained never reaches a shared subscription.
      session.subscribe(topics.share(of: name), options: UInt32(MQTT_SUB_OPT_RETAIN_AS_PUBLISHED.rawValue | MQTT_SUB_OPT_SEND_RETAIN_NEVER.rawValue))
    }
  }

  private func confirmed(_ count: Int) {
    pool.unconfirmed = max(0, pool.unconfirmed - count)
    guard pool.unconfirmed == 0 else { return }
    pool.isMember = pool.isWanted
    pool.failures = 0
    pool.lastComplaint = ""
    let names = configuration.pool.names.joined(separator: ", ")
    logger.info(pool.isMember ? "in the pools: \(names)" : "left the pools \(names), with \(queued) jobs to do")
    sayHealth()
  }

  func tickPool(_ now: Int) {
    if let session = pool.link.session, let reason = session.tick() { dropPool(reason) }
    if case .greeting(_, let since) = pool.link, now - since > 20_000 { dropPool("the broker does not answer") }
  }

  /// Gives the connection up, and plans the next one.
  func dropPool(_ reason: String, slowly: Bool = false) {
    pool.isWanted = false
    pool.isMember = false
    pool.unconfirmed = 0
    pool.link = .down(retryAt: Clock.uptime + reconnectDelay(after: pool.failures, slowly: slowly))
    pool.failures += 1
    guard !configuration.pool.names.isEmpty else { return }
    logger.log(level: reason == pool.lastComplaint ? .debug : .warning, "not in the pools: \(reason)")
    pool.lastComplaint = reason
  }
}
