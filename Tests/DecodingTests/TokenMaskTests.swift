import Basics
import Foundation
import Testing
import Tokenizer

import Decoding
import TestSupport

@Suite struct TokenMaskTests {
  private static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  /// A small byte-level vocabulary and, where they are there, large ones of every kind.
  private static let vocabularies: [String] = {
    let shared = tests.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("shared/tokenizers").path
    return [tests.appendingPathComponent("Fixtures/models/bitnet-offline").path]
      + ["llama-bpe", "llama-spm", "qwen2", "falcon"].map { "\(shared)/\($0).gguf" }.filter { FileManager.default.fileExists(atPath: $0) }
  }()

  private static func values() throws -> [(FreeValue, String)] {
    var values: [(FreeValue, String)] = []
    for (pattern, least, most) in [
      ("", 0, 200), ("", 0, 24), ("", 3, 9), ("", 12, 12), ("^(?:ab)*$", 3, 30), ("^.{2,20}$", 0, nil), ("^[A-Z][\\s\\S]*$", 2, 15), ("^[^a\"]*$", 0, 30), ("^\\d{4}-\\d\\d$", 0, nil),
      ("^(?:[é😀\\n\"]|the )*$", 2, 18), ("x$", 0, 12), ("^(?: {40})*$", 0, 100), ("^(?:ab|\u{4E2D}.)*z?$", 1, 11),
      // What needs much room to be finished, begun in the middle of a character or of an escape.
      ("^(?:a|\u{4E2D}.{9}|\"b{9})*$", 0, 22), ("^(?:a|\u{4E2D}.{9}|\"b{9})*$", 11, 22),
    ] as [(String, Int, Int?)] {
      var rule = Constraint.StringRule()
      rule.automaton = pattern.isEmpty ? nil : try .pattern(pattern)
      rule.minLength = least
      rule.maxLength = most
      values.append((try FreeValue(rule, followedBy: most == 24 ? [] : [",\"key\":\"", ",\"other\":", "}"], defaultMaxLength: 40), "\(pattern) \(least) \(most ?? -1)"))
    }
    var rule = Constraint.NumberRule()
    values.append((try FreeValue(rule, followedBy: [",\"key\":", "}"]), "number"))
    rule.minimum = .init(JSON.Number(12.5), isExclusive: false)
    rule.maximum = .init(JSON.Number(1050), isExclusive: true)
    values.append((try FreeValue(rule), "12.5 to 1050"))
    return values
  }

  @Test(arguments: vocabularies)
  func masksAreWhatEveryTokenSays(path: String) throws {
    let tokenizer = try Tokenizer.load(path)
    let ids = (0..<TokenID(tokenizer.count)).filter { !tokenizer.bytes($0).isEmpty && tokenizer.token(tokenizer.bytes($0)) == $0 }
    // Little room for masks, so that some are given up and made again.
    let masks = TokenMasks(tokenizer, capacity: 1 << 18)
    var random = SplitMix64(seed: 31)
    var compared = 0
    for (value, name) in try Self.values() {
      for round in 0..<(tokenizer.count > 10_000 ? 2 : 12) {
        var state = value.start
        var steps = 0
        while true {
          let mask = masks.permitted(in: value, from: state)
          // Large vocabularies: not every step, all of them near the start.
          if tokenizer.count < 10_000 || steps < 4 || Int.random(in: 0..<4, using: &random) == 0 {
            let expected = ids.filter { value.next(state, tokenizer.bytes($0)) != nil }
            let found = mask.tokens
            if found != expected {
              Issue.record("\(name), step \(steps): missing \(Set(expected).subtracting(found).count), too many \(Set(found).subtracting(expected).count)")
            }
            #expect(mask.count == expected.count)
            compared += 1
          }
          #expect(mask.count > 0 || value.isComplete(state), "\(name): a dead end")
          if mask.count == 0 || value.isComplete(state) && Bool.random(using: &random) || steps > 60 { break }
          // Long tokens sometimes, short ones otherwise, so that some walks have many steps.
          let some = (0..<6).compactMap { _ in mask.tokens.randomElement(using: &random) }
          let length = { (id: TokenID) in tokenizer.bytes(id).count }
          guard let token = round % 2 == 0 ? some.min(by: { length($0) < length($1) }) : some.first, let next = value.next(state, tokenizer.bytes(token)) else {
            Issue.record("\(name): a token that leads nowhere")
            break
          }
          #expect(mask.contains(token))
          state = next
          steps += 1
        }
      }
    }
    #expect(compared > 60)
  }

  @Test(arguments: vocabularies)
  func theTrieHasEveryOrdinaryTokenOnce(path: String) throws {
    let tokenizer = try Tokenizer.load(path)
    let trie = VocabularyTrie(tokenizer)
    var bytes: [UInt8] = []
    var seen = Set<TokenID>()
    for (index, node) in trie.nodes.enumerated() {
      bytes.removeSubrange(node.depth...)
      bytes.append(node.byte)
      if node.token >= 0 {
        #expect(tokenizer.bytes(node.token).elementsEqual(bytes) && !tokenizer.isSpecial(node.token))
        seen.insert(node.token)
      }
      // What is below has a greater depth, what comes behind has not.
      if node.end <= index || trie.nodes[(index + 1)..<node.end].contains(where: { $0.depth <= node.depth }) { Issue.record("node \(index)") }
      if node.end < trie.nodes.count, trie.nodes[node.end].depth > node.depth { Issue.record("node \(index)") }
    }
    let ordinary = (0..<TokenID(tokenizer.count)).filter { !tokenizer.bytes($0).isEmpty && tokenizer.token(tokenizer.bytes($0)) == $0 }
    #expect(seen == Set(ordinary.filter { tokenizer.bytes($0).count <= VocabularyTrie.maxTokenBytes }))
    #expect(trie.byteCount < 3_000_000)
  }

  @Test func masksAreSetsOfTokens() {
    var random = SplitMix64(seed: 37)
    for count in [0, 1, 5, 63, 300, 1000] {
      let tokens = Array((0..<TokenID(1000)).shuffled(using: &random).prefix(count))
      let mask = TokenMask(tokens, of: 1000)
      #expect(mask.tokens == tokens.sorted() && mask.count == count)
      #expect((-2..<1100).allSatisfy { mask.contains($0) == tokens.contains($0) })
      #expect((mask.words == nil) == (count < 32))
      let less = mask.subtracting(tokens.prefix(count / 2))
      #expect(less.tokens == tokens.dropFirst(count / 2).sorted() && less.count == count - count / 2)
    }
  }
}
