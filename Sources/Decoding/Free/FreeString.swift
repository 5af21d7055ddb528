import Basics

/// A string that the model writes itself, as JSON: in quotes, with `\"`, `\\`, `\n`, `\r`, `\t`, `\b` and `\f` and no other escapes. Control characters that would need
/// `\u` are not written.
///
/// Pattern and lengths are enforced together and exactly: `^(?:ab)*$` with `minLength` 3 has no place to stop behind three scalars, and none to go on behind `maxLength` 4.
struct FreeString: ByteMachine {
  struct State: Hashable, Sendable {
    enum Phase: UInt8 { case before, inside, escape, done }
    var phase: Phase
    /// State of the automaton between scalars.
    var at: Int32 = 0
    /// Node of the classifier: where in a UTF-8 sequence.
    var node: Int32 = 0
    /// Scalars that are missing up to the shortest string allowed.
    var owed: Int32 = 0
    /// Scalars that there is room for. While some are owed it is what is owed and `slack`.
    var room: Int32 = 0
  }

  /// Bound on the table of completions: scalars of `minLength` times states of the automaton.
  static let maxCompletions = 1 << 19

  let classifier: UTF8Classifier
  let classCount: Int
  /// [states, classes]
  let transitions: [Int32]
  let automaton: StringAutomaton
  let accepting: [Bool]
  /// Scalars of the shortest completion. [states]
  let shortest: [Int32]
  /// The longest of them.
  let longestCompletion: Int32
  /// Bytes to finish with, the quote excluded, where so many scalars are owed; `impossible` where the lengths allow no end. [owed, states]
  let completionBytes: [Int32]
  static let impossible = Int32.max
  let minLength: Int32
  let maxLength: Int32

  /// - Parameters:
  ///   - rule: `source` and `moment` do not matter here.
  ///   - defaultMaxLength: for rules without `maxLength`, in scalars; where no string of the rule is that short, the shortest counts.
  /// - Throws: `unsupported` when no string obeys the rule, and over limits.
  init(_ rule: Constraint.StringRule, defaultMaxLength: Int) throws(SternaError) {
    guard let written = try (rule.automaton ?? .everything).intersection(.pattern("^[^\\0-\\x07\\v\\x0E-\\x1F]*$")),
      let shortestAllowed = written.shortestLength(atLeast: rule.minLength), shortestAllowed <= rule.maxLength ?? .max
    else {
      throw SternaError(
        .unsupported, "no string can be written that obeys this rule", expected: "a pattern, format and lengths that some string satisfies without control characters",
        found: "minLength \(rule.minLength), maxLength \(rule.maxLength.map(String.init) ?? "none")\(rule.automaton == nil ? "" : ", and a pattern or format")")
    }
    let counted = try FreeString.counted(written)
    let automaton = counted?.automaton ?? written
    let minLength = max(0, rule.minLength, counted?.lengths.lowerBound ?? 0)
    guard minLength < FreeString.maxCompletions / automaton.stateCount else {
      throw SternaError(
        .unsupported, "a minLength this large with this pattern", expected: "minLength times states of the pattern's automaton at most \(FreeString.maxCompletions)",
        found: "\(minLength) times \(automaton.stateCount)", remedy: "lower minLength, or drop the pattern")
    }
    self.automaton = automaton
    classifier = automaton.classifier
    classCount = automaton.partition.classCount
    transitions = automaton.transitions
    accepting = automaton.accepting
    shortest = automaton.shortestCompletions
    longestCompletion = shortest.max() ?? 0
    self.minLength = Int32(minLength)
    // Longer ones than this are not written by anybody, and the sums below stay in 32 bits.
    maxLength = Int32(min(rule.maxLength ?? max(defaultMaxLength, shortestAllowed), counted?.lengths.upperBound ?? .max, 1 << 24))
    completionBytes = FreeString.completionBytes(automaton, minLength: minLength, slack: Int(maxLength) - minLength)
  }

