import Basics
import CMosquitto
import Glibc
import Jobs
import Logging

/// The loop thread: the broker on one side, the journal in the middle, the inference thread on the other.
///
/// One turn reads what the broker sent and what the engine finished, writes all of it down in one transaction, and only then lets
/// acknowledgements and results go. Nothing in it waits for the network or the model.
final class Loop {
  let configuration: AgentConfiguration
  let topics: Topics
  let intake: Intake
  let logger: Logger
  let notifier: Notifier
  let model: ModelIdentity
  private let wake: Wake
  private let inference: InferenceThread
  private let isStopRequested: () -> Bool
  let startedAt = Clock.wall

  init(
    _ configuration: AgentConfiguration, model: ModelIdentity, logger: Logger, notifier: Notifier, wake: Wake, inference: InferenceThread,
    isStopRequested: @escaping () -> Bool
  ) {
    self.configuration = configuration
    self.model = model
    self.logger = logger
    self.notifier = notifier
    self.wake = wake
    self.inference = inference
    self.isStopRequested = isStopRequested
    topics = Topics(configuration)
    intake = Intake(configuration)
  }

  // MARK: - State

  /// The connection to the broker.
  private enum Link {
    case down(retryAt: Int)
    /// Looking up and connecting, on a thread of its own.
    case connecting(Attempt)
    /// Connected, waiting for CONNACK.
    case greeting(Session, since: Int)
    case up(Session)
  }

  private var link = Link.down(retryAt: 0)
  private var failures = 0
  private var lastComplaint = ""
  /// Whether MQTT 5 was refused.
  private var speaksOldMQTT = false
  /// How often the broker hung up on the first packet.
  private var hangUps = 0
  private var window = 20

  private var journal: Journal?
  /// Why the journal does not work now.
  private var journalFailure: SternaError?
  /// Why the journal of before is not here; said until the next start.
  private var journalSetAside: SternaError?
  private var journalRetryAt = 0

  /// Accepted jobs not handed to the engine.
  private var waiting = JobQueue()
  /// Jobs at the engine.
  private var running: [Int: Running] = [:]
  /// Answers not written down yet.
  private var finished: [(sequence: Int, Journal.Finished)] = []
  /// Written down, to be published.
  private var outbox = Fifo<Delivery>()
  private var inFlight: [Int32: Delivery] = [:]
  /// Acknowledged by the broker, not written down yet.
  private var sent: [(sequence: Int, target: Journal.Unsent)] = []
  private var sentSince = 0
  /// Refused by the broker, to be tried again.
  private var delayed: [(at: Int, Delivery)] = []

  private struct Running {
    var entry: Journal.Entry
    var meta: JSON?
  }

  /// A message on its way to the broker.
  private enum Delivery {
    case stored(sequence: Int, target: Journal.Unsent)
    /// Not in the journal: refusals for want of room.
    case transient(Session.Outgoing)
    /// Retained words about the agent itself; said again on every connection.
    case note(topic: String)

    var sequence: Int { if case .stored(let sequence, _) = self { sequence } else { 0 } }
  }

  private enum Phase {
    case running
    /// Since when; a running job gets some time to end.
    case stopping(since: Int)
    /// `stopped` is on its way.
    case leaving(since: Int, note: Int32?)
    case over
  }

  private var phase = Phase.running
  /// While stopping: when the last job was over.
  private var jobEndedAt = 0
  private var counters = Counters()
  private var lastTick = 0
  private var lastHealth = 0
  private var lastBeat = 0
  private var lastProgress: UInt64 = 0
  /// More is waiting than one turn takes.
  private var isHurried = false

  struct Counters {
    var accepted = 0
    var done = 0
    var failed = 0
    var refused = 0
    var repeated = 0
    var averageRun = 500.0
    var unheard = 0
  }
}

// MARK: - Turning

extension Loop {
  /// Runs until it is asked to stop.
  ///
  /// - Throws: when the journal cannot be opened for a reason that only an operator can put right.
  func run() throws(SternaError) {
    do { try openJournal() } catch {
      guard error.code == .journalFull else { throw error }
      failed(error)
    }
    notifier.send("READY=1", "STATUS=connecting to \(broker)")
    while true {
      turn()
      if case .over = phase { return }
    }
  }

  private var broker: String { "\(configuration.mqtt.host):\(configuration.mqtt.port)" }

