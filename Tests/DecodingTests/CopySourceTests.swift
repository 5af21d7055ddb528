import Basics
import Decoding
import TestSupport
import Testing

/// A vocabulary made up for a test: all byte strings given, ids in their order.
struct TestVocabulary {
  let tokens: [[UInt8]]
  private let ids: [[UInt8]: Int32]

  init(_ tokens: [[UInt8]]) {
    self.tokens = tokens
    ids = Dictionary(tokens.enumerated().map { ($1, Int32($0)) }, uniquingKeysWith: { first, _ in first })
  }

  /// Single bytes first, then random pieces of the text itself: many tokens that fit, also across characters and escapes.
  init(allBytesAnd pieces: [[UInt8]]) { self.init((0...255).map { [UInt8($0)] } + pieces) }

  func source(_ text: String) -> CopySource {
    CopySource(text, longestToken: tokens.map(\.count).max() ?? 1) { ids[Array($0)] }
  }
}

/// Texts with everything that makes copying hard.
enum HardTexts {
  static let atoms: [String] = [
    "a", "pump", "Ventil", " ", " ", " ", "  ", "\n", "\t", "\"", "\\", "\\n", "\u{1}", "é", "e\u{301}", "ö", "👩‍🚒", "🔥", "🇩🇪", "温度", "計", "ก", "नमस्ते", "12", "3.5", "-7", ".", ",",
    "{", "}", "null", "</s>", "<|eot_id|>", "\u{FEFF}", "\u{200D}", "\r\n", "/", "Ω", "x", "SN-12", "𝔘", "\u{7F}",
  ]

  static func random(_ random: inout some RandomNumberGenerator, atoms count: Int) -> String {
    (0..<count).map { _ in atoms.randomElement(using: &random) ?? "a" }.joined()
  }
}


@Suite struct CopySourceTests {
  private func randomPieces(of text: String, _ random: inout SplitMix64) -> [[UInt8]] {
    let escaped = Array(JSON.string(text).compact.utf8.dropFirst().dropLast())
    guard escaped.count > 1 else { return [] }
    return (0..<20).map { _ in
      let from = Int.random(in: 0..<escaped.count, using: &random)
      return Array(escaped[from..<min(escaped.count, from + Int.random(in: 2...7, using: &random))])
    }
  }

  /// Any walk over permitted tokens can be closed, and then what was written is, unescaped and trimmed, the evidence; the evidence is in the text, at the offsets given.
  @Test func everyWalkEndsInAPartOfTheText() throws {
    var random = SplitMix64(seed: 1)
    for round in 0..<1500 {
      let text = HardTexts.random(&random, atoms: Int.random(in: 1...14, using: &random))
      let pieces = randomPieces(of: text, &random)
      let vocabulary: TestVocabulary
      if round % 3 == 0 {  // not every byte has a token: some ways lead nowhere, and must not be entered
        let all = Set(JSON.string(text).compact.utf8)
        vocabulary = TestVocabulary(all.filter { _ in Int.random(in: 0..<5, using: &random) > 0 }.sorted().map { [$0] } + pieces)
      } else {
        vocabulary = TestVocabulary(allBytesAnd: pieces)
      }
      let source = vocabulary.source(text)
      for _ in 0..<4 where !source.strings.isEmpty {
        var copy = Copy(source.strings)
        var written: [UInt8] = []
        var cuts = TextCuts.of(text)
        cuts[cuts.count - 1] = true
        while true {
          let permitted = copy.permitted(in: source)
          #expect(permitted == Set(permitted).sorted())
          let end = copy.closed(in: source)?.1
          guard end != nil || !permitted.isEmpty else { Issue.record("dead end in \(JSON.string(text).compact) behind \(written)"); break }
          if let end, permitted.isEmpty || Int.random(in: 0..<4, using: &random) == 0 {
            let value = source.string(end)
            let unescaped = try JSON.parse([UInt8(ascii: "\"")] + written + [UInt8(ascii: "\"")])
            guard case .string(let content) = unescaped else { Issue.record("no string"); break }
            #expect(String(trimmed(content)) == value)
            #expect(Array(text.utf8)[end.bytes].elementsEqual(value.utf8))
            #expect(String(String.UnicodeScalarView(Array(text.unicodeScalars)[end.scalars])) == value)
            #expect(cuts[end.bytes.lowerBound] && cuts[end.bytes.upperBound])
            break
          }
          guard let token = permitted.randomElement(using: &random) else { break }
          copy.append(token, in: source)
          written += vocabulary.tokens[Int(token)]
          #expect(!copy.occurrences.isEmpty && copy.length == written.count)
        }
      }
    }
  }

