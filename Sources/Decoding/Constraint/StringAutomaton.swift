import Basics

/// A set of strings as a deterministic automaton over their UTF-8 bytes.
///
/// Every state leads to an accepting one, so whoever follows `next` never ends up where nothing can be finished. The set is not empty. Equal sets are
/// equal automata, however they were written.
///
/// Inside it is an automaton over classes of scalars, the smallest there is, with one classifier of UTF-8 in front: a state is a state of the first and a place
/// in a UTF-8 sequence. So lengths count scalars, and `.{0,1000}` has a thousand states and not four thousand.
public struct StringAutomaton: Sendable, Equatable {
  public typealias State = Int

  private final class Tables: Sendable {
    let partition: ScalarPartition
    let classifier: UTF8Classifier
    let transitions: [Int32]
    let accepting: [Bool]
    let liveClasses: [UInt64]
    let shortest: [Int32]

    init(partition: ScalarPartition, transitions: [Int32], accepting: [Bool]) {
      self.partition = partition
      self.transitions = transitions
      self.accepting = accepting
      classifier = UTF8Classifier(partition)
      let classCount = partition.classCount
      let words = classifier.wordsPerNode
      var live = [UInt64](repeating: 0, count: accepting.count * words)
      for state in accepting.indices {
        for number in 0..<classCount where transitions[state * classCount + number] >= 0 { live[state * words + number / 64] |= 1 << UInt64(number % 64) }
      }
      liveClasses = live
      shortest = Tables.shortestCompletions(transitions, accepting, classCount)
    }

    /// Breadth first from the accepting states against the transitions. [states]
    private static func shortestCompletions(_ transitions: [Int32], _ accepting: [Bool], _ classCount: Int) -> [Int32] {
      var sources = [[Int32]](repeating: [], count: accepting.count)
      for state in accepting.indices {
        for next in Set(transitions[(state * classCount)..<((state + 1) * classCount)]) where next >= 0 { sources[Int(next)].append(Int32(state)) }
      }
      var lengths = accepting.map { $0 ? 0 : Int32.max }
      var queue = accepting.indices.filter { accepting[$0] }
      var at = 0
      while at < queue.count {
        for source in sources[queue[at]] where lengths[Int(source)] == .max {
          lengths[Int(source)] = lengths[queue[at]] + 1
          queue.append(Int(source))
        }
        at += 1
      }
      return lengths
    }
  }

  private let tables: Tables

  /// - Parameters: as `ScalarMachine.canonical` makes them.
  init(partition: ScalarPartition, transitions: [Int32], accepting: [Bool]) {
    tables = Tables(partition: partition, transitions: transitions, accepting: accepting)
  }

  /// All strings.
  public static let everything = StringAutomaton(partition: .whole, transitions: [0], accepting: [true])

  public static func == (a: StringAutomaton, b: StringAutomaton) -> Bool {
    a.tables === b.tables
      || a.tables.partition == b.tables.partition && a.tables.transitions == b.tables.transitions && a.tables.accepting == b.tables.accepting
  }

  // MARK: Following bytes

  public var start: State { 0 }
  /// States between two scalars. The numbers of the others are above.
  public var stateCount: Int { tables.accepting.count }

  /// The state behind a byte; nil when no string of the set goes on like this.
  public func next(_ state: State, _ byte: UInt8) -> State? {
    let nodeCount = tables.classifier.nodeCount
    let scalarState = state / nodeCount
    let step = tables.classifier.step(state % nodeCount, byte)
    if step >= 0 {
      return transition(scalarState, Int(step)).map { $0 * nodeCount }
    }
    guard step != UTF8Classifier.nowhere, leads(scalarState, through: Int(~step)) else { return nil }
    return scalarState * nodeCount + Int(~step)
  }

  /// Whether a string may end here.
  public func isAccepting(_ state: State) -> Bool {
    state % tables.classifier.nodeCount == 0 && tables.accepting[state / tables.classifier.nodeCount]
  }

  public func matches(_ text: some StringProtocol) -> Bool {
    var state = start
    for byte in text.utf8 {
      guard let next = next(state, byte) else { return false }
      state = next
    }
    return isAccepting(state)
  }

  // MARK: Following scalars

  var partition: ScalarPartition { tables.partition }
  var classifier: UTF8Classifier { tables.classifier }
  /// The state behind each class of scalars; -1: none. [states, classes]
  var transitions: [Int32] { tables.transitions }
  /// [states]
  var accepting: [Bool] { tables.accepting }
  /// How many scalars it takes at least from a state to an accepting one. [states]
  var shortestCompletions: [Int32] { tables.shortest }

  /// The state behind a scalar of this class.
  @inline(__always) func transition(_ scalarState: Int, _ number: Int) -> Int? {
    let next = tables.transitions[scalarState * tables.partition.classCount + number]
    return next < 0 ? nil : Int(next)
  }

  /// Whether a state goes on with one of the scalars that lie behind a node of the classifier.
  @inline(__always) func leads(_ scalarState: Int, through node: Int) -> Bool {
    let words = tables.classifier.wordsPerNode
    for word in 0..<words where tables.liveClasses[scalarState * words + word] & tables.classifier.classesBehind[node * words + word] != 0 { return true }
    return false
  }
}

extension StringAutomaton {
  /// The strings in which a regular expression is found (docs/jobs.md, "Patterns and formats").
  /// - Throws: `badField` for what is no regular expression, `unsupported` for what no automaton can do, for what matches no string, and over limits. The place is
  ///   the offset in scalars.
  public static func pattern(_ source: String) throws(SternaError) -> StringAutomaton {
    guard let automaton = try PatternAutomaton.machine(PatternParser.parse(source)).canonical() else {
      throw SternaError(.unsupported, "no string matches this pattern", expected: "a pattern that some string matches", found: source)
    }
    return automaton
  }

  /// The strings of both sets; nil when there are none.
  /// - Throws: `unsupported` over a limit.
  public func intersection(_ other: StringAutomaton) throws(SternaError) -> StringAutomaton? {
    let (partition, parts) = ScalarPartition.refining(self.partition, other.partition)
    var machine = ScalarMachine(partition: partition)
    var numbers: [Int: Int] = [:]
    var pairs: [(Int, Int)] = []
    func state(_ a: Int, _ b: Int) throws(SternaError) -> Int {
      let key = a * other.stateCount + b
      if let known = numbers[key] { return known }
      let number = try machine.addState(accepting: accepting[a] && other.accepting[b])
      numbers[key] = number
      pairs.append((a, b))
      return number
    }
    _ = try state(0, 0)
    var at = 0
    while at < pairs.count {
      for (number, part) in parts.enumerated() {
        guard let a = transition(pairs[at].0, part.0), let b = other.transition(pairs[at].1, part.1) else { continue }
        machine.transitions[at * partition.classCount + number] = Int32(try state(a, b))
      }
      at += 1
    }
    return try machine.canonical()
  }
}
