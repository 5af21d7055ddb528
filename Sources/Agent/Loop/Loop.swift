import Basics
import Glibc
import Jobs
import Logging

/// The loop thread: the broker on one side, the journal in the middle, the inference thread on the other.
///
/// One turn reads what the broker sent and what the engine finished, writes all of it down in one transaction, and only then lets
/// acknowledgements and results go. Nothing in it waits for the network or the model.
final class Loop {
  var configuration: AgentConfiguration
  var topics: Topics
  var intake: Intake
  var homeAssistant: HomeAssistant?
  let logger: Logger
  let notifier: Notifier
  var model: ModelIdentity
  let wake: Wake
  let inference: InferenceThread
  let models: Models
  private let isStopRequested: () -> Bool
  let takeReload: () -> Bool
  let reloader: Agent.Reloader?
  let startedAt = Clock.wall
  let startedUptime = Clock.uptime

  init(
    _ configuration: AgentConfiguration, model: ModelIdentity, logger: Logger, notifier: Notifier, wake: Wake, inference: InferenceThread, models: Models,
    isStopRequested: @escaping () -> Bool, takeReload: @escaping () -> Bool, reloader: Agent.Reloader?
  ) {
    self.configuration = configuration
    self.model = model
    self.logger = logger
    self.notifier = notifier
    self.wake = wake
    self.inference = inference
    self.models = models
    self.isStopRequested = isStopRequested
    self.takeReload = takeReload
    self.reloader = reloader
    topics = Topics(configuration)
    intake = Intake(configuration)
    homeAssistant = HomeAssistant(configuration, topics)
  }

  // MARK: - State

  /// The connection to the broker.
  enum Link {
    case down(retryAt: Int)
    /// Looking up and connecting, on a thread of its own.
    case connecting(Attempt)
    /// Connected, waiting for CONNACK.
    case greeting(Session, since: Int)
    case up(Session)

    var session: Session? {
      switch self {
      case .greeting(let session, _), .up(let session): session
      case .down, .connecting: nil
      }
    }
  }

  var link = Link.down(retryAt: 0)
  var pool = PoolMembership()
  var escalations = Escalations()
  /// Attempts in a row that came to nothing.
  var failures = 0
  var connectedAt = 0
  /// Connections in a row that lasted only seconds.
  var cutOffs = 0
  var lastComplaint = ""
  /// Whether the broker keeps retained messages; one that does not may refuse a connection over its will.
  var brokerRetains = true
  /// The best that the broker is known to speak: 5 once it has answered it, 3.1.1 when it has refused 5.
  var brokerVersion: AgentConfiguration.MQTT.Version?
  /// What speaks against MQTT 5 while that is not known: 1 for each time the broker hung up on it, 2 where it said nothing. With 2 it is 3.1.1's turn.
  var doubts = 0
  var window = 20

  var stateSaid: (word: String, reason: String?, since: Int) = ("", nil, 0)
  /// Why the configuration file as it is now was not taken.
  var configurationFailure: SternaError?
  /// Filters that the broker's session may hold although nobody here wants to hear them any more.
  var staleFilters: Set<String> = []
  /// Ends of subscriptions that the broker has not confirmed on this connection.
  var unconfirmedEnds = 0
  /// Subscriptions that the broker has not answered, by the number of the request; and those that it has refused, which are asked for again.
  var unconfirmedFilters: [Int32: String] = [:]
  var refusedFilters: Set<String> = []
  var askAgainAt = 0

  var journal: Journal?
  /// Why the journal does not work now.
  var journalFailure: SternaError?
  /// Why the journal of before is not here; said until the next start.
  var journalSetAside: SternaError?
  var journalRetryAt = 0
  /// Why the broker takes no results of ours.
  var brokerRefusal: SternaError?
  var deniedResults: Set<Int> = []
  /// Whether there was a journal since the start, and so was seen what the end of the agent before this one left behind.
  var hasHadJournal = false
  /// The lowest number for a job of a journal that takes the place of this one.
  var firstNumber = 1

  /// Accepted jobs not handed to the engine.
  var waiting = JobQueue()
  /// Those of them that were at the engine when the agent died.
  var suspects = Suspects()
  /// What was parsed on arrival, of a few of them; the others are read from the journal when their turn comes.
  var parsed: [Int: Arrival] = [:]
  /// Jobs at the engine, and those whose answer is in `finished`.
  var running: [Int: Running] = [:]
  /// Why no answer can be had from the model any more: the process must begin anew.
  var modelFailure: SternaError?
  /// Waiting jobs that are to be answered with `cancelled`, and who is to be told when that is written down.
  var cancelled: Set<Int> = []
  var whenWritten: [() -> Void] = []
  /// Whether jobs of clients are refused, until a request or the next start.
  var isDraining = false
  /// Answers not written down yet.
  var finished: [(sequence: Int, Journal.Finished)] = []
  /// Written down, to be published.
  var outbox = Fifo<Delivery>()
  var inFlight: [Int32: Delivery] = [:]
  /// Acknowledged by the broker, not written down yet.
  var sent: [(sequence: Int, target: Journal.Unsent)] = []
  var sentSince = 0
  /// Refused by the broker, to be tried again.
  var delayed: [(at: Int, Delivery)] = []

