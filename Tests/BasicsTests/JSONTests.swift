import Basics
import Testing

private func failure(_ text: String, limits: JSON.Limits = JSON.Limits()) -> SternaError? {
  do {
    _ = try JSON.parse(text, limits: limits)
    return nil
  } catch { return error }
}

@Suite struct JSONTests {
  @Test(arguments: [
    "null", "true", "false", "0", "-0", "12.5e-3", "1E+2", "\"\"", "\"a\"", "[]", "{}", " [1 , 2 ]\n", "{\"a\":{\"b\":[null,true]},\"c\":\"d\"}",
    "[[[[]]]]", "\"größe 漏水 🙂\"", "{\"\":1}",
  ]) func valuesSurviveParsingAndWriting(_ text: String) throws {
    let value = try JSON.parse(text)
    #expect(try JSON.parse(value.compact) == value)
  }

  @Test func orderAndSpellingAreKept() throws {
    let text = #"{"z":1.0,"a":1e3,"m":-0,"b":[0.10,123456789012345678901234567890]}"#
    #expect(try JSON.parse(text).compact == text)
  }

  @Test(arguments: [
    "", " ", "nul", "tru", "falsey", "01", "-", "1.", ".5", "+1", "1e", "1e+", "0x10", "NaN", "Infinity", "'a'", "\"", "\"a", "\"\\", "\"\\x\"",
    "\"\\u12\"", "\"\\u12g4\"", "\"\\u+123\"", "\"\\u-000\"", "\"\\u 123\"", "\"\u{1}\"", "\"a\nb\"", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{", "{\"a\"",
    "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "{1:2}", "1 2", "[] []", "// x\n1", "\u{FEFF}1", "]", "}",
    "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}",
  ]) func whatIsNotJSONIsRefusedWithAPlace(_ text: String) {
    let error = failure(text)
    #expect(error?.code == .badJSON)
    #expect(error?.place?.hasPrefix("byte ") == true)
  }

  @Test func integersAreExact() throws {
    for (text, int) in [
      ("3", 3), ("3.0", 3), ("3e0", 3), ("-0", 0), ("1e18", 1_000_000_000_000_000_000), ("9007199254740993.0", 9_007_199_254_740_993), ("9223372036854775807", Int.max),
      ("-9223372036854775808.0", Int.min), ("3.5", nil), ("3.0000000000000000001", nil), ("9223372036854775808", nil), ("1e400", nil), ("1e-400", nil),
    ] as [(String, Int?)] {
      guard case .number(let number) = try JSON.parse(text) else { Issue.record("\(text)"); continue }
      #expect(number.int == int, "\(text)")
    }
  }

  @Test func escapesGiveTheirCharacters() throws {
    #expect(try JSON.parse(#""\"\\\/\b\f\n\r\t\u0041\u00e9\u6F0F\ud83d\ude42\u0000""#) == .string("\"\\/\u{8}\u{c}\n\r\tAé漏🙂\0"))
    for half in [#""\ud83d""#, #""\ud83dx""#, #""\ud83d\n""#, #""\ud83dA""#, #""\ude42""#, #""\ud83d\ud83d""#] {
      #expect(failure(half)?.message.contains("surrogate") == true, "\(half)")
    }
  }

  @Test func writingEscapesOnlyWhatMustBe() {
    #expect(JSON.string("\"\\\n\r\t\u{8}\u{c}\u{1}\u{1f}/é🙂\u{7f}").compact == "\"\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u001f/é🙂\u{7f}\"")
  }

  @Test func invalidUTF8IsRefused() {
    for bytes: [UInt8] in [[0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0x5C, 0x6E, 0xE2, 0x82, 0x22], [0xFF]] {
      #expect(throws: SternaError.self) { try JSON.parse(bytes) }
    }
  }

  @Test func namesAreEqualOnlyWhenTheirBytesAre() throws {
    // Ohm and omega, and e with acute in one and in two scalars: Swift's String takes each pair for equal.
    let value = try JSON.parse("{\"\u{2126}\":1,\"\u{3A9}\":2,\"\u{E9}\":3,\"e\u{301}\":4}")
    guard case .object(let object) = value else { Issue.record("no object"); return }
    #expect(object.count == 4)
    #expect(object["\u{3A9}"] == 2 && object["\u{2126}"] == 1 && object["e\u{301}"] == 4)
    #expect(try JSON.parse("{\"\u{E9}\":1}") != JSON.parse("{\"e\u{301}\":1}"))
  }

  @Test func limitsHold() {
    var limits = JSON.Limits()
    limits.bytes = 10
    #expect(failure("[1,2,3,4,5]", limits: limits)?.found == "11 bytes")
    #expect(failure("[1,2,3,45]", limits: limits) == nil)
    limits = JSON.Limits()
    limits.depth = 3
    #expect(failure("[[[]]]", limits: limits) == nil)
    #expect(failure("[{\"a\":[[]]}]", limits: limits)?.message.contains("deeper than 3") == true)
    #expect(failure("[[],[],[],[[]]]", limits: limits) == nil)
    limits = JSON.Limits()
    limits.values = 4
    #expect(failure("[1,2,3]", limits: limits) == nil)
    #expect(failure("[1,2,3,4]", limits: limits)?.message.contains("more than 4 values") == true)
    #expect(failure(String(repeating: "[", count: 100_000))?.code == .badJSON)
    #expect(failure(String(repeating: "{\"a\":", count: 100_000))?.code == .badJSON)
    #expect(failure(String(repeating: "1", count: 65))?.code == .badJSON)
  }

  @Test func numbersAreConvertedWhenAsked() throws {
    func number(_ text: String) throws -> JSON.Number? { if case .number(let n) = try JSON.parse(text) { n } else { nil } }
    #expect(try number("3.0")?.int == 3 && number("3e0")?.int == 3 && number("-0")?.int == 0 && number("9223372036854775807")?.int == .max)
    #expect(try number("3.5")?.int == nil && number("9223372036854775808")?.int == nil && number("1e999")?.int == nil)
    #expect(try number("2.5e-1")?.double == 0.25)
    #expect(JSON.number(Float(0.1)).compact == "0.1" && JSON.number(1.0).compact == "1" && JSON.number(Double.nan).compact == "0")
    #expect(JSON.number(1e300).compact == "1e+300" && JSON.number(Int.min).compact == "-9223372036854775808")
  }

  @Test func objectsKeepOrderThroughChanges() {
    var object: JSON.Object = ["a": 1, "b": 2, "c": 3]
    object["b"] = nil
    object["d"] = 4
    object["a"] = "x"
    object["missing"] = nil
    #expect(JSON.object(object).compact == #"{"a":"x","c":3,"d":4}"#)
    #expect(object["c"] == 3 && object["b"] == nil && object.count == 3)
    #expect(object != ["c": 3, "a": "x", "d": 4])
  }

  @Test func damagedTextNeverCrashes() {
    let text = Array(#"{"id":"é\ud83d\ude42","labels":["a",{"name":"b\n","x":[1.5e3,-0,null,true]}],"n":{}}"#.utf8)
    var state: UInt64 = 7
    func random(_ below: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % below
    }
    for _ in 0..<20_000 {
      var bytes = text
      for _ in 0...random(3) {
        switch random(3) {
        case 0: bytes[random(bytes.count)] = UInt8(random(256))
        case 1: bytes.remove(at: random(bytes.count))
        default: bytes.insert(Array("{}[]\",:\\u09dDeE+-.".utf8)[random(18)], at: random(bytes.count))
        }
      }
      if let value = try? JSON.parse(bytes) { #expect((try? JSON.parse(value.compactBytes)) == value) }
    }
  }
}
