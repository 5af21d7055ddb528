import Basics
import Decoding
import Foundation
import TestSupport
import Testing
import Tokenizer

private enum Shared {
  static let tokenizers = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../../shared/tokenizers").standardized.path
  static var isThere: Bool { FileManager.default.fileExists(atPath: tokenizers + "/llama-bpe.gguf") }
}

/// Whether a document that is written token by token has the tokens of an encoded text, with real vocabularies. These do not come with the repository: they are in `../shared/tokenizers`.
@Suite(.enabled(if: Shared.isThere, "needs ../shared/tokenizers")) struct CanonicalTokenTests {
  private static let keys = ["name", "the \"place\"", "größe", "a b", "serialNumber", "x/y", "state.", "7"]
  /// A value's first token begins where the value begins. So that an encoder agrees, it must not begin with a sign, which it would see together with the quote.
  private static let values = [
    "pump 7", "5.", "Acme Corp.", "ok!", "größer als 3", "line B", "f(x)", "50 %", "a/b", "21 °C", "say \"hi\"", "C:\\temp", "温度計", "SN-12", "Ventil…", "it's", "e\u{301}t", "2,5 mm", "a\tb", "x", "wait...", "no?!",
  ]

  /// A property's schema and a value for it.
  private func property(_ random: inout SplitMix64, depth: Int) -> (schema: JSON, value: JSON) {
    func text() -> String { Self.values.randomElement(using: &random) ?? "x" }
    switch Int.random(in: 0..<(depth > 1 ? 7 : 9), using: &random) {
    case 0, 1: return (["type": "string"], .string(text()))
    case 2: return (["type": ["string", "null"]], Bool.random(using: &random) ? .null : .string(text()))
    case 3: return (["enum": ["open", "closed", "not \"so\"", 12]], ["open", "closed", "not \"so\"", 12].randomElement(using: &random) ?? 12)
    case 4: return (["type": ["boolean", "null"]], [true, false, .null].randomElement(using: &random) ?? true)
    case 5: return (["type": "integer"], [7, 12, 300].randomElement(using: &random) ?? 7)
    case 6: return (["type": ["number", "null"]], .number([3.5, 21.25].randomElement(using: &random) ?? 3.5))
    case 7:
      var elements = Set<String>()
      for _ in 0..<Int.random(in: 0...3, using: &random) { elements.insert(text()) }
      return (["type": "array", "items": ["type": "string"], "uniqueItems": true], .array(elements.sorted().map { .string($0) }))
    default:
      let (schema, value) = object(&random, depth: depth + 1)
      return (schema, value)
    }
  }

  private func object(_ random: inout SplitMix64, depth: Int) -> (schema: JSON, value: JSON) {
    var (properties, value, required) = (JSON.Object(), JSON.Object(), [JSON]())
    for key in Self.keys.shuffled(using: &random).prefix(Int.random(in: 1...4, using: &random)) {
      let (schema, found) = property(&random, depth: depth)
      properties[key] = schema
      let isRequired = Bool.random(using: &random)
      if isRequired { required.append(.string(key)) }
      if isRequired || Bool.random(using: &random) { value[key] = found }
    }
    return (["type": "object", "properties": .object(properties), "required": .array(required)], .object(value))
  }

  @Test(arguments: ["llama-bpe", "qwen2"]) func aDocumentHasTheTokensOfItsText(name: String) throws {
    let tokenizer = try Tokenizer.load("\(Shared.tokenizers)/\(name).gguf")
    let vocabulary = WriterVocabulary(tokenizer)
    let lengths = TokenLengths(tokenizer)
    var random = SplitMix64(seed: 61)
    var tokens = 0
    for _ in 0..<100 {
      let (schema, value) = object(&random, depth: 0)
      let text = (Self.values.shuffled(using: &random) + ["7", "12", "300", "3.5", "21.25"]).joined(separator: " ; ")
      let source = CopySource(text, tokenizer: tokenizer, lengths: lengths)
      var writer = try JSONWriter(JSONSchema(schema).constraint, source: source, vocabulary: vocabulary, end: 0, draftLength: 0)
      let whole = tokenizer.encode(value.compact, atStart: false)
      var fed: [TokenID] = []
      while let request = writer.request {
        fed += request.feed
        guard whole.starts(with: fed), fed.count < whole.count, let index = request.asks[0].candidates.firstIndex(of: whole[fed.count]) else {
          let shown = { (tokens: ArraySlice<TokenID>) in tokens.map { String(decoding: tokenizer.bytes($0), as: UTF8.self) }.joined(separator: "|") }
          Issue.record("\(shown(fed[...])) is to go on with \(shown(request.asks[0].candidates.prefix(20)[...])), and not as \(shown(whole[...]))")
          break
        }
        _ = writer.choose(scripted: [index], [request.asks[0].candidates.indices.map { $0 == index ? 1 : 0 }])
      }
      guard writer.request == nil else { continue }
      #expect(whole.starts(with: fed))
      #expect(writer.document.value == value)
      tokens += fed.count
    }
    #expect(tokens > 1000)
  }
}
