import Glibc
import Inference
import Synchronization
import Testing

struct WorkerThreadsTests {
  /// How often each index ran, and whether a worker was ever two threads at a time.
  private final class Record: Sendable {
    let counts: Mutex<[Int]>
    let busy: Mutex<[Bool]>
    let clashes = Atomic<Int>(0)

    init(tasks: Int, threads: Int) {
      counts = Mutex(Array(repeating: 0, count: tasks))
      busy = Mutex(Array(repeating: false, count: threads))
    }

    func run(_ index: Int, _ worker: Int) {
      if busy.withLock({ busy in defer { busy[worker] = true }; return busy[worker] }) { clashes.add(1, ordering: .relaxed) }
      counts.withLock { $0[index] += 1 }
      busy.withLock { $0[worker] = false }
    }
  }

  /// Fewer tasks than threads, numbers that do not divide, and more threads than any runner has cores.
  @Test(arguments: [1, 2, 3, 4, 9], [0, 1, 2, 3, 7, 16, 50]) func everyIndexRunsOnce(threads: Int, tasks: Int) {
    let workers = WorkerThreads(count: threads)
    for work in [0, 100_000, Int.max] {
      for _ in 0..<50 {
        let record = Record(tasks: tasks, threads: threads)
        workers.parallel(tasks, work: work) { record.run($0, $1) }
        #expect(record.counts.withLock { $0 } == Array(repeating: 1, count: tasks))
        #expect(record.clashes.load(ordering: .relaxed) == 0)
      }
    }
  }

  /// Index 0 waits for all others, so whoever runs it cannot run the rest of its part.
  @Test(arguments: [2, 3]) func aPartIsFinishedByWhoeverIsFree(threads: Int) {
    let workers = WorkerThreads(count: threads)
    let others = Atomic<Int>(0)
    workers.parallel(12, work: .max) { index, _ in
      guard index == 0 else { others.add(1, ordering: .relaxed); return }
      for _ in 0..<10_000 where others.load(ordering: .relaxed) < 11 { usleep(1_000) }
      #expect(others.load(ordering: .relaxed) == 11)
    }
  }

  @Test func sleepersWakeAndSleepersEnd() {
    for _ in 0..<20 {
      let workers = WorkerThreads(count: 4)
      for pause in [0, 30, 60, 300] as [UInt32] {
        usleep(pause)  // around the time for which workers spin
        let record = Record(tasks: 8, threads: 4)
        workers.parallel(8, work: .max) { record.run($0, $1) }
        #expect(record.counts.withLock { $0 } == Array(repeating: 1, count: 8))
      }
    }
  }
}
