/// Owned float32 memory, aligned to 64 bytes, zero at the start. The one place of `Inference` that allocates working memory.
// @unchecked: a `Model` is used from one thread at a time, and inside a pass each index of the memory belongs to one task.
final class FloatBuffer: @unchecked Sendable {
  let base: UnsafeMutablePointer<Float>
  let count: Int

  init(count: Int) {
    self.count = count
    let raw = UnsafeMutableRawPointer.allocate(byteCount: max(64, count * 4), alignment: 64)
    base = raw.bindMemory(to: Float.self, capacity: max(16, count))
    base.initialize(repeating: 0, count: max(16, count))
  }

  deinit { base.deallocate() }

  var bytes: Int { count * 4 }

  subscript(index: Int) -> Float {
    get { assert(0..<count ~= index); return base[index] }
    set { assert(0..<count ~= index); base[index] = newValue }
  }
}

/// Rows of float32 activations: one row a token.
struct Rows {
  let buffer: FloatBuffer
  /// Values used of each row.
  let width: Int
  /// Values from one row to the next: `width` rounded up to 16, so that kernels may write whole blocks.
  let stride: Int

  /// [tokens, width]
  init(tokens: Int, width: Int) {
    self.width = width
    stride = (width + 15) / 16 * 16
    buffer = FloatBuffer(count: tokens * stride)
  }

  /// Where a row begins.
  subscript(row: Int) -> UnsafeMutablePointer<Float> {
    assert(row >= 0 && (row + 1) * stride <= buffer.count)
    return buffer.base + row * stride
  }
}

/// Activations as the ternary kernels take them: int8 rows with their sums and scales.
// @unchecked: as for FloatBuffer.
final class QuantizedRows: @unchecked Sendable {
  /// [tokens, stride] int8, zero behind the used columns
  let values: UnsafeMutablePointer<Int8>
  /// [tokens, groups]: sum of the row, or of its groups of 128
  let sums: UnsafeMutablePointer<Int32>
  /// [tokens]: s = 127 / max(absmax, 1e-5); where there are groups, [tokens, groups]: 1 / s
  let scales: UnsafeMutablePointer<Float>
  /// Bytes from one row to the next: a multiple of 64, and not of 4096, which would put all rows into the same cache sets.
  let stride: Int
  let bytes: Int

  /// For ternary matrices.
  /// - Parameter groups: sums and scales of a row.
  convenience init(tokens: Int, columns: Int, groups: Int) {
    // The small layout stores a group of 128 as 140, and other rows as a multiple of 20.
    self.init(tokens: tokens, rowBytes: groups > 1 ? columns / 128 * 140 : columns + 20, groups: groups)
  }

  /// For bricks: groups of 32.
  convenience init(tokens: Int, bricks: Int) { self.init(tokens: tokens, rowBytes: bricks * 32, groups: bricks) }

  private init(tokens: Int, rowBytes: Int, groups: Int) {
    let padded = (rowBytes + 63) / 64 * 64
    stride = padded % 4096 == 0 ? padded + 64 : padded
    bytes = tokens * (stride + 8 * groups)
    let raw = UnsafeMutableRawPointer.allocate(byteCount: tokens * stride, alignment: 64)
    values = raw.bindMemory(to: Int8.self, capacity: tokens * stride)
    values.initialize(repeating: 0, count: tokens * stride)
    sums = .allocate(capacity: tokens * groups)
    sums.initialize(repeating: 0, count: tokens * groups)
    scales = .allocate(capacity: tokens * groups)
    scales.initialize(repeating: 1, count: tokens * groups)
  }

  deinit {
    values.deallocate()
    sums.deallocate()
    scales.deallocate()
  }
}
