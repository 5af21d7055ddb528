import Basics
import Glibc
import Jobs
import Synchronization

/// The inference thread: takes jobs from the loop, as many at once as the engine gains from, and gives outcomes back. The loop never waits for it.
final class InferenceThread: Sendable {
  struct Work: Sendable {
    var sequence: Int
    var job: Job
    /// Milliseconds since boot.
    var deadline: Int?

    func isOverdue(_ now: Int) -> Bool { deadline.map { $0 <= now } ?? false }
  }

  struct Done: Sendable {
    var sequence: Int
    var outcome: Outcome
    /// The one that answered; nil where none had to.
    var model: ModelIdentity?
    /// Milliseconds since boot.
    var started: Int
    var ended: Int
  }

  /// Another engine in place of the one that is there. The jobs under way end first; those that wait are for the new one.
  private struct Change: Sendable {
    var make: Agent.EngineFactory
    /// The engine of before, if that fails. Two at a time might not fit into memory.
    var restore: Agent.EngineFactory
  }

  /// How a change ended.
  enum Changed: Sendable {
    case done(ModelIdentity)
    /// The engine of before is back.
    case refused(SternaError)
    /// Neither works: the process must begin anew.
    case lost(any Error)
  }

  private enum Engine {
    case loading
    case ready(ModelIdentity)
    case failed(any Error)
  }

  private struct State {
    var engine = Engine.loading
    var inbox: [Work] = []
    /// Jobs at the engine.
    var underWay = 0
    var done: [Done] = []
    var complaint: SternaError?
    /// What experts on disk have cost so far.
    var expertCosts: JSON?
    var isStopping = false
    /// Of those that run, the ones that nobody wants any more.
    var cancelled: Set<Int> = []
    var change: Change?
    var isChanging = false
    var changed: Changed?

    /// Whether there is something better to do than to rest.
    var hasWork: Bool { !inbox.isEmpty || isStopping || change != nil }
  }

  private let state = Monitor(State())
  private let passes = Atomic<UInt64>(0)
  private let widthOfEngine = Atomic<Int>(1)
  private let isInterrupted = Atomic<Bool>(false)
  private let wake: Wake

  init(wake: Wake) { self.wake = wake }

  /// Makes the engine on a new thread, where it stays.
  func start(_ factory: @escaping Agent.EngineFactory) -> Thread {
    Thread("inference") { self.run(factory) }
  }

  private func run(_ factory: Agent.EngineFactory) {
    var engine: (any JobRunner)?
    do { engine = try factory() } catch {
      state.with { $0.engine = .failed(error) }
      wake.ring()
      return
    }
    while let current = engine.take() {
      let identity = current.model
      widthOfEngine.store(current.width, ordering: .relaxed)
      state.with { $0.engine = .ready(identity) }
      wake.ring()
      serve(consume current)
      guard let change = beginChange() else { return }
      let changed: Changed
      (engine, changed) = self.change(change)
      state.with {
        $0.change = nil
        $0.isChanging = false
        $0.changed = changed
      }
      wake.ring()
    }
  }

  /// Answers jobs until the thread is to end or another engine to come.
  private func serve(_ engine: any JobRunner) {
    let identity = engine.model
    var underWay: [Int: (work: Work, started: Int)] = [:]
    let control = RunControl(
      progress: progressed, shouldStop: { self.isInterrupted.load(ordering: .relaxed) },
      isOverdue: { ticket in underWay[ticket]?.work.isOverdue(Clock.uptime) ?? false || self.state.quietly { $0.cancelled.contains(ticket) } })
    engine.serve(control: control) { count in
      if count == 0, self.state.quietly({ !$0.hasWork }) {
        do throws(SternaError) { try engine.rest(shouldStop: { self.state.quietly { $0.hasWork } }) } catch { self.state.with { $0.complaint = error } }
      }
      guard let work = self.next(waiting: count == 0) else { return nil }
      underWay[work.sequence] = (work, Clock.uptime)
      return (work.sequence, work.job)
    } finish: { sequence, outcome in
      self.progressed()
      let now = Clock.uptime
      let started = underWay.removeValue(forKey: sequence)?.started ?? now
      let expertCosts = engine.expertCosts
      self.state.with {
        $0.underWay -= 1
        $0.cancelled.remove(sequence)
        $0.expertCosts = expertCosts
        $0.done.append(Done(sequence: sequence, outcome: outcome, model: identity, started: started, ended: now))
      }
      self.wake.ring()
    }
  }

