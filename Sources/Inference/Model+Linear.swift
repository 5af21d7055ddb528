import CTernary
import ModelFile

// Linears, exactly as trained: int8 activations, int32 products, scales. Linears with the same input share its quantisation and one round of the
// threads. A round's pieces are runs of row blocks, each a linear stream of weights; each piece is finished, floats and all, while it is in the cache.
//
// Models that were trained with float activations get them in two parts: int8 by groups of 128, and what that leaves out in int8 again, some 15 bits
// together. Both parts of a token go through the kernel as two tokens would, so weights are read once. (With the first part alone the logits of the reference
// model are off by 3 %.)

extension Model {
  /// output = input · matrixᵀ for every row.
  ///
  /// - Parameter divisor: see `norm`; for a norm that belongs to the linear.
  func project(_ tokens: Int, _ input: Rows, _ matrix: Matrix, over divisor: Int? = nil, into output: Rows) {
    quantize(tokens, input, for: matrix, over: divisor)
    let blocks = matrix.rowBlocks
    let pieces = self.pieces(blocks)
    threads.parallel(pieces, work: work(tokens, matrix)) { piece, worker in
      multiply(tokens, input, matrix, blocks * piece / pieces..<blocks * (piece + 1) / pieces, into: output, worker)
    }
  }

  func projectQueriesKeysValues(_ tokens: Int, _ weights: GroupedAttentionWeights) {
    guard weights.query.sharesInput(with: weights.key), weights.query.sharesInput(with: weights.value) else {
      project(tokens, work.h, weights.query, into: work.query)
      project(tokens, work.h, weights.key, into: work.key)
      project(tokens, work.h, weights.value, into: work.value)
      return
    }
    quantize(tokens, work.h, for: weights.query)
    let query = weights.query.rowBlocks
    let key = weights.key.rowBlocks
    let all = query + key + weights.value.rowBlocks
    let pieces = self.pieces(all)
    threads.parallel(pieces, work: work(tokens, weights.query) * all / query) { piece, worker in
      let range = all * piece / pieces..<all * (piece + 1) / pieces
      multiply(tokens, work.h, weights.query, range.clamped(to: 0..<query), into: work.query, worker)
      multiply(tokens, work.h, weights.key, range.clamped(to: query..<query + key).shifted(by: -query), into: work.key, worker)
      multiply(tokens, work.h, weights.value, range.clamped(to: query + key..<all).shifted(by: -query - key), into: work.value, worker)
    }
  }

  /// gate = activation(gate) * up
  func projectGateAndUp(_ tokens: Int, _ weights: FeedForwardWeights) {
    let function = activation
    guard weights.gate.sharesInput(with: weights.up) else {
      project(tokens, work.h, weights.gate, into: work.gate)
      project(tokens, work.h, weights.up, into: work.up)
      let rows = weights.gate.rows
      threads.parallel(tokens, work: tokens * rows * 8) { row, _ in function(work.gate[row], work.up[row], work.gate[row], rows) }
      return
    }
    quantize(tokens, work.h, for: weights.gate)
    let blocks = weights.gate.rowBlocks
    let pieces = self.pieces(blocks)
    threads.parallel(pieces, work: 2 * work(tokens, weights.gate)) { piece, worker in
      let range = blocks * piece / pieces..<blocks * (piece + 1) / pieces
      multiply(tokens, work.h, weights.gate, range, into: work.gate, worker)
      multiply(tokens, work.h, weights.up, range, into: work.up, worker)
      let first = range.lowerBound * 16
      let count = min(range.upperBound * 16, weights.gate.rows) - first
      for row in 0..<tokens { function(work.gate[row] + first, work.up[row] + first, work.gate[row] + first, count) }
    }
  }

  /// out = function of the gate, times up.
  var activation: (UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>, Int) -> Void {
    configuration.activation == .silu ? kernels.silu_mul : kernels.relu2_mul
  }

  /// Enough pieces that threads finish together, also when one lost its core for a while, and large enough that small models do not spend their time on calls.
  func pieces(_ rowBlocks: Int) -> Int { threads.count == 1 ? 1 : min((rowBlocks + 3) / 4, threads.count * 8) }

  /// Multiply-adds of int8 count an eighth.
  private func work(_ tokens: Int, _ matrix: Matrix) -> Int { tokens * matrix.rows * matrix.columns / 8 }

  /// The input as the matrix takes it, where that is not its floats.
  private func quantize(_ tokens: Int, _ input: Rows, for matrix: Matrix, over divisor: Int? = nil) {
    switch matrix {
    case .ternary(let matrix): quantize(tokens, input, for: matrix, over: divisor)
    case .weights(let matrix):
      guard matrix.storage != .f32 else { return }
      threads.parallel(tokens, work: tokens * matrix.columns * 4) { row, _ in work.bricks.set(row, input[row], matrix.columns, kernels) }
    }
  }

  private func multiply(_ tokens: Int, _ input: Rows, _ matrix: Matrix, _ blocks: Range<Int>, into output: Rows, _ worker: Int) {
    switch matrix {
    case .ternary(let matrix): multiply(tokens, matrix, blocks, into: output, worker)
    case .weights(let matrix):
      multiply(tokens, matrix, blocks, floats: input[0], stride: input.stride, bricks: work.bricks, first: 0, into: output[0], stride: output.stride)
    }
  }