  /// `[a-z]{2,80}` as `[a-z]*` and lengths, which share a mask where 80 states would each have their own; nil for other sets.
  private static func counted(_ automaton: StringAutomaton) throws(SternaError) -> (automaton: StringAutomaton, lengths: ClosedRange<Int>)? {
    let last = automaton.stateCount - 1
    let classes = 0..<automaton.partition.classCount
    guard last > 0, let least = automaton.accepting.firstIndex(of: true), automaton.accepting[least...].allSatisfy({ $0 }) else { return nil }
    let scalars = classes.map { automaton.transition(0, $0) != nil }
    for state in 0...last {
      for number in classes where automaton.transition(state, number) != (scalars[number] && state < last ? state + 1 : nil) { return nil }
    }
    var machine = ScalarMachine(partition: automaton.partition)
    _ = try machine.addState(accepting: true)
    for number in classes where scalars[number] { machine.transitions[number] = 0 }
    return try machine.canonical().map { ($0, least...last) }
  }

  /// The bytes of shortest completions (in scalars; of those, in bytes), by what is owed. [owed, states]
  private static func completionBytes(_ automaton: StringAutomaton, minLength: Int, slack: Int) -> [Int32] {
    let classCount = automaton.partition.classCount
    let stateCount = automaton.stateCount
    let classBytes = bytesByClass(automaton.partition)
    let shortest = automaton.shortestCompletions
    var table = [Int32](repeating: impossible, count: (minLength + 1) * stateCount)
    for state in shortest.indices.sorted(by: { shortest[$0] < shortest[$1] }) where shortest[state] <= slack {
      var best: Int32 = shortest[state] == 0 ? 0 : impossible
      for number in 0..<classCount {
        guard let next = automaton.transition(state, number), shortest[next] < shortest[state] else { continue }
        best = min(best, table[next] + classBytes[number])
      }
      table[state] = best
    }
    guard minLength > 0 else { return table }
    for owed in 1...minLength {
      for state in 0..<stateCount {
        var best = impossible
        for number in 0..<classCount {
          guard let next = automaton.transition(state, number), table[(owed - 1) * stateCount + next] != impossible else { continue }
          best = min(best, table[(owed - 1) * stateCount + next] + classBytes[number])
        }
        table[owed * stateCount + state] = best
      }
    }
    return table
  }

  /// The fewest bytes that a scalar of a class is written with. [classes]
  private static func bytesByClass(_ partition: ScalarPartition) -> [Int32] {
    var bytes = [Int32](repeating: 4, count: partition.classCount)
    for (run, number) in partition.classes.enumerated() {
      let first = partition.starts[run]
      let last = run + 1 < partition.starts.count ? partition.starts[run + 1] - 1 : 0x10FFFF
      var fewest: Int32 = first <= 0x7F ? 2 : first <= 0x7FF ? 2 : first <= 0xFFFF ? 3 : 4
      if first <= 0x7F, (max(first, 0x20)...max(min(last, 0x7F), 0x20)).contains(where: { $0 <= last && $0 != 0x22 && $0 != 0x5C }) { fewest = 1 }
      bytes[Int(number)] = min(bytes[Int(number)], fewest)
    }
    return bytes
  }

  // MARK: Following bytes

  var start: State { State(phase: .before) }

  func next(_ state: State, _ byte: UInt8) -> State? {
    var next = state
    switch state.phase {
    case .before:
      guard byte == UInt8(ascii: "\"") else { return nil }
      return State(phase: .inside, owed: minLength, room: maxLength)
    case .inside:
      if state.node == 0 {
        if byte == UInt8(ascii: "\"") {
          guard accepting[Int(state.at)], state.owed == 0 else { return nil }
          return State(phase: .done)
        }
        if byte == UInt8(ascii: "\\") {
          next.phase = .escape
          return FreeString.escapes.contains(where: { behind(state, classOf($0.scalar)) != nil }) ? next : nil
        }
        guard byte >= 0x20 else { return nil }
      }
      let step = classifier.step(Int(state.node), byte)
      if step >= 0 { return behind(state, Int(step)) }
      guard step != UTF8Classifier.nowhere, leads(state, through: Int(~step)) else { return nil }
      next.node = ~step
      return next
    case .escape:
      guard let escape = FreeString.escapes.first(where: { $0.letter == byte }) else { return nil }
      return behind(state, classOf(escape.scalar))
    case .done: return nil
    }
  }

