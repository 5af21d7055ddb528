import Basics

/// How the caller watches and stops a run. Both closures are called on the thread that runs the job, after every pass over the weights.
public struct RunControl {
  /// For a watchdog: the model moved on.
  public var progress: (() -> Void)?
  /// True ends the job with the code `cancelled`.
  public var shouldStop: (() -> Bool)?

  public init(progress: (() -> Void)? = nil, shouldStop: (() -> Bool)? = nil) {
    self.progress = progress
    self.shouldStop = shouldStop
  }
}

/// Something that answers jobs: the engine with its model, or a stand-in where a test needs none.
/// Used from one thread at a time.
public protocol JobRunner: AnyObject {
  var model: ModelIdentity { get }
  /// Never throws: what goes wrong is in the outcome.
  func run(_ job: Job, control: RunControl) -> Outcome
}

extension JobRunner {
  public func run(_ job: Job) -> Outcome { run(job, control: RunControl()) }
}