  private func trimmed(_ text: String) -> Substring.UnicodeScalarView {
    var scalars = Substring(text).unicodeScalars
    while scalars.first?.properties.isWhitespace == true { scalars.removeFirst() }
    while scalars.last?.properties.isWhitespace == true { scalars.removeLast() }
    return scalars
  }

  @Test func theFirstOccurrenceIsTheEvidence() {
    let source = TestVocabulary(allBytesAnd: []).source("ab abc ab")
    var copy = Copy(source.strings)
    for byte in "ab".utf8 { copy.append(Int32(byte), in: source) }
    #expect(copy.closed(in: source)?.1 == CopiedSpan(bytes: 0..<2, scalars: 0..<2))
    copy.append(Int32(UInt8(ascii: "c")), in: source)
    #expect(copy.closed(in: source)?.1 == CopiedSpan(bytes: 3..<6, scalars: 3..<6))
  }

  @Test func aWordCannotBeEnteredOrLeftInItsMiddle() {
    let source = TestVocabulary(allBytesAnd: []).source("pump")
    var copy = Copy(source.strings)
    #expect(copy.permitted(in: source) == [Int32(UInt8(ascii: "p"))])
    for byte in "pum".utf8 { copy.append(Int32(byte), in: source) }
    #expect(copy.closed(in: source)?.1 == nil)
    #expect(copy.brokenOff(in: source)?.1 == nil)
  }

  @Test func aValueBrokenOffKeepsItsWholeWords() {
    let source = TestVocabulary(allBytesAnd: []).source("main pump")
    var copy = Copy(source.strings)
    for byte in "main pu".utf8 { copy.append(Int32(byte), in: source) }
    #expect(copy.brokenOff(in: source).map { source.string($0.1) } == "main")
  }

  @Test func escapesAreCopiedWholeAndCountAsOneCharacter() {
    let source = TestVocabulary(allBytesAnd: []).source("a\"b")
    #expect(String(decoding: source.escaped, as: UTF8.self) == #"a\"b"#)
    var copy = Copy(source.strings)
    copy.append(Int32(UInt8(ascii: "a")), in: source)
    copy.append(Int32(UInt8(ascii: "\\")), in: source)
    #expect(copy.closed(in: source)?.1 == nil)
    copy.append(Int32(UInt8(ascii: "\"")), in: source)
    #expect(copy.closed(in: source)?.1 == CopiedSpan(bytes: 0..<2, scalars: 0..<2))
  }

  @Test func aNumberIsCopiedWhole() {
    let source = TestVocabulary(allBytesAnd: [Array("1.".utf8)]).source("at 21.5 or 21")
    var copy = Copy(source.numbers)
    copy.append(Int32(UInt8(ascii: "2")), in: source)
    copy.append(Int32(UInt8(ascii: "1")), in: source)
    #expect(copy.closed(in: source).flatMap { source.number(startingAt: $0.0.start) }?.json.compact == "21")
    #expect(copy.closed(in: source)?.1.bytes == 11..<13)
    #expect(copy.permitted(in: source) == [Int32(UInt8(ascii: "."))])
  }
}

@Suite struct LabelTrieTests {
  @Test func onlyPartingPlacesAreKept() {
    // 9 ends a label. [1,2] is the beginning of [1,2,3]; [4,5,6,7] parts from them at once.
    let trie = LabelTrie([[1, 2], [1, 2, 3], [4, 5, 6, 7]], end: 9)
    #expect(trie.labelCount == 3)
    #expect(trie.tokenCount == 2)  // only 1 and 2 must be fed, in front of the choice between 3 and the end
    #expect(trie.depth == 2)
  }

  @Test func oneLabelNeedsNoDecision() {
    #expect(LabelTrie([[5, 6]], end: 9).tokenCount == 0)
    #expect(LabelTrie([], end: 9).labelCount == 0)
  }
}
