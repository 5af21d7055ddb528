import Basics
import Foundation
import Testing

import Decoding
import TestSupport

@Suite struct PatternTests {
  /// Three thousand random patterns, each with strings near it, and what Python's `re` says (Tests/Fixtures/patterns/make_patterns.py).
  @Test func stringsAreFoundWherePythonFindsThem() throws {
    let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures/patterns/patterns.jsonl")
    var checked = 0
    var tooLarge = 0
    // Not by `\n` of `Character`s: strings inside hold any character.
    for line in try Data(contentsOf: fixture).split(separator: 0x0A) {
      guard case .array(let row) = try JSON.parse(String(decoding: line, as: UTF8.self)), row.count == 3, case .string(let pattern) = row[0] else {
        Issue.record("a line that is no case")
        continue
      }
      var automaton: StringAutomaton?
      do {
        automaton = try StringAutomaton.pattern(pattern)
      } catch {
        #expect(error.code == .unsupported, "\(error)")
        if !error.message.hasPrefix("no string") {
          tooLarge += 1
          continue
        }
      }
      for (texts, isFound) in [(row[1], true), (row[2], false)] {
        guard case .array(let texts) = texts else { Issue.record("a line that is no case"); continue }
        for case .string(let text) in texts {
          checked += 1
          if automaton?.matches(text) ?? false != isFound { Issue.record("\(pattern.debugDescription) on \(text.debugDescription): should be \(isFound)") }
        }
      }
    }
    #expect(checked > 40_000 && tooLarge < 5)
  }

  private func matches(_ pattern: String, _ text: String) throws -> Bool { try StringAutomaton.pattern(pattern).matches(text) }

