import Basics
import Testing

private func exact(_ text: String) throws -> ExactDecimal {
  guard case .number(let number) = try JSON.parse(text) else { throw SternaError(.badJSON, "no number") }
  return try #require(ExactDecimal(number))
}

@Suite struct ExactDecimalTests {
  @Test(arguments: [
    ("1", "1.0"), ("1", "1e0"), ("100", "1e2"), ("100", "1E+2"), ("0.001", "1e-3"), ("0", "-0"), ("0", "0.000e99"), ("0", "0e999999999999"), ("-12.50", "-125e-1"),
    ("12345678901234567890", "1.2345678901234567890e19"), ("1e400", "10e399"),
  ]) func spellingsOfOneNumberAreEqual(_ a: String, _ b: String) throws {
    #expect(try exact(a) == exact(b))
    #expect(try exact(a).hashValue == exact(b).hashValue)
    #expect(try !(exact(a) < exact(b)) && !(exact(b) < exact(a)))
  }

  /// Doubles cannot tell several of these apart.
  @Test func numbersAreOrderedWithoutRounding() throws {
    let ascending = [
      "-1e400", "-1e399", "-9007199254740993", "-9007199254740992", "-2", "-1.5", "-1.25", "-1", "-0.1", "-1e-400", "0", "1e-400", "0.09",
      "0.1", "0.1000000000000000055511151231257827", "0.11", "1", "1.0000000000000000000001", "9", "10", "10.5", "99", "9007199254740992", "9007199254740993", "1e399", "1.1e399", "1e400", "1e999999999",
    ]
    let values = try ascending.map(exact)
    for i in values.indices { for j in values.indices { #expect((values[i] < values[j]) == (i < j), "\(ascending[i]) \(ascending[j])") } }
  }

  @Test func exponentsWithoutEndHaveNoValue() throws {
    guard case .number(let number) = try JSON.parse("1e1000000000") else { return }
    #expect(ExactDecimal(number) == nil)
  }

  @Test func integersAreKnown() throws {
    for text in ["0", "-3", "1.0", "1e2", "1.5e1", "120e-1", "1e400", "-0.0"] { #expect(try exact(text).isInteger, "\(text)") }
    for text in ["0.5", "1e-1", "1.5", "12e-1", "1.00001", "1e-400", "-2.5"] { #expect(try !exact(text).isInteger, "\(text)") }
    for (text, value) in [("0", 0), ("-30", -30), ("1.5e1", 15), ("9223372036854775807", Int.max), ("-9223372036854775808", Int.min)] {
      #expect(try exact(text).int == value)
      #expect(try exact(text) == ExactDecimal(value))
    }
    for text in ["9223372036854775808", "-9223372036854775809", "1e19", "1e400", "0.5"] { #expect(try exact(text).int == nil) }
  }

  @Test(arguments: [
    ("0.5", "0", "1"), ("-0.5", "-1", "0"), ("1.5", "1", "2"), ("-1.5", "-2", "-1"), ("99.9", "99", "100"), ("-99.9", "-100", "-99"), ("7", "7", "7"), ("1e-400", "0", "1"),
    ("-1e-400", "-1", "0"), ("1e400", "1e400", "1e400"), ("199.99", "199", "200"),
  ]) func roundingGoesToTheNeighbours(_ text: String, _ down: String, _ up: String) throws {
    #expect(try exact(text).rounded(up: false) == exact(down))
    #expect(try exact(text).rounded(up: true) == exact(up))
  }

  @Test func integersHaveNeighbours() throws {
    for value in [-1000, -101, -100, -11, -10, -9, -2, -1, 0, 1, 2, 9, 10, 11, 99, 100, 999, 1000] {
      #expect(ExactDecimal(value).next == ExactDecimal(value + 1) && ExactDecimal(value).previous == ExactDecimal(value - 1), "\(value)")
    }
    #expect(try exact("99999999999999999999").next == exact("1e20"))
  }

  @Test(arguments: ["0", "1", "-1", "120", "0.5", "-12.25", "0.000001", "1e-7", "123456789012345678901", "1e21", "1e400", "-1.25e-30", "1234567890123456789012345.5"])
  func writingGivesTheSameNumber(_ text: String) throws {
    let value = try exact(text)
    #expect(try exact(JSON.Number(value).text) == value)
  }

  @Test func plainNumbersAreWrittenPlainly() throws {
    for text in ["0", "1", "-1", "120", "0.5", "-12.25", "0.000001", "100000000000000000000", "1e400", "1.5e-9"] { #expect(try JSON.Number(exact(text)).text == text) }
  }

  @Test func randomNumbersCompareLikeIntegers() throws {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<2_000 {
      // The same scale, so that comparing integers is the reference.
      let (a, b) = (Int.random(in: -9_999...9_999, using: &random), Int.random(in: -9_999...9_999, using: &random))
      let scale = Int.random(in: -30...30, using: &random)
      let (x, y) = (try exact("\(a)e\(scale)"), try exact("\(b).00e\(scale)"))
      #expect((x < y) == (a < b) && (x == y) == (a == b))
    }
  }
}

@Suite struct ValueKeyTests {
  private func key(_ text: String) throws -> JSON.ValueKey { try JSON.parse(text).valueKey }

  @Test(arguments: [
    ("1", "1.0"), ("[1,2e0]", "[10e-1,2]"), (#"{"a":1,"b":[2]}"#, #"{"b":[2.0],"a":1}"#), (#""\u0061""#, #""a""#), ("-0", "0"), (#"{"a":{"y":0,"x":1}}"#, #"{"a":{"x":1,"y":0}}"#),
  ]) func equalValues(_ a: String, _ b: String) throws { #expect(try key(a) == key(b)) }

  @Test(arguments: [
    ("1", "true"), ("0", "false"), ("0", "null"), ("1", "\"1\""), ("[1]", "1"), ("[1,2]", "[2,1]"), ("[12]", "[1,2]"), ("[]", "{}"), (#"{"a":1}"#, #"{"a":1,"b":null}"#),
    ("9007199254740992", "9007199254740993"), ("\"e\u{301}\"", "\"\u{E9}\""), (#"["a","b"]"#, #"["a\",\"b"]"#), ("0.1", "0.10000000000000001"), ("-1", "1"), ("1", "10"),
  ]) func differentValues(_ a: String, _ b: String) throws { #expect(try key(a) != key(b)) }
}
