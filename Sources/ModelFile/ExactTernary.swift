import Basics

/// Matrices of floats that are ternary already: every value is -s, 0 or s, with one s for the matrix, for each row, or for each 128
/// columns of a row. Nothing is rounded; a value that does not fit is an error.
package struct ExactTernary {
  /// Of the tensor, for errors.
  let place: String
  let rows: Int
  let columns: Int
  /// Writes the values of some rows, [rows, columns], all finite.
  let read: (_ rows: Range<Int>, _ into: UnsafeMutableBufferPointer<Float>) throws(SternaError) -> Void

  static let groupColumns = 128

  package init(
    place: String, rows: Int, columns: Int, read: @escaping (_ rows: Range<Int>, _ into: UnsafeMutableBufferPointer<Float>) throws(SternaError) -> Void
  ) {
    (self.place, self.rows, self.columns, self.read) = (place, rows, columns, read)
  }

  /// Reads the whole matrix and finds the coarsest scale that is exact.
  /// - Throws: `unsupported` naming the first row and column whose value does not fit.
  package func scale() throws(SternaError) -> TernaryRows.Scale {
    let chunk = min(rows, max(1, (1 << 18) / columns))
    let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: chunk * columns)
    defer { buffer.deallocate() }
    var tensor = Common()
    var byRow = true
    for first in stride(from: 0, to: rows, by: chunk) {
      let range = first..<min(first + chunk, rows)
      let values = UnsafeMutableBufferPointer(rebasing: buffer[..<(range.count * columns)])
      try read(range, values)
      for row in range {
        let line = UnsafeBufferPointer(rebasing: values[(row - first) * columns..<(row - first + 1) * columns])
        let common = try scan(line, row)
        byRow = byRow && common.isOne
        tensor.join(common)
      }
    }
    if tensor.isOne { return .tensor(tensor.positive) }
    return byRow ? .rows : .groups
  }

  /// - Parameter scale: what `scale()` found.
  package func ternaryRows(_ scale: TernaryRows.Scale) -> TernaryRows {
    TernaryRows(scale: scale) { (range, weights, scales) throws(SternaError) in
      let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: range.count * columns)
      defer { values.deallocate() }
      try read(range, values)
      for i in 0..<values.count { weights[i] = values[i] > 0 ? 1 : values[i] < 0 ? -1 : 0 }
      let count: Int
      switch scale {
      case .tensor: return
      case .rows: count = columns
      case .groups: count = Self.groupColumns
      }
      for i in 0..<values.count / count {
        scales[i] = Common(largest: Self.largest(UnsafeBufferPointer(rebasing: values[i * count..<(i + 1) * count]))).positive
      }
    }
  }

  /// The magnitude that all values so far have which are not zero, as the bits of a positive float.
  private struct Common {
    var bits: UInt32 = 0
    var isOne = true

    init() {}
    init(largest: UInt32) { bits = largest }

    mutating func join(_ other: Common) {
      isOne = isOne && other.isOne && (bits == 0 || other.bits == 0 || bits == other.bits)
      if bits == 0 { bits = other.bits }
    }

    /// Where all is zero any scale is right; 1 is one that every reader accepts.
    var positive: Float { bits == 0 ? 1 : Float(bitPattern: bits) }
  }

  private static let magnitude: UInt32 = 0x7FFF_FFFF

  /// The largest magnitude. Bits of positive floats are in the order of the floats, and integers need no care for NaN.
  private static func largest(_ values: UnsafeBufferPointer<Float>) -> UInt32 {
    var largest: UInt32 = 0
    for value in values { largest = max(largest, value.bitPattern & magnitude) }
    return largest
  }

  /// One row, group by group; in a row of another length all groups must agree.
  private func scan(_ line: UnsafeBufferPointer<Float>, _ row: Int) throws(SternaError) -> Common {
    var common = Common()
    for first in stride(from: 0, to: columns, by: Self.groupColumns) {
      let group = UnsafeBufferPointer(rebasing: line[first..<min(first + Self.groupColumns, columns)])
      let largest = Self.largest(group)
      var odd = 0
      for value in group {
        let bits = value.bitPattern & Self.magnitude
        odd &+= bits == 0 || bits == largest ? 0 : 1
      }
      let before = common
      common.join(Common(largest: largest))
      let isOdd = odd > 0
      guard !isOdd, common.isOne || columns % Self.groupColumns == 0 else {
        let other = isOdd ? largest : before.bits
        let at = group.indices.first { group[$0].bitPattern & Self.magnitude != 0 && group[$0].bitPattern & Self.magnitude != other } ?? 0
        throw SternaError(
          .unsupported, "this matrix is not ternary", at: place + ", row \(row)",
          expected: "-s, 0 or s, with one s for the matrix, for the row" + (columns % Self.groupColumns == 0 ? " or for each 128 columns" : ""),
          found: "\(group[at]) in column \(first + at), and \(Float(bitPattern: other)) beside it",
          remedy: "Sterna does not make models ternary: take a checkpoint that was trained so, in its ternary form"
            + " (masters of the bitnet quantiser need quantization_config in config.json)")
      }
    }
    return common
  }
}

extension ModelConfiguration {
  /// Scales by group need activations by group. Without such, those who trained with float activations get them where they can be, because
  /// they are finer than any training used.
  mutating func settleActivationGroups(trainedByToken: Bool, _ scales: some Collection<TernaryRows.Scale>) {
    let fits = Linear.dense.allSatisfy { $0.shape(self).columns % ExactTernary.groupColumns == 0 }
    groupsActivations = scales.contains(.groups) || !trainedByToken && fits
  }
}
