import CTernary
import Glibc
import Synchronization

/// A few threads that share one piece of work at a time and sleep when there is none.
///
/// `parallel` runs `body` for every index on the caller and the workers together and returns when all are done. Each thread begins with its own part of the
/// indices, so that the weights it reads are one long stream, and then helps the others with theirs. Which thread takes which index is open, so
/// a body writes only what belongs to its index, and results cannot depend on the number of threads.
///
/// A worker that finished spins for some ten microseconds, since inside a forward pass the next round follows at once, and then sleeps on a condition
/// variable: no work, no wake-ups.
package final class WorkerThreads: Sendable {
  package let count: Int
  private let shared: Shared

  /// - Parameter count: threads including the caller's; at least 1.
  package init(count: Int) {
    self.count = max(1, count)
    shared = Shared(threads: self.count)
    for worker in 1..<self.count where startThread({ [shared] in shared.work(as: worker) }) { shared.workers.add(1, ordering: .relaxed) }
  }

  deinit { shared.stop() }

  /// Work in multiply-adds below which sharing costs more than it saves. Threads that are awake need a microsecond to meet; waking one takes some ten, and on
  /// a virtual machine a hundred.
  private static let worthSharing = (awake: 50_000, asleep: 1_000_000)

  /// Calls `body(index, worker)` once for every index below `tasks`; `worker` is below `count` and belongs to one thread at a time.
  ///
  /// - Parameter work: multiply-adds of all tasks together, roughly.
  package func parallel(_ tasks: Int, work: Int, _ body: (_ index: Int, _ worker: Int) -> Void) {
    if tasks <= 1 || count == 1 || work < (shared.allAwake ? Self.worthSharing.awake : Self.worthSharing.asleep) {
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

/// Cores that this process may run on, at least one.
public var usableCores: Int { Int(ct_usable_cores()) }

/// The state that workers and caller share.
///
/// A round is one call of `parallel`. `round` goes up when one begins; each worker runs until no index is left, then counts itself out in `running`. The caller waits for
/// `running` to reach zero, so `body`, `tasks` and `next` never change under a worker.
// @unchecked: `body` and `tasks` are written by the caller before the releasing increment of `round` and read by workers after acquiring it.
private final class Shared: @unchecked Sendable {
  typealias Body = (Int, Int) -> Void

  let workers = Atomic<Int>(0)
  private let round = Atomic<Int>(0)
  private let running = Atomic<Int>(0)
  private let stopped = Atomic<Bool>(false)
  /// Workers that sleep or are about to. A worker counts itself before it looks at `round` for the last time, and the caller looks at this after it has
  /// raised `round`: in one order of all threads, so one of the two sees the other, and a round among threads that are awake takes no lock.
  private let sleeping = Atomic<Int>(0)
  private var body: UnsafeRawPointer?
  private var tasks = 0
  private let threads: Int
  /// The next index of each thread's part, `nextStride` apart: in cache lines of their own.
  private let next: UnsafeMutablePointer<Atomic<Int>>
  private static let nextStride = 16
  // Sleeping workers only; both are allocated so that their addresses stay.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// More than what lies between two rounds of a forward pass, and not more than waking a thread takes. Where threads share cores, spinning keeps those
  /// away that have work.
  private let spinNanoseconds: Int

  init(threads: Int) {
    self.threads = threads
    spinNanoseconds = threads <= usableCores ? 50_000 : 2_000
    next = .allocate(capacity: threads * Self.nextStride)
    for i in 0..<threads * Self.nextStride { (next + i).initialize(to: Atomic(0)) }
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(wake, nil)
  }

  deinit {
    pthread_cond_destroy(wake)
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
    wake.deallocate()
    next.deinitialize(count: threads * Self.nextStride)
    next.deallocate()
  }

  var allAwake: Bool { sleeping.load(ordering: .relaxed) == 0 }

  /// The caller's side of a round.
  func run(_ tasks: Int, _ body: UnsafeRawPointer) {
    self.body = body
    self.tasks = tasks
    for thread in 0..<threads { next[thread * Self.nextStride].store(part(thread).lowerBound, ordering: .relaxed) }
    running.store(workers.load(ordering: .relaxed), ordering: .relaxed)
    beginRound()
    take(as: 0)
    // A worker that was descheduled needs the core that this loop burns.
    if !spin(until: { running.load(ordering: .acquiring) == 0 }) {
      while running.load(ordering: .acquiring) > 0 { sched_yield() }
    }
  }

  /// A worker's life.
  func work(as worker: Int) {
    var seen = 0
    while true {
      if !spin(until: { round.load(ordering: .acquiring) != seen }) {
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

  /// Waits for a condition for at most `spinNanoseconds`. Returns whether it holds.
  private func spin(until condition: () -> Bool) -> Bool {
    var start: Int?
    while true {
      for _ in 0..<16 {
        if condition() { return true }
        ct_pause()
      }
      // Pauses take one cycle on some processors and 140 on others: only a clock knows.
      var now = timespec()
      clock_gettime(CLOCK_MONOTONIC, &now)
      let time = now.tv_sec &* 1_000_000_000 &+ now.tv_nsec
      if let start { if time &- start > spinNanoseconds { return false } } else { start = time }
    }
  }

  private func take(as worker: Int) {
    guard let body = body?.assumingMemoryBound(to: Body.self) else { return }
    for offset in 0..<threads {
      let owner = (worker + offset) % threads
      let end = part(owner).upperBound
      while true {
        let index = next[owner * Self.nextStride].add(1, ordering: .relaxed).oldValue
        if index >= end { break }
        body.pointee(index, worker)
      }
    }
  }

  /// The indices that a thread begins with.
  private func part(_ thread: Int) -> Range<Int> { tasks * thread / threads..<tasks * (thread + 1) / threads }

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
