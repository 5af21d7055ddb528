import Basics
import Glibc
import Jobs
import Logging
import Synchronization

/// The agent: a session with the broker, a journal, and a thread on which an engine answers jobs.
///
///     let agent = Agent(configuration: try .load(path: path, environment: environment)) { path in try JobEngine(...) }
///     try agent.run()
public final class Agent: Sendable {
  /// Called once, on the inference thread, where the engine then stays: it need not be Sendable.
  public typealias EngineFactory = @Sendable () throws -> any JobRunner
  /// The same for a model file: that of the configuration, or one that was installed since.
  public typealias EngineLoader = @Sendable (_ modelPath: String) throws -> any JobRunner
  /// Reads the configuration again, when SIGHUP or `reload()` asks for it.
  public typealias Reloader = @Sendable () throws(SternaError) -> AgentConfiguration

  /// As `info` says it.
  public static let version = "0.1.0"

  private let configuration: AgentConfiguration
  private let environment: [String: String]
  private let logger: Logger
  private let load: EngineLoader
  private let reloader: Reloader?
  private let isStopRequested = Atomic<Bool>(false)
  private let isReloadRequested = Atomic<Bool>(false)
  private let wake = Wake()

  /// - Parameters:
  ///   - environment: what systemd says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `JOURNAL_STREAM`); nil: that of the process.
  ///   - logger: nil: stderr, at the configured level.
  ///   - reloader: nil: a reload changes nothing.
  public init(
    configuration: AgentConfiguration, environment: [String: String]? = nil, logger: Logger? = nil, reloader: Reloader? = nil, load: @escaping EngineLoader
  ) {
    self.configuration = configuration
    self.environment = environment ?? processEnvironment()
    self.logger = logger ?? .standardError(configuration.logLevel, environment: self.environment)
    self.reloader = reloader
    self.load = load
  }

  /// The same with one engine whatever the model, for tests of everything else.
  public convenience init(configuration: AgentConfiguration, environment: [String: String]? = nil, logger: Logger? = nil, engine: @escaping EngineFactory) {
    self.init(configuration: configuration, environment: environment, logger: logger, load: { _ in try engine() })
  }

  /// Runs until SIGTERM, SIGINT or `stop()`. A second signal ends the process at once.
  ///
  /// - Parameter handlesSignals: false leaves signals to the caller, who calls `stop()`.
  /// - Throws: only what an operator must put right before the agent can start: the model, the journal's place. A broker that is away, or
  ///   that does not let the agent in, is tried again until it works.
  public func run(handlesSignals: Bool = true) throws {
    let notifier = Notifier(environment: environment)
    if handlesSignals { Signals.install(wake) }
    defer { if handlesSignals { Signals.uninstall() } }
    let isStopping = { self.isStopRequested.load(ordering: .acquiring) || handlesSignals && Signals.stopRequested }
    let takeReload = { self.isReloadRequested.exchange(false, ordering: .acquiringAndReleasing) || handlesSignals && Signals.takeReload() }

    notifier.send("STATUS=loading the model")
    let inference = InferenceThread(wake: wake)
    let models = Models(ModelStore(configuration.model), load: load, inference: inference, logger: logger)
    let thread = inference.start(models.engineOfStart)
    var model = try inference.model()
    while model == nil, !isStopping() {
      notifier.send("EXTEND_TIMEOUT_USEC=30000000")
      var descriptor = pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0)
      if poll(&descriptor, 1, 10_000) > 0 { wake.clear() }
      model = try inference.model()
    }
    guard let model else {
      thread.detach()
      return
    }
    logger.info("model \(model.name) \(model.sha256.prefix(16)) is ready")
    let loop = Loop(
      configuration, model: model, logger: logger, notifier: notifier, wake: wake, inference: inference, models: models, isStopRequested: isStopping,
      takeReload: takeReload, reloader: reloader)
    do { try loop.run() } catch {
      inference.stop()
      thread.join()
      throw error
    }
    // A job that would not be interrupted is in the journal; the end of the process is the end of its thread.
    if inference.isBusy { thread.detach() } else { thread.join() }
    logger.info("stopped")
  }

  /// Ends `run()` as a signal would. May be called from any thread.
  public func stop() {
    isStopRequested.store(true, ordering: .releasing)
    wake.ring()
  }

  /// Reads the tasks of the configuration again, as SIGHUP would. May be called from any thread.
  public func reload() {
    isReloadRequested.store(true, ordering: .releasing)
    wake.ring()
  }

  /// Whether the broker lets the agent in, for `sterna run --check`. Disturbs neither the broker's session nor the retained state.
  ///
  /// - Throws: what the broker or the network said.
  public static func checkBroker(_ configuration: AgentConfiguration) throws(SternaError) {
    var mqtt = configuration.mqtt
    mqtt.sessionExpiry = 0
    _ = try Client(mqtt, clientID: configuration.clientID + "-check", timeout: 15)
  }
}
