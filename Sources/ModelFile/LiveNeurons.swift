import Basics

/// The neurons of the feed-forward parts that are worth storing.
///
/// A neuron whose gate row or up row is entirely zero gives activation(gate) * up = 0 for every input, since both activations map 0 to 0
/// and the other factor is finite. A zero changes neither the largest magnitude that the quantisation of the down projection's input
/// goes by, nor its integer products, nor the sum of squares of a norm in front of it, whose divisor stays the configuration's
/// `feedForwardSize`. So the neuron's row in gate and up, its column in down and its values in the norms can go, exactly.
///
/// Where the input of the down projection is scaled by groups of 128, taking columns away would put others into another group. There nothing is dropped.
struct LiveNeurons {
  /// For each block the indices of those that stay, ascending; nil where all of all blocks stay.
  private let kept: [[Int]]?
  private let all: Int

  /// How many stay in each block; nil where all do.
  var counts: [Int]? { kept?.map(\.count) }
  /// How many are dropped, over all blocks.
  var dropped: Int { kept?.reduce(0) { $0 + all - $1.count } ?? 0 }

  /// Reads gate and up of every block.
  init(
    _ configuration: ModelConfiguration, _ matrices: [ModelPart: TernaryRows], progress: (String) -> Void
  ) throws(SternaError) {
    all = configuration.feedForwardSize
    var kept: [[Int]] = []
    for block in 0..<configuration.blockCount {
      func matrix(_ linear: Linear) -> TernaryRows? { matrices[.block(block, .linear(linear))] }
      var live = [Bool](repeating: true, count: all)
      if let gate = matrix(.gate), let up = matrix(.up), let down = matrix(.down), down.scaleKind != .groups, !configuration.groupsActivations {
        progress("looking for rows that are zero in block \(block + 1) of \(configuration.blockCount)")
        for matrix in [gate, up] { try Self.clearZeroRows(of: matrix, columns: configuration.hiddenSize, in: &live) }
      }
      // A matrix without rows cannot be stored; a neuron that is always zero does no harm.
      if !live.contains(true) { live[0] = true }
      kept.append(live.indices.filter { live[$0] })
    }
    let whole = all
    self.kept = kept.allSatisfy { $0.count == whole } ? nil : kept
  }

  private static func clearZeroRows(of matrix: TernaryRows, columns: Int, in live: inout [Bool]) throws(SternaError) {
    let chunk = min(live.count, max(1, Packer.chunkValues / columns))
    let buffer = RowBuffer(rows: chunk, columns: columns, matrix.scaleKind)
    for first in stride(from: 0, to: live.count, by: chunk) {
      let range = first..<min(first + chunk, live.count)
      try buffer.read(range, of: matrix)
      for (i, row) in range.enumerated() {
        var bits: Int8 = 0
        for c in 0..<columns { bits |= buffer.weights[i * columns + c] }
        if bits == 0 { live[row] = false }
      }
    }
  }

  /// What is stored of a matrix.
  func select(_ part: ModelPart, _ matrix: TernaryRows, columns: Int) -> TernaryRows {
    guard let kept, case .block(let block, .linear(let linear)) = part, kept[block].count < all else { return matrix }
    return switch linear {
    case .gate, .up: matrix.keeping(rows: kept[block], of: all, columns: columns)
    case .down: matrix.keeping(columns: kept[block], of: all)
    default: matrix
    }
  }

  /// Which values are stored of a vector; nil: all.
  func indices(_ part: ModelPart) -> [Int]? {
    guard let kept else { return nil }
    switch part {
    case .block(let block, .feedForwardSubNorm), .block(let block, .inputNorm(.down)): return kept[block].count < all ? kept[block] : nil
    default: return nil
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
