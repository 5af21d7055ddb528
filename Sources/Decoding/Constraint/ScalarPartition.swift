/// Scalars sorted into classes: automata see the class of a scalar only.
struct ScalarPartition: Equatable, Sendable {
  /// Where a run of scalars of one class begins, ascending from 0; a run never begins at a surrogate.
  let starts: [UInt32]
  /// [runs]
  let classes: [UInt16]
  let classCount: Int

  /// All scalars in one class.
  static let whole = ScalarPartition(runs: [(0, 0)])

  /// - Parameter runs: first scalar and class of each run, in order from 0. Neighbours of one class become one; classes are numbered anew in the order in which they occur.
  init(runs: [(start: UInt32, class: Int)]) {
    var starts: [UInt32] = []
    var classes: [UInt16] = []
    var numbers: [Int: UInt16] = [:]
    for run in runs {
      let number = numbers[run.class] ?? UInt16(truncatingIfNeeded: numbers.count)
      numbers[run.class] = number
      if classes.last == number { continue }
      starts.append(run.start)
      classes.append(number)
    }
    self.starts = starts
    self.classes = classes
    classCount = numbers.count
  }

  /// The coarsest partition in which every set is made of whole classes.
  /// - Returns: also the classes of each set, ascending.
  static func separating(_ sets: [ScalarSet]) -> (partition: ScalarPartition, classes: [[Int]]) {
    // At each boundary the sets that begin or end there change the vector of memberships.
    var changes: [(at: UInt32, set: Int)] = []
    for (index, set) in sets.enumerated() {
      for range in set.ranges {
        changes.append((range.lowerBound, index))
        let end = range.upperBound + 1
        if end <= 0x10FFFF { changes.append((end == 0xD800 ? 0xE000 : end, index)) }
      }
    }
    changes.sort { $0.at < $1.at }
    var memberships = [UInt64](repeating: 0, count: (sets.count + 63) / 64)
    var numbers: [[UInt64]: Int] = [:]
    var members: [[UInt64]] = []
    var runs: [(start: UInt32, class: Int)] = []
    var at: UInt32 = 0
    var next = 0
    while true {
      while next < changes.count, changes[next].at == at {
        memberships[changes[next].set / 64] ^= 1 << UInt64(changes[next].set % 64)
        next += 1
      }
      let number = numbers[memberships] ?? numbers.count
      if number == numbers.count {
        numbers[memberships] = number
        members.append(memberships)
      }
      runs.append((at, number))
      guard next < changes.count else { break }
      at = changes[next].at
    }
    var classes = [[Int]](repeating: [], count: sets.count)
    for (number, memberships) in members.enumerated() {
      for set in sets.indices where memberships[set / 64] >> UInt64(set % 64) & 1 != 0 { classes[set].append(number) }
    }
    // Numbered in the order in which they occur, so `ScalarPartition` keeps the numbers.
    return (ScalarPartition(runs: runs), classes)
  }

  /// The coarsest partition that is finer than both.
  /// - Returns: also the two classes of which each class is a part.
  static func refining(_ a: ScalarPartition, _ b: ScalarPartition) -> (partition: ScalarPartition, parts: [(Int, Int)]) {
    var numbers: [Int: Int] = [:]
    var parts: [(Int, Int)] = []
    var runs: [(start: UInt32, class: Int)] = []
    var i = 0
    var j = 0
    var at: UInt32 = 0
    while true {
      let part = (Int(a.classes[i]), Int(b.classes[j]))
      let key = part.0 * b.classCount + part.1
      let number = numbers[key] ?? numbers.count
      if number == numbers.count {
        numbers[key] = number
        parts.append(part)
      }
      runs.append((at, number))
      let nextA = i + 1 < a.starts.count ? a.starts[i + 1] : .max
      let nextB = j + 1 < b.starts.count ? b.starts[j + 1] : .max
      at = min(nextA, nextB)
      if at == .max { break }
      if nextA == at { i += 1 }
      if nextB == at { j += 1 }
    }
    return (ScalarPartition(runs: runs), parts)
  }

  /// The run that a scalar belongs to.
  func run(of scalar: UInt32) -> Int {
    var low = 0
    var high = starts.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if starts[middle] <= scalar { low = middle } else { high = middle }
    }
    return low
  }

  func classOf(_ scalar: UInt32) -> Int { Int(classes[run(of: scalar)]) }
}

/// Tells the class of a scalar from its UTF-8 bytes, one byte at a time, and refuses what is not UTF-8.
///
/// Between scalars it is at node 0. Behind the first byte of a longer sequence it is at another one.
struct UTF8Classifier: Sendable {
  /// Where a byte leads: a class (0...), a node (`~node` of another node than 0), or nowhere.
  typealias Step = Int32
  static let nowhere = Step.min

