import Basics
import Decoding
import Testing

@Suite struct TextCutsTests {
  /// Cuts as bars between the pieces of a text.
  private func pieces(_ text: String) -> String {
    let cuts = TextCuts.of(text)
    let bytes = Array(text.utf8)
    var out: [UInt8] = []
    for (i, byte) in bytes.enumerated() {
      if i > 0, cuts[i] { out.append(UInt8(ascii: "|")) }
      out.append(byte)
    }
    return String(decoding: out, as: UTF8.self)
  }

  @Test(arguments: [
    ("pump 3", "pump| |3"), ("SN-12", "SN|-|12"), ("21°C", "21|°|C"), ("größer", "größer"), ("温度計", "温|度|計"), ("温A", "温|A"),
    ("e\u{301}t", "e\u{301}t"), ("👩‍🚒🔥", "👩‍🚒|🔥"), ("a\r\nb", "a|\r\n|b"), ("กข", "ก|ข"), ("Ωμ", "Ωμ"), ("नमस्ते", "नमस्ते"), ("", ""),
  ])
  func wordsAndNumbersAreNotCut(text: String, cut: String) {
    #expect(pieces(text) == cut)
  }

  @Test func theEndIsACut() {
    #expect(TextCuts.of("ab") == [true, false, true])
  }
}

@Suite struct TextNumbersTests {
  @Test(arguments: [
    ("21", ["21"]), ("-3.5 bar", ["-3.5"]), ("007", ["7"]), (".5", ["0.5"]), ("1e-3", ["1e-3"]), ("1,234,567.8", ["1234567.8"]), ("1,234", ["1234"]),
    ("10.0.0.1", []), ("v2.4.1", []), ("3,5", []), ("SN-12", ["12"]), ("2026-11-24", ["2026", "11", "24"]), ("12:30", ["12", "30"]), ("5.", ["5"]),
    ("wait...5", ["5"]), ("−5 °C", ["-5"]), ("21°C", ["21"]), ("+7", ["7"]), ("1e999", []), ("0xFF", ["0"]), ("1e5f", []), ("no", []), ("x.5", ["5"]),
    ("00.50", ["0.50"]), ("-0", ["-0"]), ("٣", []), ("1,23,4", []), ("0,123", []), ("12,345.6,7", []),
  ])
  func numbersAreThoseThatCanBeReadInOneWay(text: String, expected: [String]) {
    #expect(TextNumbers.of(text).map(\.json.compact) == expected)
  }

  @Test func offsetsCoverTheNumberAsItStandsThere() {
    let text = "Druck −1,234.50 bar, Ventil 007"
    let numbers = TextNumbers.of(text)
    #expect(numbers.map { String(decoding: Array(text.utf8)[$0.bytes], as: UTF8.self) } == ["−1,234.50", "007"])
    #expect(numbers.map(\.json.compact) == ["-1234.50", "7"])
    #expect(numbers.map(\.isInteger) == [false, true])
  }

  @Test func everyNumberIsJSON() throws {
    var random = SystemRandomNumberGenerator()
    let alphabet = Array("0123456789.,-+eE x−")
    for _ in 0..<3000 {
      let text = String((0..<Int.random(in: 0...12, using: &random)).map { _ in alphabet.randomElement(using: &random) ?? "0" })
      for number in TextNumbers.of(text) {
        guard case .number(let value) = try JSON.parse(number.json.compact) else { Issue.record("\(text): not a number"); continue }
        #expect(value.double?.isFinite == true, "\(text)")
        #expect(!number.isInteger || value.int != nil || value.text.utf8.count > 18, "\(text)")
      }
    }
  }
}
