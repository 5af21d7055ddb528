/// The value of a JSON number without any rounding: `1.0` and `1e0` are equal, `0.1` and `0.1000000000000000055511151231257827` are not.
///
/// It holds the digits that were written and where their decimal point stands, so `1e400` takes no more room or time than `1`.
public struct ExactDecimal: Sendable, Hashable {
  /// -1, 0 or 1.
  let sign: Int
  /// 0...9 each, without zeros at either end; empty for zero.
  let digits: [UInt8]
  /// The value is sign * 0.DIGITS * 10^scale; 0 for zero.
  let scale: Int

  /// Exponents of more digits than this have no value here (`1e1000000000`).
  static let exponentDigits = 9

  private init(sign: Int, digits: some Collection<UInt8>, scale: Int) {
    let leading = digits.prefix { $0 == 0 }.count
    var significant = Array(digits.dropFirst(leading))
    while significant.last == 0 { significant.removeLast() }
    self.sign = significant.isEmpty ? 0 : sign
    self.scale = significant.isEmpty ? 0 : scale - leading
    self.digits = significant
  }

  public init(_ value: Int) {
    let written = Array(String(value.magnitude).utf8).map { $0 - UInt8(ascii: "0") }
    self.init(sign: value < 0 ? -1 : 1, digits: written, scale: written.count)
  }

  /// Nil when the exponent has more than nine digits (and the number is not zero).
  public init?(_ number: JSON.Number) {
    var digits: [UInt8] = []
    var pointAt: Int?
    var negative = false
    var rest = Array(number.text.utf8)[...]
    if rest.first == UInt8(ascii: "-") {
      negative = true
      rest = rest.dropFirst()
    }
    while let byte = rest.first, byte | 0x20 != UInt8(ascii: "e") {
      if byte == UInt8(ascii: ".") { pointAt = digits.count } else { digits.append(byte &- UInt8(ascii: "0")) }
      rest = rest.dropFirst()
    }
    rest = rest.dropFirst()
    var sinks = false
    if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") {
      sinks = rest.first == UInt8(ascii: "-")
      rest = rest.dropFirst()
    }
    rest = rest.drop { $0 == UInt8(ascii: "0") }
    if digits.allSatisfy({ $0 == 0 }) { rest = [] }
    guard rest.count <= Self.exponentDigits else { return nil }
    let exponent = rest.reduce(0) { $0 * 10 + Int($1 &- UInt8(ascii: "0")) }
    self.init(sign: negative ? -1 : 1, digits: digits, scale: (pointAt ?? digits.count) + (sinks ? -exponent : exponent))
  }

  public var isInteger: Bool { digits.count <= scale || sign == 0 }

  /// The integer, where it is one and fits.
  public var int: Int? {
    guard isInteger, scale <= 19 else { return nil }
    var value = 0
    for place in 0..<scale {
      let (tens, tooLarge) = value.multipliedReportingOverflow(by: 10)
      let (sum, alsoTooLarge) = tens.addingReportingOverflow(sign * Int(place < digits.count ? digits[place] : 0))
      guard !tooLarge, !alsoTooLarge else { return nil }
      value = sum
    }
    return value
  }

  /// The largest integer that is not larger, or the smallest that is not smaller.
  public func rounded(up: Bool) -> ExactDecimal {
    if isInteger { return self }
    let towardsZero = ExactDecimal(sign: sign, digits: digits.prefix(max(0, scale)), scale: max(0, scale))
    if up != (sign > 0) { return towardsZero }
    return towardsZero.moved(by: sign)
  }

  /// The next integer upwards of an integer.
  public var next: ExactDecimal { moved(by: 1) }
  /// The next integer downwards of an integer.
  public var previous: ExactDecimal { moved(by: -1) }

  /// Integers that are too large to be written out stay where they are.
  private func moved(by step: Int) -> ExactDecimal {
    if sign == 0 { return ExactDecimal(step) }
    guard scale <= 400 else { return self }
    var places = digits + Array(repeating: 0, count: max(0, scale - digits.count))
    var at = places.count - 1
    if step == sign {
      while at >= 0, places[at] == 9 {
        places[at] = 0
        at -= 1
      }
      if at >= 0 { places[at] += 1 } else { places.insert(1, at: 0) }
    } else {
      while at >= 0, places[at] == 0 {
        places[at] = 9
        at -= 1
      }
      if at >= 0 { places[at] -= 1 }
    }
    return ExactDecimal(sign: sign, digits: places, scale: places.count)
  }
}

extension ExactDecimal: Comparable {
  public static func < (a: ExactDecimal, b: ExactDecimal) -> Bool {
    if a.sign != b.sign { return a.sign < b.sign }
    let smaller = a.scale != b.scale ? a.scale < b.scale : a.digits.lexicographicallyPrecedes(b.digits)
    return a.sign < 0 ? a != b && !smaller : smaller
  }
}

extension JSON.Number {
  /// In plain digits where that is short, else with an exponent.
  public init(_ value: ExactDecimal) {
    let digits = String(decoding: value.digits.map { $0 + UInt8(ascii: "0") }, as: UTF8.self)
    let sign = value.sign < 0 ? "-" : ""
    switch value.scale {
    case _ where value.sign == 0: self.init(text: "0")
    case digits.count...max(digits.count, 21): self.init(text: sign + digits + String(repeating: "0", count: value.scale - digits.count))
    case 1...max(1, digits.count): self.init(text: sign + digits.prefix(value.scale) + "." + digits.dropFirst(value.scale))
    case -6...0: self.init(text: sign + "0." + String(repeating: "0", count: -value.scale) + digits)
    default: self.init(text: sign + digits.prefix(1) + (digits.count > 1 ? "." + digits.dropFirst() : "") + "e\(value.scale - 1)")
    }
  }
}