  private func turn() {
    sleep()
    let now = Clock.uptime
    if isStopRequested(), case .running = phase { beginStop(now) }
    advanceLink(now)
    let events = session?.takeEvents() ?? Session.Events()
    handle(events, now)
    if !store(events.messages, now) { drop("the journal failed") }
    feed(now)
    publish(now)
    if let session, session.wantsToWrite, let reason = session.write() { drop(reason) }
    if now - lastTick >= 1000 || now < lastTick { tick(now) }
    advanceStop(now)
  }

  private var session: Session? {
    switch link {
    case .greeting(let session, _), .up(let session): session
    case .down, .connecting: nil
    }
  }

  private var isUp: Bool { if case .up = link { true } else { false } }

  /// Waits for the broker, the engine, a signal, or the next second. When there is nothing to do this is the only thing that happens.
  private func sleep() {
    var timeout = 1000 - (Clock.uptime - lastTick)
    if case .down(let retryAt) = link { timeout = min(timeout, retryAt - Clock.uptime) }
    if isHurried || !finished.isEmpty && journal != nil && journalFailure == nil { timeout = 0 }
    isHurried = false
    var descriptors = [pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)]
    if let session, case let socket = session.socket, socket >= 0 {
      descriptors.append(pollfd(fd: socket, events: Int16(POLLIN | (session.wantsToWrite ? POLLOUT : 0)), revents: 0))
    }
    _ = poll(&descriptors, nfds_t(descriptors.count), Int32(max(0, min(1000, timeout))))
    if descriptors[0].revents != 0 { wake.clear() }
  }

  /// Once a second.
  private func tick(_ now: Int) {
    lastTick = now
    if let session, let reason = session.tick() { drop(reason) }
    if case .greeting(_, let since) = link, now - since > 20_000 { drop("the broker does not answer") }
    if journalFailure != nil, now >= journalRetryAt { retryJournal(now) }
    if !delayed.isEmpty {
      for (at, delivery) in delayed where at <= now { outbox.append(delivery) }
      delayed.removeAll { $0.at <= now }
    }
    if isUp, now - lastHealth >= 60_000 {
      lastHealth = now
      say(topics.health, health(now))
    }
    beat(now)
  }

  /// The watchdog hears from us only while both threads get on: this one because it is here, the other if it waits for work or moved
  /// since the last beat.
  private func beat(_ now: Int) {
    guard let period = notifier.watchdog, now - lastBeat >= max(500, period / 3) else { return }
    let progress = inference.progress
    guard !inference.isBusy || progress != lastProgress else { return }
    (lastBeat, lastProgress) = (now, progress)
    notifier.send("WATCHDOG=1")
  }
}

// MARK: - The connection

/// An attempt to connect, which may take minutes on its own thread.
private final class Attempt: @unchecked Sendable {
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
  private func advanceLink(_ now: Int) {
    switch link {
    case .down(let retryAt):
      guard now >= retryAt, case .running = phase else { return }
      do {
        let version: AgentConfiguration.MQTT.Version = switch configuration.mqtt.version {
        case .auto: speaksOldMQTT || hangUps % 3 == 2 ? .v311 : .v5
        case let chosen: chosen
        }
        let session = try Session(
          configuration.mqtt, clientID: configuration.clientID, version: version,
          will: .init(topic: topics.state, payload: JSON.object(["state": "offline"]).compactBytes), payloadLimit: configuration.limits.job.payloadBytes)
        link = .connecting(Attempt(session, configuration.mqtt, wake))
      } catch { drop(error.description) }
    case .connecting(let attempt):
      guard let outcome = attempt.outcome.quietly({ $0 }) else { return }
      if let reason = outcome { drop(reason) } else { link = .greeting(attempt.session, since: now) }
    case .greeting(let session, _), .up(let session):
      let reason = session.read(messages: 256, bytes: 8 << 20)
      if session.events.messages.count >= 256 || session.events.bytes >= 8 << 20 || session.events.connected != nil { isHurried = true }
      guard let reason else { return }
      // What came before the end was not acknowledged and comes again, except the broker's reasons.
      let events = session.takeEvents()
      if let code = events.connected, code != 0 { return refused(code, session) }
      if case .greeting = link {
        // Brokers that know only 3.1.1 may hang up on what they do not understand; so does any broker that is just starting.
        hangUps += 1
      }
      drop(events.disconnected.map { $0 > 1 ? "the broker ended it: \(String(cString: mosquitto_reason_string($0)))" : reason } ?? reason)
    }
  }

