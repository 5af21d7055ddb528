import Basics
import Testing

import Decoding
import TestSupport

/// What every machine promises, checked along random ways through it.
private struct Walker {
  var random: SplitMix64
  let value: FreeValue

  /// The bytes of a value, chosen at random from what may follow; nil when it became too long.
  mutating func walk(endingAfter length: Int) -> [UInt8]? {
    var state = value.start
    var bytes: [UInt8] = []
    while true {
      let successors = (0...255 as ClosedRange<UInt8>).compactMap { byte in value.next(state, byte).map { (byte, $0) } }
      let needed = value.bytesToFinish(state)
      #expect(value.isComplete(state) == (needed == 0))
      #expect(needed == 0 || successors.contains { value.bytesToFinish($0.1) < needed }, "no way to finish behind \(String(decoding: bytes, as: UTF8.self))")
      if successors.isEmpty || needed == 0 && (bytes.count >= length || Bool.random(using: &random)) { return bytes }
      guard bytes.count < 500 else { return nil }
      // When it is long enough, what finishes soonest.
      let next =
        bytes.count >= length
        ? successors.min { value.bytesToFinish($0.1) < value.bytesToFinish($1.1) }
        : Int.random(in: 0..<3, using: &random) == 0 ? successors.filter { $0.0 < 0x80 }.randomElement(using: &random) ?? successors.randomElement(using: &random)
          : successors.randomElement(using: &random)
      guard let next else { return nil }
      bytes.append(next.0)
      state = next.1
    }
  }
}

private func accepts(_ value: FreeValue, _ text: String) -> Bool { value.next(value.start, text.utf8).map(value.isComplete) ?? false }

@Suite struct FreeStringTests {
  private static let patterns = [
    "", "^[a-c]*$", "^(?:ab)*$", "^(?:aaa|bb)*$", "^(?:😀|aé\\n)*$", "^\\d{4}-\\d{2}$", "\\\\", "\"", "^[^a]*$", "^.{2,5}$", "^(?:a{6}|b{10})*$", "^(?:a|\\x01)b$", "^[\\n\"]+$", "^(?:a|bcd|é😀€)$",
    "^(?:[a-z]{3}\\.)*[é-\u{FFFF}]$", "x$", "^\\S*\\s\\S*$", "^(?:a|b(?:cc)*)$",
  ]

  private static func rules() throws -> [(Constraint.StringRule, String)] {
    try patterns.flatMap { pattern in
      try [(0, nil), (1, 1), (0, 3), (3, 3), (2, 7), (5, nil), (4, 5), (0, 40), (11, 30)].map { (least: Int, most: Int?) in
        var rule = Constraint.StringRule()
        rule.automaton = pattern.isEmpty ? nil : try .pattern(pattern)
        rule.minLength = least
        rule.maxLength = most
        return (rule, "\(pattern.debugDescription) \(least)...\(most.map(String.init) ?? "")")
      }
    }
  }

  /// What a rule means, said once more.
  private func obeys(_ text: String, _ rule: Constraint.StringRule) -> Bool {
    let scalars = text.unicodeScalars
    return scalars.count >= rule.minLength && scalars.count <= rule.maxLength ?? .max && rule.automaton?.matches(text) ?? true
      && scalars.allSatisfy { $0.value >= 0x20 || "\u{8}\t\n\u{C}\r".unicodeScalars.contains($0) }
  }

  @Test func everyWayEndsInAStringThatObeys() throws {
    var walked = 0
    for (index, (rule, name)) in try Self.rules().enumerated() {
      guard let value = try? FreeValue(rule, defaultMaxLength: 20) else { continue }
      var walker = Walker(random: SplitMix64(seed: UInt64(index)), value: value)
      for round in 0..<40 {
        guard let bytes = walker.walk(endingAfter: round) else { Issue.record("\(name): no end"); continue }
        guard let json = try? JSON.parse(String(decoding: bytes, as: UTF8.self)), case .string(let text) = json else { Issue.record("\(name): \(bytes) is no string"); continue }
        #expect(obeys(text, rule), "\(name): \(text.debugDescription)")
        #expect(json.compact.utf8.elementsEqual(bytes), "\(name): \(text.debugDescription)")
        #expect(rule.maxLength != nil || text.unicodeScalars.count <= max(20, rule.minLength + 12), "\(name): \(text.debugDescription)")
        walked += 1
      }
    }
    #expect(walked > 4000)
  }

