import Tokenizer

/// A set of tokens: a list where there are few, a bit for every token of the vocabulary where there are many.
public struct TokenMask: Sendable {
  private enum Storage {
    /// Ascending.
    case few([TokenID])
    case many([UInt64])
  }
  private let storage: Storage
  public let count: Int

  /// - Parameter tokens: in any order, each once, below `vocabulary`.
  package init(_ tokens: [TokenID], of vocabulary: Int) {
    count = tokens.count
    if tokens.count * 4 < vocabulary / 8 {
      storage = .few(tokens.sorted())
    } else {
      var words = [UInt64](repeating: 0, count: (vocabulary + 63) / 64)
      for id in tokens { words[Int(id) / 64] |= 1 << UInt64(id % 64) }
      storage = .many(words)
    }
  }

  private init(storage: Storage, count: Int) {
    self.storage = storage
    self.count = count
  }

  /// The set without these tokens, all of which it has.
  package func subtracting(_ tokens: ArraySlice<TokenID>) -> TokenMask {
    switch storage {
    case .few(let list):
      let gone = Set(tokens)
      return TokenMask(storage: .few(list.filter { !gone.contains($0) }), count: count - tokens.count)
    case .many(var words):
      for id in tokens { words[Int(id) / 64] &= ~(1 << UInt64(id % 64)) }
      return TokenMask(storage: .many(words), count: count - tokens.count)
    }
  }

  public func contains(_ token: TokenID) -> Bool {
    switch storage {
    case .few(let list):
      var low = 0
      var high = list.count
      while low < high {
        let middle = (low + high) / 2
        if list[middle] < token { low = middle + 1 } else { high = middle }
      }
      return low < list.count && list[low] == token
    case .many(let words): return 0..<(words.count * 64) ~= Int(token) && words[Int(token) / 64] >> UInt64(token % 64) & 1 != 0
    }
  }

  /// The tokens, ascending. For a set of many this makes a list of them.
  public var tokens: [TokenID] {
    switch storage {
    case .few(let list): return list
    case .many(let words):
      var list: [TokenID] = []
      list.reserveCapacity(count)
      for (index, word) in words.enumerated() {
        var word = word
        while word != 0 {
          list.append(TokenID(index * 64 + word.trailingZeroBitCount))
          word &= word - 1
        }
      }
      return list
    }
  }

  /// One bit for every token, lowest first; nil where the set is a list of few.
  public var words: [UInt64]? {
    if case .many(let words) = storage { words } else { nil }
  }

  var byteCount: Int {
    switch storage {
    case .few(let list): list.count * MemoryLayout<TokenID>.stride
    case .many(let words): words.count * 8
    }
  }
}
