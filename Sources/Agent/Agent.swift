import Basics
import Logging

/// What answers jobs. The real one is `JobEngine`; tests bring their own.
///
/// An engine is made and used on the inference thread alone, so it need not be Sendable.
public protocol AgentEngine: AnyObject {}

/// The agent: a session with the broker, a journal, and a thread on which an engine answers jobs.
public final class Agent: Sendable {
  /// Called once, on the inference thread.
  public typealias EngineFactory = @Sendable () throws -> any AgentEngine

  public init(configuration: AgentConfiguration, logger: Logger? = nil, engine: @escaping EngineFactory) {}

  /// Runs until SIGTERM, SIGINT or `stop()`. A second signal ends the process at once.
  ///
  /// - Throws: only what an operator must put right before the agent can start: the model, the journal's place. A broker that is away is waited for.
  public func run() throws {}

  /// Ends `run()` as a signal would. May be called from any thread.
  public func stop() {}
}