  /// A message on its way to the broker.
  enum Delivery {
    case stored(sequence: Int, target: Journal.Unsent)
    /// Not in the journal: refusals for want of room.
    case transient(Session.Outgoing)
    /// Retained words about the agent itself; said again on every connection.
    case note(topic: String)
    /// A job for a pool, by its id there.
    case question(String)

    var sequence: Int { if case .stored(let sequence, _) = self { sequence } else { 0 } }
  }

  enum Phase {
    case running
    /// Since when; a running job gets some time to end.
    case stopping(since: Int)
    /// `stopped` is on its way.
    case leaving(since: Int, note: Int32?)
    case over
  }

  var phase = Phase.running
  /// While stopping: when the last job was over.
  var jobEndedAt = 0
  var counters = Counters()
  private var lastTick = 0
  var lastHealth = 0
  var lastMetrics = 0
  var metricsComplaint = ""
  private var lastBeat = 0
  private var lastProgress: UInt64 = 0
  /// More is waiting than one turn takes.
  var isHurried = false

  struct Counters {
    var accepted = 0
    var done = 0
    var failed = 0
    var refused = 0
    var repeated = 0
    var averageRun = 500.0
    var unheard = 0
    /// Results that the broker did not take.
    var denied = 0
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
      if let error = models.lost ?? modelFailure { throw error }
    }
  }

  var broker: String { "\(configuration.mqtt.host):\(configuration.mqtt.port)" }

  func turn() {
    sleep()
    let now = Clock.uptime
    if isStopRequested(), case .running = phase { beginStop(now) }
    if takeReload() { reload() }
    advanceLink(now)
    let events = session?.takeEvents() ?? Session.Events()
    handle(events, now)
    greet(events.messages)
    let dealt = advancePool(now)
    advanceModels()
    if store(events.messages, dealt: dealt, now) {
      for message in events.messages where intake.isRequest(message) { answer(request: message) }
    } else {
      drop(Self.journalFailed)
      dropPool(Self.journalFailed)
    }
    publish(now)
    joinOrLeavePools()
    if let session, session.wantsToWrite, let reason = session.write() { drop(reason) }
    if let session = pool.link.session, session.wantsToWrite, let reason = session.write() { dropPool(reason) }
    if now - lastTick >= 1000 || now < lastTick { tick(now) }
    advanceStop(now)
  }

  var session: Session? { link.session }

  var isUp: Bool { if case .up = link { true } else { false } }

  /// Waits for the broker, the engine, a signal, or the next second. When there is nothing to do this is the only thing that happens.
  private func sleep() {
    var timeout = 1000 - (Clock.uptime - lastTick)
    if case .down(let retryAt) = link { timeout = min(timeout, retryAt - Clock.uptime) }
    if isHurried || journal != nil && journalFailure == nil && (!finished.isEmpty || hasChoice(Clock.uptime)) { timeout = 0 }
    isHurried = false
    var descriptors = [pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)]
    if case .down(let retryAt) = pool.link, wantsPools { timeout = min(timeout, retryAt - Clock.uptime) }
    for session in [session, pool.link.session] {
      guard let session, case let socket = session.socket, socket >= 0 else { continue }
      descriptors.append(pollfd(fd: socket, events: Int16(POLLIN | (session.wantsToWrite ? POLLOUT : 0)), revents: 0))
    }
    _ = poll(&descriptors, nfds_t(descriptors.count), Int32(max(0, min(1000, timeout))))
    if descriptors[0].revents != 0 { wake.clear() }
  }

  /// Once a second.
  private func tick(_ now: Int) {
    lastTick = now
    if let session, let reason = session.tick() { drop(reason) }
    if case .greeting(let session, let since) = link, now - since > 20_000 {
      doubt(session, by: 2)
      drop("the broker does not answer")
    }
    if !refusedFilters.isEmpty, now >= askAgainAt { askAgain(now) }
    tickPool(now)
    tickEscalations(now)
    if journalFailure == nil ? journal?.isInPlace == false : now >= journalRetryAt { retryJournal(now) }
    if let complaint = inference.takeComplaint() { logger.warning("\(complaint)") }
    if !delayed.isEmpty {
      for (at, delivery) in delayed where at <= now { outbox.append(delivery) }
      delayed.removeAll { $0.at <= now }
    }
    modelFailure = modelFailure ?? models.spoilt
    if now - lastHealth >= 60_000 { sayHealth() }
    if now - lastMetrics >= 15_000 { writeMetrics() }
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
