/// A string as long as neither quote nor backslash comes: what most tokens are, followed with less ado than by `next`.
extension FreeString {
  struct Text {
    /// Where in a text.
    struct Place {
      /// State of the automaton, and node of the classifier.
      var at: Int32
      var node: Int32
      /// Scalars since the start.
      var taken: Int32
    }

    enum Step {
      /// To a place from where it takes `need` scalars to finish, counted from the start of the text.
      case on(Place, need: Int32)
      /// A quote or a backslash: for `FreeString.next` to say.
      case mark
      case nowhere
    }

    private let string: FreeString
    private let from: State

    fileprivate init(_ string: FreeString, _ from: State) {
      self.string = string
      self.from = from
    }

    var start: Place { Place(at: from.at, node: from.node, taken: 0) }

    func state(_ place: Place) -> State {
      State(phase: .inside, at: place.at, node: place.node, owed: max(0, from.owed - place.taken), room: from.room - place.taken)
    }

    @inline(__always) func step(_ place: Place, _ byte: UInt8) -> Step {
      if place.node == 0, byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { return byte < 0x20 ? .nowhere : .mark }
      let step = string.classifier.step(Int(place.node), byte)
      if step >= 0 {
        let target = string.transitions[Int(place.at) * string.classCount + Int(step)]
        guard target >= 0 else { return .nowhere }
        let next = Place(at: target, node: 0, taken: place.taken + 1)
        if next.taken < from.owed {
          let completions = Int(from.owed - next.taken) * string.accepting.count
          return string.completionBytes[completions + Int(target)] == FreeString.impossible ? .nowhere : .on(next, need: next.taken)
        }
        let need = next.taken + string.shortest[Int(target)]
        return need <= from.room ? .on(next, need: need) : .nowhere
      }
      let state = state(place)
      guard step != UTF8Classifier.nowhere, string.leads(state, through: Int(~step)) else { return .nowhere }
      let next = Place(at: place.at, node: ~step, taken: place.taken)
      return .on(next, need: next.taken + Int32(string.roomToFinish(self.state(next))))
    }
  }

  /// The text that goes on from a state; nil where a quote opens it or an escape is to be finished first.
  func text(_ state: State) -> Text? { state.phase == .inside ? Text(self, state) : nil }
}
