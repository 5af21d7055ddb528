/// Says byte by byte how a value may be written, without ever leading where it cannot be finished.
///
/// Values are written as compact JSON, quotes and escapes included.
protocol ByteMachine: Sendable {
  associatedtype State: Hashable & Sendable

  var start: State { get }
  /// The state behind a byte; nil when no value goes on like this.
  func next(_ state: State, _ byte: UInt8) -> State?
  /// Whether the value may end here. It may go on nevertheless where `next` says so: `12` is a number, and so is `123`.
  func isComplete(_ state: State) -> Bool
  /// How many bytes suffice to finish the value from here; 0 exactly where it is complete.
  ///
  /// Some next byte always leads to a state with a smaller number, so room for this many tokens of one byte is room to end.
  func bytesToFinish(_ state: State) -> Int

  // What follows lets states share a mask that differ in nothing but how long the value may still become.

  /// How many more units (scalars of a string) may follow; nil where that does not matter.
  func room(_ state: State) -> Int?
  /// The same state with room for so many.
  func with(room: Int, _ state: State) -> State
  /// How many units it takes at least to finish from here.
  func roomToFinish(_ state: State) -> Int
}

extension ByteMachine {
  func room(_ state: State) -> Int? { nil }
  func with(room: Int, _ state: State) -> State { state }
  func roomToFinish(_ state: State) -> Int { 0 }
}

/// A value and what may come behind it, so that a token may reach across the value's end.
struct Followed<Value: ByteMachine>: ByteMachine {
  let value: Value
  /// One of these follows; without any, the value stands alone. Each begins with a byte that no complete value goes on with, as `,`, `]` and `}` do. At most 64.
  let continuations: [[UInt8]]

  enum State: Hashable, Sendable {
    case value(Value.State)
    /// So many bytes are written, and these continuations (one bit each) begin with them.
    case behind(Int, of: UInt64)
  }

  var start: State { .value(value.start) }

  func next(_ state: State, _ byte: UInt8) -> State? {
    switch state {
    case .value(let inside):
      if let next = value.next(inside, byte) { return .value(next) }
      return value.isComplete(inside) ? behind(0, of: .max, byte) : nil
    case .behind(let count, let open): return behind(count, of: open, byte)
    }
  }

  private func behind(_ count: Int, of open: UInt64, _ byte: UInt8) -> State? {
    var still: UInt64 = 0
    for (index, bytes) in continuations.enumerated() where open >> UInt64(index) & 1 != 0 && count < bytes.count && bytes[count] == byte { still |= 1 << UInt64(index) }
    return still == 0 ? nil : .behind(count + 1, of: still)
  }

  func isComplete(_ state: State) -> Bool { bytesToFinish(state) == 0 }

  func bytesToFinish(_ state: State) -> Int {
    switch state {
    case .value(let inside): value.bytesToFinish(inside) + (continuations.map(\.count).min() ?? 0)
    case .behind(let count, let open): continuations.indices.reduce(Int.max) { open >> UInt64($1) & 1 != 0 ? min($0, continuations[$1].count - count) : $0 }
    }
  }

  func room(_ state: State) -> Int? {
    if case .value(let inside) = state { value.room(inside) } else { nil }
  }

  func with(room: Int, _ state: State) -> State {
    if case .value(let inside) = state { .value(value.with(room: room, inside)) } else { state }
  }

  func roomToFinish(_ state: State) -> Int {
    if case .value(let inside) = state { value.roomToFinish(inside) } else { 0 }
  }
}