  private func refused(_ code: Int32, _ session: Session) {
    let words = String(cString: session.version == .v5 ? mosquitto_reason_string(code) : mosquitto_connack_string(code))
    switch (session.version, code) {
    case (.v5, 0x84) where configuration.mqtt.version == .auto, (.v5, 1) where configuration.mqtt.version == .auto:
      speaksOldMQTT = true
      logger.info("the broker does not speak MQTT 5; trying 3.1.1")
      link = .down(retryAt: Clock.uptime)
    case (.v5, 0x86), (.v5, 0x87), (.v311, 4), (.v311, 5):
      let who = configuration.mqtt.username.map { "user \"\($0)\"" } ?? "a client without user name"
      // Nothing changes by asking often, and brokers lock out who does.
      drop("the broker does not let \(who) in: \(words). Check mqtt.username and the password (STERNA_MQTT_PASSWORD, mqtt.password_file or the credential mqtt-password)", slowly: true, level: .error)
    default: drop("the broker refused: \(words)", slowly: true)
    }
  }

  /// Gives the connection up, unsent acknowledgements with it, and plans the next one.
  private func drop(_ reason: String, slowly: Bool = false, level: Logger.Level = .warning) {
    let wasUp = isUp
    for delivery in inFlight.values.sorted(by: { $0.sequence > $1.sequence }) {
      if case .note = delivery { continue }
      outbox.prepend(delivery)
    }
    inFlight = [:]
    let longest = Double(configuration.mqtt.reconnectLongest)
    let delay = slowly ? longest : min(longest, Double(configuration.mqtt.reconnectFirst) * Double(1 << min(failures, 20)))
    failures += 1
    // Jitter, so that a fleet does not come back to its broker in one instant.
    let wait = Int(Double.random(in: 0.5...1) * delay)
    link = .down(retryAt: Clock.uptime + wait)
    // Said once; a broker that is away for a week does not fill a log.
    logger.log(level: wasUp || reason != lastComplaint ? level : .debug, "no connection to \(broker): \(reason)\(wasUp || reason != lastComplaint ? "; trying again until it works" : "")")
    lastComplaint = reason
    notifier.send("STATUS=no connection to \(broker): \(reason)")
  }

  private func connected(_ session: Session, _ events: Session.Events, _ now: Int) {
    hangUps = 0
    // With a journal that does not work the next message ends this connection, too: keep backing off.
    if journalFailure == nil { failures = 0 }
    lastComplaint = ""
    link = .up(session)
    window = min(configuration.limits.inFlight, events.receiveMaximum ?? 20)
    for (i, filter) in intake.subscriptions.enumerated() {
      // A retained job is refused at once (retain as published) and once (new subscriptions only); tasks want none.
      let options = i == 0 ? MQTT_SUB_OPT_RETAIN_AS_PUBLISHED.rawValue | MQTT_SUB_OPT_SEND_RETAIN_NEW.rawValue : MQTT_SUB_OPT_SEND_RETAIN_NEVER.rawValue
      session.subscribe(filter, options: UInt32(options), identifier: i + 1)
    }
    logger.info("connected to \(broker) with MQTT \(session.version.rawValue), listening on \(topics.jobs)+")
    notifier.send("STATUS=connected to \(broker)")
    sayState()
    say(topics.info, info)
    lastHealth = now
    say(topics.health, health(now))
  }

  private func handle(_ events: Session.Events, _ now: Int) {
    if let code = events.connected, let session {
      if code == 0 { connected(session, events, now) } else { return refused(code, session) }
    }
    for (_, granted) in events.subscribed where granted.contains(where: { $0 >= 128 }) {
      logger.error("the broker refuses a subscription: check its access rules for \(topics.jobs)+ and the inputs of tasks")
    }
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
    case .stored(let sequence, let target):
      if reason >= 128 {
        logger.warning("the broker refuses a result: \(String(cString: mosquitto_reason_string(reason)))", metadata: ["job": "\(sequence)"])
        // The agent's own topic is the operator's to put right, and the result waits for that; a client's reply topic is not.
        if target == .output { return delayed.append((now + 60_000, delivery)) }
      }
      if sent.isEmpty { sentSince = now }
      sent.append((sequence, target))
    }
  }
}

