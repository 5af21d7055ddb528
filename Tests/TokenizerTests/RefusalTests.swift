import Foundation
import Testing
import Basics
import Tokenizer

/// What this version cannot do exactly is refused, with the place and what would be accepted.
@Suite struct RefusalTests {
  private func refusal(_ change: (inout [String: Any]) throws -> Void) throws -> SternaError {
    var json = try referenceJSON()
    try change(&json)
    do {
      _ = try made(json)
    } catch let error as SternaError {
      return error
    }
    Issue.record("accepted")
    return SternaError(.unsupported, "")
  }

  private func model(_ json: inout [String: Any], _ name: String, _ value: Any) {
    var model = json["model"] as? [String: Any] ?? [:]
    model[name] = value
    json["model"] = model
  }

  @Test func anUnknownPatternIsRefusedWithItsPath() throws {
    let error = try refusal { $0["pre_tokenizer"] = PreTokenizer.sequence([PreTokenizer.split("\\w+"), PreTokenizer.byteLevel(false)]) }
    #expect(error.code == .unsupported)
    #expect(error.place?.hasSuffix("tokenizer.json: pre_tokenizer.pretokenizers[0].pattern.Regex") == true)
    #expect(error.found?.contains("\\w+") == true)
    #expect(error.expected?.contains("llama-bpe") == true)
  }

  @Test(arguments: [
    ("model.type", "WordPiece" as any Sendable), ("model.dropout", 0.1), ("model.end_of_word_suffix", "</w>"), ("model.new_option", true),
    ("normalizer", ["type": "Lowercase"]), ("pre_tokenizer", ["type": "Whitespace"]), ("decoder", ["type": "WordPiece"]), ("new_member", 1),
  ])
  func whatIsUnknownIsRefusedWithItsPath(_ path: String, _ value: any Sendable) throws {
    let error = try refusal { json in
      let parts = path.split(separator: ".").map(String.init)
      if parts.count == 2 { model(&json, parts[1], value) } else { json[path] = value }
    }
    #expect(error.code == .unsupported)
    #expect(error.place?.contains("tokenizer.json: " + path) == true, "\(error)")
    #expect(error.expected != nil)
  }

  @Test func aMergeOfUnknownTokensIsRefused() throws {
    let error = try refusal { model(&$0, "merges", [["i", "n"], ["nowhere", "x"]]) }
    #expect(error.place?.hasSuffix("model.merges[1]") == true)
    let line = try refusal { model(&$0, "merges", ["i n", "in"]) }
    #expect(line.place?.hasSuffix("model.merges[1]") == true)
  }

  @Test func twoTokensWithOneNumberAreRefused() throws {
    let error = try refusal { json in
      var vocab = (json["model"] as? [String: Any])?["vocab"] as? [String: Int] ?? [:]
      vocab["extra"] = 5
      model(&json, "vocab", vocab)
    }
    #expect(error.place?.contains("model.vocab") == true)
  }

  @Test func aFolderWithoutATokenizerIsRefused() throws {
    let folder = try TemporaryFolder()
    #expect(throws: SternaError.self) { try Tokenizer.load(folder.path) }
    #expect(throws: SternaError.self) { try Tokenizer.load(folder.path + "/nothing") }
    try folder.write("{\"model\":", to: "tokenizer.json")
    #expect(throws: SternaError.self) { try Tokenizer.load(folder.path) }
  }
}
