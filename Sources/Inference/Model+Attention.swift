import CTernary
import Glibc
import ModelFile

extension Sequence {
  /// Keys (`kind` 0) or values (1) of one head of one block.
  func storage(block: Int, kind: Int, head: Int) -> UnsafeMutableRawPointer {
    storage + pool.layout.offset(block: block, kind: kind, head: head, capacity: capacity)
  }
}

extension Model {
  /// Norms over heads where the model has them, then queries and keys to their positions, then keys and values into the cache in its own format.
  func rotateAndStore(_ tokens: Int, _ block: BlockWeights, _ index: Int) {
    let c = configuration
    threads.parallel(tokens, work: tokens * c.querySize * 4) { row, worker in
      let entry = work.batch[row]
      let cosines = rope.cosines.base + entry.position * rope.half
      let sines = rope.sines.base + entry.position * rope.half
      for head in 0..<c.queryHeads {
        let query = work.query[row] + head * c.headSize
        if let norm = block.queryNorm { kernels.rms_norm(query, norm.pointer, query, c.headSize, c.headSize, c.normEpsilon) }
        kernels.rope_half(query, cosines, sines, rope.half)
      }
      let slot = entry.position - entry.sequence.start
      for head in 0..<c.kvHeads {
        let key = work.key[row] + head * c.headSize
        if let norm = block.keyNorm { kernels.rms_norm(key, norm.pointer, key, c.headSize, c.headSize, c.normEpsilon) }
        kernels.rope_half(key, cosines, sines, rope.half)
        store(key, entry.sequence, block: index, kind: 0, head: head, slot, worker)
        store(work.value[row] + head * c.headSize, entry.sequence, block: index, kind: 1, head: head, slot, worker)
      }
    }
  }

  private func store(_ values: UnsafePointer<Float>, _ sequence: Sequence, block: Int, kind: Int, head: Int, _ slot: Int, _ worker: Int) {
    let size = configuration.headSize
    let base = sequence.storage(block: block, kind: kind, head: head)
    switch options.kv {
    case .f32: base.assumingMemoryBound(to: Float.self).advanced(by: slot * size).update(from: values, count: size)
    case .f16: kernels.f32_to_f16(values, base.assumingMemoryBound(to: UInt16.self) + slot * size, size)
    case .q8: storeQuantized(values, sequence, block: block, kind: kind, head: head, slot, work.attentionScratch[worker])
    }
  }

  /// Grouped-query attention of every row over the positions up to its own. `work.attention`: [tokens, queryHeads * headSize]
  ///
  /// Keys and values are always read back from the cache, also those of this batch, and always from position 0 upwards: so the result is the same
  /// however the tokens are divided into batches and sequences.
  func attend(_ tokens: Int, block: Int) {
    let c = configuration
    if options.kv == .q8 {
      threads.parallel(work.tiles.count * c.kvHeads, work: work.visiblePairs * c.querySize / 2) { task, worker in
        attendQuantized(work.tiles[task / c.kvHeads], block: block, kvHead: task % c.kvHeads, work.attentionScratch[worker])
      }
      return
    }
    let group = c.queryHeads / c.kvHeads
    let scaling = 1 / Float(c.headSize).squareRoot()
    threads.parallel(tokens * c.kvHeads, work: work.visiblePairs * c.querySize * 2) { task, worker in
      let row = task / c.kvHeads
      let kvHead = task % c.kvHeads
      let entry = work.batch[row]
      let scores = work.attentionScratch[worker].scores[0]
      for head in kvHead * group..<(kvHead + 1) * group {
        let query = work.query[row] + head * c.headSize
        let out = work.attention[row] + head * c.headSize
        gatherScores(query, entry.sequence, entry.position + 1, block, kvHead, scaling, scores)
        kernels.softmax(scores, entry.position + 1)
        for i in 0..<c.headSize { out[i] = 0 }
        gatherValues(scores, entry.sequence, entry.position + 1, block, kvHead, out)
      }
    }
  }

  /// scores[p] = query · key[p] * scaling for every p < end
  private func gatherScores(
    _ query: UnsafePointer<Float>, _ sequence: Sequence, _ end: Int, _ block: Int, _ head: Int, _ scaling: Float,
    _ scores: UnsafeMutablePointer<Float>
  ) {
    if let parent = sequence.parent { gatherScores(query, parent, sequence.start, block, head, scaling, scores) }
    let size = configuration.headSize
    let keys = sequence.storage(block: block, kind: 0, head: head)
    if options.kv == .f32 {
      var key = UnsafePointer(keys.assumingMemoryBound(to: Float.self))
      for position in sequence.start..<end {
        scores[position] = kernels.dot_f32(key, query, size) * scaling
        key += size
      }
    } else {
      var key = UnsafePointer(keys.assumingMemoryBound(to: UInt16.self))
      for position in sequence.start..<end {
        scores[position] = kernels.dot_f16(key, query, size) * scaling
        key += size
      }
    }
  }

  /// out += sum over p < end of weights[p] * value[p], from position 0 upwards
  private func gatherValues(
    _ weights: UnsafePointer<Float>, _ sequence: Sequence, _ end: Int, _ block: Int, _ head: Int, _ out: UnsafeMutablePointer<Float>
  ) {
    if let parent = sequence.parent { gatherValues(weights, parent, sequence.start, block, head, out) }
    let size = configuration.headSize
    let values = sequence.storage(block: block, kind: 1, head: head)
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
