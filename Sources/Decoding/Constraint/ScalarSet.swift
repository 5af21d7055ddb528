/// A set of Unicode scalars, as ranges: ascending, disjoint, not touching each other. Surrogates belong to no set.
struct ScalarSet: Hashable, Sendable {
  typealias Range = ClosedRange<UInt32>

  private(set) var ranges: [Range]

  static let none = ScalarSet(ranges: [])
  static let everything = ScalarSet([0...0xD7FF, 0xE000...0x10FFFF])

  private init(ranges: [Range]) { self.ranges = ranges }

  /// - Parameter ranges: in any order; they may overlap and may hold surrogates.
  init(_ ranges: [Range]) {
    var sorted: [Range] = []
    for range in ranges {
      if range.lowerBound < 0xD800 { sorted.append(range.lowerBound...min(range.upperBound, 0xD7FF)) }
      if range.upperBound > 0xDFFF { sorted.append(max(range.lowerBound, 0xE000)...range.upperBound) }
    }
    sorted.sort { $0.lowerBound < $1.lowerBound }
    self.ranges = []
    for range in sorted { append(range) }
  }

  init(_ scalar: UInt32) { self.init([scalar...scalar]) }

  /// The scalars of a text.
  init(_ text: String) { self.init(text.unicodeScalars.map { $0.value...$0.value }) }

  /// Adds a range that begins at or behind the beginning of the last one.
  private mutating func append(_ range: Range) {
    if let last = ranges.last, range.lowerBound <= last.upperBound + 1 {
      ranges[ranges.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
    } else {
      ranges.append(range)
    }
  }

  var isEmpty: Bool { ranges.isEmpty }

  func contains(_ scalar: UInt32) -> Bool {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < scalar { low = middle + 1 } else { high = middle }
    }
    return low < ranges.count && ranges[low].contains(scalar)
  }

  func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }

  func intersection(_ other: ScalarSet) -> ScalarSet {
    var result = ScalarSet.none
    var i = 0
    var j = 0
    while i < ranges.count, j < other.ranges.count {
      let low = max(ranges[i].lowerBound, other.ranges[j].lowerBound)
      let high = min(ranges[i].upperBound, other.ranges[j].upperBound)
      if low <= high { result.append(low...high) }
      if ranges[i].upperBound < other.ranges[j].upperBound { i += 1 } else { j += 1 }
    }
    return result
  }

  /// All scalars that are not in it.
  var complement: ScalarSet {
    var gaps: [Range] = []
    var next: UInt32 = 0
    for range in ranges {
      if next < range.lowerBound { gaps.append(next...(range.lowerBound - 1)) }
      next = range.upperBound + 1
    }
    if next <= 0x10FFFF { gaps.append(next...0x10FFFF) }
    return ScalarSet(gaps)
  }
}
