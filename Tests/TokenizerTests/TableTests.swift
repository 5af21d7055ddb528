import Basics
import Foundation
import TestSupport
import Testing
import Tokenizer

/// The packed form: the same answers as the source, and no harm from damage.
@Suite struct TableTests {
  @Test func packedTablesAreTheSameEveryTime() throws {
    #expect(try Tokenizer.pack(hubFolder: Place.reference) == Tokenizer.pack(hubFolder: Place.reference))
  }

  @Test func aCutFileIsRefused() throws {
    let tables = try Tokenizer.pack(hubFolder: Place.reference)
    for length in [0, 1, 8, 100, 127, 128, 1000, tables.count - 1] {
      #expect(throws: SternaError.self) { try Tokenizer(tables: Array(tables.prefix(length))) }
    }
    #expect(throws: SternaError.self) { try Tokenizer(tables: tables + [0]) }
  }

  @Test func anotherVersionIsRefusedWithWhatToDo() throws {
    var tables = try Tokenizer.pack(hubFolder: Place.reference)
    tables[8] = 99
    do {
      _ = try Tokenizer(tables: tables, place: "model.gguf: sterna.tokenizer")
      Issue.record("accepted")
    } catch {
      #expect(error.code == .unsupported && error.found == "99" && error.remedy != nil && error.place == "model.gguf: sterna.tokenizer")
    }
  }

  /// Whatever a bit says, every call ends and stays in bounds.
  @Test(arguments: [Place.reference, "sentencepiece"]) func damagedTablesDoNoHarm(_ source: String) throws {
    var tables: [UInt8]
    if source == Place.reference {
      tables = try Tokenizer.pack(hubFolder: source)
    } else {
      let folder = try TemporaryFolder()
      var json = SentencePieceTests.json(normalizer: SentencePieceTests.prependAndReplace)
      let vocab = json.removeValue(forKey: "vocab text") as? String ?? ""
      let text = String(decoding: try JSONSerialization.data(withJSONObject: json), as: UTF8.self)
      try folder.write(text.replacingOccurrences(of: "\"VOCAB\"", with: vocab), to: "tokenizer.json")
      tables = try Tokenizer.pack(hubFolder: folder.path)
    }
    var random = SplitMix64(seed: 11)
    let letters = String(repeating: "relation hello aaa ", count: 20)
    for round in 0..<3000 {
      let changes = Int.random(in: 1...4, using: &random)
      var saved: [(Int, UInt8)] = []
      for _ in 0..<changes {
        // The header is hit as often as all the rest.
        let at = Int.random(in: 0..<(Bool.random(using: &random) ? 128 : tables.count), using: &random)
        saved.append((at, tables[at]))
        tables[at] = round % 2 == 0 ? UInt8.random(in: 0...255, using: &random) : 0xFF
      }
      if let tokenizer = try? Tokenizer(tables: tables) {
        let ids = tokenizer.encode(letters + random.text(30)) + tokenizer.encode(random.bytes(20))
        #expect(ids.allSatisfy { 0..<TokenID(tokenizer.count) ~= $0 })
        _ = tokenizer.decode(ids)
        for id in tokenizer.encodeTemplate("<|begin_of_text|>a<|eot_id|><s>") + [0, TokenID(tokenizer.count - 1)] {
          _ = tokenizer.token(tokenizer.bytes(id))
        }
        _ = tokenizer.special("<|eot_id|>")
      }
      for (at, byte) in saved.reversed() { tables[at] = byte }
    }
  }
}
