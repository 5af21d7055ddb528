import Glibc
import Synchronization

/// A few threads that share one piece of work at a time and sleep when there is none.
///
/// `parallel` runs `body` for every index on the caller and the workers together and returns when all are done. Which thread takes which index is open, so
/// a body writes only what belongs to its index, and results cannot depend on the number of threads.
///
/// A worker that finished spins for some microseconds, since inside a forward pass the next piece follows at once, and then sleeps on a condition
/// variable: no work, no wake-ups.
final class WorkerThreads: Sendable {
  let count: Int
  private let shared: Shared

  /// - Parameter count: threads including the caller's; at least 1.
  init(count: Int) {
    self.count = max(1, count)
    shared = Shared()
    for worker in 1..<self.count {
      // The thread owns a reference, so `Shared` outlives whoever is last.
      let start = Unmanaged.passRetained(Start(shared: shared, worker: worker))
      var thread = pthread_t()
      let failed = pthread_create(&thread, nil, { argument in
        guard let argument else { return nil }
        let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        // Signals are the main thread's business.
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, nil)
        start.shared.work(as: start.worker)
        return nil
      }, start.toOpaque())
      if failed == 0 { pthread_detach(thread); shared.workers.add(1, ordering: .relaxed) } else { start.release() }
    }
  }

  deinit { shared.stop() }

  /// Work in multiply-adds below which sharing costs more than it saves: waking another thread takes some ten microseconds, and on a busy box much longer.
  private static let worthSharing = 1_000_000

  /// Calls `body(index, worker)` once for every index below `tasks`; `worker` is below `count` and belongs to one thread at a time.
  ///
  /// - Parameter work: multiply-adds of all tasks together, roughly.
  func parallel(_ tasks: Int, work: Int, _ body: (_ index: Int, _ worker: Int) -> Void) {
    if tasks <= 1 || count == 1 || work < Self.worthSharing {
      for index in 0..<max(0, tasks) { body(index, 0) }
      return
    }
    withoutActuallyEscaping(body) { body in
      withUnsafePointer(to: body) { pointer in
        shared.run(tasks, UnsafeRawPointer(pointer))
      }
    }
  }
}

/// What a new thread is handed.
private final class Start: Sendable {
  let shared: Shared
  let worker: Int
  init(shared: Shared, worker: Int) {
    self.shared = shared
    self.worker = worker
  }
}

/// The state that workers and caller share.
///
/// A round is one call of `parallel`. `round` goes up when one begins; each worker runs until no index is left, then counts itself out in `running`. The caller waits for
/// `running` to reach zero, so `body` and `tasks` never change under a worker.
// @unchecked: `body` and `tasks` are written by the caller before the releasing increment of `round` and read by workers after acquiring it.
private final class Shared: @unchecked Sendable {
  typealias Body = (Int, Int) -> Void

  let workers = Atomic<Int>(0)
  private let round = Atomic<Int>(0)
  private let nextIndex = Atomic<Int>(0)
  private let running = Atomic<Int>(0)
  private let stopped = Atomic<Bool>(false)
  /// Workers that sleep or are about to. A worker counts itself before it looks at `round` for the last time, and the caller looks at this after it has
  /// raised `round`: in one order of all threads, so one of the two sees the other, and a round among threads that are awake takes no lock.
  private let sleeping = Atomic<Int>(0)
  private var body: UnsafeRawPointer?
  private var tasks = 0
  // Sleeping workers only; both are allocated so that their addresses stay.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// About 20 microseconds: the time between two pieces of one forward pass, not more.
  private static let spins = 2_000

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(wake, nil)
  }

  deinit {
    pthread_cond_destroy(wake)
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
    wake.deallocate()
  }

  /// The caller's side of a round.
  func run(_ tasks: Int, _ body: UnsafeRawPointer) {
    self.body = body
    self.tasks = tasks
    nextIndex.store(0, ordering: .relaxed)
    running.store(workers.load(ordering: .relaxed), ordering: .relaxed)
    beginRound()
    take(as: 0)
    var spun = 0
    while running.load(ordering: .acquiring) > 0 {
      spun += 1
      // A worker that was descheduled needs the core that this loop burns.
      if spun > Self.spins { sched_yield() }
    }
  }

  /// A worker's life.
  func work(as worker: Int) {
    var seen = 0
    while true {
      var spun = 0
      while round.load(ordering: .acquiring) == seen {
        spun += 1
        if spun < Self.spins { continue }
        pthread_mutex_lock(mutex)
        sleeping.add(1, ordering: .sequentiallyConsistent)
        while round.load(ordering: .sequentiallyConsistent) == seen { pthread_cond_wait(wake, mutex) }
        sleeping.subtract(1, ordering: .sequentiallyConsistent)
        pthread_mutex_unlock(mutex)
      }
      seen += 1
      if stopped.load(ordering: .acquiring) { return }
      take(as: worker)
      running.subtract(1, ordering: .acquiringAndReleasing)
    }
  }

  private func take(as worker: Int) {
    guard let body = body?.assumingMemoryBound(to: Body.self) else { return }
    while true {
      let index = nextIndex.add(1, ordering: .relaxed).oldValue
      if index >= tasks { return }
      body.pointee(index, worker)
    }
  }

  func stop() {
    stopped.store(true, ordering: .releasing)
    beginRound()
  }

  private func beginRound() {
    round.add(1, ordering: .sequentiallyConsistent)
    guard sleeping.load(ordering: .sequentiallyConsistent) > 0 else { return }
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(mutex)
  }
}
