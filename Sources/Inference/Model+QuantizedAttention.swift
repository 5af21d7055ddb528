import CTernary
import ModelFile

// Attention over an int8 cache. Products are exact integers, so nothing depends on the order in which they are summed: neither on how the
// positions are divided between sequences, nor on which rows share a pass over the keys.

/// What one worker needs for attention.
final class AttentionScratch: @unchecked Sendable {
  // @unchecked: a worker's scratch is used by one thread at a time.

  /// Scores of several queries. [queries, context]
  let scores: Rows
  /// The same as integer weights on values. [queries, context]
  let weights: UnsafeMutablePointer<Int16>
  let weightStride: Int
  /// Scales of the values at each position. [context]
  let valueScales: FloatBuffer
  /// Queries in 15 bits, high bytes then low bytes. [queries, 2 * paddedHead]
  let prepared: UnsafeMutablePointer<Int8>
  /// [queries]
  let queryScales: FloatBuffer
  /// [queries, paddedHead]
  let sums: UnsafeMutablePointer<Int32>
  /// The keys of a short sequence, as kernels read them. [16 tokens, paddedHead]
  let keys: UnsafeMutablePointer<Int8>
  /// One head filled up to whole vectors. [paddedHead]
  private let padded: FloatBuffer
  /// One key or value in int8. [paddedHead]
  let quantized: UnsafeMutablePointer<Int8>

  init(queries: Int, contextLength: Int, layout: KVLayout) {
    scores = Rows(tokens: queries, width: contextLength)
    let isQuantized = layout.format == .q8
    let head = layout.paddedHead
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
    return UnsafePointer(padded.base)
  }
}

extension Model {
  /// Rows of one batch that follow each other in one sequence, and are attended to together.
  struct Tile {
    let first: Int
    let count: Int
  }

  /// Queries that share a pass over the keys: what the kernels' registers hold.
  static let queriesTogether = 16

  /// Puts a key (`kind` 0) or value (1) of one head into its slot, in int8 with its scale.
  func storeQuantized(
    _ values: UnsafePointer<Float>, _ sequence: Sequence, block: Int, kind: Int, head: Int, _ slot: Int, _ scratch: AttentionScratch
  ) {
    let layout = pool.layout
    let size = layout.paddedHead
    let base = sequence.storage(block: block, kind: kind, head: head).assumingMemoryBound(to: Int8.self)
    let scales = (sequence.storage + layout.scaleOffset(block: block, kind: kind, head: head, capacity: sequence.capacity))
      .assumingMemoryBound(to: Float.self)
    scales[slot] = kernels.kv_quantize(scratch.wholeVectors(values, layout.headSize), scratch.quantized, size)
    if kind == 1 {
      ct_value_store(scratch.quantized, base, slot, size)
    } else if layout.groupsKeys(sequence.capacity) {
      ct_key_store(scratch.quantized, base, slot, size)
    } else {
      (base + slot * size).update(from: scratch.quantized, count: size)
    }
  }

  /// The query heads of one key-value head, of all rows of a tile.
  func attendQuantized(_ tile: Tile, block: Int, kvHead: Int, _ scratch: AttentionScratch) {
    let c = configuration
    let size = pool.layout.paddedHead
    let group = c.queryHeads / c.kvHeads
    let queries = tile.count * group
    let scaling = 1 / Float(c.headSize).squareRoot()
    let sequence = work.batch[tile.first].sequence
    let end = work.batch[tile.first].position + tile.count

    for query in 0..<queries {
      let source = scratch.wholeVectors(work.query[tile.first + query / group] + (kvHead * group + query % group) * c.headSize, c.headSize)
      scratch.queryScales[query] = kernels.query_prepare(source, scratch.prepared + query * 2 * size, size) * scaling
    }
    gatherScores(queries, sequence, end, block, kvHead, scratch)
    for query in 0..<queries {
      // A row sees nothing behind its own position.
      let visible = work.batch[tile.first + query / group].position + 1
      let weights = scratch.weights + query * scratch.weightStride
      scratch.queryScales[query] = kernels.value_weights(scratch.scores[query], scratch.valueScales.base, visible, weights)
      (weights + visible).update(repeating: 0, count: end - visible)
    }
    scratch.sums.update(repeating: 0, count: queries * size)
    gatherValues(queries, sequence, end, block, kvHead, scratch)
    for query in 0..<queries {
      let out = work.attention[tile.first + query / group] + (kvHead * group + query % group) * c.headSize
      let sums = scratch.sums + query * size
      let factor = scratch.queryScales[query]
      for i in 0..<c.headSize { out[i] = Float(sums[i]) * factor }
    }
  }

  /// Scores of all positions below `end`, and the scales of their values.
  private func gatherScores(_ queries: Int, _ sequence: Sequence, _ end: Int, _ block: Int, _ head: Int, _ scratch: AttentionScratch) {
    if let parent = sequence.parent { gatherScores(queries, parent, sequence.start, block, head, scratch) }
    let layout = pool.layout
    let count = end - sequence.start
    guard count > 0 else { return }
    func scales(_ kind: Int) -> UnsafePointer<Float> {
      UnsafePointer(
        (sequence.storage + layout.scaleOffset(block: block, kind: kind, head: head, capacity: sequence.capacity)).assumingMemoryBound(to: Float.self))
    }
    var keys = UnsafePointer(sequence.storage(block: block, kind: 0, head: head).assumingMemoryBound(to: Int8.self))
    if !layout.groupsKeys(sequence.capacity) {
      for slot in 0..<count { ct_key_store(keys + slot * layout.paddedHead, scratch.keys, slot, layout.paddedHead) }
      keys = UnsafePointer(scratch.keys)
    }
    kernels.key_scores(
      keys, scales(0), count, layout.paddedHead, scratch.prepared, scratch.queryScales.base, queries, scratch.scores[0] + sequence.start,
      scratch.scores.stride)
    (scratch.valueScales.base + sequence.start).update(from: scales(1), count: count)
  }

  private func gatherValues(_ queries: Int, _ sequence: Sequence, _ end: Int, _ block: Int, _ head: Int, _ scratch: AttentionScratch) {
    if let parent = sequence.parent { gatherValues(queries, parent, sequence.start, block, head, scratch) }
    guard end > sequence.start else { return }
    kernels.value_sums(
      sequence.storage(block: block, kind: 1, head: head).assumingMemoryBound(to: Int8.self), end - sequence.start, pool.layout.paddedHead,
      scratch.weights + sequence.start, scratch.weightStride, queries, scratch.sums)
  }
}
