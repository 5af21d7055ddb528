import Basics
import Glibc
import Jobs
import Synchronization

/// The inference thread: takes jobs from the loop one after the other, and gives outcomes back. The loop never waits for it.
final class InferenceThread: Sendable {
  struct Work: Sendable {
    var sequence: Int
    var job: Job
  }

  struct Done: Sendable {
    var sequence: Int
    var outcome: Outcome
    /// Milliseconds since boot.
    var started: Int
    var ended: Int
  }

  private enum Engine {
    case loading
    case ready(ModelIdentity)
    case failed(any Error)
  }

  private struct State {
    var engine = Engine.loading
    var inbox: [Work] = []
    var isBusy = false
    var done: [Done] = []
    var isStopping = false
  }

  private let state = Monitor(State())
  private let passes = Atomic<UInt64>(0)
  private let isInterrupted = Atomic<Bool>(false)
  private let wake: Wake

  init(wake: Wake) { self.wake = wake }

  /// Makes the engine on a new thread, where it stays.
  func start(_ factory: @escaping Agent.EngineFactory) -> Thread {
    Thread("inference") { self.run(factory) }
  }

  private func run(_ factory: Agent.EngineFactory) {
    let engine: any JobRunner
    do { engine = try factory() } catch {
      state.with { $0.engine = .failed(error) }
      wake.ring()
      return
    }
    let identity = engine.model
    state.with { $0.engine = .ready(identity) }
    wake.ring()
    let control = RunControl(
      progress: { self.passes.add(1, ordering: .relaxed) }, shouldStop: { self.isInterrupted.load(ordering: .relaxed) })
    while let work = next() {
      let started = Clock.uptime
      let outcome = engine.run(work.job, control: control)
      passes.add(1, ordering: .relaxed)
      state.with {
        $0.isBusy = false
        $0.done.append(Done(sequence: work.sequence, outcome: outcome, started: started, ended: Clock.uptime))
      }
      wake.ring()
    }
  }

  private func next() -> Work? {
    state.wait { state -> Work?? in
      if state.isStopping { return .some(nil) }
      guard !state.inbox.isEmpty else { return nil }
      state.isBusy = true
      return state.inbox.removeFirst()
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

  func takeDone() -> [Done] {
    state.quietly { state in
      defer { state.done = [] }
      return state.done
    }
  }

  /// Rises with every pass over the model's weights.
  var progress: UInt64 { passes.load(ordering: .relaxed) }

  /// Ends the thread after the job that runs; jobs not begun are dropped (the journal has them).
  func stop() {
    state.with {
      $0.isStopping = true
      $0.inbox = []
    }
  }

  var isBusy: Bool { state.quietly { $0.isBusy } }

  /// Makes the job that runs give up at its next pass.
  func interrupt() { isInterrupted.store(true, ordering: .relaxed) }
}
