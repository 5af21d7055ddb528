import Basics

/// How the caller watches and stops a run. The closures are called on the thread that runs the jobs.
public struct RunControl {
  /// For a watchdog: the model moved on. After every pass over the weights.
  public var progress: (() -> Void)?
  /// Asked before every pass; true ends all jobs under way with the code `cancelled`.
  public var shouldStop: (() -> Bool)?
  /// Asked before every pass about every job under way, by the number that came with it: true ends that job alone, with `deadline`, or `expired` if no pass ran for it yet.
  /// The clock is the caller's.
  public var isOverdue: ((_ ticket: Int) -> Bool)?

  public init(progress: (() -> Void)? = nil, shouldStop: (() -> Bool)? = nil, isOverdue: ((_ ticket: Int) -> Bool)? = nil) {
    self.progress = progress
    self.shouldStop = shouldStop
    self.isOverdue = isOverdue
  }
}

extension SternaError {
  /// The end of a job whose time to live has passed.
  public static func overdue(hasBegun: Bool) -> SternaError {
    hasBegun
      ? SternaError(.deadline, "the answer was not there within the job's time to live", remedy: "give such jobs more time (ttl_ms), or a higher priority")
      : SternaError(.expired, "the job waited longer than its time to live")
  }
}

/// Something that answers jobs: the engine with its model, or a stand-in where a test needs none.
/// Used from one thread at a time.
public protocol JobRunner: AnyObject {
  var model: ModelIdentity { get }
  /// How many jobs gain from being under way together.
  var width: Int { get }
  /// What experts on disk have cost so far, for `health`; nil where there are none.
  var expertCosts: JSON? { get }
  /// Never throws: what goes wrong is in the outcome.
  func run(_ job: Job, control: RunControl) -> Outcome
  /// Answers jobs until `take` has none and all are answered. Jobs join and leave between two passes over the weights.
  ///
  /// - Parameters:
  ///   - take: the next job and the caller's number for it; called between passes, with how many are under way, until it has none to give: it is the caller who keeps to `width`.
  ///   - finish: called once for every job, in the order in which they end.
  func serve(control: RunControl, take: (_ underWay: Int) -> (ticket: Int, job: Job)?, finish: (_ ticket: Int, Outcome) -> Void)
  /// For when nothing is to be done: writes down what makes the next start quicker, until it is done or a job came in.
  /// - Throws: what an operator should hear of; jobs are answered all the same.
  func rest(shouldStop: () -> Bool) throws(SternaError)
}

extension JobRunner {
  public var width: Int { 1 }
  public var expertCosts: JSON? { nil }
  public func rest(shouldStop: () -> Bool) throws(SternaError) {}
  public func run(_ job: Job) -> Outcome { run(job, control: RunControl()) }

  public func serve(control: RunControl, take: (_ underWay: Int) -> (ticket: Int, job: Job)?, finish: (_ ticket: Int, Outcome) -> Void) {
    while let (ticket, job) = take(0) {
      guard let isOverdue = control.isOverdue else {
        finish(ticket, run(job, control: control))
        continue
      }
      guard !isOverdue(ticket) else {
        finish(ticket, Outcome(.failure(.overdue(hasBegun: false))))
        continue
      }
      // What runs one job at a time knows one reason to stop; which it was is seen here.
      var wasOverdue = false
      var single = control
      single.shouldStop = {
        wasOverdue = wasOverdue || isOverdue(ticket)
        return wasOverdue || control.shouldStop?() == true
      }
      var outcome = run(job, control: single)
      if wasOverdue, case .failure(let error) = outcome.result, error.code == .cancelled { outcome = Outcome(.failure(.overdue(hasBegun: true)), usage: outcome.usage) }
      finish(ticket, outcome)
    }
  }

  /// Answers many jobs, as many together as gain from it; outcomes in the order of the jobs.
  public func run(all jobs: [Job], control: RunControl = RunControl()) -> [Outcome] {
    var outcomes = [Outcome?](repeating: nil, count: jobs.count)
    var next = 0
    serve(control: control) { underWay in
      guard next < jobs.count, underWay < width else { return nil }
      defer { next += 1 }
      return (next, jobs[next])
    } finish: { outcomes[$0] = $1 }
    return outcomes.map { $0 ?? Outcome(.failure(SternaError(.internal, "the job was never finished"))) }
  }
}
