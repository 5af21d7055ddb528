import Basics

/// The rows of a ternary matrix at its source.
package struct TernaryRows {
  /// What the integer product is multiplied by.
  package enum Scale: Sendable, Equatable {
    case tensor(Float)
    /// `read` writes one for each row.
    case rows
    /// `read` writes one for each row and 128 columns; columns are a multiple of 128.
    case groups
  }

  package let scale: Scale
  var scaleKind: ScaleKind {
    switch scale {
    case .tensor: .tensor
    case .rows: .rows
    case .groups: .groups
    }
  }
  /// Writes the weights (-1, 0, 1) of some rows, contiguously [rows, columns], and their scales [rows] or [rows, groups] where the matrix has
  /// such, all positive.
  package let read: (_ rows: Range<Int>, _ weights: UnsafeMutablePointer<Int8>, _ scales: UnsafeMutablePointer<Float>) throws(SternaError) -> Void

  package init(scale: Scale, read: @escaping (_ rows: Range<Int>, _ weights: UnsafeMutablePointer<Int8>, _ scales: UnsafeMutablePointer<Float>) throws(SternaError) -> Void) {
    self.scale = scale
    self.read = read
  }
}

extension TernaryRows {
  /// The same matrix with its scales repeated for every group of 128 columns; itself where its one scale has no exact half-precision value.
  func byGroups(columns: Int) -> TernaryRows {
    guard scaleKind != .groups else { return self }
    if case .tensor(let scale) = scale, Float(Float16(scale)) != scale { return self }
    let groups = columns / 128
    return TernaryRows(scale: .groups) { (range, weights, scales) throws(SternaError) in
      // Rows' scales come to the front of the room for all, and are spread from the last row on.
      try self.read(range, weights, scales)
      for row in (0..<range.count).reversed() {
        let scale = if case .tensor(let scale) = self.scale { scale } else { scales[row] }
        (scales + row * groups).update(repeating: scale, count: groups)
      }
    }
  }

  /// The matrix of some of the rows.
  /// - Parameter total: rows there are.
  func keeping(rows kept: [Int], of total: Int, columns: Int) -> TernaryRows {
    let kind = scaleKind
    let scaleCount = kind.count(columns: columns)
    return TernaryRows(scale: scale) { (range, weights, scales) throws(SternaError) in
      guard !range.isEmpty else { return }
      // All rows are read, the last ones too: sources give pages back as they go.
      let end = range.upperBound < kept.count ? kept[range.upperBound] : total
      let step = min(64, end - kept[range.lowerBound])
      let buffer = RowBuffer(rows: step, columns: columns, kind)
      var next = range.lowerBound
      for first in stride(from: kept[range.lowerBound], to: end, by: step) {
        let part = first..<min(first + step, end)
        try buffer.read(part, of: self)
        while next < range.upperBound, kept[next] < part.upperBound {
          let from = kept[next] - first
          let to = next - range.lowerBound
          (weights + to * columns).update(from: buffer.weights + from * columns, count: columns)
          (scales + to * scaleCount).update(from: buffer.scales + from * scaleCount, count: scaleCount)
          next += 1
        }
      }
    }
  }

  /// The matrix of some of the columns; its scales are not by group.
  /// - Parameter total: columns there are.
  func keeping(columns kept: [Int], of total: Int) -> TernaryRows {
    TernaryRows(scale: scale) { (range, weights, scales) throws(SternaError) in
      let step = min(64, range.count)
      guard step > 0 else { return }
      let buffer = RowBuffer(rows: step, columns: total, .tensor)
      for first in stride(from: range.lowerBound, to: range.upperBound, by: step) {
        let part = first..<min(first + step, range.upperBound)
        let done = first - range.lowerBound
        try self.read(part, buffer.weights, scales + (scaleKind == .rows ? done : 0))
        kept.withUnsafeBufferPointer { kept in
          for row in 0..<part.count {
            let from = buffer.weights + row * total
            let to = weights + (done + row) * kept.count
            for i in 0..<kept.count { to[i] = from[kept[i]] }
          }
        }
      }
    }
  }
}

/// Memory for some rows of a ternary matrix with their scales.
struct RowBuffer: ~Copyable {
  let weights: UnsafeMutablePointer<Int8>
  let scales: UnsafeMutablePointer<Float>
  let columns: Int
  /// Scales of a row.
  let scaleCount: Int

  init(rows: Int, columns: Int, _ kind: ScaleKind) {
    self.columns = columns
    scaleCount = kind.count(columns: columns)
    weights = .allocate(capacity: rows * columns)
    scales = .allocate(capacity: max(1, rows * scaleCount))
    scales.initialize(repeating: 0, count: max(1, rows * scaleCount))
  }

  deinit {
    weights.deallocate()
    scales.deallocate()
  }

  func read(_ range: Range<Int>, of matrix: TernaryRows) throws(SternaError) { try matrix.read(range, weights, scales) }
}

extension ScaleKind {
  /// Scales of one row.
  func count(columns: Int) -> Int {
    switch self {
    case .tensor: 0
    case .rows: 1
    case .groups: columns / 128
    }
  }
}
