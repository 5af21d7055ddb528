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
  /// - Throws: `badToken`, `contextFull`, and then nothing has changed; `modelIO` when an embedding or an expert cannot be read: then sequences may have grown by a part of
  ///   their tokens.
  public func forward(_ steps: [Step]) throws(SternaError) -> HiddenStates {
    try check(steps)
    var hidden = HiddenStates(width: configuration.hiddenSize)
    work.batch.removeAll(keepingCapacity: true)
    var wanted: [Bool] = []
    for step in steps {
      for (i, token) in step.tokens.enumerated() {
        let position = step.sequence.count + pendingTokens(of: step.sequence)
        work.batch.append(.init(sequence: step.sequence, position: position, token: Int(token)))
        wanted.append(step.want.includes(i, of: step.tokens.count))
        if work.batch.count == work.tokens { try runBatch(wanted, &hidden); wanted.removeAll(keepingCapacity: true) }
      }
    }
    if !work.batch.isEmpty { try runBatch(wanted, &hidden) }
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

  private func runBatch(_ wanted: [Bool], _ hidden: inout HiddenStates) throws(SternaError) {
    let tokens = work.batch.count
    try embed(tokens)
    findTiles()
    for (index, block) in weights.blocks.enumerated() { try forward(tokens, block, index) }
    for row in work.batch { row.sequence.advance(by: 1) }
    for row in 0..<tokens where wanted[row] {
      kernels.rms_norm(
        work.x[row], weights.finalNorm.pointer, work.h[row], configuration.hiddenSize, configuration.hiddenSize, configuration.normEpsilon)
      hidden.values.append(contentsOf: UnsafeBufferPointer(start: work.h[row], count: configuration.hiddenSize))
    }
    work.batch.removeAll(keepingCapacity: true)
  }

  /// Divides the batch into runs of rows that follow each other in one sequence.
  private func findTiles() {
    work.tiles.removeAll(keepingCapacity: true)
    work.visiblePairs = work.batch.reduce(0) { $0 + $1.position + 1 }
    let longest = max(1, Model.queriesTogether / (configuration.queryHeads / configuration.kvHeads))
    var first = 0
    while first < work.batch.count {
      var end = first + 1
      while end < work.batch.count, end - first < longest, work.batch[end].sequence === work.batch[first].sequence { end += 1 }
      work.tiles.append(Tile(first: first, count: end - first))
      first = end
    }
  }

  /// One decoder block over the batch; `work.x` [tokens, hidden] is updated in place.
  private func forward(_ tokens: Int, _ block: BlockWeights, _ index: Int) throws(SternaError) {
    norm(tokens, work.x, block.attentionNorm, into: work.h)
    switch block.attention {
    case .grouped(let weights): groupedAttention(tokens, weights, index)
    case .latent(let weights): latentAttention(tokens, weights, index)
    }
    if let subNorm = block.attentionSubNorm { norm(tokens, work.attention, subNorm, into: work.attention) }
    project(tokens, work.attention, block.attentionOutput, into: work.delta)
    addDelta(tokens)

    norm(tokens, work.x, block.feedForwardNorm, into: work.h)
    switch block.feedForward {
    case .dense(let weights): feedForward(tokens, weights)
    case .routed(let weights): try runExperts(tokens, weights, index)
    }
    addDelta(tokens)
  }

  /// From `work.h` to `work.attention`.
  private func groupedAttention(_ tokens: Int, _ weights: GroupedAttentionWeights, _ index: Int) {
    projectQueriesKeysValues(tokens, weights)
    rotateAndStore(tokens, weights, index)
    attend(tokens, block: index)
  }

  /// From `work.h` to `work.delta`.
  func feedForward(_ tokens: Int, _ weights: FeedForwardWeights) {
    projectGateAndUp(tokens, weights)
    if let subNorm = weights.subNorm { norm(tokens, work.gate, subNorm, over: configuration.feedForwardSize, into: work.gate) }
    project(tokens, work.gate, weights.down, over: configuration.feedForwardSize, into: work.delta)
  }

  /// Looks up the embedding of every token. `work.x`: [tokens, hidden]
  private func embed(_ tokens: Int) throws(SternaError) {
    let columns = configuration.hiddenSize
    embedding.prefetch(work.batch.lazy.map(\.token))
    for row in 0..<tokens {
      let source = try embedding.row(work.batch[row].token)
      let x = work.x[row]
      switch embedding.table.storage {
      case .f32: x.update(from: source.assumingMemoryBound(to: Float.self), count: columns)
      case .f16: kernels.f16_to_f32(source.assumingMemoryBound(to: UInt16.self), x, columns)
      case .q8: ct_unpack_q8_0(source, x, columns)
      case .q6: ct_unpack_q6_k(source, x, columns)
      case .q4: ct_unpack_iq4_nl(source, x, columns)
      }
    }
  }

  /// - Parameter divisor: what the squares' sum is divided by; more than the values where zeros are not stored.
  func norm(_ tokens: Int, _ input: Rows, _ weight: FloatVector, over divisor: Int? = nil, into output: Rows) {
    threads.parallel(tokens, work: tokens * weight.count * 4) { row, _ in
      kernels.rms_norm(input[row], weight.pointer, output[row], weight.count, divisor ?? weight.count, configuration.normEpsilon)
    }
  }

  /// x += delta
  private func addDelta(_ tokens: Int) {
    threads.parallel(tokens, work: tokens * configuration.hiddenSize) { row, _ in
      kernels.axpy_f32(1, work.delta[row], work.x[row], configuration.hiddenSize)
    }
  }
}
