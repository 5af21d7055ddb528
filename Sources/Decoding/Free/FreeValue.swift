import Basics
import Synchronization

/// A string or number that the model writes itself (`"source": "free"`), byte by byte as compact JSON, and what may follow it.
///
/// Made once for a rule and used by all jobs that have it.
public struct FreeValue: Sendable {
  enum Machine: Sendable {
    case string(Followed<FreeString>)
    case number(Followed<FreeNumber>)
  }

  /// Where in the value: quotes, escapes and what follows included. Small and cheap to copy.
  public struct State: Hashable, Sendable {
    enum Place: Hashable, Sendable {
      case string(Followed<FreeString>.State)
      case number(Followed<FreeNumber>.State)
    }
    let place: Place
  }

  let machine: Machine
  /// Tells the masks of one value from those of another.
  let id: Int

  private static let made = Atomic(0)

  private init(_ machine: Machine) {
    self.machine = machine
    id = FreeValue.made.wrappingAdd(1, ordering: .relaxed).newValue
  }

  /// - Parameters:
  ///   - continuations: what may follow the value in the document, for example `,"next":` or `}`; tokens may reach across the value's end into it. Each begins with `,`, `]` or
  ///     `}`; at most 64. None: the value stands alone.
  ///   - defaultMaxLength: for rules without `maxLength`, in scalars; where no string of the rule is that short, its shortest counts.
  /// - Throws: `unsupported` when no string obeys the rule, and over limits.
  public init(_ rule: Constraint.StringRule, followedBy continuations: [String] = [], defaultMaxLength: Int) throws(SternaError) {
    self.init(.string(Followed(value: try FreeString(rule, defaultMaxLength: defaultMaxLength), continuations: continuations.map { Array($0.utf8) })))
  }

  /// - Throws: `unsupported` when no number obeys the rule.
  public init(_ rule: Constraint.NumberRule, followedBy continuations: [String] = []) throws(SternaError) {
    self.init(.number(Followed(value: try FreeNumber(rule), continuations: continuations.map { Array($0.utf8) })))
  }

  public var start: State {
    switch machine {
    case .string(let machine): State(place: .string(machine.start))
    case .number(let machine): State(place: .number(machine.start))
    }
  }

  /// The state behind a byte; nil when no value goes on like this. Every state can be finished.
  public func next(_ state: State, _ byte: UInt8) -> State? {
    switch (machine, state.place) {
    case (.string(let machine), .string(let place)): machine.next(place, byte).map { State(place: .string($0)) }
    case (.number(let machine), .number(let place)): machine.next(place, byte).map { State(place: .number($0)) }
    default: nil
    }
  }

  /// The state behind the bytes of a token.
  public func next(_ state: State, _ bytes: some Sequence<UInt8>) -> State? {
    var state = state
    for byte in bytes {
      guard let next = next(state, byte) else { return nil }
      state = next
    }
    return state
  }

  /// Whether the value, with one of its continuations, may end here. A number that stands alone may go on nevertheless: `12` is one, and so is `123`.
  public func isComplete(_ state: State) -> Bool { bytesToFinish(state) == 0 }

  /// How many bytes suffice to finish from here; 0 exactly where it is complete. Some next byte always leads to a state with a smaller number, so this many tokens of one
  /// byte are enough to keep in reserve.
  public func bytesToFinish(_ state: State) -> Int {
    switch (machine, state.place) {
    case (.string(let machine), .string(let place)): machine.bytesToFinish(place)
    case (.number(let machine), .number(let place)): machine.bytesToFinish(place)
    default: 0
    }
  }
}
