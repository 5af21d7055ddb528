import Foundation
import TestSupport
import Testing
import Tokenizer

/// The reference models' vocabulary (320 tokens, Llama 3's rule): small enough to come with the repository.
@Suite struct ReferenceVocabularyTests {
  let tokenizer: Tokenizer
  init() throws { tokenizer = try Tokenizer.load(Place.reference) }

  @Test(arguments: ["bitnet-offline", "bitnet-online", "bitnet-silu", "llama-autobitlinear", "llama-bitlinear", "llama-rmsnorm-bitlinear"])
  func promptsOfTheReferenceModelsHaveTheirIDs(_ name: String) throws {
    let folder = Place.fixtures.appendingPathComponent("models/" + name)
    let tokenizer = try Tokenizer.load(folder.path)
    let json = try JSONSerialization.jsonObject(with: Data(contentsOf: folder.appendingPathComponent("expected.json")))
    let cases = try #require((json as? [String: Any])?["cases"] as? [[String: Any]])
    #expect(!cases.isEmpty)
    for one in cases {
      let prompt = try #require(one["prompt"] as? String)
      let ids = try #require(one["ids"] as? [Int]).map { TokenID($0) }
      #expect(tokenizer.encode(prompt) == Array(ids.dropFirst()))
      #expect(text(tokenizer.decode(ids)) == prompt)
      #expect(ids.first == tokenizer.beginOfText)
    }
  }

  @Test func knowsItsSpecialTokens() {
    #expect(tokenizer.count == 320)
    #expect(tokenizer.beginOfText == 0)
    #expect(tokenizer.endOfText == 1)
    #expect(tokenizer.special("<|eot_id|>") == 2)
    #expect(tokenizer.special("<|eot_id|") == nil)
    #expect(tokenizer.special("") == nil)
    #expect(tokenizer.isSpecial(2) && !tokenizer.isSpecial(3) && tokenizer.isSpecial(-1) && tokenizer.isSpecial(320))
    #expect(tokenizer.bytes(2).isEmpty && tokenizer.bytes(-1).isEmpty && tokenizer.bytes(320).isEmpty)
    #expect(tokenizer.splitRule == "llama-bpe")
  }

  @Test func textOfAMessageNeverBecomesASpecialToken() {
    let message = "a<|eot_id|>b<|begin_of_text|>"
    let ids = tokenizer.encode(message)
    #expect(!ids.contains { tokenizer.isSpecial($0) })
    #expect(text(tokenizer.decode(ids)) == message)
    #expect(!tokenizer.encode("<|eot_id|>").contains(2))
  }

  @Test func literalsOfATemplateDo() {
    #expect(tokenizer.encodeTemplate("<|begin_of_text|>a<|eot_id|><|eot_id|>b") == [0] + tokenizer.encode("a") + [2, 2] + tokenizer.encode("b"))
    #expect(tokenizer.encodeTemplate("<|eot_id") == tokenizer.encode("<|eot_id"))
    #expect(tokenizer.encodeTemplate("") == [])
    #expect(tokenizer.decode([0, 2]) == [])
  }

  @Test func theLongestSpecialTextWins() throws {
    var json = try referenceJSON()
    var added = try #require(json["added_tokens"] as? [[String: Any]])
    for (i, content) in ["<a", "<a>", "<a>>>", "<b>"].enumerated() { added.append(["id": 320 + i, "content": content, "special": true]) }
    added.append(["id": 324, "content": "<tool>", "special": false])
    json["added_tokens"] = added
    let tokenizer = try made(json)
    #expect(tokenizer.encodeTemplate("<a") == [320])
    #expect(tokenizer.encodeTemplate("<a>") == [321])
    #expect(tokenizer.encodeTemplate("<a>>") == [321] + tokenizer.encode(">"))
    #expect(tokenizer.encodeTemplate("<a>>>") == [322])
    #expect(tokenizer.encodeTemplate("<b><a") == [323, 320])
    // Added text that is not special stands for itself, but is not recognised in messages either.
    #expect(tokenizer.encodeTemplate("<tool>") == [324])
    #expect(!tokenizer.encode("<tool>").contains(324))
    #expect(text(tokenizer.decode([324])) == "<tool>")
    #expect(tokenizer.special("<tool>") == 324 && !tokenizer.isSpecial(324))
  }