// MARK: - The journal

extension Loop {
  private func openJournal() throws(SternaError) {
    let (journal, setAside) = try Journal.openOrReplace(path: configuration.journal.path)
    if let setAside {
      journalSetAside = setAside
      logger.error("\(setAside)")
    }
    waiting = JobQueue()
    for job in try journal.waiting() where running[job.sequence] == nil { waiting.add(job) }
    let known = Set(inFlight.values.map(\.sequence))
    outbox = Fifo(outbox.filter { if case .transient = $0 { true } else { false } })
    for (sequence, targets) in try journal.unsent() where !known.contains(sequence) { enqueue(sequence, targets) }
    self.journal = journal
    if waiting.count + outbox.count > 0 { logger.info("going on with \(waiting.count) jobs and \(outbox.count) results from before") }
  }

  private func enqueue(_ sequence: Int, _ targets: Journal.Unsent) {
    for target in [Journal.Unsent.output, .response] where targets.contains(target) { outbox.append(.stored(sequence: sequence, target: target)) }
  }

  private func failed(_ error: SternaError) {
    journalRetryAt = Clock.uptime + 2000
    if journalFailure != error {
      logger.error("\(error)")
      journalFailure = error
      sayState()
    }
    // After an error of the disk nobody knows what is in SQLite's memory and what is not: start over from the file.
    if error.code != .journalFull { journal = nil }
  }

  private func retryJournal(_ now: Int) {
    do {
      if journal == nil { try openJournal() }
      try journal?.probe()
      journalFailure = nil
      logger.info("the journal works again")
      sayState()
    } catch { failed(error) }
  }

  /// What follows from a transaction, once it is on stable storage.
  private struct Effects {
    var accepted: [(Journal.Waiting, Arrival)] = []
    var unsent: [(Int, Journal.Unsent)] = []
    var transient: [Session.Outgoing] = []
    var refused = 0
    var repeated = 0
  }

  /// Writes down what arrived and what is finished, in one transaction.
  ///
  /// - Returns: false when the messages are neither stored nor answered, so that their acknowledgements must not go out.
  private func store(_ messages: [Session.Incoming], _ now: Int) -> Bool {
    for done in inference.takeDone() { finish(done) }
    let arrivals = messages.flatMap { intake.examine($0) }
    // Acknowledgements of the broker may wait for company, but not for ever: until then a crash would publish those results again.
    let areSentDue = !sent.isEmpty && (now - sentSince > 2000 || sent.count > 200)
    guard !arrivals.isEmpty || !finished.isEmpty || areSentDue else { return true }
    guard let journal, journalFailure == nil || journalFailure?.code == .journalFull else { return arrivals.isEmpty }
    if journalFailure != nil, arrivals.isEmpty { return true }  // not in every turn: `retryJournal` looks after it
    do {
      let effects = try journal.transaction { () throws(SternaError) in try write(arrivals, in: journal) }
      for (sequence, _) in finished {
        running[sequence] = nil
      }
      finished = []
      sent = []
      apply(effects)
      return true
    } catch {
      failed(error)
      // A full disk is a reason to tell clients; devices cannot be told, so their messages stay with the broker.
      guard error.code == .journalFull, arrivals.allSatisfy(\.isFromClient), outbox.count < configuration.limits.queueJobs else { return arrivals.isEmpty }
      for arrival in arrivals {
        let full = SternaError(.storageFull, "the disk of the agent is full")
        if case .failure(let error) = arrival.job { refuseInMemory(arrival.entry, error) } else { refuseInMemory(arrival.entry, full, retryAfter: 30_000) }
      }
      return true
    }
  }