  /// The input in int8 as the matrix takes it, in `work.quantized`; behind the matrix's own norm where it has one.
  private func quantize(_ tokens: Int, _ input: Rows, for matrix: TernaryMatrix, over divisor: Int? = nil) {
    let quantized = work.quantized
    let groups = matrix.isGrouped ? matrix.columns / 128 : 1
    threads.parallel(tokens, work: tokens * matrix.columns * 4) { row, _ in
      var source = UnsafePointer(input[row])
      if let weight = matrix.inputNorm, let epsilon = configuration.linearNormEpsilon {
        kernels.rms_norm(source, weight.pointer, work.normed[row], matrix.columns, divisor ?? matrix.columns, epsilon)
        source = UnsafePointer(work.normed[row])
      }
      let values = quantized.values + row * quantized.stride
      if matrix.isGrouped {
        let stride = matrix.layout.groupStride
        kernels.quantize_groups(source, values, matrix.columns, stride, quantized.sums + row * groups, quantized.scales + row * groups)
        let rest = work.normed[row]
        for group in 0..<groups {
          let scale = quantized.scales[row * groups + group]
          for i in 0..<128 { rest[group * 128 + i] = source[group * 128 + i] - Float(values[group * stride + i]) * scale }
        }
        let second = tokens + row
        kernels.quantize_groups(
          rest, quantized.values + second * quantized.stride, matrix.columns, stride, quantized.sums + second * groups, quantized.scales + second * groups)
      } else {
        quantized.sums[row] = kernels.quantize(source, values, matrix.columns, matrix.paddedColumns, quantized.scales + row)
      }
    }
  }

  /// Some row blocks of output = quantized · matrixᵀ. Rows of `output` may be written up to a whole block.
  private func multiply(_ tokens: Int, _ matrix: TernaryMatrix, _ blocks: Range<Int>, into output: Rows, _ worker: Int) {
    guard !blocks.isEmpty else { return }
    let quantized = work.quantized
    let codes = matrix.codes + blocks.lowerBound * matrix.blockBytes
    let out = output[0] + blocks.lowerBound * 16
    if case .groups(let scales) = matrix.scale {
      multiplyGrouped(tokens, matrix, scales, blocks, into: output, worker)
      return
    }
    // The kernel writes int32 where the floats will be: both have four bytes.
    let integers = UnsafeMutableRawPointer(out).assumingMemoryBound(to: Int32.self)
    let multiply = matrix.layout == .fast ? kernels.fast_matmul : kernels.small_matmul
    multiply(
      codes, blocks.count, matrix.paddedColumns, quantized.values, quantized.stride, quantized.sums, tokens, integers, output.stride)
    for row in 0..<tokens {
      let start = UnsafeMutableRawPointer(out + row * output.stride)
      switch matrix.scale {
      case .tensor(let scale): dequantize(start, blocks.count, scale / quantized.scales[row])
      case .rows(let scales): dequantize(start, blocks.count, 1 / quantized.scales[row], scales.pointer + blocks.lowerBound * 16)
      case .groups: break
      }
    }
  }

  /// The same with scales by group: both parts of every token into the worker's memory, some row blocks at a time, and their sum to `output`.
  private func multiplyGrouped(
    _ tokens: Int, _ matrix: TernaryMatrix, _ scales: HalfVector, _ blocks: Range<Int>, into output: Rows, _ worker: Int
  ) {
    let quantized = work.quantized
    let groups = matrix.columns / 128
    let multiply = matrix.layout == .fast ? kernels.fast_grouped : kernels.small_grouped
    let parts = work.groupProducts[worker]
    let width = Workspace.groupedBlocks * 16
    for first in stride(from: blocks.lowerBound, to: blocks.upperBound, by: Workspace.groupedBlocks) {
      let count = min(Workspace.groupedBlocks, blocks.upperBound - first)
      multiply(
        matrix.codes + first * matrix.blockBytes, scales.pointer + first * groups * 16, count, groups, quantized.values, quantized.stride, quantized.sums,
        quantized.scales, 2 * tokens, parts, width)
      for row in 0..<tokens {
        let out = output[row] + first * 16
        for i in 0..<count * 16 { out[i] = parts[row * width + i] + parts[(tokens + row) * width + i] }
      }
    }
  }

  /// int32 to float32 in place, 16 at a time, times a factor, and a factor for each row where there are such.
  private func dequantize(_ start: UnsafeMutableRawPointer, _ blocks: Int, _ factor: Float, _ rows: UnsafePointer<Float>? = nil) {
    for block in 0..<blocks {
      let at = start + block * 64
      var floats = SIMD16<Float>(at.loadUnaligned(as: SIMD16<Int32>.self)) * factor
      if let rows { floats *= UnsafeRawPointer(rows + block * 16).loadUnaligned(as: SIMD16<Float>.self) }
      at.storeBytes(of: floats, as: SIMD16<Float>.self)
    }
  }
}

extension Matrix {
  /// Blocks of 16 rows.
  var rowBlocks: Int { (rows + 15) / 16 }

  /// Whether another matrix takes the same input in the same form.
  fileprivate func sharesInput(with other: Matrix) -> Bool {
    switch (self, other) {
    case (.ternary(let a), .ternary(let b)): a.inputNorm == nil && b.inputNorm == nil
    case (.weights(let a), .weights(let b)): (a.storage == .f32) == (b.storage == .f32)
    default: false
    }
  }
}

extension TernaryMatrix {
  /// Bytes of a block.
  var blockBytes: Int { paddedColumns / layout.unitColumns * 64 }
}

extension Range<Int> {
  fileprivate func shifted(by offset: Int) -> Range { lowerBound + offset..<upperBound + offset }
}
