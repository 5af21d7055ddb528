import Basics
import CTernary
import ModelFile
import Tokenizer

extension Model {
  /// Runs tokens of several sequences as one batch, in chunks of `batchTokens`.
  ///
  /// A token's result depends on the tokens before it in its own sequence and on nothing else: not on the other steps, the chunks or the threads.
  ///
  /// - Parameter steps: each for a different sequence; none frozen.
  /// - Returns: the hidden states asked for, step by step.
  /// - Throws: `badToken`, `contextFull`; then nothing has changed.
  public func forward(_ steps: [Step]) throws(SternaError) -> HiddenStates {
    try check(steps)
    var hidden = HiddenStates(width: configuration.hiddenSize)
    work.batch.removeAll(keepingCapacity: true)
    var wanted: [Bool] = []
    for step in steps {
      for (i, token) in step.tokens.enumerated() {
        let position = step.sequence.count + pendingTokens(of: step.sequence)
        work.batch.append(.init(sequence: step.sequence, position: position, token: Int(token)))
        wanted.append(step.want == .all || step.want == .last && i == step.tokens.count - 1)
        if work.batch.count == work.tokens { runBatch(wanted, &hidden); wanted.removeAll(keepingCapacity: true) }
      }
    }
    if !work.batch.isEmpty { runBatch(wanted, &hidden) }
    return hidden
  }

  private func check(_ steps: [Step]) throws(SternaError) {
    for (i, step) in steps.enumerated() {
      // Another model's cache has other shapes: writing there by ours would leave its memory.
      guard step.sequence.pool === pool else {
        throw SternaError(.unsupported, "the sequence belongs to another model", at: "steps[\(i)]")
      }
      guard !step.sequence.isFrozen, !steps[..<i].contains(where: { $0.sequence === step.sequence }) else {
        throw SternaError(.unsupported, "a sequence with children cannot grow, and a batch continues each sequence once", at: "steps[\(i)]")
      }
      guard step.tokens.count <= step.sequence.room else {
        throw SternaError(
          .contextFull, "more tokens than the sequence has room for", at: "steps[\(i)]", expected: "at most \(step.sequence.room)",
          found: "\(step.tokens.count)")
      }
      for (t, token) in step.tokens.enumerated() where token < 0 || Int(token) >= configuration.vocabularySize {
        throw SternaError(
          .badToken, "no such token", at: "steps[\(i)].tokens[\(t)]", expected: "0..<\(configuration.vocabularySize)", found: "\(token)")
      }
    }
  }

  /// Rows of the batch at hand that belong to a sequence: they follow each other at the batch's end.
  private func pendingTokens(of sequence: Sequence) -> Int {
    guard let last = work.batch.last, last.sequence === sequence else { return 0 }
    return last.position + 1 - sequence.count
  }

  private func runBatch(_ wanted: [Bool], _ hidden: inout HiddenStates) {
    let tokens = work.batch.count
    embed(tokens)
    for (index, block) in weights.blocks.enumerated() { forward(tokens, block, index) }
    for row in work.batch { row.sequence.advance(by: 1) }
    for row in 0..<tokens where wanted[row] {
      kernels.rms_norm(work.x[row], weights.finalNorm.pointer, work.h[row], configuration.hiddenSize, configuration.hiddenSize, configuration.normEpsilon)
      hidden.values.append(contentsOf: UnsafeBufferPointer(start: work.h[row], count: configuration.hiddenSize))
    }
    work.batch.removeAll(keepingCapacity: true)
  }

  /// One decoder block over the batch; `work.x` [tokens, hidden] is updated in place.
  private func forward(_ tokens: Int, _ block: BlockWeights, _ index: Int) {
    norm(tokens, work.x, block.attentionNorm, into: work.h)
    project(tokens, work.h, block.query, into: work.query)
    project(tokens, work.h, block.key, into: work.key, inputIsQuantized: true)
    project(tokens, work.h, block.value, into: work.value, inputIsQuantized: true)
    rotateAndStore(tokens, block: index)
    attend(tokens, block: index)
    if let subNorm = block.attentionSubNorm { norm(tokens, work.attention, subNorm, into: work.attention) }
    project(tokens, work.attention, block.output, into: work.delta)
    addDelta(tokens)

    norm(tokens, work.x, block.feedForwardNorm, into: work.h)
    project(tokens, work.h, block.gate, into: work.gate)
    project(tokens, work.h, block.up, into: work.up, inputIsQuantized: true)
    activate(tokens)
    if let subNorm = block.feedForwardSubNorm { norm(tokens, work.gate, subNorm, into: work.gate) }
    project(tokens, work.gate, block.down, into: work.delta)
    addDelta(tokens)
  }

