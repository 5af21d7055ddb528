/// Lengths of strings, in Unicode scalars.
extension StringAutomaton {
  public var shortestLength: Int { Int(shortestCompletions[0]) }

  /// Nil when there is no longest string.
  public var longestLength: Int? {
    // Longest ways in an order in which every state comes before those it leads to; there is none where a state can be met again.
    let successors = distinctSuccessors
    var entering = [Int](repeating: 0, count: stateCount)
    for next in successors { for state in next { entering[state] += 1 } }
    var order = entering.indices.filter { entering[$0] == 0 }
    var lengths = [Int](repeating: 0, count: stateCount)
    var at = 0
    while at < order.count {
      let state = order[at]
      at += 1
      for next in successors[state] {
        lengths[next] = max(lengths[next], lengths[state] + 1)
        entering[next] -= 1
        if entering[next] == 0 { order.append(next) }
      }
    }
    guard order.count == stateCount else { return nil }
    return accepting.indices.lazy.filter { accepting[$0] }.map { lengths[$0] }.max()
  }

  /// Whether some string has at least `minLength` and at most `maxLength` scalars.
  public func allows(minLength: Int, maxLength: Int?) -> Bool {
    guard let length = shortestLength(atLeast: minLength) else { return false }
    return maxLength.map { length <= $0 } ?? true
  }

  /// Work that `shortestLength(atLeast:)` does at most, in transitions looked at.
  private static let maxSteps = 1 << 26

  /// The length of the shortest string with at least `minLength` scalars; nil when there is none, and when that takes too long to find out (only where a set
  /// repeats with many periods at once and `minLength` is in the thousands).
  package func shortestLength(atLeast minLength: Int) -> Int? {
    guard minLength > shortestLength else { return shortestLength }
    // The states that strings of a length reach, one length after the other. They repeat sooner or later (Brent's cycle detection says when).
    let successors = distinctSuccessors
    let edges = max(1, successors.reduce(0) { $0 + $1.count })
    var reached = [Int](arrayLiteral: 0)
    var seen = [Int](repeating: -1, count: stateCount)
    var length = 0
    var kept = reached
    var keptAt = 0
    var budget = StringAutomaton.maxSteps
    while length < minLength {
      var next: [Int] = []
      for state in reached { for target in successors[state] where seen[target] != length { seen[target] = length; next.append(target) } }
      guard !next.isEmpty else { return nil }
      next.sort()
      reached = next
      length += 1
      budget -= edges
      guard budget > 0 else { return nil }
      if reached == kept {
        let period = length - keptAt
        length += (minLength - length) / period * period
        kept = []
      } else if !kept.isEmpty, length >= 2 * max(keptAt, 1) {
        kept = reached
        keptAt = length
      }
    }
    // From each of them the way to an end is known.
    return reached.map { length + Int(shortestCompletions[$0]) }.min()
  }

  /// The states that follow each state. [states]
  private var distinctSuccessors: [[Int]] {
    let classCount = partition.classCount
    return (0..<stateCount).map { state in
      Set(transitions[(state * classCount)..<((state + 1) * classCount)]).filter { $0 >= 0 }.map(Int.init).sorted()
    }
  }
}
