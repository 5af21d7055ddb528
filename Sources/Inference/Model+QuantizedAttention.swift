import CTernary
import ModelFile

// Attention over an int8 cache. Products are exact integers, so nothing depends on the order in which they are summed: neither on how the
// positions are divided between sequences, nor on which rows share a pass over the keys.

/// What one worker needs for attention.
final class AttentionScratch: @unchecked Sendable {
  // @unchecked: a worker's scratch is used by one thread at a time.

  /// Scores of several queries. [queries, context]
  let scores: Rows
  /// Scores by a second part of the keys, to be added. [queries, context], or nothing
  let moreScores: Rows
  /// The same as integer weights on values. [queries, context]
  let weights: UnsafeMutablePointer<Int16>
  let weightStride: Int
  /// Scales of the values at each position. [context]
  let valueScales: FloatBuffer
  /// Queries in 15 bits, high bytes then low bytes. [queries, 2 * paddedSize]
  let prepared: UnsafeMutablePointer<Int8>
  /// [queries]
  let queryScales: FloatBuffer
  /// [queries, paddedSize]
  let sums: UnsafeMutablePointer<Int32>
  /// The keys of a short sequence, as kernels read them. [16 tokens, paddedSize]
  let keys: UnsafeMutablePointer<Int8>
  /// One head filled up to whole vectors. [paddedSize]
  private let padded: FloatBuffer
  /// One key or value in int8. [paddedSize]
  let quantized: UnsafeMutablePointer<Int8>

  init(queries: Int, contextLength: Int, layout: KVLayout) {
    scores = Rows(tokens: queries, width: contextLength)
    let isQuantized = layout.format == .q8
    let head = layout.widestPart
    moreScores = Rows(tokens: isQuantized && layout.keyParts > 1 ? queries : 0, width: contextLength)
    weightStride = isQuantized ? scores.stride : 0
    func allocate<T: FixedWidthInteger>(_ count: Int) -> UnsafeMutablePointer<T> {
      let raw = UnsafeMutableRawPointer.allocate(byteCount: max(64, count * MemoryLayout<T>.size), alignment: 64)
      let typed = raw.bindMemory(to: T.self, capacity: count)
      typed.initialize(repeating: 0, count: count)
      return typed
    }
    weights = allocate(queries * weightStride)
    valueScales = FloatBuffer(count: weightStride)
    prepared = allocate(queries * 2 * head)
    queryScales = FloatBuffer(count: queries)
    sums = allocate(queries * head)
    keys = allocate(16 * head)
    padded = FloatBuffer(count: head)
    self.quantized = allocate(head)
  }

  deinit {
    weights.deallocate()
    prepared.deallocate()
    keys.deallocate()
    sums.deallocate()
    quantized.deallocate()
  }

  /// A head as kernels take it: as it is where it is whole vectors, else a copy with zeros behind it.
  func wholeVectors(_ values: UnsafePointer<Float>, _ headSize: Int) -> UnsafePointer<Float> {
    guard headSize % 16 != 0 else { return values }
    padded.base.update(from: values, count: headSize)
    // Another part of the cache may have had a wider head.
    (padded.base + headSize).update(repeating: 0, count: (headSize + 15) / 16 * 16 - headSize)
    return UnsafePointer(padded.base)
  }
}

extension KVLayout {
  /// Values of the widest head, in whole vectors.
  var widestPart: Int { parts.map(\.paddedSize).max() ?? 0 }
  /// Parts that are keys.
  var keyParts: Int { parts.count { !$0.isValue } }
}

extension Model {
  /// Rows of one batch that follow each other in one sequence, and are attended to together.
  struct Tile {
    let first: Int
    let count: Int
  }

  /// Queries that share a pass over the keys: what the kernels' registers hold.
  static let queriesTogether = 16

  /// Some query heads of all rows of a tile, which have their keys and values in common.
  struct QuantizedAttention {
    /// Where the queries for one part of the keys are: those of head h of a row begin at `stride` * h + `first`.
    struct Queries {
      let part: Int
      let rows: Rows
      let stride: Int
      let first: Int
    }

    let tile: Tile
    let block: Int
    let kvHead: Int
    let heads: Range<Int>
    /// One or two, whose scores are added.
    let queries: [Queries]
    /// What head h gathered goes to values size * h on; may be the rows of a query.
    let out: Rows
  }

