import Basics

extension Vocabulary {
  /// A byte-level vocabulary without a language: 256 bytes; words of lower-case letters, with a space in front or without, each made of the one
  /// before and a letter; two special tokens for the beginning and the end of a text. For models with random weights.
  /// - Parameter count: of tokens, at least 258.
  init(syntheticOf count: Int) throws(SternaError) {
    guard 258...Vocabulary.maxTokens ~= count else {
      throw SternaError(.badField, "a synthetic vocabulary of this size cannot be made", at: "the vocabulary", expected: "258 to \(Vocabulary.maxTokens) tokens", found: "\(count)")
    }
    self.init(rule: .llamaBPE)
    entries = ByteAlphabet.scalars.map { Entry(text: String($0), kind: .ordinary) }
    let letters = (0..<26).map { TokenID(UInt8(ascii: "a")) + TokenID($0) }
    var begun = [TokenID(UInt8(ascii: " "))] + letters
    var next: [TokenID] = []
    while entries.count < count - 2 {
      for left in begun {
        for right in letters where entries.count < count - 2 {
          let result = TokenID(entries.count)
          entries.append(Entry(text: entries[Int(left)].text + entries[Int(right)].text, kind: .ordinary))
          merges.append(Merge(left: left, right: right, result: result, rank: merges.count))
          next.append(result)
        }
      }
      begun = next
      next = []
    }
    beginOfText = TokenID(count - 2)
    endOfText = TokenID(count - 1)
    entries += [Entry(text: "<|begin_of_text|>", kind: .special), Entry(text: "<|end_of_text|>", kind: .special)]
  }
}
