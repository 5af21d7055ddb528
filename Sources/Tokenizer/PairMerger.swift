/// Merges the pieces of a text: the pair of neighbours with the lowest rank becomes one token, the leftmost of equals first, until no pair
/// has a merge. Holds the working memory, so that one merger serves all pieces of a text.
struct PairMerger {
  let tables: TokenTables
  private var symbols: [TokenID] = []
  private var pairs: [TokenTables.Merge] = []

  /// Up to here scanning an array for the lowest rank beats keeping a heap.
  private static let shortPiece = 32

  init(_ tables: TokenTables) { self.tables = tables }

  /// Appends the tokens of one piece.
  mutating func merge(_ piece: UnsafeBufferPointer<UInt8>, into ids: inout [TokenID]) {
    start(piece)
    switch symbols.count {
    case 0: return
    case 1: break
    case 2...PairMerger.shortPiece: mergeShort()
    default: mergeLong()
    }
    ids.append(contentsOf: symbols)
  }

  /// The symbols that a piece starts as: bytes, or for SentencePiece characters, and bytes where a character has no token.
  private mutating func start(_ piece: UnsafeBufferPointer<UInt8>) {
    symbols.removeAll(keepingCapacity: true)
    if tables.rule != .sentencePiece {
      for byte in piece {
        if let id = tables.token(byte: byte) ?? tables.unknown { symbols.append(id) }
      }
      return
    }
    let scanner = ScalarScanner(piece)
    var at = 0
    while at < piece.count {
      let length = scanner.scalar(at).length
      let character = UnsafeBufferPointer(rebasing: piece[at..<at + length])
      if let id = tables.token(UnsafeRawBufferPointer(character)) {
        symbols.append(id)
      } else {
        for byte in character {
          if let id = tables.token(byte: byte) ?? tables.unknown { symbols.append(id) }
        }
      }
      at += length
    }
  }

  private mutating func mergeShort() {
    pairs.removeAll(keepingCapacity: true)
    for i in 0..<symbols.count - 1 { pairs.append(tables.merge(symbols[i], symbols[i + 1])) }
    while true {
      var best = -1
      var rank = UInt64.max
      for i in pairs.indices where pairs[i] != .none && pairs[i].rank < rank {
        best = i
        rank = pairs[i].rank
      }
      guard best >= 0 else { return }
      symbols[best] = pairs[best].result
      symbols.remove(at: best + 1)
      pairs.remove(at: best)
      if best < pairs.count { pairs[best] = tables.merge(symbols[best], symbols[best + 1]) }
      if best > 0 { pairs[best - 1] = tables.merge(symbols[best - 1], symbols[best]) }
    }
  }

  /// The same with a linked list and a heap: n log n for a piece of n symbols.
  private mutating func mergeLong() {
    let count = symbols.count
    var next = (0..<Int32(count)).map { $0 + 1 }
    var previous = (0..<Int32(count)).map { $0 - 1 }
    // The pair that starts at each symbol; what the heap says counts only while it agrees with this.
    pairs.removeAll(keepingCapacity: true)
    pairs.reserveCapacity(count)
    var heap = MinHeap()
    heap.reserve(count)
    for i in 0..<count {
      let pair = i + 1 < count ? tables.merge(symbols[i], symbols[i + 1]) : .none
      pairs.append(pair)
      if pair != .none { heap.append(pair.rank << 32 | UInt64(i)) }
    }
    heap.order()
    while let lowest = heap.popLowest() {
      let at = Int(lowest & 0xFFFF_FFFF)
      let pair = pairs[at]
      guard pair != .none, pair.rank == lowest >> 32 else { continue }
      let gone = Int(next[at])
      symbols[at] = pair.result
      symbols[gone] = -1
      pairs[gone] = .none
      next[at] = next[gone]
      let follower = Int(next[at])
      if follower < count { previous[follower] = Int32(at) }
      pairs[at] = follower < count ? tables.merge(symbols[at], symbols[follower]) : .none
      if pairs[at] != .none { heap.push(pairs[at].rank << 32 | UInt64(at)) }
      if previous[at] >= 0 {
        let before = Int(previous[at])
        pairs[before] = tables.merge(symbols[before], symbols[at])
        if pairs[before] != .none { heap.push(pairs[before].rank << 32 | UInt64(before)) }
      }
    }
    symbols.removeAll { $0 < 0 }
  }
}

/// A binary heap of integers, the lowest first.
struct MinHeap {
  private var items: [UInt64] = []

  mutating func reserve(_ count: Int) { items.reserveCapacity(count) }

  /// Adds without keeping the order; `order()` restores it.
  mutating func append(_ item: UInt64) { items.append(item) }

  mutating func order() {
    for i in stride(from: items.count / 2 - 1, through: 0, by: -1) { sink(i) }
  }

  mutating func push(_ item: UInt64) {
    items.append(item)
    var i = items.count - 1
    while i > 0, items[(i - 1) / 2] > item {
      items[i] = items[(i - 1) / 2]
      i = (i - 1) / 2
    }
    items[i] = item
  }

  mutating func popLowest() -> UInt64? {
    guard let lowest = items.first, let last = items.popLast() else { return nil }
    if !items.isEmpty {
      items[0] = last
      sink(0)
    }
    return lowest
  }

  private mutating func sink(_ start: Int) {
    var i = start
    let item = items[i]
    while true {
      var child = 2 * i + 1
      guard child < items.count else { break }
      if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
      guard items[child] < item else { break }
      items[i] = items[child]
      i = child
    }
    items[i] = item
  }
}
