import Foundation
import TestSupport
import Testing
import Tokenizer

/// A SentencePiece vocabulary of Llama 2's kind, small enough to see through: 3 special tokens, 256 bytes, letters and a few merges.
@Suite struct SentencePieceTests {
  static let texts = [
    "▁", "a", "b", "l", "h", "e", "o", "é", "\u{3AF}", "\u{1F77}", "▁▁", "▁▁▁▁", "he", "ll", "▁he", "llo", "▁hello", "lo", "aa", "aaa",
  ]
  static let merges = ["▁ ▁", "▁▁ ▁▁", "h e", "l l", "▁ he", "ll o", "▁he llo", "l o", "a a", "aa a", "a aa"]

  static func json(normalizer: Any = NSNull(), preTokenizer: Any = NSNull(), texts: [String] = texts, merges: [String] = merges) -> [String: Any] {
    var vocab: [String: Int] = [:]
    for text in ["<unk>", "<s>", "</s>"] { vocab[text] = vocab.count }
    for byte in 0..<256 { vocab[String(format: "<0x%02X>", byte)] = vocab.count }
    var lines = vocab.map { "\"\($0.key)\":\($0.value)" }
    // Written by hand: Swift's dictionary takes the two accented iotas for one key.
    for (i, text) in texts.enumerated() { lines.append("\"\(text)\":\(259 + i)") }
    return [
      "added_tokens": (0..<3).map { ["id": $0, "content": ["<unk>", "<s>", "</s>"][$0], "special": true] as [String: Any] },
      "normalizer": normalizer, "pre_tokenizer": preTokenizer,
      "decoder": ["type": "Sequence", "decoders": [["type": "ByteFallback"], ["type": "Fuse"]]],
      "model": [
        "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": "VOCAB",
        "merges": merges,
      ] as [String: Any],
      "vocab text": "{" + lines.joined(separator: ",") + "}",
    ]
  }

  static func made(_ json: [String: Any]) throws -> Tokenizer {
    var json = json
    let vocab = json.removeValue(forKey: "vocab text") as? String ?? ""
    let text = String(decoding: try JSONSerialization.data(withJSONObject: json), as: UTF8.self)
    let folder = try TemporaryFolder()
    try folder.write(text.replacingOccurrences(of: "\"VOCAB\"", with: vocab), to: "tokenizer.json")
    return try Tokenizer.load(folder.path)
  }

  static var prependAndReplace: [String: Any] {
    [
      "type": "Sequence",
      "normalizers": [["type": "Prepend", "prepend": "▁"], ["type": "Replace", "pattern": ["String": " "], "content": "▁"]] as [[String: Any]],
    ]
  }

  private func id(_ text: String) -> TokenID {
    TokenID(259 + (Self.texts.firstIndex { $0.unicodeScalars.elementsEqual(text.unicodeScalars) } ?? -1000))
  }
  private func ids(_ texts: String...) -> [TokenID] { texts.map(id) }

  let tokenizer: Tokenizer
  init() throws { tokenizer = try Self.made(Self.json(normalizer: Self.prependAndReplace)) }

  @Test func aSpaceGoesInFrontOfAText() {
    #expect(tokenizer.encode("hello") == ids("▁hello"))
    #expect(tokenizer.encode("hello", atStart: false) == ids("he", "llo"))
    #expect(tokenizer.encode(" hello") == ids("▁▁", "he", "llo"))
    #expect(tokenizer.encode("") == [])
    #expect(tokenizer.encode(" ") == ids("▁▁"))
    #expect(tokenizer.encode("hello hello") == ids("▁hello", "▁hello"))
    #expect(tokenizer.encodeTemplate("<s>hello</s>") == [1] + ids("he", "llo") + [2])
    #expect(tokenizer.encodeTemplate("hello<s>") == ids("▁hello") + [1])
  }

  @Test func metaspacePutsNoSecondSpace() throws {
    let metaspace: [String: Any] = ["type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false]
    let tokenizer = try Self.made(Self.json(preTokenizer: metaspace))
    #expect(tokenizer.encode("hello") == ids("▁hello"))
    #expect(tokenizer.encode(" hello") == ids("▁hello"))
    var never = metaspace
    never["prepend_scheme"] = "never"
    #expect(try Self.made(Self.json(preTokenizer: never)).encode("hello") == ids("he", "llo"))
  }

  @Test func whatHasNoTokenFallsBackToBytes() {
    #expect(tokenizer.encode("hex") == ids("▁he") + [TokenID(3 + 0x78)])
    #expect(tokenizer.encode("\n") == ids("▁") + [TokenID(3 + 0x0A)])
    #expect(tokenizer.encode("€") == ids("▁") + [0xE2, 0x82, 0xAC].map { TokenID(3 + $0) })
    #expect(tokenizer.encode([0xFF, 0x61]) == ids("▁") + [TokenID(3 + 0xFF)] + ids("a"))
    // The text of a byte token is text, and the replacement character for spaces is not a space.
    #expect(text(tokenizer.decode(tokenizer.encode("<0x41>▁"))) == "<0x41>▁")
    #expect([UInt8(ascii: "\n")].withUnsafeBytes { tokenizer.token($0) } == TokenID(3 + 0x0A))
  }

  @Test func stringsThatDifferInNormalisationAreTwoTokens() {
    #expect(tokenizer.encode("\u{3AF}", atStart: false) == [id("\u{3AF}")])
    #expect(tokenizer.encode("\u{1F77}", atStart: false) == [id("\u{1F77}")])
    #expect(id("\u{3AF}") != id("\u{1F77}"))
  }

  @Test func equalPairsMergeFromTheLeft() {
    #expect(tokenizer.encode("aaaaa", atStart: false) == ids("aaa", "aa") || tokenizer.encode("aaaaa", atStart: false) == ids("aa", "aaa"))
    #expect(tokenizer.encode("aaa", atStart: false) == ids("aaa"))
  }

  @Test func anyBytesComeBack() {
    var random = SplitMix64(seed: 3)
    for length in 0..<200 {
      let bytes = random.bytes(length)
      #expect(tokenizer.decode(tokenizer.encode(bytes)) == bytes)
      let sent = random.text(length)
      #expect(tokenizer.decode(tokenizer.encode(sent)) == Array(sent.utf8))
    }
  }

  @Test func aMegabyteWithoutASpaceIsNoWork() {
    for word in ["a", "hello", " ", "ll", "x"] {
      let text = Array(String(repeating: word, count: (1 << 20) / word.utf8.count).utf8)
      #expect(tokenizer.decode(tokenizer.encode(text)) == text)
    }
  }

  @Test func tokensWithASpaceInsideAreMergedAcrossWords() throws {
    // Cutting in front of spaces would miss this one.
    let tokenizer = try Self.made(
      Self.json(normalizer: Self.prependAndReplace, texts: Self.texts + ["a▁", "a▁b"], merges: Self.merges + ["a ▁", "a▁ b"]))
    #expect(tokenizer.encode("a b", atStart: false) == [TokenID(259 + Self.texts.count + 1)])
  }
}
