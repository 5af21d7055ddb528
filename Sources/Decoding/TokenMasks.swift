import Synchronization
import Tokenizer

/// Which tokens of a vocabulary may come next in a free value. Found when first asked for, then kept, for all jobs and rules together under one budget.
///
/// Any thread may ask.
public final class TokenMasks: Sendable {
  private let tokenizer: Tokenizer
  private let capacity: Int
  private let state: Mutex<(vocabulary: VocabularyTrie?, cache: Cache)>

  /// The trie of the vocabulary is made when the first mask is asked for.
  /// - Parameter capacity: bytes of masks to keep; those not asked for the longest time go first.
  public init(_ tokenizer: Tokenizer, capacity: Int = 4 << 20) {
    self.tokenizer = tokenizer
    self.capacity = capacity
    state = Mutex((nil, Cache()))
  }

  /// The ordinary tokens whose bytes lead from a state to another one.
  public func permitted(in value: FreeValue, from place: FreeValue.State) -> TokenMask {
    state.withLock { state in
      let vocabulary = state.vocabulary ?? VocabularyTrie(tokenizer)
      state.vocabulary = vocabulary
      switch (value.machine, place.place) {
      case (.string(let machine), .string(let place)):
        return permitted(machine, place, vocabulary, &state.cache) { Key(value: value.id, state: FreeValue.State(place: .string($0))) }
      case (.number(let machine), .number(let place)):
        return permitted(machine, place, vocabulary, &state.cache) { Key(value: value.id, state: FreeValue.State(place: .number($0))) }
      default: return TokenMask([], of: vocabulary.tokenCount)
      }
    }
  }

  private func permitted<Machine: ByteMachine>(
    _ machine: Machine, _ state: Machine.State, _ vocabulary: VocabularyTrie, _ cache: inout Cache, _ key: (Machine.State) -> Key
  ) -> TokenMask {
    func own() -> TokenMask {
      let key = key(state)
      return (cache[key] ?? cache.insert(Entry(mask: vocabulary.permitted(machine, from: state)), key, capacity)).mask
    }
    // States that differ in their room only share a mask, less the tokens that do not fit. Near the end the walk is short, and each has its own.
    guard let room = machine.room(state) else { return own() }
    let roomy = machine.with(room: VocabularyTrie.plenty, state)
    let roomyKey = key(roomy)
    var shared = cache[roomyKey]
    if shared == nil, room >= TokenMasks.leastRoomToShare {
      let (tokens, needs) = vocabulary.permittedWithNeeds(machine, from: roomy)
      shared = cache.insert(Entry(tokens, needs, of: vocabulary.tokenCount), roomyKey, capacity)
    }
    return shared?.mask(room: room) ?? own()
  }

  /// With less room most tokens do not fit.
  private static let leastRoomToShare = 8

  // MARK: What is kept

  private struct Key: Hashable {
    let value: Int
    let state: FreeValue.State
  }

  /// A mask; one of plenty room with the tokens that need most of it.
  private struct Entry {
    /// The most tokens that are listed.
    static let longestList = 2048

    let mask: TokenMask
    /// Tokens that need more room than `listedAbove`, those that need most first.
    private var wide: [TokenID] = []
    /// How many of them need more than `listedAbove + i`; behind the end none does.
    private var widerThan: [Int32] = []
    private var listedAbove = 0
    var lastUse: UInt64 = 0

    init(mask: TokenMask) { self.mask = mask }

    /// - Parameter needs: the room that each token needs.
    init(_ tokens: [TokenID], _ needs: [Int32], of vocabulary: Int) {
      mask = TokenMask(tokens, of: vocabulary)
      widerThan = [Int32](repeating: 0, count: Int(needs.max() ?? 0) + 1)
      for need in needs where need > 0 { widerThan[Int(need) - 1] += 1 }
      for need in widerThan.indices.dropLast().reversed() { widerThan[need] += widerThan[need + 1] }
      listedAbove = widerThan.firstIndex { $0 <= Entry.longestList } ?? 0
      widerThan.removeFirst(listedAbove)
      wide = [TokenID](repeating: 0, count: Int(widerThan[0]))
      var fill = widerThan
      for (token, need) in zip(tokens, needs) where need > listedAbove {
        let bucket = Int(need) - listedAbove - 1
        fill[bucket] -= 1
        wide[Int(fill[bucket])] = token
      }
    }