  private func write(_ arrivals: [Arrival], in journal: Journal) throws(SternaError) -> Effects {
    var effects = Effects()
    for (sequence, answer) in finished { effects.unsent.append((sequence, try journal.finish(sequence, with: answer, at: Clock.wall))) }
    for (sequence, target) in sent { try journal.sent(sequence, target) }
    if !finished.isEmpty || !sent.isEmpty {
      try journal.forget(olderThan: Clock.wall - configuration.journal.keepSeconds * 1000, keeping: configuration.journal.keepJobs)
    }
    for arrival in arrivals {
      var entry = arrival.entry
      switch arrival.job {
      case .failure(let error): try refuse(&entry, error, journal, &effects)
      case .success:
        if let known = try journal.find(key: entry.key) {
          guard known.hash == entry.hash else {
            try refuse(&entry, SternaError(.idConflict, "this id was used before, for another job", at: "id", found: "\"\(entry.id)\""), journal, &effects)
            continue
          }
          effects.repeated += 1
          try journal.redirect(known.sequence, response: entry.response, correlation: entry.correlation)
          if known.isFinished {
            try journal.resend(known.sequence)
            effects.unsent.append((known.sequence, entry.response == nil ? .output : [.output, .response]))
          }
          continue
        }
        guard backlog + effects.accepted.count < configuration.limits.queueJobs, waiting.bytes < configuration.limits.queueBytes else {
          effects.transient.append(refusal(entry, SternaError(.queueFull, "the queue is full"), retryAfter: retryAfter).1)
          if let copy = refusal(entry, SternaError(.queueFull, "the queue is full"), retryAfter: retryAfter).2 { effects.transient.append(copy) }
          effects.refused += 1
          continue
        }
        let sequence = try journal.accept(entry)
        let waiting = Journal.Waiting(
          sequence: sequence, priority: entry.priority, bytes: entry.payload.count, deadline: entry.ttl.map { entry.uptime + $0 })
        effects.accepted.append((waiting, arrival))
      }
    }
    return effects
  }

  /// Jobs that are not over: waiting, running, or finished with the broker still to be told.
  private var backlog: Int { waiting.count + running.count + outbox.count }

  /// How long the queue needs, as far as one can tell.
  private var retryAfter: Int { min(60_000, max(1000, Int(counters.averageRun * Double(waiting.count) / 4))) }

  private func apply(_ effects: Effects) {
    counters.accepted += effects.accepted.count
    counters.refused += effects.refused
    counters.repeated += effects.repeated
    for (job, arrival) in effects.accepted {
      logger.debug("accepted", metadata: ["id": "\(arrival.entry.id)", "kind": "\(arrival.entry.kind)"])
      waiting.add(job, arrival: arrival)
    }
    for (sequence, targets) in effects.unsent { enqueue(sequence, targets) }
    for message in effects.transient { outbox.append(.transient(message)) }
  }
}

// MARK: - Answers

extension Loop {
  private func message(_ entry: Journal.Entry, meta: JSON? = nil) -> ResultMessage {
    ResultMessage(
      id: entry.id, task: entry.task ?? entry.kind, agent: configuration.id, attempt: entry.attempt, receivedAt: Clock.text(entry.received),
      finishedAt: Clock.text(Clock.wall), meta: meta)
  }

  /// The payload of a refusal, and the messages that carry it.
  private func refusal(_ entry: Journal.Entry, _ error: SternaError, retryAfter: Int? = nil)
    -> (Journal.Finished, Session.Outgoing, Session.Outgoing?)
  {
    let json = message(entry).failure(error, retryAfterMilliseconds: retryAfter)
    let finished = Journal.Finished(status: "error", code: error.code.forClients.rawValue, result: json.compactBytes)
    let properties = Self.properties(status: finished.status, code: finished.code)
    let output = Session.Outgoing(topic: entry.output, payload: finished.result, properties: properties)
    let copy = entry.response.map {
      Session.Outgoing(topic: $0, payload: finished.result, correlation: entry.correlation, properties: properties)
    }
    return (finished, output, copy)
  }

  static func properties(status: String, code: String?) -> [(name: String, value: String)] {
    [("status", status)] + (code.map { [("code", $0)] } ?? []) + [("v", "1")]
  }

  /// Writes a refusal down, like a result; where the queue is full it is only said.
  private func refuse(_ entry: inout Journal.Entry, _ error: SternaError, _ journal: Journal, _ effects: inout Effects) throws(SternaError) {
    let (finished, output, copy) = refusal(entry, error)
    effects.refused += 1
    logger.info("refused: \(error.code.rawValue)\(error.place.map { " at \($0)" } ?? "")", metadata: ["id": "\(entry.id)"])
    guard backlog < configuration.limits.queueJobs else {
      effects.transient.append(output)
      if let copy { effects.transient.append(copy) }
      return
    }
    entry.key = Randomness.bytes(16)  // the id stays free for the job put right
    let sequence = try journal.refuse(entry, with: finished)
    effects.unsent.append((sequence, entry.response == nil ? .output : [.output, .response]))
  }

