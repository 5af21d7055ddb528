import CTernary
import Glibc
import ModelFile

extension Sequence {
  /// One head of a part (`KVLayout`) of one block.
  func storage(block: Int, part: Int, head: Int) -> UnsafeMutableRawPointer {
    storage + pool.layout.offset(block: block, part: part, head: head, capacity: capacity)
  }

  /// Its scales, where it is int8.
  func scales(block: Int, part: Int, head: Int) -> UnsafeMutablePointer<Float> {
    (storage + pool.layout.scaleOffset(block: block, part: part, head: head, capacity: capacity)).assumingMemoryBound(to: Float.self)
  }
}

extension Model {
  /// Biases and norms where the model has them, then queries and keys to their positions, then keys and values into the cache in its own format.
  func rotateAndStore(_ tokens: Int, _ weights: GroupedAttentionWeights, _ index: Int) {
    let c = configuration
    threads.parallel(tokens, work: tokens * c.querySize * 4) { row, worker in
      let entry = work.batch[row]
      let cosines = rope.cosines.base + entry.position * rope.half
      let sines = rope.sines.base + entry.position * rope.half
      if let biases = weights.biases {
        kernels.axpy_f32(1, biases.query.pointer, work.query[row], c.querySize)
        kernels.axpy_f32(1, biases.key.pointer, work.key[row], c.kvSize)
        kernels.axpy_f32(1, biases.value.pointer, work.value[row], c.kvSize)
      }
      if let norm = weights.queryNorm { normalise(work.query[row], c.querySize, norm) }
      if let norm = weights.keyNorm { normalise(work.key[row], c.kvSize, norm) }
      for head in 0..<c.queryHeads { kernels.rope_half(work.query[row] + head * c.headSize, cosines, sines, rope.half) }
      let slot = entry.position - entry.sequence.start
      for head in 0..<c.kvHeads {
        let key = work.key[row] + head * c.headSize
        kernels.rope_half(key, cosines, sines, rope.half)
        store(key, entry.sequence, block: index, part: 0, head: head, slot, worker)
        store(work.value[row] + head * c.headSize, entry.sequence, block: index, part: 1, head: head, slot, worker)
      }
    }
  }

  /// In place, over each run of as many values as the norm has weights: a head, or all heads together.
  private func normalise(_ values: UnsafeMutablePointer<Float>, _ count: Int, _ norm: FloatVector) {
    for first in stride(from: 0, to: count, by: norm.count) {
      kernels.rms_norm(values + first, norm.pointer, values + first, norm.count, norm.count, configuration.normEpsilon)
    }
  }

  /// One head of a part of a token into its slot.
  func store(_ values: UnsafePointer<Float>, _ sequence: Sequence, block: Int, part: Int, head: Int, _ slot: Int, _ worker: Int) {
    let size = pool.layout.parts[part].size
    let base = sequence.storage(block: block, part: part, head: head)
    switch options.kv {
    case .f32: base.assumingMemoryBound(to: Float.self).advanced(by: slot * size).update(from: values, count: size)
    case .f16: kernels.f32_to_f16(values, base.assumingMemoryBound(to: UInt16.self) + slot * size, size)
    case .q8: storeQuantized(values, sequence, block: block, part: part, head: head, slot, work.attentionScratch[worker])
    }
  }

  /// What attention scores are multiplied by.
  var scoreScaling: Float { configuration.scoreFactor / Float(configuration.headSize).squareRoot() }

  /// Grouped-query attention of every row over the positions up to its own. `work.attention`: [tokens, queryHeads * headSize]
  ///
  /// Keys and values are always read back from the cache, also those of this batch, and always from position 0 upwards: so the result is the same
  /// however the tokens are divided into batches and sequences.
  func attend(_ tokens: Int, block: Int) {
    let c = configuration
    let group = c.queryHeads / c.kvHeads
    if options.kv == .q8 {
      threads.parallel(work.tiles.count * c.kvHeads, work: work.visiblePairs * c.querySize / 2) { task, worker in
        let kvHead = task % c.kvHeads
        attendQuantized(
          QuantizedAttention(
            tile: work.tiles[task / c.kvHeads], block: block, kvHead: kvHead, heads: kvHead * group..<(kvHead + 1) * group,
            queries: [.init(part: 0, rows: work.query, stride: c.headSize, first: 0)], out: work.attention),
          work.attentionScratch[worker])
      }
      return
    }
    threads.parallel(tokens * c.kvHeads, work: work.visiblePairs * c.querySize * 2) { task, worker in
      let row = task / c.kvHeads
      let kvHead = task % c.kvHeads
      let entry = work.batch[row]
      let scores = work.attentionScratch[worker].scores[0]
      for head in kvHead * group..<(kvHead + 1) * group {
        let query = work.query[row] + head * c.headSize
        let out = work.attention[row] + head * c.headSize
        let end = entry.position + 1
        gatherScores(query, entry.sequence, end, block, part: 0, kvHead, adding: false, scores)
        kernels.softmax(scores, end)
        for i in 0..<c.headSize { out[i] = 0 }
        gatherValues(scores, entry.sequence, end, block, kvHead, out)
      }
    }
  }

  /// scores[p] = query · key[p] * scoreScaling for every p < end, or that is added to them. Not for `q8`.
  func gatherScores(
    _ query: UnsafePointer<Float>, _ sequence: Sequence, _ end: Int, _ block: Int, part: Int, _ head: Int, adding: Bool, _ scores: UnsafeMutablePointer<Float>
  ) {
    if let parent = sequence.parent { gatherScores(query, parent, sequence.start, block, part: part, head, adding: adding, scores) }
    let size = pool.layout.parts[part].size
    let scaling = scoreScaling
    let keys = sequence.storage(block: block, part: part, head: head)
    if options.kv == .f32 {
      var key = UnsafePointer(keys.assumingMemoryBound(to: Float.self))
      for position in sequence.start..<end {
        scores[position] = (adding ? scores[position] : 0) + kernels.dot_f32(key, query, size) * scaling
        key += size
      }
    } else {
      var key = UnsafePointer(keys.assumingMemoryBound(to: UInt16.self))
      for position in sequence.start..<end {
        scores[position] = (adding ? scores[position] : 0) + kernels.dot_f16(key, query, size) * scaling
        key += size
      }
    }
  }

  /// out += sum over p < end of weights[p] * value[p], from position 0 upwards. Not for `q8`.
  func gatherValues(_ weights: UnsafePointer<Float>, _ sequence: Sequence, _ end: Int, _ block: Int, _ head: Int, _ out: UnsafeMutablePointer<Float>) {
    if let parent = sequence.parent { gatherValues(weights, parent, sequence.start, block, head, out) }
    let part = pool.layout.valuePart
    let size = pool.layout.parts[part].size
    let values = sequence.storage(block: block, part: part, head: head)
    if options.kv == .f32 {
      var value = UnsafePointer(values.assumingMemoryBound(to: Float.self))
      for position in sequence.start..<end {
        kernels.axpy_f32(weights[position], value, out, size)
        value += size
      }
    } else {
      var value = UnsafePointer(values.assumingMemoryBound(to: UInt16.self))
      for position in sequence.start..<end {
        kernels.axpy_f16(weights[position], value, out, size)
        value += size
      }
    }
  }
}
