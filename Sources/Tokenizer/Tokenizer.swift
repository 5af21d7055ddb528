import Basics
import ModelFile

/// A token's index in the vocabulary.
public typealias TokenID = Int32

/// Text to tokens and back: a view over packed tables (docs/tokenizer-tables.md). Copying is cheap, and any thread may use it.
public struct Tokenizer: Sendable {
  let tables: TokenTables

  /// How many tokens there are: ids are `0..<count`.
  public var count: Int { tables.count }
  /// Length of the longest token in bytes.
  public var maxTokenBytes: Int { tables.maxTokenBytes }
  /// The token that a text begins with, where the vocabulary names one.
  public var beginOfText: TokenID? { tables.beginOfText }
  /// The token that ends a text.
  public var endOfText: TokenID? { tables.endOfText }
  /// How text is cut before it is merged, in the words of GGUF: `llama-bpe`, `qwen2`, `falcon`, `deepseek-llm`, `gpt-2`, `sentencepiece`.
  public var splitRule: String { tables.rule.name }
  /// Size of the packed tables.
  public var tableBytes: Int { tables.byteCount }

  // MARK: Text to tokens

  /// The tokens of a plain text: never a special one, whatever the text says.
  ///
  /// Text that is not UTF-8 is tokenised too: a stray byte counts as a character of its own. `decode` gives the same bytes back, except those
  /// for which a byte-level vocabulary has no token at all (Falcon lacks a few control characters).
  /// - Parameter atStart: whether this is where a text begins: SentencePiece then puts a space in front. Nothing else depends on it.
  public func encode(_ bytes: some Collection<UInt8>, atStart: Bool = true) -> [TokenID] {
    var ids: [TokenID] = []
    if bytes.withContiguousStorageIfAvailable({ encode($0, atStart: atStart, into: &ids) }) == nil {
      Array(bytes).withUnsafeBufferPointer { encode($0, atStart: atStart, into: &ids) }
    }
    return ids
  }

  /// The same for a string.
  public func encode(_ text: String, atStart: Bool = true) -> [TokenID] {
    encode(text.utf8, atStart: atStart)
  }

  /// The tokens of a literal of a template, in which special tokens are recognised by their exact text (the longest where several fit).
  ///
  /// Never give this a text that somebody sent.
  public func encodeTemplate(_ text: String, atStart: Bool = true) -> [TokenID] {
    var ids: [TokenID] = []
    Array(text.utf8).withUnsafeBufferPointer { text in
      var pending = 0
      var at = 0
      func flush(_ end: Int) {
        guard pending < end else { return }
        encode(UnsafeBufferPointer(rebasing: text[pending..<end]), atStart: atStart && pending == 0, into: &ids)
      }
      while at < text.count {
        if let (id, length) = tables.special(at: text[at...]) {
          flush(at)
          ids.append(id)
          at += length
          pending = at
        } else {
          at += 1
        }
      }
      flush(text.count)
    }
    return ids
  }

  /// A piece longer than this is cut, so that the working memory of a hostile text stays bounded (28 bytes for each of its bytes).
  private static let longestPiece = 1 << 24

  private func encode(_ text: UnsafeBufferPointer<UInt8>, atStart: Bool, into ids: inout [TokenID]) {
    guard !text.isEmpty else { return }
    if atStart, tables.rule == .sentencePiece, tables.flags.contains(.spacePrefix),
      !(tables.flags.contains(.spacePrefixUnlessThere) && text[0] == 0x20)
    {
      var prefixed: [UInt8] = [0x20]
      prefixed.reserveCapacity(text.count + 1)
      prefixed.append(contentsOf: text)
      prefixed.withUnsafeBufferPointer { encodePieces($0, into: &ids) }
    } else {
      encodePieces(text, into: &ids)
    }
  }

  private func encodePieces(_ text: UnsafeBufferPointer<UInt8>, into ids: inout [TokenID]) {
    var merger = PairMerger(tables)
    func encode(_ start: Int, _ end: Int) {
      let piece = UnsafeBufferPointer(rebasing: text[start..<end])
      if let id = tables.token(UnsafeRawBufferPointer(piece)), tables.flags(id).contains(.whole) {
        ids.append(id)
      } else {
        merger.merge(piece, into: &ids)
      }
    }
    func encodeAny(_ start: Int, _ end: Int) {
      var start = start
      while end - start > Tokenizer.longestPiece {
        encode(start, start + Tokenizer.longestPiece)
        start += Tokenizer.longestPiece
      }
      encode(start, end)
    }
    if tables.rule == .sentencePiece, !tables.flags.contains(.spacesOnlyInFront) {
      encodeAny(0, text.count)
    } else {
      TextSplitter(tables.rule, text).forEachPiece(encodeAny)
    }
  }

  // MARK: Tokens to text

  /// The bytes that these tokens stand for. Special tokens and ids out of range contribute nothing; the space that SentencePiece puts in
  /// front of a text is taken away again. For tokens from the middle of a text add up `bytes(_:)` instead.
  public func decode(_ ids: some Sequence<TokenID>) -> [UInt8] {
    var out: [UInt8] = []
    for id in ids { out.append(contentsOf: bytes(id)) }
    if tables.flags.contains(.spacePrefix), out.first == 0x20 { out.removeFirst() }
    return out
  }

  /// The bytes of one token; empty for a special one or an id out of range. They may be part of a UTF-8 sequence.
  ///
  /// Valid as long as a copy of this tokenizer lives.
  public func bytes(_ id: TokenID) -> UnsafeRawBufferPointer {
    guard 0..<count ~= Int(id), !tables.flags(id).contains(.special) else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return tables.bytes(id)
  }

  /// The ordinary token with exactly these bytes. A byte that only a byte token of SentencePiece stands for counts as one.
  public func token(_ bytes: UnsafeRawBufferPointer) -> TokenID? {
    tables.token(bytes) ?? (bytes.count == 1 ? tables.token(byte: bytes[0]) : nil)
  }

  /// Whether a token stands for structure and not for text. True for ids out of range.
  public func isSpecial(_ id: TokenID) -> Bool {
    !(0..<count ~= Int(id)) || tables.flags(id).contains(.special)
  }

  /// The token that is written like this in a template, for example `<|eot_id|>`.
  public func special(_ text: String) -> TokenID? {
    Array(text.utf8).withUnsafeBufferPointer { text in
      tables.special(at: text[...]).flatMap { $0.length == text.count ? $0.id : nil }
    }
  }
}
