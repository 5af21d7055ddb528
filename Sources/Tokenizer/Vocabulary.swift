import Basics

/// A vocabulary as it was read from `tokenizer.json` or GGUF, before tables are made of it.
struct Vocabulary {
  enum Kind {
    /// Made of text, and text is made into it.
    case ordinary
    /// `<0xNN>` of SentencePiece: what a character becomes that has no token.
    case byte(UInt8)
    /// Structure, such as end of turn: no text of its own, recognised in templates only.
    case special
    /// Text that was added behind the vocabulary, such as `<tool_call>`: stands for its text, but is recognised in templates only.
    case added
    /// Text that no merge makes.
    case literal
    /// A hole in the numbering.
    case unused
  }

  struct Entry {
    /// As the source spells it: `Ġthe`, `▁the`, `<|eot_id|>`.
    var text: String
    var kind: Kind
  }

  struct Merge {
    var left: TokenID
    var right: TokenID
    var result: TokenID
    /// Lower goes first; equal ranks go from left to right.
    var rank: Int
  }

  var rule: SplitRule
  var entries: [Entry] = []
  var merges: [Merge] = []
  /// A piece that is a token as a whole is that token, whatever the merges say.
  var wholePiecesFirst = false
  /// SentencePiece: a space goes in front of a text.
  var spacePrefix = false
  /// ... but not where one is already.
  var spacePrefixUnlessThere = false
  var beginOfText: TokenID?
  var endOfText: TokenID?
  var unknown: TokenID?

  /// Ids and ranks share a 64-bit entry of the merge table: 20, 20 and 24 bits.
  static let maxTokens = 1 << 20 - 1
  static let maxMerges = 1 << 24 - 1

  init(rule: SplitRule) { self.rule = rule }

  /// The bytes that an entry stands for.
  func bytes(of entry: Entry) -> [UInt8] {
    switch entry.kind {
    case .special, .unused: return []
    case .byte(let byte): return [byte]
    case .added, .literal: return Array(entry.text.utf8)
    case .ordinary:
      if rule != .sentencePiece { return ByteAlphabet.bytes(of: entry.text) ?? Array(entry.text.utf8) }
      return Vocabulary.spaces(entry.text)
    }
  }

  /// A piece of SentencePiece with `▁` (U+2581) as the space that it means.
  static func spaces(_ text: String) -> [UInt8] {
    let utf8 = Array(text.utf8)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(utf8.count)
    var i = 0
    while i < utf8.count {
      if i + 2 < utf8.count, utf8[i] == 0xE2, utf8[i + 1] == 0x96, utf8[i + 2] == 0x81 {
        bytes.append(0x20)
        i += 3
      } else {
        bytes.append(utf8[i])
        i += 1
      }
    }
    return bytes
  }

  /// The byte that `<0xNN>` names.
  static func byteToken(_ text: String) -> UInt8? {
    let utf8 = Array(text.utf8)
    guard utf8.count == 6, text.hasPrefix("<0x"), utf8[5] == UInt8(ascii: ">"), utf8[3] != UInt8(ascii: "+") else { return nil }
    return UInt8(String(decoding: utf8[3..<5], as: UTF8.self), radix: 16)
  }

  /// Marks ordinary byte-level tokens whose text is not in the byte alphabet: no text is ever made into them.
  mutating func settleByteLevelKinds() {
    var hasToken = [Bool](repeating: false, count: 256)
    for i in entries.indices {
      guard case .ordinary = entries[i].kind else { continue }
      guard let bytes = ByteAlphabet.bytes(of: entries[i].text) else {
        entries[i].kind = .literal
        continue
      }
      if bytes.count == 1 { hasToken[Int(bytes[0])] = true }
    }
    // DeepSeek has the bytes that UTF-8 never uses as added tokens (ø for 0xF8). They are wanted where such a byte occurs.
    for i in entries.indices {
      guard case .added = entries[i].kind, let bytes = ByteAlphabet.bytes(of: entries[i].text), bytes.count == 1, bytes[0] >= 0x80,
        !hasToken[Int(bytes[0])]
      else { continue }
      hasToken[Int(bytes[0])] = true
      entries[i].kind = .ordinary
    }
  }

  /// Merges from scores, for SentencePiece vocabularies that come without: every way to put a token together from two others, in the order
  /// of the scores, tokens of one score in one rank.
  mutating func makeMerges(scores: [Float]) {
    var ids: [[UInt8]: TokenID] = [:]
    ids.reserveCapacity(entries.count)
    for (id, entry) in entries.enumerated() {
      if case .ordinary = entry.kind {
        let bytes = Array(entry.text.utf8)
        if ids[bytes] == nil { ids[bytes] = TokenID(id) }
      }
    }
    let order = entries.indices.filter { if case .ordinary = entries[$0].kind { true } else { false } }.sorted {
      (scores[$0], $1) > (scores[$1], $0)
    }
    var rank = -1
    var last: Float?
    for id in order {
      let text = Array(entries[id].text.utf8)
      guard ids[text] == TokenID(id) else { continue }
      if scores[id] != last { rank += 1 }
      last = scores[id]
      for cut in text.indices.dropFirst() where text[cut] & 0xC0 != 0x80 {
        if let left = ids[Array(text[..<cut])], let right = ids[Array(text[cut...])] {
          merges.append(Merge(left: left, right: right, result: TokenID(id), rank: rank))
        }
      }
    }
  }
}
