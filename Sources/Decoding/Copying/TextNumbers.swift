import Basics

/// A number that stands in a text.
package struct TextNumber: Equatable {
  /// UTF-8 bytes of the text.
  package var bytes: Range<Int>
  /// The same number as JSON writes it: no plus sign, no leading zeros, no grouping.
  package var json: JSON
  package var isInteger: Bool
}

/// Finds the numbers of a text that can be read in one way only.
///
/// `21`, `-3.5`, `007` (7), `.5` (0.5), `1e-3` and `1,234,567.8` are numbers. Parts of something longer are not: `10.0.0.1`, `2.4.1`, `3,5` (a
/// list, or a decimal comma?) are left out whole, for a part of them would be a wrong number. `1,234` is read as
/// one thousand two hundred and thirty-four. A minus sign counts when no letter or digit stands in front of it: `SN-12` and `2026-11-24` contain
/// no negative numbers.
package enum TextNumbers {
  package static func of(_ text: String) -> [TextNumber] {
    let bytes = Array(text.utf8)
    var numbers: [TextNumber] = []
    var at = 0
    while at < bytes.count {
      guard isDigit(bytes, at) || (isDot(bytes, at) && isDigit(bytes, at + 1) && !isDot(bytes, at - 1) && !isWordByte(bytes, at - 1)) else {
        at += 1
        continue
      }
      // The whole run of digits, points and commas between digits decides.
      let start = at
      while isDigit(bytes, at) || ((isDot(bytes, at) || isComma(bytes, at)) && isDigit(bytes, at + 1)) { at += 1 }
      guard let mantissa = mantissa(bytes[start..<at]) else { continue }
      var end = at
      var exponent = ""
      if at < bytes.count, bytes[at] | 0x20 == UInt8(ascii: "e") {
        var e = at + 1
        if e < bytes.count, bytes[e] == UInt8(ascii: "+") || bytes[e] == UInt8(ascii: "-") { e += 1 }
        let digits = e
        while isDigit(bytes, e) { e += 1 }
        if e > digits {
          guard !isWordByte(bytes, e) else {  // 1e5f: not a number, and neither is its beginning
            at = e
            continue
          }
          exponent = "e" + String(decoding: bytes[(at + 1)..<e], as: UTF8.self)
          end = e
          at = e
        }
      }
      let sign = signLength(bytes, before: start)
      let written = (sign > 0 ? "-" : "") + mantissa + exponent
      guard end - start <= 48, let json = try? JSON.parse(written), case .number(let number) = json, let value = number.double, value.isFinite else { continue }
      numbers.append(
        TextNumber(bytes: (start - sign)..<end, json: json, isInteger: exponent.isEmpty && !mantissa.utf8.contains(UInt8(ascii: "."))))
    }
    return numbers
  }

  /// Bytes of the minus sign in front of a number: `-` or U+2212, and no letter or digit before that.
  private static func signLength(_ bytes: [UInt8], before start: Int) -> Int {
    for sign in [[0x2D], [0xE2, 0x88, 0x92]] as [[UInt8]] {
      let from = start - sign.count
      if from >= 0, bytes[from..<start].elementsEqual(sign), !isWordByte(bytes, from - 1) { return sign.count }
    }
    return 0
  }

  /// `1,234.50` to `1234.50`; nil when the run is not one number.
  private static func mantissa(_ run: ArraySlice<UInt8>) -> String? {
    let halves = run.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard halves.count <= 2 else { return nil }
    let groups = halves[0].split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    if groups.count > 1 {
      guard (1...3).contains(groups[0].count), groups[0].first != UInt8(ascii: "0"), groups.dropFirst().allSatisfy({ $0.count == 3 }) else { return nil }
    }
    var whole = String(decoding: groups.joined(), as: UTF8.self).drop { $0 == "0" }
    if whole.isEmpty { whole = "0" }
    guard halves.count == 2 else { return String(whole) }
    guard !halves[1].contains(UInt8(ascii: ",")) else { return nil }
    return whole + "." + String(decoding: halves[1], as: UTF8.self)
  }

  private static func isDigit(_ bytes: [UInt8], _ at: Int) -> Bool { bytes.indices.contains(at) && UInt8(ascii: "0")...UInt8(ascii: "9") ~= bytes[at] }
  private static func isDot(_ bytes: [UInt8], _ at: Int) -> Bool { bytes.indices.contains(at) && bytes[at] == UInt8(ascii: ".") }
  private static func isComma(_ bytes: [UInt8], _ at: Int) -> Bool { bytes.indices.contains(at) && bytes[at] == UInt8(ascii: ",") }
  /// A letter or digit; bytes outside ASCII count as letters.
  private static func isWordByte(_ bytes: [UInt8], _ at: Int) -> Bool {
    guard bytes.indices.contains(at) else { return false }
    let byte = bytes[at]
    return byte >= 0x80 || isDigit(bytes, at) || UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20
  }
}