  /// Puts one head of a part into its slot, in int8 with its scale.
  func storeQuantized(
    _ values: UnsafePointer<Float>, _ sequence: Sequence, block: Int, part: Int, head: Int, _ slot: Int, _ scratch: AttentionScratch
  ) {
    let layout = pool.layout
    let size = layout.parts[part].paddedSize
    let base = sequence.storage(block: block, part: part, head: head).assumingMemoryBound(to: Int8.self)
    sequence.scales(block: block, part: part, head: head)[slot] =
      kernels.kv_quantize(scratch.wholeVectors(values, layout.parts[part].size), scratch.quantized, size)
    if layout.parts[part].isValue {
      ct_value_store(scratch.quantized, base, slot, size)
    } else if layout.groupsKeys(sequence.capacity) {
      ct_key_store(scratch.quantized, base, slot, size)
    } else {
      (base + slot * size).update(from: scratch.quantized, count: size)
    }
  }

  func attendQuantized(_ task: QuantizedAttention, _ scratch: AttentionScratch) {
    let layout = pool.layout
    let tile = task.tile
    let group = task.heads.count
    let queries = tile.count * group
    let sequence = work.batch[tile.first].sequence
    let end = work.batch[tile.first].position + tile.count

    for (i, part) in task.queries.enumerated() {
      let (headSize, size) = (layout.parts[part.part].size, layout.parts[part.part].paddedSize)
      for query in 0..<queries {
        let source = part.rows[tile.first + query / group] + (task.heads.lowerBound + query % group) * part.stride + part.first
        scratch.queryScales[query] = kernels.query_prepare(scratch.wholeVectors(source, headSize), scratch.prepared + query * 2 * size, size) * scoreScaling
      }
      gatherScores(queries, sequence, end, task.block, part.part, task.kvHead, into: i == 0 ? scratch.scores : scratch.moreScores, scratch)
    }
    gatherScales(sequence, end, task.block, task.kvHead, scratch)
    for query in 0..<queries {
      // A row sees nothing behind its own position.
      let visible = work.batch[tile.first + query / group].position + 1
      let weights = scratch.weights + query * scratch.weightStride
      if task.queries.count > 1 { kernels.axpy_f32(1, scratch.moreScores[query], scratch.scores[query], visible) }
      scratch.queryScales[query] = kernels.value_weights(scratch.scores[query], scratch.valueScales.base, visible, weights)
      (weights + visible).update(repeating: 0, count: end - visible)
    }
    let (headSize, size) = (layout.parts[layout.valuePart].size, layout.parts[layout.valuePart].paddedSize)
    scratch.sums.update(repeating: 0, count: queries * size)
    gatherValues(queries, sequence, end, task.block, task.kvHead, scratch)
    for query in 0..<queries {
      let out = task.out[tile.first + query / group] + (task.heads.lowerBound + query % group) * headSize
      let sums = scratch.sums + query * size
      let factor = scratch.queryScales[query]
      for i in 0..<headSize { out[i] = Float(sums[i]) * factor }
    }
  }

  /// Scores of all positions below `end` by one part of the keys.
  private func gatherScores(
    _ queries: Int, _ sequence: Sequence, _ end: Int, _ block: Int, _ part: Int, _ head: Int, into scores: Rows, _ scratch: AttentionScratch
  ) {
    if let parent = sequence.parent { gatherScores(queries, parent, sequence.start, block, part, head, into: scores, scratch) }
    let layout = pool.layout
    let size = layout.parts[part].paddedSize
    let count = end - sequence.start
    guard count > 0 else { return }
    var keys = UnsafePointer(sequence.storage(block: block, part: part, head: head).assumingMemoryBound(to: Int8.self))
    if !layout.groupsKeys(sequence.capacity) {
      for slot in 0..<count { ct_key_store(keys + slot * size, scratch.keys, slot, size) }
      keys = UnsafePointer(scratch.keys)
    }
    kernels.key_scores(
      keys, sequence.scales(block: block, part: part, head: head), count, size, scratch.prepared, scratch.queryScales.base, queries,
      scores[0] + sequence.start, scores.stride)
  }

  /// The scales of the values at all positions below `end`.
  private func gatherScales(_ sequence: Sequence, _ end: Int, _ block: Int, _ head: Int, _ scratch: AttentionScratch) {
    if let parent = sequence.parent { gatherScales(parent, sequence.start, block, head, scratch) }
    guard end > sequence.start else { return }
    (scratch.valueScales.base + sequence.start).update(
      from: sequence.scales(block: block, part: pool.layout.valuePart, head: head), count: end - sequence.start)
  }

  private func gatherValues(_ queries: Int, _ sequence: Sequence, _ end: Int, _ block: Int, _ head: Int, _ scratch: AttentionScratch) {
    if let parent = sequence.parent { gatherValues(queries, parent, sequence.start, block, head, scratch) }
    guard end > sequence.start else { return }
    let part = pool.layout.valuePart
    kernels.value_sums(
      sequence.storage(block: block, part: part, head: head).assumingMemoryBound(to: Int8.self), end - sequence.start, pool.layout.parts[part].paddedSize,
      scratch.weights + sequence.start, scratch.weightStride, queries, scratch.sums)
  }
}
