/// What the queue knows about an accepted job.
package struct WaitingJob: Equatable {
  /// Its number in the journal; later jobs have higher ones.
  package var sequence: Int
  package var priority: Int
  /// Of its payload.
  package var bytes: Int
  /// Who sent it: a task, or a client as far as one can tell clients apart.
  package var source: String
  /// Milliseconds since boot, negative for a job from before.
  package var arrived: Int
  /// Milliseconds since boot at which its answer is of no use any more.
  package var deadline: Int?
  /// Nil for nearly all jobs. Else the agent died while it was at the engine, and this often while it was there alone.
  package var deaths: Int?

  package init(sequence: Int, priority: Int, bytes: Int, source: String, arrived: Int, deadline: Int?, deaths: Int? = nil) {
    self.sequence = sequence
    self.priority = priority
    self.bytes = bytes
    self.source = source
    self.arrived = arrived
    self.deadline = deadline
    self.deaths = deaths
  }
}

/// Accepted jobs in the order in which they run. It holds numbers, not texts: those are in the journal.
///
/// Higher priority first. Among jobs of one priority the sources take turns, one job each, so that ten thousand alarms of one task hold a job of another up for one alarm. A source that
/// comes new, or comes again, stands at the end of the round. Within a source the job that is due first goes first: at its deadline, and ten minutes after it came at the latest. So
/// jobs without a deadline run in the order in which they came, one with little time passes them, and none is passed for ever.
///
/// With n jobs waiting, every change costs O(log n).
package struct JobQueue {
  /// Milliseconds after which a job is due that has no deadline.
  package static let patience = 600_000

  /// Jobs of one priority and source.
  private struct Line: Hashable {
    var priority: Int
    var source: String
  }

  private struct Due: Comparable {
    var time: Int
    var sequence: Int

    static func < (a: Due, b: Due) -> Bool { (a.time, a.sequence) < (b.time, b.sequence) }
  }

  private struct Turn: Comparable {
    var priority: Int
    var number: Int

    static func < (a: Turn, b: Turn) -> Bool { a.priority != b.priority ? a.priority > b.priority : a.number < b.number }
  }

  private var jobs: [Int: WaitingJob] = [:]
  private var lines: [Line: IndexedHeap<Int, Due>] = [:]
  private var turns = IndexedHeap<Line, Turn>()
  private var lastTurn = 0
  private var deadlines = IndexedHeap<Int, Due>()
  /// Of all payloads.
  package private(set) var bytes = 0

  package init() {}

  package var count: Int { jobs.count }

  /// - Parameter job: its number is not in the queue yet.
  package mutating func add(_ job: WaitingJob) {
    remove(job.sequence)
    var job = job
    let line = Line(priority: job.priority, source: job.source)
    if let known = lines.index(forKey: line) {
      // All jobs of a line share the text of its name.
      job.source = lines[known].key.source
    } else {
      stand(line)
    }
    jobs[job.sequence] = job
    bytes += job.bytes
    let due = min(job.deadline ?? .max, job.arrived &+ Self.patience)
    lines[line, default: IndexedHeap()].set(job.sequence, to: Due(time: due, sequence: job.sequence))
    if let deadline = job.deadline { deadlines.set(job.sequence, to: Due(time: deadline, sequence: job.sequence)) }
  }

  /// Whether the first job has a higher priority than one of these.
  package func isUrgent(over priorities: some Swift.Sequence<Int>) -> Bool {
    guard let first = turns.first else { return false }
    return priorities.contains { $0 < first.key.priority }
  }

  /// The job whose turn it is.
  package mutating func take() -> WaitingJob? {
    guard let line = turns.first?.item, let next = lines[line]?.first, let job = remove(next.item) else { return nil }
    if lines[line] != nil { stand(line) }
    return job
  }

  /// A job whose deadline has passed, the one longest overdue first.
  package mutating func takeOverdue(_ now: Int) -> WaitingJob? {
    guard let next = deadlines.first, next.key.time <= now else { return nil }
    return remove(next.item)
  }

  package func hasOverdue(_ now: Int) -> Bool { deadlines.first.map { $0.key.time <= now } ?? false }

  /// Puts a line at the end of the round.
  private mutating func stand(_ line: Line) {
    lastTurn += 1
    turns.set(line, to: Turn(priority: line.priority, number: lastTurn))
  }

  @discardableResult
  package mutating func remove(_ sequence: Int) -> WaitingJob? {
    guard let job = jobs.removeValue(forKey: sequence) else { return nil }
    bytes -= job.bytes
    deadlines.remove(sequence)
    let line = Line(priority: job.priority, source: job.source)
    lines[line]?.remove(sequence)
    if lines[line]?.isEmpty == true {
      lines[line] = nil
      turns.remove(line)
    }
    return job
  }
}

/// A queue with two cheap ends.
struct Fifo<Element> {
  private var front: [Element] = []  // reversed
  private var back: [Element] = []
  private var head = 0

  init() {}
  init(_ elements: some Swift.Sequence<Element>) { back = Array(elements) }

  var count: Int { front.count + back.count - head }
  var isEmpty: Bool { count == 0 }
  var first: Element? { front.last ?? (head < back.count ? back[head] : nil) }

  mutating func append(_ element: Element) { back.append(element) }
  mutating func prepend(_ element: Element) { front.append(element) }

  mutating func removeFirst() {
    if front.popLast() != nil { return }
    guard head < back.count else { return }
    head += 1
    if head > 1024, head * 2 > back.count {
      back.removeFirst(head)
      head = 0
    }
  }

  func filter(_ isIncluded: (Element) -> Bool) -> [Element] { (front.reversed() + back[head...]).filter(isIncluded) }
}