  private func refuseInMemory(_ entry: Journal.Entry, _ error: SternaError, retryAfter: Int? = nil) {
    let (_, output, copy) = refusal(entry, error, retryAfter: retryAfter)
    counters.refused += 1
    outbox.append(.transient(output))
    if let copy { outbox.append(.transient(copy)) }
  }

  private func finish(_ done: InferenceThread.Done) {
    guard let job = running[done.sequence] else { return }
    var message = message(job.entry, meta: job.meta)
    message.model = model
    message.queuedMilliseconds = max(0, done.started - job.entry.uptime)
    message.runMilliseconds = done.ended - done.started
    var code: String?
    if case .failure(let error) = done.outcome.result {
      // Interrupted by our own end: it stays in the journal and runs after the next start.
      if error.code == .cancelled, case .stopping = phase { return }
      code = error.code.forClients.rawValue
      counters.failed += 1
      logger.warning("a job failed: \(error.code.rawValue): \(error.message)", metadata: ["id": "\(job.entry.id)"])
    } else {
      counters.done += 1
      logger.debug("answered in \(done.ended - done.started) ms", metadata: ["id": "\(job.entry.id)"])
    }
    counters.averageRun += (Double(done.ended - done.started) - counters.averageRun) / 8
    finished.append((done.sequence, .init(status: code == nil ? "ok" : "error", code: code, result: message.json(done.outcome).compactBytes)))
  }

  /// Hands jobs to the engine: the one that runs and the next, so that it never waits for a transaction. The rest waits in the journal.
  private func feed(_ now: Int) {
    guard case .running = phase, let journal, journalFailure == nil, finished.count < 16 else { return }
    while running.count < 2, let next = waiting.take() {
      let entry: Journal.Entry
      let job: Result<Job, SternaError>
      if let arrival = next.arrival {
        (entry, job) = (arrival.entry, arrival.job)
      } else {
        do {
          guard let stored = try journal.entry(next.job.sequence) else { continue }
          (entry, job) = (stored, intake.job(of: stored))
        } catch { return failed(error) }
      }
      var short = entry
      short.payload = []
      running[next.job.sequence] = Running(entry: short, meta: (try? job.get())?.meta)
      switch job {
      case .success(let job):
        if let deadline = next.job.deadline, deadline <= now {
          answer(next.job.sequence, short, SternaError(.expired, "the job waited longer than its time to live", found: "\(now - entry.uptime) ms"), job.meta)
        } else {
          inference.give(.init(sequence: next.job.sequence, job: job))
        }
      case .failure(let error): answer(next.job.sequence, short, error, nil)
      }
    }
  }

  /// An answer without the engine.
  private func answer(_ sequence: Int, _ entry: Journal.Entry, _ error: SternaError, _ meta: JSON?) {
    counters.failed += 1
    finished.append(
      (sequence, .init(status: "error", code: error.code.forClients.rawValue, result: message(entry, meta: meta).failure(error).compactBytes)))
  }

  /// Publishes from the outbox, as much as the broker takes at a time. The library's own queue, which is lost in a crash, stays empty.
  private func publish(_ now: Int) {
    guard case .up(let session) = link else { return }
    while inFlight.count < window, let delivery = outbox.first {
      var message: Session.Outgoing
      switch delivery {
      case .note: outbox.removeFirst(); continue
      case .transient(let outgoing): message = outgoing
      case .stored(let sequence, let target):
        guard let journal else { return }
        let stored: Journal.Message?
        do { stored = try journal.message(sequence, target) } catch { return failed(error) }
        guard let stored else { outbox.removeFirst(); continue }
        message = .init(
          topic: stored.topic, payload: stored.payload, correlation: stored.correlation, properties: Self.properties(status: stored.status, code: stored.code))
      }
      switch session.publish(message) {
      case .success(let number):
        outbox.removeFirst()
        inFlight[number] = delivery
      case .failure(let error) where error.isOversize:
        outbox.removeFirst()
        logger.error("a result of \(message.payload.count) bytes is over the broker's packet limit and cannot be sent")
        if case .stored(let sequence, let target) = delivery { sent.append((sequence, target)) }
      case .failure(let error): return drop(error.text)
      }
    }
  }
}

// MARK: - About the agent itself

