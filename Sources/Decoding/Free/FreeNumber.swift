import Basics

/// A number that the model writes itself: a plain decimal without exponent, plus sign, superfluous zeros in front or `-0`.
///
/// At most 15 digits, 6 of them behind the point: any reader's doubles tell two such numbers apart, so a bound means the same to all of them.
struct FreeNumber: ByteMachine {
  /// Digits in front of and behind the point together.
  static let maxDigits = 15
  static let maxFractionDigits = 6

  struct State: Hashable, Sendable {
    fileprivate var isNegative = false
    /// The digits in front of the point, and how many there are.
    fileprivate var whole: Int64 = 0
    fileprivate var wholeDigits: UInt8 = 0
    fileprivate var hasPoint = false
    /// The digits behind the point, and how many there are.
    fileprivate var fraction: Int32 = 0
    fileprivate var fractionDigits: UInt8 = 0
  }

  private let isInteger: Bool
  /// What may come out, inclusive, in millionths.
  private let least: Int128
  private let most: Int128

  /// - Parameter rule: `source` does not matter here.
  /// - Throws: `unsupported` when no such number obeys the rule.
  init(_ rule: Constraint.NumberRule) throws(SternaError) {
    isInteger = rule.isInteger
    least = rule.minimum.map { Millionths($0.value).above(isExclusive: $0.isExclusive, $0.value) } ?? -Millionths.limit
    most = rule.maximum.map { Millionths($0.value).below(isExclusive: $0.isExclusive, $0.value) } ?? Millionths.limit
    guard bytesToFinish(start) < Int.max else {
      func words(_ bound: Constraint.NumberRule.Bound?) -> String { bound.map { "\($0.isExclusive ? "exclusive " : "")\($0.value.text)" } ?? "none" }
      throw SternaError(
        .unsupported, "no number can be written that obeys this rule",
        expected: "\(rule.isInteger ? "an integer of at most \(FreeNumber.maxDigits) digits" : "a number of at most \(FreeNumber.maxDigits) digits, \(FreeNumber.maxFractionDigits) behind the point,") within the bounds",
        found: "minimum \(words(rule.minimum)), maximum \(words(rule.maximum))")
    }
  }

  var start: State { State() }

  func next(_ state: State, _ byte: UInt8) -> State? {
    var next = state
    switch byte {
    case UInt8(ascii: "-"):
      guard state == State() else { return nil }
      next.isNegative = true
    case UInt8(ascii: "."):
      guard !state.hasPoint, state.wholeDigits > 0, fractionLimit(Int(state.wholeDigits)) > 0 else { return nil }
      next.hasPoint = true
    case UInt8(ascii: "0")...UInt8(ascii: "9"):
      let digit = byte - UInt8(ascii: "0")
      if state.hasPoint {
        guard Int(state.fractionDigits) < fractionLimit(Int(state.wholeDigits)) else { return nil }
        next.fraction = state.fraction * 10 + Int32(digit)
        next.fractionDigits += 1
      } else {
        guard Int(state.wholeDigits) < FreeNumber.maxDigits, state.wholeDigits == 0 || state.whole != 0 else { return nil }
        next.whole = state.whole * 10 + Int64(digit)
        next.wholeDigits += 1
      }
    default: return nil
    }
    return bytesToFinish(next) < Int.max ? next : nil
  }

  func isComplete(_ state: State) -> Bool { state.wholeDigits > 0 && (!state.hasPoint || state.fractionDigits > 0) && bytesToFinish(state) == 0 }

  /// `Int.max` where there is no way to finish; states that `next` gives have one.
  func bytesToFinish(_ state: State) -> Int {
    var fewest = Int.max
    if state.wholeDigits == 0 {
      for digit in 0...9 as ClosedRange<Int64> {
        var next = state
        next.whole = digit
        next.wholeDigits = 1
        let bytes = bytesToFinish(next)
        if bytes < fewest { fewest = bytes + 1 }
      }
      if !state.isNegative {
        var next = state
        next.isNegative = true
        let bytes = bytesToFinish(next)
        if bytes < fewest { fewest = min(fewest, bytes + 1) }
      }
      return fewest
    }
    if state.hasPoint {
      let limit = fractionLimit(Int(state.wholeDigits))
      let unit = FreeNumber.unit(Int(state.fractionDigits))
      let first = Int128(state.whole) * FreeNumber.one + Int128(state.fraction) * unit
      for digits in max(1, Int(state.fractionDigits))...max(1, limit)
      where allows(multipleOf: FreeNumber.unit(digits), from: first, to: first + unit - 1, isNegative: state.isNegative) {
        return digits - Int(state.fractionDigits)
      }
      return .max
    }
    // More digits in front of the point, then some behind it.
    var first = Int128(state.whole)
    var count: Int128 = 1
    for more in 0...(state.whole == 0 ? 0 : FreeNumber.maxDigits - Int(state.wholeDigits)) {
      if more > 0 {
        first *= 10
        count *= 10
      }
      for digits in 0...fractionLimit(Int(state.wholeDigits) + more) {
        let bytes = more + (digits == 0 ? 0 : 1 + digits)
        guard bytes < fewest else { break }
        if allows(
          multipleOf: FreeNumber.unit(digits), from: first * FreeNumber.one, to: (first + count) * FreeNumber.one - 1, isNegative: state.isNegative)
        {
          fewest = bytes
        }
      }
    }
    return fewest
  }

