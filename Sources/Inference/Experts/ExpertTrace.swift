import Basics

/// Which experts a model asked for, call by call: what a cache of any size and kind would have made of it can be computed from it.
///
/// As text: a first line `sterna experts BLOCKS EXPERTS RECORD_BYTES`, then a line a call: the block and its experts, `3 0 17 25 90`.
public struct ExpertTrace: Sendable, Equatable {
  public struct Call: Sendable, Equatable {
    public let block: Int
    /// Distinct, ascending.
    public let experts: [Int]

    public init(block: Int, experts: [Int]) {
      self.block = block
      self.experts = experts
    }
  }

  public let blocks: Int
  /// Of each block.
  public let experts: Int
  public let recordBytes: Int
  public internal(set) var calls: [Call] = []

  public init(blocks: Int, experts: Int, recordBytes: Int) {
    self.blocks = blocks
    self.experts = experts
    self.recordBytes = recordBytes
  }

  /// Records of all blocks that were ever asked for something.
  public var records: Int { Set(calls.lazy.map(\.block)).count * experts }
  public var asked: Int { calls.reduce(0) { $0 + $1.experts.count } }

  private static let magic = "sterna experts"

  public var text: String {
    var text = "\(Self.magic) \(blocks) \(experts) \(recordBytes)\n"
    for call in calls {
      text += "\(call.block)"
      for expert in call.experts { text += " \(expert)" }
      text += "\n"
    }
    return text
  }

  /// - Throws: `badFile` with the line.
  public init(text: String) throws(SternaError) {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let head = lines.first.map { $0.split(separator: " ") } ?? []
    let sizes = head.dropFirst(2).map { Int($0) ?? 0 }
    guard head.count == 5, head.prefix(2).joined(separator: " ") == Self.magic, sizes.allSatisfy({ 1...1 << 32 ~= $0 }), sizes[0] <= 1024, sizes[1] <= 4096 else {
      throw SternaError(
        .badFile, "this is not a trace of experts", at: "line 1", expected: "\(Self.magic) BLOCKS EXPERTS RECORD_BYTES", found: lines.first.map { String($0.prefix(80)) },
        remedy: "make one: sterna experts trace MODEL --texts FILE -o TRACE")
    }
    self.init(blocks: sizes[0], experts: sizes[1], recordBytes: sizes[2])
    for (number, line) in lines.enumerated().dropFirst() where !line.isEmpty {
      let numbers = line.split(separator: " ").map { Int($0) ?? -1 }
      guard numbers.count > 1, 0..<blocks ~= numbers[0], numbers.dropFirst().allSatisfy({ 0..<experts ~= $0 }), zip(numbers.dropFirst(), numbers.dropFirst(2)).allSatisfy(<) else {
        throw SternaError(
          .badFile, "is not a call", at: "line \(number + 1)", expected: "a block below \(blocks) and ascending experts below \(experts)", found: String(line.prefix(80)))
      }
      calls.append(Call(block: numbers[0], experts: Array(numbers.dropFirst())))
    }
  }
}

extension ExpertTrace {
  /// Which record leaves a full cache.
  public enum Policy: String, Sendable, CaseIterable {
    /// The one that was used longest ago: what Sterna does.
    case lru
    /// The one that was used least often, of these the one used longest ago.
    case lfu
    /// The one that will be used last: what nobody can know beforehand, and the best that any cache could do.
    case belady
  }

  /// The part of what was asked for that a cache of `slots` records would have had.
  public func hitRate(_ policy: Policy, slots: Int) -> Double {
    guard asked > 0, slots > 0 else { return 0 }
    let hits = policy == .lru ? lruHits(slots) : orderedHits(policy, slots)
    return Double(hits) / Double(asked)
  }

  private func key(_ block: Int, _ expert: Int) -> Int { block * experts + expert }