extension Loop {
  @discardableResult
  private func say(_ topic: String, _ json: JSON) -> Int32? {
    guard case .up(let session) = link else { return nil }
    guard case .success(let number) = session.publish(.init(topic: topic, payload: json.compactBytes, isRetained: true)) else { return nil }
    inFlight[number] = .note(topic: topic)
    return number
  }

  @discardableResult
  private func sayState() -> Int32? {
    var reason: String?
    let word: String
    switch phase {
    case .stopping: word = "draining"
    case .leaving, .over: word = "stopped"
    case .running:
      let trouble = journalFailure ?? journalSetAside
      word = trouble == nil ? "online" : "degraded"
      reason = trouble.map { [$0.message, $0.cause, $0.remedy].compactMap { $0 }.joined(separator: "; ") }
    }
    var object: JSON.Object = ["state": .string(word)]
    if let reason { object["reason"] = .string(reason) }
    object["since"] = .string(Clock.text(Clock.wall))
    object["boot"] = .string(Clock.bootID)
    return say(topics.state, .object(object))
  }

  private var info: JSON {
    let limits = configuration.limits
    return [
      "v": 1, "agent": .string(configuration.id), "version": .string(Agent.version), "model": model.json,
      "jobs": .array(JobTask.allCases.map { .string($0.rawValue) }),
      "tasks": .array(
        configuration.tasks.map {
          [
            "name": .string($0.name), "kind": .string($0.work.task.rawValue), "input": .array($0.inputs.map { .string($0) }),
            "output": .string($0.output),
          ]
        }),
      "limits": [
        "payload_bytes": .number(limits.job.payloadBytes), "input_bytes": .number(limits.job.inputBytes), "labels": .number(limits.job.labels),
        "fields": .number(limits.job.fields), "queue_jobs": .number(limits.queueJobs), "queue_bytes": .number(limits.queueBytes),
      ],
      "response_topics": .array(configuration.allowedResponseTopics.map { .string($0) }),
      "started_at": .string(Clock.text(startedAt)),
    ]
  }

  private func health(_ now: Int) -> JSON {
    [
      "v": 1, "at": .string(Clock.text(Clock.wall)), "uptime_s": .number((Clock.wall - startedAt) / 1000), "queue": .number(waiting.count + running.count),
      "queue_bytes": .number(waiting.bytes), "unsent": .number(outbox.count + inFlight.count), "accepted": .number(counters.accepted),
      "done": .number(counters.done), "failed": .number(counters.failed), "refused": .number(counters.refused),
      "repeated": .number(counters.repeated), "unheard": .number(counters.unheard), "average_run_ms": .number(Int(counters.averageRun)),
      "journal_bytes": .number(journal?.bytes ?? 0), "rss_bytes": .number(residentBytes()),
    ]
  }
}

// MARK: - Stopping

extension Loop {
  private func beginStop(_ now: Int) {
    phase = .stopping(since: now)
    logger.info("stopping; \(waiting.count) jobs stay in the journal")
    notifier.send("STOPPING=1", "STATUS=stopping")
    inference.stop()
    sayState()
  }

  /// In order: the job that runs, the results, `stopped`, the farewell. Each may take a while; together less than systemd's patience.
  private func advanceStop(_ now: Int) {
    switch phase {
    case .running, .over: return
    case .stopping(let since):
      if inference.isBusy {
        if now - since > 5000 { inference.interrupt() }
        guard now - since > 15_000 else { return }
      } else if jobEndedAt == 0 {
        jobEndedAt = now
      }
      let isFlushed = finished.isEmpty && outbox.isEmpty && !inFlight.values.contains { if case .note = $0 { false } else { true } }
      guard isFlushed || !isUp || now - max(since, jobEndedAt) > 3000 else { return }
      phase = .leaving(since: now, note: nil)
      phase = .leaving(since: now, note: sayState())
      isHurried = true
    case .leaving(let since, let note):
      let isSaid = note.map { inFlight[$0] == nil } ?? true
      guard isSaid || !isUp || now - since > 2000 else { return }
      if let journal, !sent.isEmpty { try? journal.transaction { () throws(SternaError) in for (sequence, target) in sent { try journal.sent(sequence, target) } } }
      if let session, isUp {
        session.disconnect()
        _ = session.write()
      }
      link = .down(retryAt: .max)
      journal = nil
      phase = .over
    }
  }
}
