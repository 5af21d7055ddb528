import Basics

/// Makes an automaton of a regular expression: Thompson's construction, then sets of states (Rabin and Scott 1959).
struct PatternAutomaton {
  enum Limit {
    /// States before determinisation: what repetitions within repetitions multiply to.
    static let states = 16_384
    /// Work of the determinisation, in states and transitions looked at.
    static let steps = 1 << 22
  }

  private enum State {
    /// One scalar of a set, then on.
    case set(Int, then: Int)
    case split(Int, Int)
    /// On without a scalar where a string begins or ends.
    case start(then: Int)
    case end(then: Int)
    case accept
  }

  private var states: [State] = []
  private let pattern: Pattern

  /// The strings in which a pattern is found.
  /// - Throws: `unsupported` over a limit.
  static func machine(_ pattern: Pattern) throws(SternaError) -> ScalarMachine {
    var automaton = PatternAutomaton(pattern: pattern)
    guard automaton.size(pattern.root) <= Limit.states else {
      throw SternaError(
        .unsupported, "repetitions that multiply to too much", expected: "at most \(Limit.states) characters, counted with all their repetitions",
        remedy: "use smaller repetitions, or bound the length with maxLength instead")
    }
    return try automaton.determinised()
  }

  private init(pattern: Pattern) {
    self.pattern = pattern
  }

  /// States that a node needs, or steps to make it where it needs none.
  private func size(_ node: Pattern.Node) -> Int {
    switch node {
    case .set, .start, .end: return 1
    case .sequence(let items): return items.reduce(1) { min($0 + size($1), Limit.states + 1) }
    case .alternation(let branches): return branches.reduce(0) { min($0 + size($1) + 1, Limit.states + 1) }
    case .repetition(let node, let least, let most): return min((size(node) + 1) * max(most ?? least, 1), Limit.states + 1)
    }
  }

  private mutating func add(_ state: State) -> Int {
    states.append(state)
    return states.count - 1
  }

  /// The state at which a node begins that is followed by `next`.
  private mutating func compile(_ node: Pattern.Node, then next: Int) -> Int {
    switch node {
    case .set(let set): return add(.set(set, then: next))
    case .start: return add(.start(then: next))
    case .end: return add(.end(then: next))
    case .sequence(let items):
      var entry = next
      for item in items.reversed() { entry = compile(item, then: entry) }
      return entry
    case .alternation(let branches):
      var entry: Int?
      for branch in branches.reversed() {
        let first = compile(branch, then: next)
        entry = entry.map { add(.split(first, $0)) } ?? first
      }
      return entry ?? next
    case .repetition(let node, let least, let most):
      var entry = next
      var copies = least
      if let most {
        for _ in 0..<(most - least) {
          let first = compile(node, then: entry)
          entry = add(.split(first, next))
        }
      } else {
        let loop = add(.accept)  // a place for the split, which needs to know the node
        let first = compile(node, then: loop)
        states[loop] = .split(first, next)
        entry = least > 0 ? first : loop
        copies -= 1
      }
      for _ in 0..<max(copies, 0) { entry = compile(node, then: entry) }
      return entry
    }
  }

  private mutating func determinised() throws(SternaError) -> ScalarMachine {
    // A pattern may be found anywhere: any scalars, the pattern, any scalars.
    let everything = pattern.sets.count
    let sets = pattern.sets + [.everything]
    let accept = add(.accept)
    let root = compile(pattern.root, then: accept)
    let before = add(.accept)
    let skip = add(.set(everything, then: before))
    states[before] = .split(root, skip)

    let (partition, classes) = ScalarPartition.separating(sets)
    var machine = ScalarMachine(partition: partition)
    var closure = Closure(count: states.count)
    var steps = 0

    /// What can be reached without a scalar: states that wait for one, the end or nothing more.
    func close(_ from: [Int], atStart: Bool = false, atEnd: Bool = false) -> [Int] {
      closure.begin(from)
      while let index = closure.pending.popLast() {
        steps += 1
        switch states[index] {
        case .split(let a, let b):
          closure.visit(a)
          closure.visit(b)
        case .start(let next): if atStart { closure.visit(next) }
        case .end(let next): if atEnd { closure.visit(next) } else { closure.kept.append(index) }
        case .set, .accept: closure.kept.append(index)
        }
      }
      // Once found, anything may follow.
      if closure.kept.contains(accept) { return [accept] }
      closure.kept.sort()
      return closure.kept
    }

    var numbers: [[Int]: Int] = [:]
    var pending: [(state: Int, set: [Int])] = []
    func state(_ set: [Int]) throws(SternaError) -> Int {
      if let known = numbers[set] { return known }
      let number = try machine.addState(accepting: close(set, atEnd: true) == [accept])
      numbers[set] = number
      pending.append((number, set))
      return number
    }

    // The start is a state of its own: only there `$` may be followed by `^`.
    let first = close([before], atStart: true)
    pending.append((try machine.addState(accepting: close(first, atStart: true, atEnd: true) == [accept]), first))
    var targets = [[Int]](repeating: [], count: partition.classCount)
    while let (from, set) = pending.popLast() {
      if set == [accept] {
        for number in 0..<partition.classCount { machine.transitions[from * partition.classCount + number] = Int32(from) }
        continue
      }
      for index in set {
        guard case .set(let id, let next) = states[index] else { continue }
        for number in classes[id] { targets[number].append(next) }
        steps += classes[id].count
      }
      for number in 0..<partition.classCount where !targets[number].isEmpty {
        machine.transitions[from * partition.classCount + number] = Int32(try state(close(targets[number])))
        targets[number].removeAll(keepingCapacity: true)
      }
      guard steps <= Limit.steps else {
        throw SternaError(
          .unsupported, "this pattern takes too long to compile", expected: "at most \(Limit.steps) steps",
          remedy: "anchor it with ^ and $, use smaller repetitions, or bound the length with maxLength")
      }
    }
    return machine
  }

  /// Working memory of a walk over states: each is visited once.
  private struct Closure {
    private var visited: [Int]
    private var round = 0
    var pending: [Int] = []
    var kept: [Int] = []

    init(count: Int) { visited = [Int](repeating: 0, count: count) }

    mutating func begin(_ from: [Int]) {
      round += 1
      kept.removeAll(keepingCapacity: true)
      for index in from { visit(index) }
    }

    mutating func visit(_ index: Int) {
      guard visited[index] != round else { return }
      visited[index] = round
      pending.append(index)
    }
  }
}