    /// The mask with so much room; nil where the list does not tell.
    func mask(room: Int) -> TokenMask? {
      guard room >= listedAbove else { return nil }
      let index = room - listedAbove
      guard index < widerThan.count, widerThan[index] > 0 else { return mask }
      return mask.subtracting(wide[..<Int(widerThan[index])])
    }

    var byteCount: Int { mask.byteCount + wide.count * 4 + widerThan.count * 4 + 128 }
  }

  private struct Cache {
    private var entries: [Key: Entry] = [:]
    private var byteCount = 0
    private var clock: UInt64 = 0

    subscript(key: Key) -> Entry? {
      mutating get {
        guard let index = entries.index(forKey: key) else { return nil }
        clock += 1
        entries.values[index].lastUse = clock
        return entries.values[index]
      }
    }

    mutating func insert(_ entry: Entry, _ key: Key, _ capacity: Int) -> Entry {
      byteCount += entry.byteCount
      while byteCount > capacity, let oldest = entries.min(by: { $0.value.lastUse < $1.value.lastUse }) {
        byteCount -= oldest.value.byteCount
        entries[oldest.key] = nil
      }
      clock += 1
      entries[key] = entry
      entries[key]?.lastUse = clock
      return entry
    }
  }
}

extension VocabularyTrie {
  /// More room than any token takes.
  static let plenty = 1 << 28

  /// The tokens that lead from a state to another one.
  func permitted<Machine: ByteMachine>(_ machine: Machine, from start: Machine.State) -> TokenMask {
    var tokens: [TokenID] = []
    walk(machine, start) { _, _, node in if node.token >= 0 { tokens.append(node.token) } }
    return TokenMask(tokens, of: tokenCount)
  }

  /// The same from a state with plenty of room, and the room that each token takes and needs to be finished behind it.
  func permittedWithNeeds<Machine: ByteMachine>(_ machine: Machine, from start: Machine.State) -> (tokens: [TokenID], needs: [Int32]) {
    var tokens: [TokenID] = []
    var tokenNeeds: [Int32] = []
    var needs = [Int32](repeating: 0, count: VocabularyTrie.maxTokenBytes + 1)  // [depth]
    walk(machine, start) { _, next, node in
      // Behind the end of a value the room that it took still counts.
      let need = machine.room(next).map { Int32(clamping: VocabularyTrie.plenty - $0 + machine.roomToFinish(next)) } ?? needs[node.depth]
      needs[node.depth + 1] = need
      guard node.token >= 0 else { return }
      tokens.append(node.token)
      tokenNeeds.append(need)
    }
    return (tokens, tokenNeeds)
  }

  /// Goes through all nodes that the machine can follow, each with the states in front of and behind it.
  @inline(__always) private func walk<Machine: ByteMachine>(
    _ machine: Machine, _ start: Machine.State, _ visit: (Machine.State, Machine.State, Node) -> Void
  ) {
    var states = [Machine.State](repeating: start, count: VocabularyTrie.maxTokenBytes + 1)  // [depth]
    nodes.withUnsafeBufferPointer { nodes in
      states.withUnsafeMutableBufferPointer { states in
        var at = 0
        while at < nodes.count {
          let node = nodes[at]
          guard let next = machine.next(states[node.depth], node.byte) else {
            at = node.end
            continue
          }
          states[node.depth + 1] = next
          visit(states[node.depth], next, node)
          at += 1
        }
      }
    }
  }
}
