import Foundation
import TestSupport
import Testing
import Tokenizer

/// The scanners against the patterns that they stand for, run by ICU.
@Suite struct SplitRuleTests {
  /// ICU's `\s` lacks some of White_Space, which the patterns mean.
  private func expression(_ pattern: String) throws -> NSRegularExpression {
    let spelled = pattern.unicodeScalars.map { $0.value > 0x7E ? "\\x{\(String($0.value, radix: 16))}" : String($0) }.joined()
    return try NSRegularExpression(
      pattern: spelled.replacingOccurrences(of: "(?!\\S)", with: "(?!\\P{White_Space})").replacingOccurrences(of: "\\s", with: "\\p{White_Space}"))
  }

  /// Cuts every piece at the matches of a pattern: matches are pieces, and so is what lies between them.
  private func isolate(_ pieces: [String], _ expression: NSRegularExpression) -> [String] {
    pieces.flatMap { piece in
      let text = piece as NSString
      var out: [String] = []
      var at = 0
      for match in expression.matches(in: piece, range: NSRange(location: 0, length: text.length)) {
        if match.range.location > at { out.append(text.substring(with: NSRange(location: at, length: match.range.location - at))) }
        out.append(text.substring(with: match.range))
        at = match.range.upperBound
      }
      if at < text.length { out.append(text.substring(from: at)) }
      return out
    }
  }

  private func compare(_ rule: SplitRule, _ expected: (String) throws -> [[UInt8]]) throws {
    var random = SplitMix64(seed: UInt64(rule.rawValue))
    for length in [1, 2, 3, 4, 5, 6, 8, 12, 20, 60] {
      for _ in 0..<300 {
        let text = random.text(length)
        let bytes = Array(text.utf8)
        let found = TextSplitter.pieces(of: bytes, rule).map { Array(bytes[$0]) }
        let wanted = try expected(text)
        if found != wanted {
          Issue.record("\(text.unicodeScalars.map { String($0.value, radix: 16) }): \(found.map { String(decoding: $0, as: UTF8.self) }) instead of \(wanted.map { String(decoding: $0, as: UTF8.self) })")
          return
        }
      }
    }
  }

  @Test(arguments: [(SplitRule.llamaBPE, SplitPattern.llamaBPE), (.qwen2, SplitPattern.qwen2), (.gpt2, SplitPattern.gpt2)])
  func rulesOfOnePatternCutAsTheirPatternSays(_ rule: SplitRule, _ pattern: String) throws {
    let expression = try expression(pattern)
    try compare(rule) { isolate([$0], expression).map { Array($0.utf8) } }
  }

  @Test func deepseekCutsAsItsPatternsSay() throws {
    let expressions = try SplitPattern.deepseekLLM.map {
      // `$` of the source means the end of the piece.
      try expression($0.replacingOccurrences(of: "$", with: "\\z"))
    }
    let numbers = try expression("\\p{N}")
    try compare(.deepseekLLM) { text in
      (expressions + [numbers]).reduce([text]) { isolate($0, $1) }.map { Array($0.utf8) }
    }
  }

  @Test func falconCutsPunctuationThenWordsThenDigitsOfTheByteAlphabet() throws {
    let punctuation = try expression("[\\p{P}$+<=>\\^`|~]+")
    let words = try expression(SplitPattern.gpt2)
    let digits = try expression("\\p{N}+")
    let threes = try expression("[0-9][0-9][0-9]")
    var byteOf: [Unicode.Scalar: UInt8] = [:]
    var shifted: UInt32 = 0x100
    for byte in UInt8.min...UInt8.max {
      if 0x21...0x7E ~= byte || 0xA1...0xAC ~= byte || 0xAE...0xFF ~= byte {
        byteOf[Unicode.Scalar(byte)] = byte
      } else {
        byteOf[try #require(Unicode.Scalar(shifted))] = byte
        shifted += 1
      }
    }
    let scalarOf = Dictionary(uniqueKeysWithValues: byteOf.map { ($1, $0) })
    try compare(.falcon) { text in
      let mapped = isolate(isolate([text], punctuation), words).map { piece in
        piece.utf8.reduce(into: "") { $0.unicodeScalars.append(scalarOf[$1] ?? " ") }
      }
      return isolate(isolate(mapped, digits), threes).map { $0.unicodeScalars.map { byteOf[$0] ?? 0 } }
    }
  }

  @Test(arguments: SplitRule.allCases) func piecesCoverAnyBytes(_ rule: SplitRule) {
    var random = SplitMix64(seed: 7)
    for length in 0..<200 {
      let bytes = random.bytes(length)
      let pieces = TextSplitter.pieces(of: bytes, rule)
      #expect(pieces.flatMap { Array($0) } == Array(bytes.indices))
      #expect(!pieces.contains { $0.isEmpty })
    }
  }

  @Test func strayBytesCountAsCharactersOfTheirOwn() {
    // A lone continuation byte is no letter, so it ends a word.
    #expect(TextSplitter.pieces(of: [0x61, 0x80, 0x62], .llamaBPE) == [0..<1, 1..<3])
    // Half of a sequence, an overlong one, a surrogate, beyond U+10FFFF.
    for bytes: [UInt8] in [[0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF0, 0x9F, 0xA6]] {
      #expect(TextSplitter.pieces(of: bytes + Array(" a".utf8), .qwen2).map(\.count) == [bytes.count, 2])
    }
  }
}