  @Test func everyStringThatObeysCanBeWritten() throws {
    let alphabet = ["a", "b", "c", "\"", "\\", "\n", "é", "😀", ".", "/", "\u{1}", "\u{7F}", "\u{8}", "\u{2028}"]
    var texts = [""]
    var last = [""]
    for _ in 0..<3 {
      last = last.flatMap { text in alphabet.map { text + $0 } }
      texts += last
    }
    var random = SplitMix64(seed: 17)
    for length in 4...8 { for _ in 0..<1500 { texts.append((0..<length).map { _ in alphabet.prefix(8).randomElement(using: &random) ?? "a" }.joined()) } }
    texts += (1...9).flatMap { count in ["a", "b", "ab", "aaabb", "😀aé\n", "bcc"].map { String(repeating: $0, count: count) } }
    for (rule, name) in try Self.rules() {
      let value = try? FreeValue(rule, defaultMaxLength: 60)
      var written = 0
      for text in texts {
        let isWritten = value.map { accepts($0, JSON.string(text).compact) } ?? false
        if isWritten { written += 1 }
        if isWritten != obeys(text, rule) { Issue.record("\(name): \(text.debugDescription) should be \(!isWritten)") }
      }
      // A rule that is refused is one that nothing obeys.
      if value == nil { #expect(written == 0, "\(name)") }
    }
  }

  @Test func otherSpellingsAreNotWritten() throws {
    let value = try FreeValue(Constraint.StringRule(), defaultMaxLength: 9)
    for text in ["\"\\u0041\"", "\"\\/\"", "\"\n\"", "\"a", "a\"", "'a'", " \"a\"", "\"a\" ", "\"\\x\"", "\"\u{1F}\"", "null"] { #expect(!accepts(value, text), "\(text)") }
    for bytes in [[0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0xFF, 0x22], [0x22, 0xC3, 0x22], [0x22, 0xC3, 0x5C]] as [[UInt8]] {
      #expect(value.next(value.start, bytes) == nil)
    }
  }

  @Test func rulesThatNothingObeysAreRefused() throws {
    for (pattern, least, most) in [("^\\x01$", 0, nil), ("^(?:ab)*$", 3, 3), ("^a$", 2, nil), ("^a{5}$", 0, 4), ("", 3, 2)] as [(String, Int, Int?)] {
      var rule = Constraint.StringRule()
      rule.automaton = try .pattern(pattern)
      rule.minLength = least
      rule.maxLength = most
      #expect { try FreeValue(rule, defaultMaxLength: 9) } throws: { ($0 as? SternaError)?.code == .unsupported }
    }
    var rule = Constraint.StringRule()
    rule.minLength = .max
    #expect(throws: SternaError.self) { try FreeValue(rule, defaultMaxLength: 9) }
    rule.minLength = 1 << 18
    rule.automaton = try .pattern("^(?:abc)*$")
    #expect(throws: SternaError.self) { try FreeValue(rule, defaultMaxLength: 9) }
  }

  @Test func theDefaultLengthMakesRoomForTheShortest() throws {
    var rule = Constraint.StringRule()
    rule.automaton = try .pattern("^a{30}b*$")
    let value = try FreeValue(rule, defaultMaxLength: 5)
    #expect(accepts(value, "\"\(String(repeating: "a", count: 30))\"") && !accepts(value, "\"\(String(repeating: "a", count: 30))b\""))
  }
}

@Suite struct FreeNumberTests {
  private func rule(_ minimum: String?, _ maximum: String?, isInteger: Bool = false, exclusive: (Bool, Bool) = (false, false)) throws -> Constraint.NumberRule {
    func bound(_ text: String?, _ isExclusive: Bool) throws -> Constraint.NumberRule.Bound? {
      guard let text, case .number(let number) = try JSON.parse(text) else { return nil }
      return .init(number, isExclusive: isExclusive)
    }
    var rule = Constraint.NumberRule()
    rule.isInteger = isInteger
    rule.minimum = try bound(minimum, exclusive.0)
    rule.maximum = try bound(maximum, exclusive.1)
    return rule
  }

  /// A number in hundredths, in some spelling of JSON.
  private func spelling(_ hundredths: Int, _ random: inout SplitMix64) -> String {
    let sign = hundredths < 0 ? "-" : ""
    let whole = abs(hundredths) / 100
    let fraction = abs(hundredths) % 100
    let digits = (fraction < 10 ? "0" : "") + String(fraction)
    return [
      "\(sign)\(whole).\(digits)", "\(sign)\(abs(hundredths))e-2", "\(sign)\(whole).\(digits)000E0", "\(sign)\(abs(hundredths))00000.00e-7",
      "\(sign)0.\(String(repeating: "0", count: 5))\(abs(hundredths))e+\(3 + String(abs(hundredths)).count)",
    ].randomElement(using: &random) ?? ""
  }

  @Test func exactlyTheNumbersWithinTheBoundsCanBeWritten() throws {
    var random = SplitMix64(seed: 23)
    for round in 0..<300 {
      let bounds = [Int.random(in: -1500...1500, using: &random), Int.random(in: -15...15, using: &random), Int.random(in: -15...15, using: &random) * 100]
      let low = round % 5 == 0 ? nil : bounds.randomElement(using: &random)
      let high = round % 7 == 0 ? nil : bounds.randomElement(using: &random).map { $0 + [0, 1, 7, 100, 2000].randomElement(using: &random)! }
      let exclusive = (Bool.random(using: &random), Bool.random(using: &random))
      let isInteger = round % 3 == 0
      let rule = try rule(low.map { spelling($0, &random) }, high.map { spelling($0, &random) }, isInteger: isInteger, exclusive: exclusive)
      func allows(_ hundredths: Int) -> Bool {
        (low.map { exclusive.0 ? hundredths > $0 : hundredths >= $0 } ?? true) && (high.map { exclusive.1 ? hundredths < $0 : hundredths <= $0 } ?? true)
          && (!isInteger || hundredths % 100 == 0)
      }
      let value = try? FreeValue(rule)
      for hundredths in -1700...3600 where value == nil || hundredths % 3 == 0 || abs(hundredths) < 300 || hundredths % 100 == 0 {
        let whole = "\(hundredths < 0 ? "-" : "")\(abs(hundredths) / 100)"
        let fraction = (abs(hundredths) % 100 < 10 ? "0" : "") + String(abs(hundredths) % 100)
        var texts = isInteger ? [] : ["\(whole).\(fraction)", "\(whole).\(fraction)0"]
        if hundredths % 100 == 0 { texts.append(whole) }
        if hundredths % 10 == 0, !isInteger { texts.append("\(whole).\(fraction.prefix(1))") }
        for text in texts where value.map({ accepts($0, text) }) ?? false != allows(hundredths) {
          Issue.record("\(text) in \(low ?? -99999) \(high ?? 99999) \(exclusive) \(isInteger)")
        }
      }
    }
  }

  @Test func everyWayEndsInANumberWithinTheBounds() throws {
    var random = SplitMix64(seed: 29)
    let bounds = ["0", "-1", "1", "100", "1e3", "-2.5E+1", "0.000001", "-0.000001", "1e-9", "-1e-9", "1e15", "999999999999999", "-999999999999999", "123456789.123456", "7.0000001", "1e400", "-1e400", "0.1", "0.30000000000000004"]
    var walked = 0
    for index in 0..<400 {
      let low = Int.random(in: 0..<3, using: &random) == 0 ? nil : bounds.randomElement(using: &random)
      let high = Int.random(in: 0..<3, using: &random) == 0 ? nil : bounds.randomElement(using: &random)
      let rule = try rule(low, high, isInteger: index % 3 == 0, exclusive: (Bool.random(using: &random), Bool.random(using: &random)))
      guard let value = try? FreeValue(rule) else { continue }
      var walker = Walker(random: SplitMix64(seed: UInt64(index)), value: value)
      for round in 0..<20 {
        guard let bytes = walker.walk(endingAfter: round) else { Issue.record("no end"); continue }
        let text = String(decoding: bytes, as: UTF8.self)
        walked += 1
        guard case .number(let number)? = try? JSON.parse(text), let double = number.double else { Issue.record("\(text) is no number"); continue }
        #expect(rule.minimum?.value.double.map { rule.minimum?.isExclusive == true ? double > $0 : double >= $0 } ?? true, "\(text) in \(rule)")
        #expect(rule.maximum?.value.double.map { rule.maximum?.isExclusive == true ? double < $0 : double <= $0 } ?? true, "\(text) in \(rule)")
        #expect(!rule.isInteger || number.int != nil && !text.contains("."), "\(text)")
        #expect(!text.hasPrefix("-0") || double != 0, "\(text)")
        #expect(text.utf8.count { 0x30...0x39 ~= $0 } <= 15 && text.split(separator: ".").last.map { text.contains(".") ? $0.count <= 6 : true } ?? false, "\(text)")
      }
    }
    #expect(walked > 3000)
  }

  @Test func spellingsAreThoseOfPlainDecimals() throws {
    let value = try FreeValue(Constraint.NumberRule())
    for text in ["0", "7", "-7", "0.5", "-0.25", "10", "999999999999999", "123456789.123456", "12345678901234.5", "1.50", "-0.000001"] { #expect(accepts(value, text), "\(text)") }
    for text in ["-0", "-0.0", "-0.000000", "00", "01", "+1", ".5", "5.", "1e3", "-", "", "1.0000000", "1000000000000000", "1234567890.123456", "--1", "1.2.3", "0x1", "1 "] {
      #expect(!accepts(value, text), "\(text)")
    }
    #expect(value.next(value.start, "-0.00000".utf8) != nil && value.next(value.start, "-0.000000".utf8) == nil)
  }

  @Test func boundsThatADoubleDoesNotTellApartAreBounds() throws {
    // 0.1 is this double, and nothing greater than 0.1 but equal to it as a double may pass.
    let above = try FreeValue(rule("0.1000000000000000055", nil, exclusive: (true, false)))
    #expect(!accepts(above, "0.1") && accepts(above, "0.100001"))
    let nearly = try FreeValue(rule("0.0999999999999999999999", nil, exclusive: (true, false)))
    #expect(!accepts(nearly, "0.1") && accepts(nearly, "0.100001"))
    let below = try FreeValue(rule(nil, "0.1000000000000000001", exclusive: (false, true)))
    #expect(!accepts(below, "0.1") && accepts(below, "0.099999"))
    let great = try FreeValue(rule(nil, "99999999999999.90000000000000001", exclusive: (false, true)))
    #expect(!accepts(great, "99999999999999.9") && accepts(great, "99999999999999.8"))
    let negative = try FreeValue(rule("-0.1000000000000000001", nil, exclusive: (true, false)))
    #expect(!accepts(negative, "-0.1") && accepts(negative, "-0.099999"))
  }

  @Test func boundsWithoutANumberBetweenThemAreRefused() throws {
    for (low, high, isInteger) in [("2", "1", false), ("0.2", "0.8", true), ("1e15", nil, false), (nil, "-1e15", true), ("0.0000001", "0.0000009", false), ("1e400", nil, false)] as [(String?, String?, Bool)] {
      #expect { try FreeValue(rule(low, high, isInteger: isInteger)) } throws: { ($0 as? SternaError)?.code == .unsupported }
    }
    #expect(throws: SternaError.self) { try FreeValue(rule("1", "1", exclusive: (true, false))) }
    #expect(try accepts(FreeValue(rule("1", "1")), "1"))
    #expect(try accepts(FreeValue(rule("1e-999999999999999999999", "1e999999999999999999999")), "1"))
  }

  @Test func whatFollowsEndsTheNumber() throws {
    let value = try FreeValue(rule("5", "120"), followedBy: [",\"b\":", "}", "]x"])
    for text in ["7}", "12,\"b\":", "120]x", "5.5}"] { #expect(accepts(value, text), "\(text)") }
    for text in ["7", "1}", "1,\"b\":", "121}", "7,", "7}}", "7]", "5.}", "7,\"c\":"] { #expect(!accepts(value, text), "\(text)") }
    #expect(value.bytesToFinish(value.start) == 2)
  }
}
