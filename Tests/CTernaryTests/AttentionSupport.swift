import CTernary
import TestSupport

/// Lane i with lane i + 8, then + 4, + 2, + 1: how the kernels add 16 lanes.
func treeSum(_ lanes: [Float]) -> Float {
  var lanes = lanes
  for width in [8, 4, 2, 1] {
    for i in 0..<width { lanes[i] += lanes[i + width] }
  }
  return lanes[0]
}

/// Terms go to 16 lanes in turn.
func laneSum(_ terms: [Float]) -> Float {
  var lanes = [Float](repeating: 0, count: 16)
  for (i, term) in terms.enumerated() { lanes[i % 16] += term }
  return treeSum(lanes)
}

/// Keys, values and queries of one head as the header defines them, and what the kernels must make of them.
struct AttentionCase {
  let headSize, count, queries: Int
  let keys, values: Aligned<Int8>  // as they lie in the cache; what was never stored is garbage
  let prepared: Aligned<Int8>  // [queries, 2 * headSize]
  var keyNumbers: [Int] = []  // [count, headSize]
  var valueNumbers: [Int] = []  // [count, headSize]
  var queryNumbers: [Int] = []  // [queries, headSize], 15 bits
  var keyScales, valueScales, queryScales: [Float]
  var weights: [Int16]  // [queries, count]

  /// `key`, `value`: -127...127; `query`: -16256...16256; `weight`: 0...32767.
  init(headSize: Int, count: Int, queries: Int, random: inout SplitMix64, key: (inout SplitMix64) -> Int, value: (inout SplitMix64) -> Int,
    query: (inout SplitMix64) -> Int, weight: (inout SplitMix64) -> Int16) {
    self.headSize = headSize
    self.count = count
    self.queries = queries
    keys = Aligned(count: (count + 15) / 16 * 16 * headSize, repeating: 0)
    values = Aligned(count: (count + 1) / 2 * 2 * headSize, repeating: 0)
    prepared = Aligned(count: queries * 2 * headSize, repeating: 0)
    for i in keys.buffer.indices { keys.buffer[i] = Int8.random(in: -128...127, using: &random) }
    for i in values.buffer.indices { values.buffer[i] = Int8.random(in: -128...127, using: &random) }
    for i in 0..<count {
      for d in 0..<headSize {
        let k = key(&random), v = value(&random)
        keyNumbers.append(k)
        valueNumbers.append(v)
        keys.buffer[i / 16 * 16 * headSize + d / 4 * 64 + i % 16 * 4 + d % 4] = Int8(k)
        values.buffer[i / 2 * 2 * headSize + 2 * d + i % 2] = Int8(v)
      }
    }
    for q in 0..<queries {
      for d in 0..<headSize {
        let v = query(&random)
        queryNumbers.append(v)
        let high = (v + 64 + 16384) / 128 - 128  // rounded down
        prepared.buffer[q * 2 * headSize + d] = Int8(high)
        prepared.buffer[q * 2 * headSize + headSize + d] = Int8(v - 128 * high)
      }
    }
    keyScales = random.floats(count, in: 0.001...0.1)
    valueScales = random.floats(count, in: 0.001...0.1)
    queryScales = random.floats(queries, in: 0.00001...0.001)
    weights = (0..<queries * count).map { _ in weight(&random) }
  }

  static func random(headSize: Int, count: Int, queries: Int, seed: UInt64) -> AttentionCase {
    var random = SplitMix64(seed: seed)
    let most = min(32767, (1 << 24) / count)
    return AttentionCase(
      headSize: headSize, count: count, queries: queries, random: &random, key: { .random(in: -127...127, using: &$0) },
      value: { .random(in: -127...127, using: &$0) }, query: { .random(in: -16256...16256, using: &$0) },
      weight: { Int16(Int.random(in: 0...most, using: &$0)) })
  }

  /// [queries, count]
  var expectedScores: [Float] {
    var scores: [Float] = []
    for q in 0..<queries {
      for i in 0..<count {
        var dot = 0
        for d in 0..<headSize { dot += queryNumbers[q * headSize + d] * keyNumbers[i * headSize + d] }
        scores.append(Float(dot) * (queryScales[q] * keyScales[i]))
      }
    }
    return scores
  }

  /// [queries, headSize]
  var expectedSums: [Int32] {
    var sums = [Int](repeating: 0, count: queries * headSize)
    for q in 0..<queries {
      for i in 0..<count {
        let weight = Int(weights[q * count + i])
        for d in 0..<headSize { sums[q * headSize + d] += weight * valueNumbers[i * headSize + d] }
      }
    }
    return sums.map { Int32($0) }
  }

  /// Scores of positions `from..<to` and queries `queryRange`, into a [queries, stride] array that holds -7 elsewhere.
  func scores(_ path: Path, stride: Int, positions: [Range<Int>], queryRanges: [Range<Int>]) -> [Float] {
    var out = [Float](repeating: -7, count: queries * stride)
    out.withUnsafeMutableBufferPointer { out in
      for run in positions {
        for range in queryRanges {
          path.kernels.key_scores(
            keys.pointer + run.lowerBound * headSize, Array(keyScales[run]), run.count, headSize, prepared.pointer + range.lowerBound * 2 * headSize,
            Array(queryScales[range]), range.count, out.baseAddress! + range.lowerBound * stride + run.lowerBound, stride)
        }
      }
    }
    return out
  }

  /// The same for the sums of values; weights lie at odd addresses of int16, `count + 3` apart.
  func sums(_ path: Path, positions: [Range<Int>], queryRanges: [Range<Int>]) -> [Int32] {
    let stride = count + 3
    var w = [Int16](repeating: 0x5555, count: 1 + queries * stride)
    for q in 0..<queries {
      for i in 0..<count { w[1 + q * stride + i] = weights[q * count + i] }
    }
    var out = [Int32](repeating: 0, count: queries * headSize)
    out.withUnsafeMutableBufferPointer { out in
      w.withUnsafeBufferPointer { w in
        for run in positions {
          for range in queryRanges {
            path.kernels.value_sums(
              values.pointer + run.lowerBound * headSize, run.count, headSize, w.baseAddress! + 1 + range.lowerBound * stride + run.lowerBound, stride,
              range.count, out.baseAddress! + range.lowerBound * headSize)
          }
        }
      }
    }
    return out
  }
}
