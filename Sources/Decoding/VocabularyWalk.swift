import Tokenizer

/// What a walk over a vocabulary finds.
struct PermittedTokens {
  var tokens: [TokenID] = []
  /// The room that each takes, and what it then takes at least to finish.
  var needs: [Int32] = []

  @inline(__always) mutating func append(_ token: TokenID, need: Int32) {
    tokens.append(token)
    needs.append(need)
  }
}

extension VocabularyTrie {
  /// The tokens that lead from a state to another one.
  func permitted<Machine: ByteMachine>(in machine: Machine, from state: Machine.State) -> PermittedTokens {
    var permitted = PermittedTokens()
    walk(machine, from: state, nodes.startIndex..<nodes.endIndex, depth: 0, taken: 0, into: &permitted)
    return permitted
  }

  /// The same for a string. Nearly all of a vocabulary is text without quotes and escapes, so that goes by a shorter way; what the two ways find is the same.
  func permitted(in machine: Followed<FreeString>, from state: Followed<FreeString>.State) -> PermittedTokens {
    var permitted = PermittedTokens()
    guard case .value(let inside) = state, let text = machine.value.text(inside) else {
      walk(machine, from: state, nodes.startIndex..<nodes.endIndex, depth: 0, taken: 0, into: &permitted)
      return permitted
    }
    permitted.tokens.reserveCapacity(tokenCount)
    permitted.needs.reserveCapacity(tokenCount)
    var places = [FreeString.Text.Place](repeating: text.start, count: VocabularyTrie.maxTokenBytes + 1)  // [depth]
    nodes.withUnsafeBufferPointer { nodes in
      places.withUnsafeMutableBufferPointer { places in
        var at = 0
        while at < nodes.count {
          let node = nodes[at]
          let place = places[node.depth]
          switch text.step(place, node.byte) {
          case .on(let next, let need):
            places[node.depth + 1] = next
            if node.token >= 0 { permitted.append(node.token, need: need) }
            at += 1
          case .mark:
            walk(machine, from: .value(text.state(place)), at..<node.end, depth: node.depth, taken: place.taken, into: &permitted)
            at = node.end
          case .nowhere: at = node.end
          }
        }
      }
    }
    return permitted
  }

  /// Goes through the nodes of a range that the machine can follow.
  /// - Parameters:
  ///   - range: whole subtrees that hang at one depth.
  ///   - taken: room that was taken on the way there.
  private func walk<Machine: ByteMachine>(
    _ machine: Machine, from start: Machine.State, _ range: Range<Int>, depth: Int, taken: Int32, into permitted: inout PermittedTokens
  ) {
    let room = machine.room(start) ?? 0
    var places = [(state: Machine.State, need: Int32)](repeating: (start, taken), count: VocabularyTrie.maxTokenBytes + 1)  // [depth]
    nodes.withUnsafeBufferPointer { nodes in
      places.withUnsafeMutableBufferPointer { places in
        var at = range.lowerBound
        while at < range.upperBound {
          let node = nodes[at]
          guard let next = machine.next(places[node.depth].state, node.byte) else {
            at = node.end
            continue
          }
          // Behind the end of a value the room that it took still counts.
          let need = machine.room(next).map { taken + Int32(clamping: room - $0 + machine.roomToFinish(next)) } ?? places[node.depth].need
          places[node.depth + 1] = (next, need)
          if node.token >= 0 { permitted.append(node.token, need: need) }
          at += 1
        }
      }
    }
  }
}
