/// Accepted jobs in the order in which they run: higher priority first, then first come first served.
///
/// It holds numbers, not texts: those are in the journal. Only a few jobs at the front keep what was parsed on arrival.
struct JobQueue {
  /// How many jobs keep their parsed form.
  private static let parsedJobs = 8

  private var heap: [Journal.Waiting] = []
  private var arrivals: [Int: Arrival] = [:]
  /// Of all payloads.
  private(set) var bytes = 0

  var count: Int { heap.count }

  mutating func add(_ job: Journal.Waiting, arrival: Arrival? = nil) {
    if let arrival, arrivals.count < Self.parsedJobs { arrivals[job.sequence] = arrival }
    bytes += job.bytes
    heap.append(job)
    var child = heap.count - 1
    while child > 0, case let parent = (child - 1) / 2, precedes(heap[child], heap[parent]) {
      heap.swapAt(child, parent)
      child = parent
    }
  }

  /// Whether the first job has a higher priority than one of these.
  func isUrgent(over priorities: some Swift.Sequence<Int>) -> Bool {
    guard let first = heap.first else { return false }
    return priorities.contains { $0 < first.priority }
  }

  mutating func take() -> (job: Journal.Waiting, arrival: Arrival?)? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    if !heap.isEmpty {
      heap[0] = last
      var parent = 0
      while case let left = 2 * parent + 1, left < heap.count {
        let child = left + 1 < heap.count && precedes(heap[left + 1], heap[left]) ? left + 1 : left
        guard precedes(heap[child], heap[parent]) else { break }
        heap.swapAt(child, parent)
        parent = child
      }
    }
    bytes -= first.bytes
    return (first, arrivals.removeValue(forKey: first.sequence))
  }

  private func precedes(_ a: Journal.Waiting, _ b: Journal.Waiting) -> Bool {
    a.priority != b.priority ? a.priority > b.priority : a.sequence < b.sequence
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