  private func beginChange() -> Change? {
    state.quietly { state in
      guard !state.isStopping, let change = state.change else { return nil }
      state.isChanging = true
      return change
    }
  }

  private func change(_ change: Change) -> ((any JobRunner)?, Changed) {
    do {
      let engine = try change.make()
      return (engine, .done(engine.model))
    } catch {
      let why = error as? SternaError ?? SternaError(.io, "\(error)")
      do { return (try change.restore(), .refused(why)) } catch { return (nil, .lost(error)) }
    }
  }

  /// The next job; nil when there is none, or the thread is to end.
  private func next(waiting: Bool) -> Work? {
    func take(_ state: inout State) -> Work? {
      guard !state.isStopping, state.change == nil, !state.inbox.isEmpty else { return nil }
      state.underWay += 1
      return state.inbox.removeFirst()
    }
    if !waiting { return state.quietly { take(&$0) } }
    return state.wait { state -> Work?? in
      if let work = take(&state) { return .some(work) }
      return state.isStopping || state.change != nil ? .some(nil) : nil
    }
  }

  // MARK: - For the loop

  /// The model, once it is loaded.
  func model() throws -> ModelIdentity? {
    switch state.quietly({ $0.engine }) {
    case .loading: nil
    case .ready(let identity): identity
    case .failed(let error): throw error
    }
  }

  func give(_ work: Work) { state.with { $0.inbox.append(work) } }

  /// Makes a job end at its next pass, or before it begins, as if its deadline had passed.
  func cancel(_ sequence: Int) {
    state.quietly { state in
      if let place = state.inbox.firstIndex(where: { $0.sequence == sequence }) { state.inbox[place].deadline = 0 } else { state.cancelled.insert(sequence) }
    }
  }

  /// What is over: answered, or too late before it had a place at the engine.
  func takeDone(_ now: Int) -> [Done] {
    state.quietly { state in
      defer { state.done = [] }
      for work in state.inbox where work.isOverdue(now) {
        state.done.append(Done(sequence: work.sequence, outcome: Outcome(.failure(.overdue(hasBegun: false))), started: now, ended: now))
      }
      state.inbox.removeAll { $0.isOverdue(now) }
      return state.done
    }
  }

  /// What experts on disk have cost so far, for `health`; nil where there are none.
  var expertCosts: JSON? { state.quietly { $0.expertCosts } }

  /// Something for the log, once.
  func takeComplaint() -> SternaError? {
    state.quietly { state in
      defer { state.complaint = nil }
      return state.complaint
    }
  }

  /// Rises with every pass over the model's weights.
  var progress: UInt64 { passes.load(ordering: .relaxed) }

  /// Ends the thread after the jobs that run; jobs not begun are dropped (the journal has them).
  func stop() {
    state.with {
      $0.isStopping = true
      $0.inbox = []
    }
  }

  var isBusy: Bool { state.quietly { $0.underWay > 0 || $0.isChanging } }

  /// Asks for another engine, when the jobs under way are over; `takeChanged` says what has become of it. One change at a time.
  ///
  /// - Parameters:
  ///   - make: on the inference thread, with the engine of before gone.
  ///   - restore: makes the engine of before again if `make` fails.
  func change(_ make: @escaping Agent.EngineFactory, orRestore restore: @escaping Agent.EngineFactory) {
    state.with { $0.change = Change(make: make, restore: restore) }
  }

  /// How the change ended, once.
  func takeChanged() -> Changed? {
    state.quietly { state in
      defer { state.changed = nil }
      return state.changed
    }
  }

  /// For runs on the inference thread that are nobody's job.
  var control: RunControl { RunControl(progress: progressed, shouldStop: { self.isInterrupted.load(ordering: .relaxed) }) }

  /// For the watchdog: something that is neither waiting nor a pass moved on.
  @Sendable func progressed() { passes.add(1, ordering: .relaxed) }

  /// How many jobs the engine runs together.
  var width: Int { widthOfEngine.load(ordering: .relaxed) }

  /// Makes the jobs that run give up at their next pass.
  func interrupt() { isInterrupted.store(true, ordering: .relaxed) }
}
