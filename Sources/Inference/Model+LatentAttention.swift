import CTernary
import ModelFile

// Latent attention, in absorbed form for every token: keys are never expanded. A head's query without its rotated part is multiplied with the matrix that
// would make keys of latents (keyUp), so its product with a latent is the score; what the head gathers is a latent, of which valueUp makes its values.

extension Model {
  /// From `work.h` to `work.attention`: [tokens, queryHeads * valueSize]
  func latentAttention(_ tokens: Int, _ weights: LatentAttentionWeights, _ index: Int) {
    guard let latent = configuration.latent else { return }
    if let down = weights.queryDown, let queryNorm = weights.queryNorm {
      project(tokens, work.h, down, into: work.latent.query)
      norm(tokens, work.latent.query, queryNorm, into: work.latent.query)
      project(tokens, work.latent.query, weights.query, into: work.query)
    } else {
      project(tokens, work.h, weights.query, into: work.query)
    }
    project(tokens, work.h, weights.latent, into: work.latent.vector)
    rotateAndStore(tokens, weights, latent, index)
    let c = configuration
    projectHeads(tokens, work.query, each: c.headSize, weights.keyUp, into: work.latent.heads, each: latent.rank)
    attendLatent(tokens, latent, block: index)
    projectHeads(tokens, work.latent.heads, each: latent.rank, weights.valueUp, into: work.attention, each: latent.valueSize)
  }

  /// Norms and rotates; the latent and the rotated key go into the cache.
  private func rotateAndStore(_ tokens: Int, _ weights: LatentAttentionWeights, _ latent: ModelConfiguration.LatentAttention, _ index: Int) {
    let c = configuration
    threads.parallel(tokens, work: tokens * c.querySize * 4) { row, worker in
      let entry = work.batch[row]
      let cosines = rope.cosines.base + entry.position * rope.half
      let sines = rope.sines.base + entry.position * rope.half
      for head in 0..<c.queryHeads { kernels.rope_half(work.query[row] + head * c.headSize + latent.plainSize, cosines, sines, rope.half) }
      let vector = work.latent.vector[row]
      kernels.rms_norm(vector, weights.latentNorm.pointer, vector, latent.rank, latent.rank, c.normEpsilon)
      kernels.rope_half(vector + latent.rank, cosines, sines, rope.half)
      let slot = entry.position - entry.sequence.start
      for (number, part) in pool.layout.parts.enumerated() {
        store(number == 1 ? vector + latent.rank : vector, entry.sequence, block: index, part: number, head: 0, slot, worker)
        assert(part.heads == 1)
      }
    }
  }

  /// output[head] = input[head] · matrix[head]ᵀ. Heads of a row begin at multiples of `inputSize` and `outputSize`.
  private func projectHeads(
    _ tokens: Int, _ input: Rows, each inputSize: Int, _ matrix: WeightMatrix, into output: Rows, each outputSize: Int
  ) {
    threads.parallel(matrix.heads, work: tokens * matrix.rows * matrix.columns / 8) { head, worker in
      let weights = matrix.head(head)
      // A head is quantised by the worker that multiplies it, into rows of its own.
      let first = worker * work.tokens
      if weights.storage != .f32 {
        for row in 0..<tokens { work.latent.bricks.set(first + row, input[row] + head * inputSize, matrix.columns, kernels) }
      }
      // A block of 16 rows may reach into the next head's output.
      let out = work.latent.output[worker]
      let stride = (outputSize + 15) / 16 * 16
      multiply(
        tokens, weights, 0..<weights.rowBlocks, floats: input[0] + head * inputSize, stride: input.stride, bricks: work.latent.bricks, first: first, into: out,
        stride: stride)
      for row in 0..<tokens { (output[row] + head * outputSize).update(from: out + row * stride, count: outputSize) }
    }
  }

  /// What each head gathers replaces its query in `work.latent.heads`: [tokens, queryHeads * rank]
  private func attendLatent(_ tokens: Int, _ latent: ModelConfiguration.LatentAttention, block: Int) {
    let c = configuration
    if options.kv == .q8 {
      let together = Model.queriesTogether
      let runs = (c.queryHeads + together - 1) / together
      threads.parallel(work.tiles.count * runs, work: work.visiblePairs * c.queryHeads * latent.rank / 2) { task, worker in
        let first = task % runs * together
        attendQuantized(
          QuantizedAttention(
            tile: work.tiles[task / runs], block: block, kvHead: 0, heads: first..<min(first + together, c.queryHeads),
            queries: [
              .init(part: 0, rows: work.latent.heads, stride: latent.rank, first: 0),
              .init(part: 1, rows: work.query, stride: c.headSize, first: latent.plainSize),
            ], out: work.latent.heads),
          work.attentionScratch[worker])
      }
      return
    }
    threads.parallel(tokens * c.queryHeads, work: work.visiblePairs * c.queryHeads * latent.rank * 2) { task, worker in
      let (row, head) = (task / c.queryHeads, task % c.queryHeads)
      let entry = work.batch[row]
      let scores = work.attentionScratch[worker].scores[0]
      let end = entry.position + 1
      let query = work.latent.heads[row] + head * latent.rank
      gatherScores(query, entry.sequence, end, block, part: 0, 0, adding: false, scores)
      gatherScores(work.query[row] + head * c.headSize + latent.plainSize, entry.sequence, end, block, part: 1, 0, adding: true, scores)
      kernels.softmax(scores, end)
      query.update(repeating: 0, count: latent.rank)
      gatherValues(scores, entry.sequence, end, block, 0, query)
    }
  }
}
