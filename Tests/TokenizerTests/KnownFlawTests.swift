import Basics
import Foundation
import ModelFile
import Testing
import Tokenizer

/// The holes that tokenizers had, each by its name (docs/security.md).
@Suite struct KnownFlawTests {
  private struct Vocabulary {
    var tokens = ["<unk>", "<s>", "</s>"] + (0..<256).map { "<0x" + (($0 < 16 ? "0" : "") + String($0, radix: 16)).uppercased() + ">" } + ["▁", "a", "b", "ab", "▁a"]
    var types: [UInt32] { [2, 3, 3] + [UInt32](repeating: 6, count: 256) + [UInt32](repeating: 1, count: tokens.count - 259) }

    func gguf(typesOf: (type: UInt32, values: [UInt8])? = nil, tokensOf: UInt32 = 8, scoresOf: UInt32 = 6) -> [UInt8] {
      func int(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
      func text(_ text: String) -> [UInt8] { int(UInt64(text.utf8.count)) + Array(text.utf8) }
      func array(_ name: String, _ type: UInt32, _ count: Int, _ values: [UInt8]) -> [UInt8] { text(name) + int(UInt32(9)) + int(type) + int(UInt64(count)) + values }
      var keys: [[UInt8]] = [text("tokenizer.ggml.model") + int(UInt32(8)) + text("llama")]
      let texts = tokensOf == 8 ? tokens.flatMap(text) : tokens.flatMap { _ in int(UInt32(7)) }
      keys.append(array("tokenizer.ggml.tokens", tokensOf, tokens.count, texts))
      keys.append(array("tokenizer.ggml.scores", scoresOf, tokens.count, tokens.indices.flatMap { scoresOf == 6 ? int(Float(-$0).bitPattern) : text("x") }))
      keys.append(array("tokenizer.ggml.token_type", typesOf?.type ?? 5, tokens.count, typesOf?.values ?? types.flatMap { int($0) }))
      let bytes: [UInt8] = Array("GGUF".utf8) + int(UInt32(3)) + int(UInt64(0)) + int(UInt64(keys.count)) + keys.flatMap { $0 }
      return bytes + [UInt8](repeating: 0, count: (32 - bytes.count % 32) % 32)
    }
  }

  private func load(_ bytes: [UInt8]) throws -> Tokenizer {
    let folder = try TemporaryFolder()
    try Data(bytes).write(to: URL(fileURLWithPath: folder.path + "/v.gguf"))
    return try Tokenizer.load(folder.path + "/v.gguf")
  }

  /// A number inside a token's text was an index: `<0x-1>` wrote in front of a table.
  @Test(arguments: ["<0x-1>", "<0x100>", "<0xFFFFFFFF>", "<0x>", "<0xG0>", "<0x 1>", "<0x00"]) func indexFromText_CVE_2025_49847(_ token: String) throws {
    #expect(try load(Vocabulary().gguf()).encode("ab").isEmpty == false, "the vocabulary itself is fine")
    var vocabulary = Vocabulary()
    vocabulary.tokens[3 + 0x41] = token
    do {
      let tokenizer = try load(vocabulary.gguf())
      _ = tokenizer.decode(tokenizer.encode("A\(token)\u{7}"))
    } catch let error as SternaError { #expect(error.place?.contains("tokenizer.ggml") == true, "\(error)") }
  }

  /// An array said to be of one kind and used as another.
  @Test func wrongElementTypes_llama_cpp_24888() throws {
    let vocabulary = Vocabulary()
    for (bytes, key) in [
      (vocabulary.gguf(tokensOf: 4), "tokenizer.ggml.tokens"), (vocabulary.gguf(scoresOf: 8), "tokenizer.ggml.scores"),
      (vocabulary.gguf(typesOf: (6, [UInt8](repeating: 0xFF, count: 4 * vocabulary.tokens.count))), "tokenizer.ggml.token_type"),
      (vocabulary.gguf(typesOf: (7, [UInt8](repeating: 1, count: vocabulary.tokens.count))), "tokenizer.ggml.token_type"),
    ] {
      let error = #expect(throws: SternaError.self) { try load(bytes) }
      #expect(error?.place?.contains(key) == true, "\(error.map { "\($0)" } ?? "")")
    }
  }

  /// The number of tokens of a text, negated to say "too many", overflowed. There is no such number here: a text has as many tokens as it has, and no limit is in the sign.
  @Test func lengthOfTheInput_CVE_2025_52566() throws {
    let tokenizer = try load(Vocabulary().gguf())
    for text in ["", "\u{0}", String(repeating: "\u{1F600}", count: 100_000), String(repeating: "ab", count: 500_000)] {
      let tokens = tokenizer.encode(text)
      #expect(tokens.count <= text.utf8.count + 2 && tokens.allSatisfy { (0..<TokenID(Vocabulary().tokens.count)).contains($0) })
    }
  }
}
