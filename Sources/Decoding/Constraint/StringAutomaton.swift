/// A set of strings as a deterministic automaton over their UTF-8 bytes.
///
/// Every state leads to an accepting one, so whoever follows `next` never ends up where nothing can be finished. The set is not empty.
public struct StringAutomaton: Sendable, Equatable {
  public typealias State = Int

  /// Class of each byte: bytes of one class lead to the same states. [256]
  let classes: [UInt8]
  let classCount: Int
  /// [states, classCount]; -1 where no string of the set goes on like this.
  let transitions: [Int32]
  /// [states]
  let accepting: [Bool]

  public var start: State { 0 }
  public var stateCount: Int { accepting.count }

  /// The state behind a byte; nil when no string of the set goes on like this.
  public func next(_ state: State, _ byte: UInt8) -> State? {
    let next = transitions[state * classCount + Int(classes[Int(byte)])]
    return next < 0 ? nil : Int(next)
  }

  /// Whether a string may end here.
  public func isAccepting(_ state: State) -> Bool { accepting[state] }

  public func matches(_ text: some StringProtocol) -> Bool {
    var state = start
    for byte in text.utf8 {
      guard let next = next(state, byte) else { return false }
      state = next
    }
    return isAccepting(state)
  }
}
