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
        return permitted(
          machine, place, &state.cache, key: { Key(value: value.id, state: FreeValue.State(place: .string($0))) },
          find: { vocabulary.permitted(in: machine, from: $0) })
      case (.number(let machine), .number(let place)):
        return permitted(
          machine, place, &state.cache, key: { Key(value: value.id, state: FreeValue.State(place: .number($0))) },
          find: { vocabulary.permitted(in: machine, from: $0) })
      default: return TokenMask([], of: tokenizer.count)
      }
    }
  }

  private func permitted<Machine: ByteMachine>(
    _ machine: Machine, _ state: Machine.State, _ cache: inout Cache, key: (Machine.State) -> Key, find: (Machine.State) -> PermittedTokens
  ) -> TokenMask {
    func own() -> TokenMask {
      let key = key(state)
      return (cache[key] ?? cache.insert(Entry(mask: TokenMask(find(state).tokens, of: tokenizer.count)), key, capacity)).mask
    }
    // States that differ in their room only share a mask, less the tokens that do not fit. Near the end most tokens do not, and each has its own.
    guard let room = machine.room(state) else { return own() }
    let roomy = machine.with(room: TokenMasks.plenty, state)
    let roomyKey = key(roomy)
    var shared = cache[roomyKey]
    if shared == nil, room >= TokenMasks.leastRoomToShare { shared = cache.insert(Entry(find(roomy), of: tokenizer.count), roomyKey, capacity) }
    return shared?.mask(room: room) ?? own()
  }

  /// More room than any token takes.
  private static let plenty = 1 << 28
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

    init(_ permitted: PermittedTokens, of vocabulary: Int) {
      let (tokens, needs) = (permitted.tokens, permitted.needs)
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
      if byteCount > capacity {
        // A quarter goes at once, so that not every new mask has to look for the oldest.
        for (key, old) in entries.sorted(by: { $0.value.lastUse < $1.value.lastUse }) {
          guard byteCount > capacity / 4 * 3 else { break }
          byteCount -= old.byteCount
          entries[key] = nil
        }
      }
      clock += 1
      entries[key] = entry
      entries[key]?.lastUse = clock
      return entry
    }
  }
}