  /// How many digits may follow the point behind so many in front of it.
  private func fractionLimit(_ wholeDigits: Int) -> Int {
    isInteger ? 0 : min(FreeNumber.maxFractionDigits, FreeNumber.maxDigits - wholeDigits)
  }

  private static let one: Int128 = 1_000_000

  /// Millionths of the last of so many digits behind the point.
  private static func unit(_ fractionDigits: Int) -> Int128 { (fractionDigits..<maxFractionDigits).reduce(1) { unit, _ in unit * 10 } }

  /// Whether a multiple of `unit` lies between two magnitudes and within the bounds. Zero has no sign.
  private func allows(multipleOf unit: Int128, from: Int128, to: Int128, isNegative: Bool) -> Bool {
    let low = max(from, isNegative ? max(-most, 1) : least)
    let high = min(to, isNegative ? -least : most)
    guard low <= high, high >= 0 else { return false }
    return high / unit * unit >= low
  }
}

/// A bound in millionths, rounded down.
private struct Millionths {
  /// Beyond every number that is written: 10^15.
  static let limit: Int128 = 1_000_000_000_000_000 * 1_000_000

  private var floor: Int128 = 0
  private var isExact = true

  /// - Parameter number: of any size; beyond the limit it counts as the limit.
  init(_ number: JSON.Number) {
    var digits: [UInt8] = []
    var exponent = 0  // of the last digit
    var isNegative = false
    var afterPoint = false
    var exponentText: Substring?
    for (index, byte) in zip(number.text.utf8.indices, number.text.utf8) {
      switch byte {
      case UInt8(ascii: "-"): isNegative = true
      case UInt8(ascii: "."): afterPoint = true
      case UInt8(ascii: "0")...UInt8(ascii: "9"):
        if !(digits.isEmpty && byte == UInt8(ascii: "0")) { digits.append(byte - UInt8(ascii: "0")) }
        if afterPoint { exponent -= 1 }
      case UInt8(ascii: "e"), UInt8(ascii: "E"): exponentText = number.text[number.text.index(after: index)...]
      default: break
      }
      if exponentText != nil { break }
    }
    if let exponentText {
      // An exponent of twenty digits is as good as one of nine.
      let isDown = exponentText.hasPrefix("-")
      let value = Int(exponentText.drop { $0 == "-" || $0 == "+" || $0 == "0" }.prefix(9)) ?? 0
      exponent += isDown ? -value : value
    }
    while digits.last == 0 {
      digits.removeLast()
      exponent += 1
    }
    guard !digits.isEmpty else { return }
    exponent += 6
    var magnitude: Int128 = 0
    if digits.count + exponent > 22 {
      magnitude = Millionths.limit
    } else if digits.count + exponent <= 0 {
      isExact = false
    } else {
      for position in 0..<(digits.count + exponent) { magnitude = magnitude * 10 + (position < digits.count ? Int128(digits[position]) : 0) }
      isExact = exponent >= 0
    }
    magnitude = min(magnitude, Millionths.limit)
    floor = isNegative ? -magnitude - (isExact ? 0 : 1) : magnitude
  }

  /// The least number of millionths that a value from this bound upwards has.
  func above(isExclusive: Bool, _ bound: JSON.Number) -> Int128 {
    var least = isExact && !isExclusive ? floor : floor + 1
    guard isExclusive else { return least }
    // What a double does not tell from the bound is not above it.
    for unit in Millionths.units {
      let candidate = Millionths.multiple(notBelow: least, unit)
      if Millionths.double(candidate) == bound.double { least = max(least, candidate + 1) }
    }
    return least
  }

  /// The greatest that a value from this bound downwards has.
  func below(isExclusive: Bool, _ bound: JSON.Number) -> Int128 {
    var most = isExact && isExclusive ? floor - 1 : floor
    guard isExclusive else { return most }
    for unit in Millionths.units {
      let candidate = -Millionths.multiple(notBelow: -most, unit)
      if Millionths.double(candidate) == bound.double { most = min(most, candidate - 1) }
    }
    return most
  }

  private static let units: [Int128] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000]

  private static func multiple(notBelow value: Int128, _ unit: Int128) -> Int128 {
    let down = value / unit * unit
    return down >= value ? down : down + unit
  }

  private static func double(_ millionths: Int128) -> Double? {
    let magnitude = millionths.magnitude
    let fraction = String(magnitude % 1_000_000)
    return Double("\(millionths < 0 ? "-" : "")\(magnitude / 1_000_000).\(String(repeating: "0", count: 6 - fraction.count))\(fraction)")
  }
}
