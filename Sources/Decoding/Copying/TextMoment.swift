import Basics

/// A date, a time of day or both that stand in a text.
package struct TextMoment: Equatable {
  /// UTF-8 bytes of the text.
  package var bytes: Range<Int>
  package var kind: Constraint.StringRule.Moment
  /// ISO 8601: `2026-11-24`, `14:30:00`, `2026-11-24T14:30:00`; with `Z` or `+01:00` where the text has it.
  package var iso: String
}

/// Finds the dates and times of a text that can be read in one way only.
///
/// Dates: `2026-11-24`, `2026/11/24`, `24.11.2026`, `24/11/2026` and `11/24/2026` where a number over 12 tells the day, `24 Nov 2026`, `24th of November 2026`, `November 24, 2026`.
/// Times: `14:30`, `14:30:05`, `2:30 pm`, `2 PM`, and behind them `Z` or an offset such as `+01:00`. A time behind a date, with `T`, a space, a comma or `at` between them, is a moment with both.
/// `03/04/2026`, years of two digits, `24 Nov` and words like `yesterday` are left out: they can be read in several ways, or need a calendar that a text does not have.
package enum TextMoments {
  package static func of(_ text: String) -> [TextMoment] {
    var scanner = Scanner(bytes: Array(text.utf8))
    var moments: [TextMoment] = []
    while scanner.at < scanner.bytes.count {
      let start = scanner.at
      guard scanner.isWordStart else {
        scanner.at += 1
        continue
      }
      if let date = scanner.date() {
        let end = scanner.at
        moments.append(TextMoment(bytes: start..<end, kind: .date, iso: date))
        scanner.skipJoint()
        let timeStart = scanner.at
        if let time = scanner.time() {
          moments.append(TextMoment(bytes: start..<scanner.at, kind: .dateTime, iso: date + "T" + time))
          moments.append(TextMoment(bytes: timeStart..<scanner.at, kind: .time, iso: time))
        } else {
          scanner.at = end
        }
      } else if let time = scanner.time() {
        moments.append(TextMoment(bytes: start..<scanner.at, kind: .time, iso: time))
      } else {
        scanner.skipWord()
      }
    }
    return moments
  }

  private static let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
  private static let monthNames = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
  ]

  /// `2026-11-24`, when there is such a day.
  private static func iso(_ year: Int, _ month: Int, _ day: Int) -> String? {
    guard (1...9999).contains(year), (1...12).contains(month) else { return nil }
    let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let days = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
    guard (1...days).contains(day) else { return nil }
    return padded(year, 4) + "-" + padded(month, 2) + "-" + padded(day, 2)
  }

  private static func padded(_ number: Int, _ width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  private struct Scanner {
    let bytes: [UInt8]
    var at = 0

    private func byte(_ offset: Int = 0) -> UInt8 { bytes.indices.contains(at + offset) ? bytes[at + offset] : 0 }
    private static func isDigit(_ byte: UInt8) -> Bool { UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte }
    private static func isLetter(_ byte: UInt8) -> Bool { byte >= 0x80 || UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20 }
    private static func isWord(_ byte: UInt8) -> Bool { isDigit(byte) || isLetter(byte) }

    /// A letter or digit that no other one, nor a sign that joins numbers, stands in front of.
    var isWordStart: Bool {
      guard Self.isWord(byte()) else { return false }
      let before = byte(-1)
      if Self.isWord(before) { return false }
      return !(at >= 2 && [UInt8(ascii: "."), UInt8(ascii: ":"), UInt8(ascii: "/"), UInt8(ascii: "-")].contains(before) && Self.isWord(byte(-2)))
    }

    mutating func skipWord() { while Self.isWord(byte()), at < bytes.count { at += 1 } }

    /// Whether nothing goes on here that would make another thing of what was read.
    private var isEnd: Bool {
      if Self.isWord(byte()) { return false }
      return !([UInt8(ascii: "."), UInt8(ascii: ":"), UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: ",")].contains(byte()) && Self.isDigit(byte(1)))
    }

    private mutating func digits(_ counts: ClosedRange<Int>) -> (value: Int, count: Int)? {
      var value = 0
      var count = 0
      while Self.isDigit(byte()), count <= counts.upperBound {
        value = value * 10 + Int(byte() - UInt8(ascii: "0"))
        count += 1
        at += 1
      }
      return counts.contains(count) ? (value, count) : nil
    }

    private mutating func take(_ sign: Character) -> Bool {
      guard let ascii = sign.asciiValue, byte() == ascii else { return false }
      at += 1
      return true
    }

    private mutating func skipSpaces(_ most: Int = 1) {
      var left = most
      while left > 0, byte() == UInt8(ascii: " ") {
        at += 1
        left -= 1
      }
    }

    /// ASCII letters, in lower case.
    private mutating func word() -> String {
      let start = at
      while byte() < 0x80, Self.isLetter(byte()) { at += 1 }
      return String(decoding: bytes[start..<at].map { $0 | 0x20 }, as: UTF8.self)
    }

    private mutating func month() -> Int? {
      let name = word()
      if let whole = monthNames.firstIndex(of: name) { return whole + 1 }
      guard let short = months.firstIndex(of: name == "sept" ? "sep" : name) else { return nil }
      if byte() == UInt8(ascii: "."), byte(1) == UInt8(ascii: " ") { at += 1 }
      return short + 1
    }

    /// A date that begins here; nothing is taken otherwise.
    mutating func date() -> String? {
      let start = at
      if let date = numericDate(), isDateEnd { return date }
      at = start
      if let date = dayFirst(), isDateEnd { return date }
      at = start
      if let date = monthFirst(), isDateEnd { return date }
      at = start
      return nil
    }

    /// Behind a date a `T` and a time may follow.
    private var isDateEnd: Bool { isEnd || (byte() | 0x20 == UInt8(ascii: "t") && Self.isDigit(byte(1))) }

    private mutating func numericDate() -> String? {
      guard let first = digits(1...4) else { return nil }
      let sign = Character(Unicode.Scalar(byte()))
      guard ["-", "/", "."].contains(sign), take(sign), let second = digits(1...2), take(sign) else { return nil }
      if first.count == 4 {
        guard sign != ".", let day = digits(1...2) else { return nil }
        return iso(first.value, second.value, day.value)
      }
      guard first.count <= 2, let year = digits(4...4) else { return nil }
      // With points the day comes first everywhere; with strokes it depends on the country.
      if sign == "." || first.value > 12 || first.value == second.value { return iso(year.value, second.value, first.value) }
      return second.value > 12 ? iso(year.value, first.value, second.value) : nil
    }

    /// `24 Nov 2026`, `24. November 2026`, `24th of November 2026`, `24-Nov-2026`
    private mutating func dayFirst() -> String? {
      guard let day = digits(1...2) else { return nil }
      if !take("."), Self.isLetter(byte()) {
        guard ["st", "nd", "rd", "th"].contains(word()) else { return nil }
      }
      let dashed = take("-")
      if !dashed { skipSpaces() }
      let before = at
      if word() == "of" { skipSpaces() } else { at = before }
      guard let month = month() else { return nil }
      if dashed { guard take("-") else { return nil } } else {
        _ = take(",")
        skipSpaces()
      }
      guard let year = digits(4...4) else { return nil }
      return iso(year.value, month, day.value)
    }

    /// `November 24, 2026`, `Nov 24th 2026`
    private mutating func monthFirst() -> String? {
      guard let month = month() else { return nil }
      skipSpaces()
      guard let day = digits(1...2) else { return nil }
      if Self.isLetter(byte()) { guard ["st", "nd", "rd", "th"].contains(word()) else { return nil } }
      _ = take(",")
      guard byte() == UInt8(ascii: " ") else { return nil }
      skipSpaces()
      guard let year = digits(4...4) else { return nil }
      return iso(year.value, month, day.value)
    }

    /// What may stand between a date and its time.
    mutating func skipJoint() {
      if byte() | 0x20 == UInt8(ascii: "t") { at += 1; return }
      _ = take(",")
      skipSpaces()
      let before = at
      if word() == "at" { skipSpaces() } else { at = before }
    }

    /// A time that begins here; nothing is taken otherwise.
    mutating func time() -> String? {
      let start = at
      if let time = clock() { return time }
      at = start
      return nil
    }

    private mutating func clock() -> String? {
      guard var hour = digits(1...2)?.value else { return nil }
      var minute = 0
      var second = 0
      var fraction = ""
      let hasMinutes = byte() == UInt8(ascii: ":")
      if hasMinutes {
        at += 1
        guard let minutes = digits(2...2) else { return nil }
        minute = minutes.value
        if byte() == UInt8(ascii: ":") {
          at += 1
          guard let seconds = digits(2...2) else { return nil }
          second = seconds.value
          if byte() == UInt8(ascii: "."), Self.isDigit(byte(1)) {
            let from = at
            at += 1
            while Self.isDigit(byte()), at - from < 10 { at += 1 }
            fraction = String(decoding: bytes[from..<at], as: UTF8.self)
          }
        }
      }
      // The half of the day, with or without a space: `2:30 pm`, `2PM`, `2 p.m.`
      let before = at
      skipSpaces()
      let half = byte() | 0x20
      if half == UInt8(ascii: "a") || half == UInt8(ascii: "p") {
        at += 1
        let dotted = take(".")
        if byte() | 0x20 == UInt8(ascii: "m"), !Self.isWord(byte(1)) {
          at += 1
          if dotted { _ = take(".") }
          guard (1...12).contains(hour) else { return nil }
          hour = hour % 12 + (half == UInt8(ascii: "p") ? 12 : 0)
        } else {
          at = before
        }
      } else {
        at = before
      }
      guard hasMinutes || at > before, hour < 24, minute < 60, second < 60 else { return nil }
      let zone = offset()
      guard let zone, isEnd else { return nil }
      return padded(hour, 2) + ":" + padded(minute, 2) + ":" + padded(second, 2) + fraction + zone
    }

    /// `Z`, `+01:00`, `+0100`, or nothing; nil for what looks like an offset and is none.
    private mutating func offset() -> String? {
      if byte() | 0x20 == UInt8(ascii: "z"), !Self.isWord(byte(1)) {
        at += 1
        return "Z"
      }
      let sign = byte()
      guard sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-"), Self.isDigit(byte(1)) else { return "" }
      at += 1
      guard let hours = digits(2...2) else { return nil }
      _ = take(":")
      guard let minutes = digits(2...2), hours.value < 24, minutes.value < 60 else { return nil }
      return String(Character(Unicode.Scalar(sign))) + padded(hours.value, 2) + ":" + padded(minutes.value, 2)
    }
  }
}
