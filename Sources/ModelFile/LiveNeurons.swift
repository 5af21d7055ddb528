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