  private static let escapes: [(letter: UInt8, scalar: UInt8)] = [
    (UInt8(ascii: "\""), 0x22), (UInt8(ascii: "\\"), 0x5C), (UInt8(ascii: "n"), 0x0A), (UInt8(ascii: "r"), 0x0D), (UInt8(ascii: "t"), 0x09),
    (UInt8(ascii: "b"), 0x08), (UInt8(ascii: "f"), 0x0C),
  ]

  private func classOf(_ ascii: UInt8) -> Int { Int(classifier.step(0, ascii)) }

  /// The state behind a whole scalar of a class; nil where the automaton or the lengths forbid it.
  @inline(__always) private func behind(_ state: State, _ number: Int) -> State? {
    let target = transitions[Int(state.at) * classCount + number]
    guard target >= 0 else { return nil }
    let next = State(phase: .inside, at: target, owed: max(0, state.owed - 1), room: state.room - 1)
    return canFinish(next) ? next : nil
  }

  /// Whether the lengths allow an end from a state between scalars.
  @inline(__always) private func canFinish(_ state: State) -> Bool {
    if state.owed == 0 { return shortest[Int(state.at)] <= state.room }
    return completionBytes[Int(state.owed) * accepting.count + Int(state.at)] != FreeString.impossible
  }

  func leads(_ state: State, through node: Int) -> Bool {
    // Far from both bounds only the automaton decides.
    if state.owed == 0, state.room > longestCompletion { return automaton.leads(Int(state.at), through: node) }
    return anyClass(behind: node) { behind(state, $0) != nil }
  }

  /// Whether this holds for one of the classes behind a node.
  private func anyClass(behind node: Int, _ holds: (Int) -> Bool) -> Bool {
    for word in 0..<classifier.wordsPerNode {
      var bits = classifier.classesBehind[node * classifier.wordsPerNode + word]
      while bits != 0 {
        if holds(word * 64 + bits.trailingZeroBitCount) { return true }
        bits &= bits - 1
      }
    }
    return false
  }

  // MARK: The end

  func isComplete(_ state: State) -> Bool { state.phase == .done }

  func bytesToFinish(_ state: State) -> Int {
    switch state.phase {
    case .before: return 2 + Int(completionBytes[Int(minLength) * accepting.count])
    case .inside:
      guard state.node != 0 else { return completion(state) + 1 }
      var fewest = Int.max
      _ = anyClass(behind: Int(state.node)) { number in
        if let next = behind(state, number) { fewest = min(fewest, completion(next)) }
        return false
      }
      return Int(classifier.bytesLeft[Int(state.node)]) + fewest + 1
    case .escape:
      return FreeString.escapes.reduce(Int.max) { fewest, escape in min(fewest, behind(state, classOf(escape.scalar)).map { completion($0) + 2 } ?? .max) }
    case .done: return 0
    }
  }

  /// Bytes to finish with from a state between scalars, without the quote.
  private func completion(_ state: State) -> Int { Int(completionBytes[Int(state.owed) * accepting.count + Int(state.at)]) }

  // MARK: Room

  func room(_ state: State) -> Int? { state.phase == .inside || state.phase == .escape ? Int(state.room) : nil }

  func with(room: Int, _ state: State) -> State {
    var state = state
    if state.phase == .inside || state.phase == .escape { state.room = Int32(clamping: room) }
    return state
  }

  func roomToFinish(_ state: State) -> Int {
    guard state.phase == .inside || state.phase == .escape else { return 0 }
    if state.phase == .inside, state.node == 0 { return state.owed > 0 ? 0 : Int(shortest[Int(state.at)]) }
    // In the middle of a scalar. Where more than it is owed, the table of completions has seen to the room.
    guard state.owed <= 1 else { return 0 }
    var fewest = Int32.max
    func consider(_ number: Int) {
      let next = transitions[Int(state.at) * classCount + number]
      if next >= 0 { fewest = min(fewest, shortest[Int(next)]) }
    }
    if state.phase == .escape {
      for escape in FreeString.escapes { consider(classOf(escape.scalar)) }
    } else {
      _ = anyClass(behind: Int(state.node)) { number in
        consider(number)
        return false
      }
    }
    return Int(fewest) + 1
  }
}