  @Test func anchorsBelongToTheirBranch() throws {
    for (pattern, found, missed) in [
      ("^(a|b)$", ["a", "b"], ["ab", "xa", "", "a\n"]), ("^a|b$", ["ax", "xb", "ab"], ["xax", "bx", ""]), ("(^a|b)c", ["ac", "xbc", "acx"], ["xac"]),
      ("a(^b|$)", ["a", "xa"], ["ab", "aa\n"]), ("$^", [""], ["a", "\n"]), ("(?:^)*a", ["a", "xa"], [""]), ("(?:x|^){2}a", ["a", "xxa", "xa", "yxxa"], ["ya"]),
    ] {
      for text in found { #expect(try matches(pattern, text), "\(pattern) \(text.debugDescription)") }
      for text in missed { #expect(try !matches(pattern, text), "\(pattern) \(text.debugDescription)") }
    }
  }

  /// Where ECMA 262 and Python disagree, neither's No is overruled.
  @Test func whatEitherReadingRejectsIsRejected() throws {
    for (pattern, found, missed) in [
      ("^\\d$", ["7"], ["٣", "７"]), ("^\\D$", ["x", "é", "€"], ["7", "٣", "\u{378}"]), ("^[^\\d]$", ["é"], ["7", "٣"]), ("^[^\\D]$", ["7"], ["٣", "x"]),
      ("^\\w$", ["a", "_", "Z"], ["é", "中", "-"]), ("^\\W$", ["-", "€", "\u{301}"], ["é", "中", "a", "²"]),
      ("^\\s$", [" ", "\u{A0}", "\u{2028}", "\u{B}"], ["\u{FEFF}", "\u{85}", "\u{1C}", "a"]), ("^\\S$", ["a", "中"], ["\u{FEFF}", "\u{85}", "\u{1C}", " "]),
      ("^[\\s\\S]$", ["\u{FEFF}", "a", "\n"], [""]), ("^[\\w\\W]$", ["é", "a"], [""]), ("^[\\d\\W]$", ["7", "٣", "-"], ["a", "é"]),
      ("^.$", ["a", "\u{85}", "😀"], ["\n", "\r", "\u{2028}", "\u{2029}"]), ("a$", ["a"], ["a\n"]), ("^[\\d٣]$", ["٣", "7"], ["٤"]),
    ] {
      for text in found { #expect(try matches(pattern, text), "\(pattern) \(text.debugDescription)") }
      for text in missed { #expect(try !matches(pattern, text), "\(pattern) \(text.debugDescription)") }
    }
  }

  @Test(arguments: [
    ("\\t\\n\\v\\f\\r\\0", "\t\n\u{B}\u{C}\r\0"), ("\\x41\\u00e9\\u{1F600}\\u{41}", "Aé😀A"), ("\\cA\\cz", "\u{1}\u{1A}"), ("[\\b\\-\\]\\^]+", "\u{8}-]^"),
    ("\\^\\$\\\\\\.\\*\\+\\?\\(\\)\\[\\]\\{\\}\\|\\/", "^$\\.*+?()[]{}|/"), ("\\-\\@\\\"\\'\\#\\,", "-@\"'#,"), ("[a-]+[-b]+[+--]", "a--b,"), ("(?<name>x)(?<_2>y)", "xy"),
    ("a{2}b{1,}c{0,1}?d*?", "aabb"), ("\\p{Lu}\\p{Letter}\\P{L}[\\p{Nd}_]", "Éß-٣"), ("[[(.*+?{}|$]+", "[(.*+?{}|$"), ("[^\\]]", "["),
  ])
  func escapesMeanWhatECMASays(pattern: String, text: String) throws {
    #expect(try matches("^\(pattern)$", text))
    #expect(try !matches("^\(pattern)$", text + "\u{7F}"))
  }

  @Test(arguments: [
    ("(a)\\1", "offset 3"), ("a(?=b)", "offset 1"), ("(?!a)", "offset 0"), ("(?<=a)b", "offset 0"), ("(?<!a)b", "offset 0"), ("\\bword", "offset 0"), ("a\\B", "offset 1"),
    ("\\Astart", "offset 0"), ("end\\Z", "offset 3"), ("(?<n>a)\\k<n>", "offset 7"), ("(?i)a", "offset 0"), ("(?P<n>a)", "offset 0"), ("\\p{Script=Greek}", "offset 0"),
    ("\\p{digit}", "offset 0"), ("\\ud83d\\ude00", "offset 0"), ("[]", "offset 0"), ("x[^]", "offset 1"), ("a{5000}", "offset 1"), ("(?<é>a)", "offset 0"),
  ])
  func whatNoAutomatonDoesIsRefusedWithItsPlace(pattern: String, place: String) {
    #expect { try StringAutomaton.pattern(pattern) } throws: { error in
      guard let error = error as? SternaError else { return false }
      return error.code == .unsupported && error.place == place && error.expected != nil
    }
  }

  @Test(arguments: [
    ("(a", "offset 0"), ("a)", "offset 1"), ("[a", "offset 0"), ("a]", "offset 1"), ("a{", "offset 1"), ("{", "offset 0"), ("a}", "offset 1"), ("*a", "offset 0"), ("a**", "offset 2"),
    ("a|+", "offset 2"), ("a{2,1}", "offset 1"), ("a{,3}", "offset 1"), ("a{1", "offset 1"), ("a{1,x}", "offset 1"), ("a{1}{2}", "offset 4"), ("a++", "offset 2"), ("^*", "offset 1"),
    ("[b-a]", "offset 1"), ("[a-\\d]", "offset 1"), ("[\\w-z]", "offset 1"), ("\\", "offset 0"), ("\\a", "offset 0"), ("\\_", "offset 0"), ("\\é", "offset 0"), ("\\x4", "offset 0"),
    ("\\u12", "offset 0"), ("\\u{110000}", "offset 0"), ("\\u{}", "offset 0"), ("\\u{FFFFFFFFFFFFFFFFF}", "offset 0"), ("\\c1", "offset 0"), ("\\00", "offset 0"), ("[\\", "offset 1"),
    ("(?", "offset 0"), ("(?<a>x)(?<a>y)", "offset 7"), ("é(", "offset 1"), ("\\p", "offset 0"),
  ])
  func whatIsNoRegularExpressionIsRefusedWithItsPlace(pattern: String, place: String) {
    #expect { try StringAutomaton.pattern(pattern) } throws: { error in
      guard let error = error as? SternaError else { return false }
      return (error.code == .badField || error.code == .unsupported && pattern.hasPrefix("(?")) && error.place == place && error.expected != nil
    }
  }

  @Test(arguments: [
    String(repeating: "a", count: 4097), String(repeating: "(", count: 65) + "a" + String(repeating: ")", count: 65), String(repeating: "(", count: 4000),
    "(?:a{100}){200}", "(?:(?:(?:(?:){4096}){4096}){4096}){4096}", "(?:(?:(?:(?:a{4096}){4096}){4096}){4096}){4096}", "(a|b)*a(a|b){20}$", "(a|b)*a(a|b){4000}$",
    "(.*a){12}.*b{1000}[^c]{1000}$", "a^", "[a-z]$b", String(repeating: "(x+", count: 60) + String(repeating: ")+", count: 60) + "(.*a){40}.{400}",
    String(repeating: "(?:a?b?c?|", count: 63) + "d" + String(repeating: "){1,2}", count: 63),
    String((0..<2000).compactMap { Unicode.Scalar(0x4E00 + 2 * $0) }.map { "\($0)" }.joined(separator: "{0,3}")) + "$",
  ])
  func limitsAreErrors(pattern: String) {
    #expect { try StringAutomaton.pattern(pattern) } throws: { ($0 as? SternaError)?.code == .unsupported }
  }

  @Test func noGarbageCrashes() {
    var random = SplitMix64(seed: 7)
    let alphabet = Array("()[]{}|^$*+?.\\-,:<>=!0123abpdDwWsSuxkc\u{301}é😀\u{0}/")
    var compiled = 0
    for _ in 0..<20_000 {
      let pattern = String((0..<Int.random(in: 0...14, using: &random)).map { _ in alphabet.randomElement(using: &random) ?? "a" })
      if (try? StringAutomaton.pattern(pattern)) != nil { compiled += 1 }
    }
    #expect(compiled > 500)
  }
}

@Suite struct StringAutomatonTests {
  /// First and last scalars of every length in UTF-8 and of every first byte, and their neighbours.
  private static let boundaries: [Unicode.Scalar] = {
    var values: Set<UInt32> = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000, 0x10FFFF]
    for shift in stride(from: UInt32(6), through: 18, by: 6) { for block in 0..<UInt32(64) { values.formUnion([block << shift, (block << shift) &- 1, block << shift + 1]) } }
    return values.sorted().compactMap(Unicode.Scalar.init)
  }()

  @Test func boundariesOfUTF8() throws {
    let everything = StringAutomaton.everything
    let dot = try StringAutomaton.pattern("^[\\s\\S]$")
    var random = SplitMix64(seed: 3)
    for scalar in Self.boundaries {
      #expect(everything.matches(String(scalar)) && dot.matches(String(scalar)), "U+\(String(scalar.value, radix: 16))")
      let only = try StringAutomaton.pattern("^\\u{\(String(scalar.value, radix: 16))}$")
      #expect(only.matches(String(scalar)))
      for other in Self.boundaries.shuffled(using: &random).prefix(20) + [Unicode.Scalar(scalar.value &+ 1), Unicode.Scalar(scalar.value &- 1)].compactMap({ $0 }) where other != scalar {
        #expect(!only.matches(String(other)))
      }
      let low = Self.boundaries.randomElement(using: &random) ?? scalar
      let range = min(low, scalar).value...max(low, scalar).value
      let some = try StringAutomaton.pattern("^[\\u{\(String(range.lowerBound, radix: 16))}-\\u{\(String(range.upperBound, radix: 16))}]$")
      let none = try? StringAutomaton.pattern("^[^\\u{\(String(range.lowerBound, radix: 16))}-\\u{\(String(range.upperBound, radix: 16))}]$")
      for other in Self.boundaries.shuffled(using: &random).prefix(50) {
        #expect(some.matches(String(other)) == range.contains(other.value))
        #expect((none?.matches(String(other)) ?? false) != range.contains(other.value))
      }
    }
  }

  /// Byte sequences of one to four bytes, all but the first mostly on an edge: exactly those are followed that Swift reads as UTF-8.
  @Test func onlyUTF8IsFollowed() throws {
    for automaton in [StringAutomaton.everything, try .pattern("^[^\\u{800}-\\u{FFFF}]*x?")] {
      func end(_ bytes: [UInt8]) -> StringAutomaton.State? {
        var state = automaton.start
        for byte in bytes {
          guard let next = automaton.next(state, byte) else { return nil }
          state = next
        }
        return state
      }
      var random = SplitMix64(seed: 5)
      let edges: [UInt8] = [0, 0x41, 0x7F, 0x80, 0x81, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF]
      for a in 0...255 as ClosedRange<UInt8> {
        for b in edges + [UInt8.random(in: 0...255, using: &random)] {
          for c in edges.shuffled(using: &random).prefix(6) {
            for bytes in [[a], [a, b], [a, b, c], [a, b, c, edges.randomElement(using: &random) ?? 0]] {
              let isText = String(validating: bytes, as: UTF8.self) != nil
              if let state = end(bytes) {
                if automaton == .everything, automaton.isAccepting(state) != isText { Issue.record("\(bytes)") }
                if automaton.isAccepting(state), !isText { Issue.record("\(bytes)") }
              } else if isText, automaton == .everything {
                Issue.record("\(bytes)")
              }
            }
          }
        }
      }
    }
  }

  /// Whatever is followed can be finished.
  @Test func noStateIsDead() throws {
    var random = SplitMix64(seed: 11)
    for pattern in ["^[é😀]x$", "^(?:ab|a[€-\u{FFFF}]c){2}$", "[^\\W]\\p{Lu}$", "^\\D{3}$", "^(?:aé|b€){0,3}$", "(x|é)$"] {
      let automaton = try StringAutomaton.pattern(pattern)
      for _ in 0..<300 {
        var state = automaton.start
        var bytes: [UInt8] = []
        while !(automaton.isAccepting(state) && Int.random(in: 0..<4, using: &random) == 0), bytes.count < 60 {
          let choices = (0...255 as ClosedRange<UInt8>).filter { automaton.next(state, $0) != nil }
          guard let byte = choices.randomElement(using: &random), let next = automaton.next(state, byte) else { break }
          bytes.append(byte)
          state = next
        }
        if bytes.count < 60 { #expect(automaton.isAccepting(state) && automaton.matches(String(decoding: bytes, as: UTF8.self)), "\(pattern) \(bytes)") }
      }
    }
  }

  @Test(arguments: [
    ("^(?:a|b)*$", "^[ab]*$"), ("^(?:a*)*$", "^a*$"), ("^aa*$", "^a+$"), ("^(?:ab|ac)$", "^a[bc]$"), ("^a{2,4}$", "^aa(?:a|aa)?$"), ("", "^"), ("[\\s\\S]*", ""),
    ("^(?:a|é)é$", "^[aé]\\u00e9$"), ("x|x+", "x"), ("^[^a]*$", "^[\\u{0}-`b-\\u{10FFFF}]*$"), ("^(?:(?:))$", "$^"), ("^(a|ab)(c|bcd)$", "^(?:abcd|ac|abc|abbcd)$"),
  ])
  func equalSetsAreEqual(a: String, b: String) throws {
    #expect(try StringAutomaton.pattern(a) == StringAutomaton.pattern(b))
    #expect(try StringAutomaton.pattern(a) != StringAutomaton.pattern("^q{7}$"))
  }

  @Test(arguments: [
    ("^a$", 1, 1), ("^a?b?$", 0, 2), ("abc", 3, nil), ("^(?:abc|d)$", 1, 3), ("^é{2}😀$", 3, 3), ("^a*$", 0, nil), ("^.{3,7}$", 3, 7), ("^(?:ab){2,3}$", 4, 6), ("$^", 0, 0),
    ("^(?:a{4000})$", 4000, 4000),
  ] as [(String, Int, Int?)])
  func lengthsCountScalars(pattern: String, shortest: Int, longest: Int?) throws {
    let automaton = try StringAutomaton.pattern(pattern)
    #expect(automaton.shortestLength == shortest)
    #expect(automaton.longestLength == longest)
  }

  @Test func lengthsAreAllowedExactly() throws {
    // Lengths of each set, up to 60.
    let cases: [(String, (Int) -> Bool)] = [
      ("^(?:aaa)*$", { $0 % 3 == 0 }), ("^(?:aaa)*(?:bbbbb)?$", { $0 % 3 == 0 || $0 >= 5 && $0 % 3 == 2 }), ("^(?:a{6}|b{10})*$", { n in n % 2 == 0 && ![2, 4, 8, 14].contains(n) }),
      ("^a{2,4}$", { 2...4 ~= $0 }), ("^(?:a|é{7})$", { $0 == 1 || $0 == 7 }), ("x", { $0 >= 1 }), ("", { _ in true }), ("^(?:ab)*$", { $0 % 2 == 0 }),
      ("^(?:(?:a{3})*|(?:b{5})*c)$", { $0 % 3 == 0 || $0 % 5 == 1 }),
    ]
    for (pattern, has) in cases {
      let automaton = try StringAutomaton.pattern(pattern)
      for low in 0...40 {
        #expect(automaton.shortestLength(atLeast: low) == (low...200).first(where: has), "\(pattern) \(low)")
        for width in 0...12 {
          #expect(automaton.allows(minLength: low, maxLength: low + width) == (low...(low + width)).contains(where: has), "\(pattern) \(low) \(width)")
        }
      }
      for low in [1_000_000_007, Int.max / 2] {
        let next = pattern == "^a{2,4}$" || pattern == "^(?:a|é{7})$" ? nil : (low...(low + 30)).first(where: has)
        #expect(automaton.shortestLength(atLeast: low) == next, "\(pattern)")
      }
    }
  }

  @Test func intersections() throws {
    var random = SplitMix64(seed: 13)
    let patterns = ["^[a-m]*$", "a", "^.{2,4}$", "b$", "^(?:ab|é)+$", "[^a]", "^(?:aa)*$", "é", "^\\w*$", "^[^é]*$"]
    let alphabet = Array("abmzé\n")
    for a in patterns {
      for b in patterns {
        let (first, second) = try (StringAutomaton.pattern(a), StringAutomaton.pattern(b))
        let both = try first.intersection(second)
        #expect(try both == second.intersection(first))
        for _ in 0..<300 {
          let text = String((0..<Int.random(in: 0...6, using: &random)).map { _ in alphabet.randomElement(using: &random) ?? "a" })
          #expect(both?.matches(text) ?? false == (first.matches(text) && second.matches(text)), "\(a) \(b) \(text)")
        }
      }
    }
    #expect(try StringAutomaton.pattern("^a").intersection(.pattern("^b")) == nil)
    #expect(try StringAutomaton.pattern("^a+$").intersection(.everything) == .pattern("^a+$"))
    #expect(throws: SternaError.self) { try StringAutomaton.pattern("^(?:.{127})*$").intersection(.pattern("^(?:.{131})*$")) }
  }
}

@Suite struct FormatTests {
  private func format(_ name: String) throws -> StringAutomaton { try #require(try StringAutomaton.format(name)) }

  @Test func unknownFormatsAreNone() throws {
    #expect(try StringAutomaton.format("hostname") == nil)
    for name in StringAutomaton.formats { #expect(try StringAutomaton.format(name) != nil) }
  }

  @Test func datesAreThoseOfTheCalendar() throws {
    let date = try format("date")
    #expect(date.shortestLength == 10 && date.longestLength == 10)
    func padded(_ value: Int, _ count: Int) -> String { String(repeating: "0", count: max(0, count - String(value).count)) + String(value) }
    for year in Array(0...420) + Array(1580...2110) + Array(9580...9999) {
      let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
      let days = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
      for month in 0...13 {
        for day in [0, 1, 9, 10, 19, 20, 28, 29, 30, 31, 32] {
          let isDate = year > 0 && 1...12 ~= month && day >= 1 && day <= days[month - 1]
          if date.matches("\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))") != isDate { Issue.record("\(year)-\(month)-\(day)") }
        }
      }
    }
    for text in ["2026-1-01", "2026-01-1", "20260101", "2026-01-01 ", "2026-01-01Z", "٢٠٢٦-01-01", "+2026-01-01", "2026-01-01\n"] { #expect(!date.matches(text)) }
  }

  @Test(arguments: [
    ("time", ["00:00:00Z", "23:59:59Z", "12:30:00.5Z", "12:30:00.123456789+05:30", "08:00:00-00:00", "19:59:59+23:59"],
      ["24:00:00Z", "23:60:00Z", "23:59:60Z", "12:30Z", "12:30:00", "12:30:00z", "12:30:00.Z", "12:30:00+5:30", "12:30:00+24:00", "12:30:00+01:60", "12:30:00 Z", "1:30:00Z", "12:30:00,5Z"]),
    ("date-time", ["2026-11-25T09:00:00Z", "2024-02-29T23:59:59.25-08:00", "0001-01-01T00:00:00+00:00"],
      ["2026-11-25 09:00:00Z", "2026-11-25t09:00:00Z", "2023-02-29T00:00:00Z", "2026-11-25T09:00:00", "2026-11-25", "0000-01-01T00:00:00Z"]),
    ("uuid", ["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2EB8AA08-AA98-11EA-B4AA-73B441D16380", "00000000-0000-0000-0000-000000000000"],
      ["2eb8aa08aa9811eab4aa73b441d16380", "2eb8-aa08-aa98-11ea-b4aa73b44-1d16380", "2eb8aa08-aa98-11ea-b4ga-73b441d16380", "{2eb8aa08-aa98-11ea-b4aa-73b441d16380}", ""]),
    ("ipv4", ["0.0.0.0", "255.255.255.255", "192.168.10.1", "8.8.4.4"],
      ["256.0.0.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.04", "1.2.3.4/24", "1.2.3.-4", "0x7f.0.0.1", "1..2.3", "1.2.3.4 ", "１.2.3.4", "87.10.0.00"]),
    ("email", ["joe.bloggs@example.com", "te~st@example.com", "a@b", "x+y=z@sub.domain.co", "1@2.x3", "o'neil@a-b.org"],
      ["2962", ".test@example.com", "test.@example.com", "te..st@example.com", "\"joe bloggs\"@example.com", "joe@[127.0.0.1]", "joe@-a.com", "joe@a-.com", "joe@a..com", "joe@.com",
       "joe@1.2.3.4", "joe@", "@a.com", "a b@c.de", "é@a.com", "a@b@c.com", "joe@a_b.com", "a@b."]),
  ])
  func formatsAreNarrow(name: String, valid: [String], invalid: [String]) throws {
    let automaton = try format(name)
    for text in valid { #expect(automaton.matches(text), "\(text)") }
    for text in invalid { #expect(!automaton.matches(text), "\(text)") }
  }

  @Test func addressesAreOfBoundedLength() throws {
    let email = try format("email")
    #expect(email.longestLength == 64 + 1 + 63)
    let x = { String(repeating: "x", count: $0) }
    #expect(email.matches("\(x(64))@\(x(63))") && !email.matches("\(x(65))@a") && !email.matches("a@\(x(64))"))
  }
}