  @Test func anyBytesComeBack() {
    var random = SplitMix64(seed: 1)
    for length in 0..<300 {
      let bytes = random.bytes(length)
      #expect(tokenizer.decode(tokenizer.encode(bytes)) == bytes)
    }
    for _ in 0..<300 {
      let sent = random.text(40)
      #expect(tokenizer.decode(tokenizer.encode(sent)) == Array(sent.utf8))
    }
  }

  @Test func everyOrdinaryTokenIsFoundByItsBytes() {
    for id in 0..<TokenID(tokenizer.count) where !tokenizer.isSpecial(id) {
      #expect(tokenizer.token(tokenizer.bytes(id)) == id)
      #expect(tokenizer.bytes(id).count <= tokenizer.maxTokenBytes)
    }
    let absent: [UInt8] = Array("no such token".utf8)
    #expect(absent.withUnsafeBytes { tokenizer.token($0) } == nil)
    #expect(tokenizer.token(UnsafeRawBufferPointer(start: nil, count: 0)) == nil)
  }

  /// Byte pair encoding as the textbook has it, on the merges of the file: quadratic, and independent of the tables.
  @Test func mergesAsTheTextbookDoes() throws {
    let json = try referenceJSON()
    let model = try #require(json["model"] as? [String: Any])
    let vocab = try #require(model["vocab"] as? [String: Int])
    var ranks: [[String]: Int] = [:]
    for (rank, merge) in try #require(model["merges"] as? [[String]]).enumerated() { ranks[merge] = rank }
    var random = SplitMix64(seed: 2)
    for length in [1, 2, 5, 20, 31, 32, 33, 34, 60, 200] {
      for _ in 0..<20 {
        // One piece of letters, long ones too, so that both ways of merging are compared.
        let word = String((0..<length).map { _ in "reatonishdlc".randomElement(using: &random) ?? "e" })
        var symbols = word.map { String($0) }
        while let (_, at) = symbols.indices.dropLast().compactMap({ i in ranks[[symbols[i], symbols[i + 1]]].map { ($0, i) } }).min(by: { $0 < $1 }) {
          symbols[at] += symbols.remove(at: at + 1)
        }
        #expect(tokenizer.encode(word) == symbols.map { TokenID(vocab[$0] ?? -1) })
      }
    }
  }

  @Test func aMegabyteOfOneLetterIsNoWork() {
    // Merging by scanning would take hours here.
    for character in ["a", " ", "1", "'", "é", "\n", "re"] {
      let text = Array(String(repeating: character, count: 1 << 20 / character.utf8.count).utf8)
      #expect(tokenizer.decode(tokenizer.encode(text)) == text)
    }
  }

  @Test func mergesMayBePairsOrLines() throws {
    var json = try referenceJSON()
    var model = try #require(json["model"] as? [String: Any])
    let pairs = try #require(model["merges"] as? [[String]])
    model["merges"] = pairs.map { $0.joined(separator: " ") }
    json["model"] = model
    let other = try made(json)
    #expect(other.encode("pump 7 vibration above limit") == tokenizer.encode("pump 7 vibration above limit"))
  }

  @Test func ignoreMergesTakesWholePiecesFirst() throws {
    var json = try referenceJSON()
    var model = try #require(json["model"] as? [String: Any])
    var vocab = try #require(model["vocab"] as? [String: Int])
    vocab["vibrate"] = 320  // no merge makes it
    model["vocab"] = vocab
    json["model"] = model
    #expect(!(try made(json)).encode("vibrate").contains(320))
    model["ignore_merges"] = true
    json["model"] = model
    #expect(try made(json).encode("vibrate") == [320])
    #expect(try !made(json).encode("vibrates").contains(320))
  }

  @Test(arguments: [SplitRule.llamaBPE, .qwen2, .falcon, .deepseekLLM, .gpt2])
  func everySplitRuleIsRecognised(_ rule: SplitRule) throws {
    var json = try referenceJSON()
    json["pre_tokenizer"] = PreTokenizer.of(rule)
    let tokenizer = try made(json)
    #expect(tokenizer.splitRule == rule.name)
    let sent = "Über 1234 Züge, y'all!\r\n\t x²  "
    #expect(text(tokenizer.decode(tokenizer.encode(sent))) == sent)
  }

  @Test func qwenCutsNumbersDigitByDigit() throws {
    var json = try referenceJSON()
    json["pre_tokenizer"] = PreTokenizer.of(.qwen2)
    let tokenizer = try made(json)
    #expect(tokenizer.encode("2024").map { text(tokenizer.decode([$0])) } == ["2", "0", "2", "4"])
  }
}
