import CTernary
import ModelFile

// Linears that are not ternary. Bricks take activations in int8 with a scale for each 32; float32 takes them as they are.

/// Activations as bricks take them.
// @unchecked: as for FloatBuffer.
final class BrickRows: @unchecked Sendable {
  private let rows: QuantizedRows
  private let perRow: Int

  init(tokens: Int, columns: Int) {
    perRow = (columns + 31) / 32
    rows = QuantizedRows(tokens: tokens, bricks: max(1, perRow))
  }

  static func bytes(tokens: Int, columns: Int) -> Int { tokens * ((columns + 31) / 32 * 40 + 64) }

  var stride: Int { rows.stride }
  func values(_ row: Int) -> UnsafeMutablePointer<Int8> { rows.values + row * rows.stride }

  /// Sums and scales of rows of `columns` values, one row behind the other.
  func sums(_ row: Int, columns: Int) -> UnsafeMutablePointer<Int32> { rows.sums + row * ((columns + 31) / 32) }
  func scales(_ row: Int, columns: Int) -> UnsafeMutablePointer<Float> { rows.scales + row * ((columns + 31) / 32) }

  /// Quantises a row of `columns` values; zeros behind them fill up the last 32. All rows of a product have as many.
  func set(_ row: Int, _ source: UnsafePointer<Float>, _ columns: Int, _ kernels: ct_kernels) {
    let whole = columns / 32 * 32
    let (q, sums, scales) = (values(row), sums(row, columns: columns), scales(row, columns: columns))
    kernels.quantize_bricks(source, q, whole, sums, scales)
    guard whole < columns else { return }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 32) { last in
      guard let start = last.baseAddress else { return }
      start.update(repeating: 0, count: 32)
      start.update(from: source + whole, count: columns - whole)
      kernels.quantize_bricks(start, q + whole, 32, sums + whole / 32, scales + whole / 32)
    }
  }
}

extension Model {
  /// Some row blocks of out = input · matrixᵀ, for `tokens` rows. Rows of `out` may be written up to a whole block where the matrix is of bricks.
  ///
  /// - Parameters:
  ///   - floats: the first row of the input; read where the matrix is of floats.
  ///   - bricks: its quantised form, from row `first` on; read where it is not.
  func multiply(
    _ tokens: Int, _ matrix: WeightMatrix, _ blocks: Range<Int>, floats: UnsafePointer<Float>, stride: Int, bricks: BrickRows, first: Int,
    into out: UnsafeMutablePointer<Float>, stride outStride: Int
  ) {
    guard !blocks.isEmpty else { return }
    guard let kind = matrix.storage.brickKind else {
      let rows = blocks.lowerBound * 16..<min(blocks.upperBound * 16, matrix.rows)
      for row in rows {
        let weights = matrix.base.assumingMemoryBound(to: Float.self) + row * matrix.columns
        for token in 0..<tokens { out[token * outStride + row] = kernels.dot_f32(weights, floats + token * stride, matrix.columns) }
      }
      return
    }
    let blockBytes = matrix.storage.bytes(rows: 16, columns: matrix.columns)
    kernels.brick_matmul(
      kind, matrix.base.assumingMemoryBound(to: UInt8.self) + blocks.lowerBound * blockBytes, blocks.count, matrix.storage.paddedColumns(matrix.columns) / 32,
      bricks.values(first), bricks.stride, bricks.sums(first, columns: matrix.columns), bricks.scales(first, columns: matrix.columns), tokens,
      out + blocks.lowerBound * 16, outStride)
  }
}

extension WeightMatrix {
  /// Blocks of 16 rows of one head.
  var rowBlocks: Int { (rows / heads + 15) / 16 }
}
