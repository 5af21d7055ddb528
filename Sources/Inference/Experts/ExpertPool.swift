import Basics
import CTernary

/// Experts on disk: a bounded pool of slots in front of a few threads that read.
///
/// One pool for all blocks; a record that is needed and not there takes the slot whose record was used longest ago. What is there is used while the rest
/// arrives. Where the budget does not hold what one token needs, a cache would only ever hold what the next token's first block does not need: then the
/// pool is no more than a buffer for two blocks' reads (`isCache` false).
package final class ExpertPool: ExpertSource {
  /// The records of one block.
  private struct Block {
    let places: [RecordPlace]
    /// The number of its first record among those of all blocks.
    let firstKey: Int
  }

  package let slots: Int
  /// Whether records stay for later tokens.
  package let isCache: Bool
  let reads: RecordReads
  private let blocks: [Block?]
  private let memory: SlotMemory
  private let queue: ReadQueue
  private var table: SlotTable
  /// Which of the experts that are being waited for a slot will hold, -1 for none. [slots]
  private var indexOfSlot: [Int32]
  /// Whether a slot was read on a guess and not used yet. [slots]
  private var isGuess: [Bool]
  private var counted = ExpertCounters()
  /// Whether somebody waits for a slot.
  private var isShort = false
  private var pace = Pace()
  /// How many records are worth guessing; nil: what the pace says.
  private let guesses: Int?

  /// How long the disk has nothing to do between two blocks, and how long a record takes it.
  private struct Pace {
    /// Nanoseconds, running means; nil: not known yet.
    var idle: Int?
    var record: Int?
    /// When the latest record arrived that was waited for.
    var lastArrival: Int?

    static func mean(_ old: Int?, _ new: Int) -> Int { old.map { ($0 * 7 + new) / 8 } ?? new }
  }

  /// - Parameters:
  ///   - blocks: nil where a block has no experts. All records have the same size.
  ///   - chosen: experts that a token uses in each of its routed blocks.
  ///   - budget: bytes for records.
  ///   - threads: that read.
  ///   - guesses: how many records of the next block are worth guessing; nil: it depends on how fast the disk is.
  /// - Throws: `memoryLimit` where the budget does not hold two records.
  package init(
    _ places: [[RecordPlace]?], chosen: Int, budget: Int, threads: Int, reader: any RecordReader, guesses: Int? = nil, path: String, kernels: ct_kernels
  ) throws(SternaError) {
    let records = places.compactMap { $0 }.reduce(0) { $0 + $1.count }
    let recordBytes = places.lazy.compactMap { $0?.first?.bytes }.first ?? 4096
    let sizes = ExpertSizes(records: records, recordBytes: recordBytes, perToken: chosen * places.count { $0 != nil }, chosen: chosen)
    let layout = sizes.layout(budget)
    guard layout.slots >= min(2, records), let memory = SlotMemory(slots: layout.slots, slotBytes: recordBytes) else {
      throw SternaError(
        .memoryLimit, "there is no room for experts to be read into", expected: "at least \(2 * recordBytes) bytes, two records", found: "\(budget) bytes",
        remedy: "a higher memory limit, or a shorter context")
    }
    slots = layout.slots
    isCache = layout.isCache
    reads = reader.reads
    self.guesses = guesses
    self.memory = memory
    table = SlotTable(slots: slots, keys: records)
    indexOfSlot = .init(repeating: -1, count: slots)
    isGuess = .init(repeating: false, count: slots)
    var firstKey = 0
    blocks = places.map { places in
      guard let places else { return nil }
      defer { firstKey += places.count }
      return Block(places: places, firstKey: firstKey)
    }
    let checksum = kernels.checksum
    queue = ReadQueue(threads: threads, reader: reader, path: path, memory: memory) { checksum($0, $1) }
    guard queue.threads > 0 else { throw SternaError(.unsupported, "no thread can be started that reads experts") }
  }

  package var counters: ExpertCounters {
    var counters = counted
    counters.retries = queue.retries
    return counters
  }

  package func withExperts(
    _ experts: [Int], of block: Int, meanwhile: () -> Void, use: (_ ready: [ReadyExpert]) -> Void
  ) throws(SternaError) {
    guard let block = blocks[block] else { return meanwhile() }
    counted.asked += experts.count
    let begin = now()
    if let last = pace.lastArrival { pace.idle = Pace.mean(pace.idle, begin - last) }
    pace.lastArrival = begin
    settle(queue.finished())
    var ready: [ReadyExpert] = []
    var missing: [Int] = []
    for (index, expert) in experts.enumerated() {
      guard let slot = table.slot(of: block.firstKey + expert) else {
        missing.append(index)
        continue
      }
      table.pin(slot)
      if isGuess[slot] { counted.guessed += 1 }
      indexOfSlot[slot] = Int32(index)
      if table.isThere(slot) {
        isGuess[slot] = false
        ready.append(ReadyExpert(index: index, record: UnsafeRawPointer(memory[slot])))
      }
    }
    counted.hits += ready.count
    // What was guessed for this block and is not needed will not be: the block is here.
    for slot in queue.settleGuesses(needed: { indexOfSlot[$0] >= 0 }) {
      isGuess[slot] = false
      table.clear(slot)
    }

    var next = missing[...]
    demand(&next, experts, block)
    compute(meanwhile)
    var left = experts.count
    var failure: SternaError?
    func finish(_ ready: [ReadyExpert]) {
      guard !ready.isEmpty else { return }
      left -= ready.count
      compute { use(ready) }
      for expert in ready {
        guard let slot = table.slot(of: block.firstKey + experts[expert.index]) else { continue }
        indexOfSlot[slot] = -1
        table.unpin(slot)
      }
      demand(&next, experts, block)
    }
    finish(ready)
    while left > 0, failure == nil {
      let start = now()
      let completions = queue.completions()
      let arrival = now()
      pace.lastArrival = arrival
      counted.waiting += arrival - start
      let settled = settle(completions)
      (ready, failure) = (settled.ready, settled.failure)
      guard failure == nil else { break }
      next += settled.again
      // Also where nothing arrived that is being waited for: a guess may have given its slot free.
      demand(&next, experts, block)
      finish(ready)
    }
    if missing.count >= queue.threads, let last = pace.lastArrival { pace.record = Pace.mean(pace.record, (last - begin) / missing.count) }
    if let failure { try giveUp(experts, block, failure) }
    // In order, so that what stays does not depend on what arrived first.
    for expert in experts { table.slot(of: block.firstKey + expert).map { table.unpin($0) } }
  }

  /// A wrong guess keeps the disk from what turns out to be needed, for as long as it takes to read a record: where that is longer than the disk is idle, there is
  /// little to win, and nothing is guessed.
  package var worthGuessing: Int {
    guard isCache else { return 0 }
    if let guesses { return guesses }
    guard let idle = pace.idle, let record = pace.record else { return 0 }
    return idle / max(1, record)
  }

  package func guess(_ experts: [Int], of block: Int) {
    guard isCache, !isShort, let block = blocks[block] else { return }
    var requests: [ReadQueue.Request] = []
    for expert in experts where table.slot(of: block.firstKey + expert) == nil {
      guard let slot = table.take(for: block.firstKey + expert) else { break }
      isGuess[slot] = true
      requests.append(.init(slot: slot, place: block.places[expert], target: memory[slot]))
    }
    queue.guess(requests)
  }

  /// Reads into every slot that can be had.
  private func demand(_ missing: inout ArraySlice<Int>, _ experts: [Int], _ block: Block) {
    var requests: [ReadQueue.Request] = []
    while let index = missing.first, let slot = table.take(for: block.firstKey + experts[index]) {
      missing.removeFirst()
      table.pin(slot)
      indexOfSlot[slot] = Int32(index)
      requests.append(.init(slot: slot, place: block.places[experts[index]], target: memory[slot]))
    }
    isShort = !missing.isEmpty
    queue.demand(requests)
  }

  /// Takes in what was read. Returns what is being waited for; what has to be asked for again, since a guess that failed is only a guess; and the first
  /// failure of a reading that was asked for.
  @discardableResult private func settle(_ completions: [ReadQueue.Completion]) -> (ready: [ReadyExpert], again: [Int], failure: SternaError?) {
    var ready: [ReadyExpert] = []
    var again: [Int] = []
    var failure: SternaError?
    for completion in completions {
      let slot = completion.slot
      let index = Int(indexOfSlot[slot])
      counted.reads += 1
      counted.bytesRead += completion.bytes
      if let error = completion.error {
        if index >= 0 {
          if isGuess[slot] { again.append(index) } else { failure = failure ?? error }
        }
        indexOfSlot[slot] = -1
        isGuess[slot] = false
        table.clear(slot)
        continue
      }
      table.fill(slot)
      guard index >= 0 else { continue }
      isGuess[slot] = false
      ready.append(ReadyExpert(index: index, record: UnsafeRawPointer(memory[slot])))
    }
    return (ready, again, failure)
  }

  /// Lets go of everything after a failure, once nothing is read into these slots any more.
  private func giveUp(_ experts: [Int], _ block: Block, _ failure: SternaError) throws(SternaError) {
    func slots() -> [Int] { experts.compactMap { table.slot(of: block.firstKey + $0) }.filter { indexOfSlot[$0] >= 0 } }
    while slots().contains(where: { !table.isThere($0) }) { settle(queue.completions()) }
    for slot in slots() {
      indexOfSlot[slot] = -1
      table.unpin(slot)
    }
    throw failure
  }

  private func compute(_ body: () -> Void) {
    let start = now()
    body()
    counted.computing += now() - start
  }
}