  /// Steps from between scalars. [256]
  private let first: [Step]
  /// Steps from node n by the last six bits of the byte, at 64 * n. [nodes, 64]; those of node 0 are not used.
  private let further: [Step]
  /// How many bytes a scalar still has behind a node. [nodes]
  let bytesLeft: [UInt8]
  /// The classes that lie behind a node, one bit each. [nodes, wordsPerNode]
  let classesBehind: [UInt64]
  let wordsPerNode: Int
  var nodeCount: Int { bytesLeft.count }

  init(_ partition: ScalarPartition) {
    var builder = Builder(partition)
    var first = [Step](repeating: UTF8Classifier.nowhere, count: 256)
    for byte in 0..<0x80 { first[byte] = Step(partition.classOf(UInt32(byte))) }
    for byte in 0xC2...0xDF { first[byte] = builder.node(UInt32(byte - 0xC0) << 6, bytesLeft: 1, least: 0x80) }
    for byte in 0xE0...0xEF { first[byte] = builder.node(UInt32(byte - 0xE0) << 12, bytesLeft: 2, least: 0x800) }
    for byte in 0xF0...0xF4 { first[byte] = builder.node(UInt32(byte - 0xF0) << 18, bytesLeft: 3, least: 0x10000) }
    self.first = first
    further = builder.further
    bytesLeft = builder.bytesLeft
    wordsPerNode = builder.words
    classesBehind = builder.classesBehind
  }

  @inline(__always) func step(_ node: Int, _ byte: UInt8) -> Step {
    if node == 0 { return first[Int(byte)] }
    return byte & 0xC0 == 0x80 ? further[node << 6 | Int(byte & 0x3F)] : UTF8Classifier.nowhere
  }

  private struct Builder {
    let partition: ScalarPartition
    let words: Int
    var further = [Step](repeating: UTF8Classifier.nowhere, count: 64)
    var bytesLeft: [UInt8] = [0]
    var classesBehind: [UInt64]
    /// Equal nodes are one.
    var index: [[Step]: Step] = [:]

    init(_ partition: ScalarPartition) {
      self.partition = partition
      words = (partition.classCount + 63) / 64
      classesBehind = [UInt64](repeating: 0, count: words)
    }

    /// The step to a node behind which the `64 ^ bytesLeft` scalars from `start` lie, except those below `least`, surrogates and what is no scalar.
    mutating func node(_ start: UInt32, bytesLeft left: Int, least: UInt32) -> Step {
      let end = start + (1 << (6 * UInt32(left)) - 1)
      let run = partition.run(of: start)
      if start >= least, end <= 0x10FFFF, end < 0xD800 || start > 0xDFFF, run + 1 == partition.starts.count || end < partition.starts[run + 1] {
        return uniform(partition.classes[run], bytesLeft: left)
      }
      let width: UInt32 = 1 << (6 * UInt32(left - 1))
      var steps: [Step] = []
      steps.reserveCapacity(64)
      for i in 0..<64 as Range<UInt32> {
        let scalar = start + i * width
        let last = scalar + (width - 1)
        // Every limit is a multiple of 64 scalars, so what is not valid as a whole is divided further or not valid at all.
        let isValid = last >= least && scalar <= 0x10FFFF && !(scalar >= 0xD800 && last <= 0xDFFF)
        steps.append(!isValid ? UTF8Classifier.nowhere : left == 1 ? Step(partition.classOf(scalar)) : node(scalar, bytesLeft: left - 1, least: least))
      }
      return number(steps, bytesLeft: left)
    }

    /// The step to a node behind which all scalars are of one class.
    private mutating func uniform(_ number: UInt16, bytesLeft left: Int) -> Step {
      var step = Step(number)
      for left in 1...left { step = self.number([Step](repeating: step, count: 64), bytesLeft: left) }
      return step
    }

    /// The step to the node with these steps.
    private mutating func number(_ steps: [Step], bytesLeft left: Int) -> Step {
      if let known = index[steps] { return known }
      let number = bytesLeft.count
      index[steps] = ~Step(number)
      bytesLeft.append(UInt8(left))
      further += steps
      var behind = [UInt64](repeating: 0, count: words)
      for step in steps where step != UTF8Classifier.nowhere {
        if step >= 0 {
          behind[Int(step) / 64] |= 1 << UInt64(step % 64)
        } else {
          for word in 0..<words { behind[word] |= classesBehind[Int(~step) * words + word] }
        }
      }
      classesBehind += behind
      return ~Step(number)
    }
  }
}