  /// Looks up the embedding of every token. `work.x`: [tokens, hidden]
  private func embed(_ tokens: Int) {
    let table = weights.embedding
    for row in 0..<tokens {
      let source = table.pointer(work.batch[row].token)
      let x = work.x[row]
      switch table.storage {
      case .f32: x.update(from: source.assumingMemoryBound(to: Float.self), count: table.columns)
      case .f16: kernels.f16_to_f32(source.assumingMemoryBound(to: UInt16.self), x, table.columns)
      case .q6, .q4: break
      case .q8:
        // Blocks of 34 bytes: a half-precision factor, then 32 int8.
        for block in 0..<table.columns / 32 {
          let start = source + block * 34
          var half = start.loadUnaligned(as: UInt16.self)
          var factor: Float = 0
          kernels.f16_to_f32(&half, &factor, 1)
          let values = (start + 2).assumingMemoryBound(to: Int8.self)
          for i in 0..<32 { x[block * 32 + i] = factor * Float(values[i]) }
        }
      }
    }
  }

  private func norm(_ tokens: Int, _ input: Rows, _ weight: FloatVector, into output: Rows) {
    threads.parallel(tokens, work: tokens * weight.count * 4) { row, _ in
      kernels.rms_norm(input[row], weight.pointer, output[row], weight.count, weight.count, configuration.normEpsilon)
    }
  }

  /// output = input · matrixᵀ for every row, exactly as trained: int8 activations, int32 sums, one scale.
  ///
  /// - Parameter inputIsQuantized: `work.quantized` holds this very input from the call before. Ignored where the matrix has a norm of its own.
  private func project(_ tokens: Int, _ input: Rows, _ matrix: TernaryMatrix, into output: Rows, inputIsQuantized: Bool = false) {
    let quantized = work.quantized
    if !inputIsQuantized || matrix.inputNorm != nil {
      threads.parallel(tokens, work: tokens * matrix.columns * 4) { row, _ in
        var source = UnsafePointer(input[row])
        if let weight = matrix.inputNorm, let epsilon = configuration.linearNormEpsilon {
          kernels.rms_norm(source, weight.pointer, work.normed[row], matrix.columns, matrix.columns, epsilon)
          source = UnsafePointer(work.normed[row])
        }
        quantized.sums[row] = kernels.quantize(
          source, quantized.values + row * quantized.stride, matrix.columns, matrix.paddedColumns, quantized.scales + row)
      }
    }
    guard case .tensor(let scale) = matrix.scale else { return }
    let rowBlocks = matrix.paddedRows / 16
    // Multiply-adds of int8 count an eighth. Enough pieces that a thread which lost its core for a while does not hold up the others; each still a long linear stream.
    let pieces = threads.count == 1 ? 1 : min(rowBlocks, threads.count * 4)
    let blockBytes = matrix.paddedColumns / 16 * 64
    threads.parallel(pieces, work: tokens * matrix.rows * matrix.columns / 8) { piece, _ in
      let first = rowBlocks * piece / pieces
      let count = rowBlocks * (piece + 1) / pieces - first
      // The kernel writes int32 where the floats will be: both have four bytes.
      let out = UnsafeMutableRawPointer(output[0] + first * 16).assumingMemoryBound(to: Int32.self)
      kernels.fast_matmul(
        matrix.codes + first * blockBytes, count, matrix.paddedColumns, quantized.values, quantized.stride, quantized.sums, tokens, out,
        output.stride)
      for row in 0..<tokens {
        let integers = out + row * output.stride
        let floats = output[row] + first * 16
        let s = quantized.scales[row]
        for i in 0..<count * 16 { floats[i] = Float(integers[i]) * scale / s }
      }
    }
  }

  /// gate = activation(gate) * up
  private func activate(_ tokens: Int) {
    let width = configuration.feedForwardSize
    let function = configuration.activation == .silu ? kernels.silu_mul : kernels.relu2_mul
    threads.parallel(tokens, work: tokens * width * 8) { row, _ in function(work.gate[row], work.up[row], work.gate[row], width) }
  }

  /// x += delta
  private func addDelta(_ tokens: Int) {
    for row in 0..<tokens { kernels.axpy_f32(1, work.delta[row], work.x[row], configuration.hiddenSize) }
  }
}