  /// By the pool's own table.
  private func lruHits(_ slots: Int) -> Int {
    var table = SlotTable(slots: min(slots, blocks * experts), keys: blocks * experts)
    var hits = 0
    for call in calls {
      for expert in call.experts {
        guard let slot = table.slot(of: key(call.block, expert)) else { continue }
        hits += 1
        table.pin(slot)
      }
      for expert in call.experts where table.slot(of: key(call.block, expert)) == nil {
        guard let slot = table.take(for: key(call.block, expert)) else { continue }
        table.fill(slot)
        table.pin(slot)
      }
      for expert in call.experts { table.slot(of: key(call.block, expert)).map { table.unpin($0) } }
    }
    return hits
  }

  /// With a heap of what is there, the next to leave on top. Entries that are out of date are passed over.
  private func orderedHits(_ policy: Policy, _ slots: Int) -> Int {
    // For each use the number of the next one of the same record.
    let uses: [Int] = calls.flatMap { call in call.experts.map { key(call.block, $0) } }
    var nextUse = [Int](repeating: .max, count: uses.count)
    var latest = [Int](repeating: .max, count: blocks * experts)
    for i in uses.indices.reversed() {
      nextUse[i] = latest[uses[i]]
      latest[uses[i]] = i
    }
    var rank = [(Int, Int)?](repeating: nil, count: blocks * experts)  // of what is there
    var counts = [Int](repeating: 0, count: blocks * experts)
    var heap = Heap()
    var hits = 0, held = 0, i = 0
    for call in calls {
      for expert in call.experts where rank[key(call.block, expert)] != nil { hits += 1 }
      for expert in call.experts {
        let key = key(call.block, expert)
        counts[key] += 1
        let isNew = rank[key] == nil
        let new = policy == .belady ? (-nextUse[i], 0) : (counts[key], i)
        i += 1
        if isNew, held == slots {
          // Belady may well keep what is there and not what has just been read.
          var oldest = heap.removeFirst()
          while let entry = oldest, rank[entry.key].map({ $0 != entry.rank }) ?? true { oldest = heap.removeFirst() }
          guard let oldest else { continue }
          if policy == .belady, new < oldest.rank {
            heap.insert(oldest)
            continue
          }
          rank[oldest.key] = nil
          held -= 1
        }
        rank[key] = new
        heap.insert(.init(rank: new, key: key))
        if isNew { held += 1 }
      }
    }
    return hits
  }
}

/// A binary heap, smallest rank first.
private struct Heap {
  struct Entry {
    let rank: (Int, Int)
    let key: Int
  }

  private var entries: [Entry] = []

  mutating func insert(_ entry: Entry) {
    entries.append(entry)
    var i = entries.count - 1
    while i > 0, entries[i].rank < entries[(i - 1) / 2].rank {
      entries.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  mutating func removeFirst() -> Entry? {
    guard let first = entries.first, let last = entries.popLast() else { return nil }
    guard !entries.isEmpty else { return first }
    entries[0] = last
    var i = 0
    while true {
      let children = [2 * i + 1, 2 * i + 2].filter { $0 < entries.count }
      guard let least = children.min(by: { entries[$0].rank < entries[$1].rank }), entries[least].rank < entries[i].rank else { return first }
      entries.swapAt(i, least)
      i = least
    }
  }
}

/// Writes down what is asked of another source.
package final class TracedExperts: ExpertSource {
  let source: any ExpertSource
  package private(set) var trace: ExpertTrace

  package init(_ source: any ExpertSource, _ trace: ExpertTrace) {
    self.source = source
    self.trace = trace
  }

  package func withExperts(
    _ experts: [Int], of block: Int, meanwhile: () -> Void, use: (_ ready: [ReadyExpert]) -> Void
  ) throws(SternaError) {
    trace.calls.append(.init(block: block, experts: experts))
    try source.withExperts(experts, of: block, meanwhile: meanwhile, use: use)
  }
}
