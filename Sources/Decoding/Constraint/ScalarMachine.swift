import Basics

/// A deterministic automaton over classes of scalars as a construction leaves it: some states may lead nowhere, some may be equivalent.
struct ScalarMachine {
  /// Bounds on what a construction makes.
  enum Limit {
    /// States of a finished automaton.
    static let states = 4096
    /// States before equivalent ones are merged.
    static let rawStates = 4 * states
    /// States times classes, before and after.
    static let transitions = 1 << 20
  }

  var partition: ScalarPartition
  /// The state behind a class of scalars; -1: none. State 0 is the start. [states, classes]
  var transitions: [Int32] = []
  /// [states]
  var accepting: [Bool] = []

  var stateCount: Int { accepting.count }
  var classCount: Int { partition.classCount }

  init(partition: ScalarPartition) { self.partition = partition }

  /// Adds a state without transitions.
  mutating func addState(accepting isAccepting: Bool) throws(SternaError) -> Int {
    guard stateCount < Limit.rawStates, transitions.count + classCount <= Limit.transitions else { throw ScalarMachine.tooLarge() }
    transitions.append(contentsOf: repeatElement(-1, count: classCount))
    accepting.append(isAccepting)
    return stateCount - 1
  }

  static func tooLarge() -> SternaError {
    SternaError(
      .unsupported, "this pattern makes too large an automaton",
      expected: "at most \(Limit.states) states, \(Limit.rawStates) before equivalent ones are merged, and \(Limit.transitions) states times classes of characters",
      remedy: "anchor it with ^ and $, use smaller repetitions, bound the length with maxLength, or list the values with enum")
  }

  /// The smallest automaton of the same set, its states in breadth-first order and its classes as coarse as can be: equal sets have equal automata.
  /// - Returns: nil when the set is empty.
  func canonical() throws(SternaError) -> StringAutomaton? {
    let blocks = equivalenceBlocks()
    guard stateCount > 0, let start = blocks[0] else { return nil }
    let blockCount = (blocks.lazy.compactMap { $0 }.max() ?? 0) + 1
    guard blockCount <= Limit.states else { throw ScalarMachine.tooLarge() }
    var representative = [Int](repeating: 0, count: blockCount)
    for (state, block) in blocks.enumerated() { if let block { representative[block] = state } }
    func target(_ block: Int, _ class: Int) -> Int32 {
      let next = transitions[representative[block] * classCount + `class`]
      return next < 0 ? -1 : Int32(blocks[Int(next)] ?? -1)
    }

    // Classes with the same column are one.
    var columns: [[Int32]: Int] = [:]
    let merged = (0..<classCount).map { number in
      let column = (0..<blockCount).map { target($0, number) }
      let known = columns[column] ?? columns.count
      columns[column] = known
      return known
    }
    let coarse = ScalarPartition(runs: zip(partition.starts, partition.classes).map { ($0, merged[Int($1)]) })
    // One of the old classes for each new one.
    var old = [Int](repeating: 0, count: coarse.classCount)
    for (start, number) in zip(partition.starts, partition.classes) { old[coarse.classOf(start)] = Int(number) }

    var numbers = [Int32](repeating: -1, count: blockCount)
    var order = [start]
    numbers[start] = 0
    var result: [Int32] = []
    var at = 0
    while at < order.count {
      for number in old {
        let next = target(order[at], number)
        if next >= 0, numbers[Int(next)] < 0 {
          numbers[Int(next)] = Int32(order.count)
          order.append(Int(next))
        }
        result.append(next < 0 ? -1 : numbers[Int(next)])
      }
      at += 1
    }
    return StringAutomaton(partition: coarse, transitions: result, accepting: order.map { accepting[representative[$0]] })
  }

  /// States from which no string is accepted have no block; of the others, those of one block accept the same strings. (Hopcroft 1971) [states]
  private func equivalenceBlocks() -> [Int?] {
    // One more state, where all transitions that are missing lead; what is equivalent to it accepts nothing.
    let sink = stateCount
    let count = stateCount + 1
    func next(_ state: Int, _ number: Int) -> Int {
      if state == sink { return sink }
      let next = transitions[state * classCount + number]
      return next < 0 ? sink : Int(next)
    }
    // Where each state is entered from: the sources of class c into state s are sources[starts[c * count + s]..<starts[.. + 1]].
    var starts = [Int32](repeating: 0, count: classCount * count + 1)
    for number in 0..<classCount { for state in 0..<count { starts[number * count + next(state, number) + 1] += 1 } }
    for i in 1..<starts.count { starts[i] += starts[i - 1] }
    var fill = starts
    var sources = [Int32](repeating: 0, count: classCount * count)
    for number in 0..<classCount {
      for state in 0..<count {
        let at = number * count + next(state, number)
        sources[Int(fill[at])] = Int32(state)
        fill[at] += 1
      }
    }

    // Blocks are slices of `members`; the states marked in the current round come first in their block.
    var members: [Int] = []
    var place = [Int](repeating: 0, count: count)
    var block = [Int](repeating: 0, count: count)
    var blockStart: [Int] = []
    var blockEnd: [Int] = []
    for accepts in [true, false] {
      let start = members.count
      for state in 0..<count where (state != sink && accepting[state]) == accepts {
        place[state] = members.count
        block[state] = blockStart.count
        members.append(state)
      }
      if members.count > start {
        blockStart.append(start)
        blockEnd.append(members.count)
      }
    }
    var pending: [(block: Int, class: Int)] = []
    var isPending = [Bool](repeating: false, count: blockStart.count * classCount)
    for number in 0..<classCount {
      for index in blockStart.indices {
        pending.append((index, number))
        isPending[index * classCount + number] = true
      }
    }
    var marked = [Int](repeating: 0, count: blockStart.count)
    var touched: [Int] = []
    var splitters: [Int] = []
    while let (splitter, number) = pending.popLast() {
      isPending[splitter * classCount + number] = false
      splitters.removeAll(keepingCapacity: true)
      splitters.append(contentsOf: members[blockStart[splitter]..<blockEnd[splitter]])
      for target in splitters {
        for at in Int(starts[number * count + target])..<Int(starts[number * count + target + 1]) {
          let state = Int(sources[at])
          let index = block[state]
          if marked[index] == 0 { touched.append(index) }
          let to = blockStart[index] + marked[index]
          let other = members[to]
          members[place[state]] = other
          place[other] = place[state]
          members[to] = state
          place[state] = to
          marked[index] += 1
        }
      }
      for index in touched {
        let count = marked[index]
        marked[index] = 0
        guard count < blockEnd[index] - blockStart[index] else { continue }
        // The marked states become a new block.
        let new = blockStart.count
        blockStart.append(blockStart[index])
        blockEnd.append(blockStart[index] + count)
        blockStart[index] += count
        marked.append(0)
        for at in blockStart[new]..<blockEnd[new] { block[members[at]] = new }
        isPending.append(contentsOf: repeatElement(false, count: classCount))
        for number in 0..<classCount {
          let smaller = blockEnd[new] - blockStart[new] <= blockEnd[index] - blockStart[index] ? new : index
          let add = isPending[index * classCount + number] ? new : smaller
          guard !isPending[add * classCount + number] else { continue }
          isPending[add * classCount + number] = true
          pending.append((add, number))
        }
      }
      touched.removeAll(keepingCapacity: true)
    }
    // Without the sink's own block.
    return (0..<stateCount).map { block[$0] == block[sink] ? nil : block[$0] < block[sink] ? block[$0] : block[$0] - 1 }
  }
}
