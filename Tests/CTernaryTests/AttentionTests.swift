import CTernary
import Foundation
import TestSupport
import Testing

@Suite struct AttentionTests {
  // MARK: layout and rounding

  @Test(arguments: [16, 48, 128])
  func storedHeadsLieWhereTheHeaderSaysAndTouchNothingElse(headSize: Int) {
    for position in [0, 1, 2, 15, 16, 17, 31, 40] {
      let q = (0..<headSize).map { Int8(truncatingIfNeeded: $0 * 5 + 1) }
      var keys = [Int8](repeating: 99, count: 48 * headSize), values = keys
      ct_key_store(q, &keys, position, headSize)
      ct_value_store(q, &values, position, headSize)
      for d in 0..<headSize {
        let key = position / 16 * 16 * headSize + d / 4 * 64 + position % 16 * 4 + d % 4
        let value = position / 2 * 2 * headSize + 2 * d + position % 2
        #expect(keys[key] == q[d] && values[value] == q[d])
        keys[key] = 99
        values[value] = 99
      }
      #expect(keys.allSatisfy { $0 == 99 } && values.allSatisfy { $0 == 99 })
    }
  }

  @Test(arguments: Path.all)
  func headsAreRoundedToEightAndFifteenBits(path: Path) {
    var random = SplitMix64(seed: 12)
    for headSize in [16, 64, 80, 128, 1024] {
      for limit: Float in [1e-20, 1e-8, 1, 1e30] {
        var x = random.floats(headSize, in: -limit...limit)
        for place in [0, headSize / 2, headSize - 1] {
          x[place] = -1.5 * limit
          let largest = max(x.map(abs).max() ?? 0, 1e-10)
          var q = [Int8](repeating: 0, count: headSize), prepared = [Int8](repeating: 0, count: 2 * headSize)
          let scale = path.kernels.kv_quantize(x, &q, headSize), queryScale = path.kernels.query_prepare(x, &prepared, headSize)
          #expect(scale == 1 / (127 / largest) && queryScale == 1 / (16256 / largest))
          for d in 0..<headSize {
            #expect(Int(q[d]) == Int((x[d] * (127 / largest)).rounded(.toNearestOrEven)))
            #expect(128 * Int(prepared[d]) + Int(prepared[headSize + d]) == Int((x[d] * (16256 / largest)).rounded(.toNearestOrEven)))
            #expect((-127...127).contains(prepared[d]) && (-64...63).contains(prepared[headSize + d]))
          }
        }
      }
    }
  }

  @Test(arguments: Path.all)
  func zerosAndValuesThatAreNotNumbersAreDefined(path: Path) {
    func quantized(_ first: Float, _ second: Float) -> (q: [Int8], v: [Int], scale: Float) {
      var x = [Float](repeating: 0, count: 32)
      x[3] = first
      x[20] = second
      var q = [Int8](repeating: 55, count: 32), prepared = [Int8](repeating: 55, count: 64)
      let scale = path.kernels.kv_quantize(x, &q, 32)
      _ = path.kernels.query_prepare(x, &prepared, 32)
      return ([q[3], q[20]], [3, 20].map { 128 * Int(prepared[$0]) + Int(prepared[32 + $0]) }, scale)
    }
    #expect(quantized(0, 0) == ([0, 0], [0, 0], 1 / (127 / 1e-10)))
    #expect(quantized(.nan, 1) == ([0, 127], [0, 16256], 1 / 127))
    #expect(quantized(.greatestFiniteMagnitude, -1) == ([127, 0], [16256, 0], 1 / (127 / .greatestFiniteMagnitude)))
    #expect(quantized(.infinity, 1) == ([0, 0], [0, 0], .infinity))
  }

  // MARK: products

  @Test(arguments: Path.all, [16, 32, 48, 64, 80, 128, 256])
  func everyPathGivesTheDefinitionsScoresAndSums(path: Path, headSize: Int) {
    for (round, count) in [1, 2, 3, 15, 16, 17, 31, 32, 100, 513].enumerated() {
      for queries in [1, 2, 3, 4, 5, 7, 8, 9, 10 + round] {
        let x = AttentionCase.random(headSize: headSize, count: count, queries: queries, seed: UInt64(count * queries))
        let scores = x.scores(path, stride: count, positions: [0..<count], queryRanges: [0..<queries])
        #expect(scores.map(\.bitPattern) == x.expectedScores.map(\.bitPattern), "\(count) positions, \(queries) queries")
        #expect(x.sums(path, positions: [0..<count], queryRanges: [0..<queries]) == x.expectedSums, "\(count) positions, \(queries) queries")
      }
    }
  }

  @Test(arguments: Path.all)
  func longRunsAndManyQueriesAgree(path: Path) {
    for (headSize, count, queries) in [(64, 1024, 33), (128, 4097, 5), (64, 4097, 70), (1024, 100, 3)] {
      let x = AttentionCase.random(headSize: headSize, count: count, queries: queries, seed: UInt64(count))
      let scores = x.scores(path, stride: count, positions: [0..<count], queryRanges: [0..<queries])
      #expect(scores.map(\.bitPattern) == x.expectedScores.map(\.bitPattern))
      #expect(x.sums(path, positions: [0..<count], queryRanges: [0..<queries]) == x.expectedSums)
    }
  }

  /// The widest head, the largest numbers of one sign: the bounds of the sums that the header promises.
  @Test(arguments: Path.all)
  func extremesAreExact(path: Path) {
    var random = SplitMix64(seed: 3)
    for key in [-127, 127] {
      for query in [-16256, 16256, -16255, 8191] {
        for (headSize, count) in [(1024, 17), (128, 4097), (64, 512)] {
          let weight = Int16(min(32767, (1 << 24) / count))
          let x = AttentionCase(
            headSize: headSize, count: count, queries: 5, random: &random, key: { _ in key }, value: { _ in key }, query: { _ in query },
            weight: { _ in weight })
          #expect(x.scores(path, stride: count, positions: [0..<count], queryRanges: [0..<5]) == x.expectedScores)
          #expect(x.sums(path, positions: [0..<count], queryRanges: [0..<5]).allSatisfy { $0 == Int32(key) * Int32(weight) * Int32(count) })
        }
      }
    }
  }

  @Test(arguments: Path.all)
  func resultsDoNotDependOnHowPositionsAndQueriesAreSplit(path: Path) {
    for (headSize, count) in [(128, 1000), (48, 77)] {
      let x = AttentionCase.random(headSize: headSize, count: count, queries: 11, seed: 8)
      let scores = x.scores(path, stride: count + 5, positions: [0..<count], queryRanges: [0..<11])
      let sums = x.sums(path, positions: [0..<count], queryRanges: [0..<11])
      let oneByOne = (0..<11).map { $0..<$0 + 1 }
      #expect(x.scores(path, stride: count + 5, positions: [0..<count], queryRanges: oneByOne) == scores)
      #expect(x.sums(path, positions: [0..<count], queryRanges: oneByOne) == sums)
      for q in 0..<11 { #expect(scores[q * (count + 5) + count..<(q + 1) * (count + 5)].allSatisfy { $0 == -7 }) }  // nothing past the last position
      for size in [16, 32, 48, 64] {
        let runs = stride(from: 0, to: count, by: size).map { $0..<min(count, $0 + size) }
        #expect(x.scores(path, stride: count + 5, positions: runs, queryRanges: [0..<4, 4..<11]) == scores)
        #expect(x.sums(path, positions: runs, queryRanges: [0..<4, 4..<11]) == sums)
      }
    }
  }

  @Test(arguments: Path.all)
  func noPositionsAndNoQueriesChangeNothing(path: Path) {
    let x = AttentionCase.random(headSize: 64, count: 16, queries: 2, seed: 4)
    #expect(x.scores(path, stride: 16, positions: [0..<0], queryRanges: [0..<2]).allSatisfy { $0 == -7 })
    #expect(x.scores(path, stride: 16, positions: [0..<16], queryRanges: [0..<0]).allSatisfy { $0 == -7 })
    #expect(x.sums(path, positions: [0..<0], queryRanges: [0..<2]).allSatisfy { $0 == 0 })
    #expect(x.sums(path, positions: [0..<16], queryRanges: [0..<0]).allSatisfy { $0 == 0 })
    var none: [Float] = [], w: [Int16] = []
    #expect(path.kernels.value_weights(&none, [], 0, &w) == 0)
  }

  // MARK: weights

  private func weighted(_ path: Path, _ scores: [Float], _ valueScales: [Float]) -> (w: [Int16], scale: Float) {
    var scores = scores, w = [Int16](repeating: 0x5555, count: scores.count + 1)
    let scale = path.kernels.value_weights(&scores, valueScales, scores.count, &w)
    #expect(w.last == 0x5555)
    return (Array(w.dropLast()), scale)
  }

  @Test(arguments: Path.all, [1, 2, 15, 16, 17, 31, 511, 513, 1024, 4097])
  func weightsAreTheRoundedProbabilitiesTimesTheScales(path: Path, count: Int) {
    var random = SplitMix64(seed: UInt64(count))
    for spread: Float in [0.01, 3, 60] {
      let scores = random.floats(count, in: -spread...spread), valueScales = random.floats(count, in: 0.001...0.2)
      let top = scores.max() ?? 0
      var p = scores.map { $0 - top }
      ct_scalar().pointee.exp(p, &p, count)
      let products = zip(p, valueScales).map { $0 * $1 }
      let largest = products.max() ?? 0
      let s = min(32767 / largest, Float((1 << 24) - count) / laneSum(products))
      let result = weighted(path, scores, valueScales)
      #expect(result.w == products.map { Int16(($0 * s).rounded(.toNearestOrEven)) })
      #expect(result.scale == 1 / (s * laneSum(p)))
    }
  }

  /// Equal scores make the sum of the weights as large as it gets.
  @Test(arguments: Path.all)
  func weightsAddUpToAtMostTwoToTheTwentyFour(path: Path) {
    for count in [1, 100, 511, 512, 513, 514, 600, 1000, 4097, 20_000, 1_000_003] {
      for scale: Float in [1, 0.7, 1.1e-3, 7.9e-13] {
        let (w, _) = weighted(path, [Float](repeating: 0.3, count: count), [Float](repeating: scale, count: count))
        let sum = w.reduce(0) { $0 + Int($1) }
        #expect(sum <= 1 << 24)
        #expect(sum > min(32_000 * count, (1 << 24) - 2 * count))
      }
    }
  }

  @Test(arguments: Path.all)
  func weightsOfZerosInfinitiesAndValuesThatAreNotNumbersAreDefined(path: Path) {
    for count in [1, 16, 21] {
      let ones = [Float](repeating: 1, count: count), zeros = [Float](repeating: 0, count: count)
      #expect(weighted(path, ones, zeros) == ([Int16](repeating: 0, count: count), 0))
      for place in [0, count - 1] {
        var scores = ones
        scores[place] = .nan
        let unknown = weighted(path, scores, ones)
        #expect(unknown.w.allSatisfy { $0 == 0 } && unknown.scale.isNaN)
        scores = [Float](repeating: -.infinity, count: count)
        scores[place] = 5
        let certain = weighted(path, scores, ones)
        for i in 0..<count { #expect(certain.w[i] == (i == place ? 32767 : 0)) }
        #expect(certain.scale == 1 / Float(32767))
        _ = weighted(path, ones, (0..<count).map { $0 == place ? .infinity : 1 })  // an infinite head: any weights, no crash
        _ = weighted(path, [Float](repeating: -.infinity, count: count), ones)
        _ = weighted(path, [Float](repeating: .infinity, count: count), ones)
      }
    }
  }

  // MARK: accuracy

  /// The whole of attention over normally distributed heads, against float64 on the same floats. docs/kernels.md names the errors.
  @Test(arguments: [(64, 300), (128, 300), (128, 1024), (128, 4097)])
  func attentionIsCloseToDoublePrecision(headSize: Int, count: Int) {
    let k = ct_scalar().pointee, best = (ct_select(nil) ?? ct_scalar()).pointee
    var random = SplitMix64(seed: UInt64(headSize + count))
    func normal(_ n: Int) -> [Float] {
      (0..<n).map { _ in
        let u = Double.random(in: 1e-12...1, using: &random), angle = Double.random(in: 0...(2 * .pi), using: &random)
        return Float((-2 * log(u)).squareRoot() * cos(angle))
      }
    }
    for sharpness: Float in [1, 4] {
      let queries = 8
      let keys = Aligned<Int8>(count: (count + 15) / 16 * 16 * headSize, repeating: 0), values = Aligned<Int8>(count: (count + 1) * headSize, repeating: 0)
      let prepared = Aligned<Int8>(count: queries * 2 * headSize, repeating: 0)
      let key = normal(count * headSize), value = normal(count * headSize), query = normal(queries * headSize).map { $0 * sharpness }
      var keyScales: [Float] = [], valueScales: [Float] = [], queryScales: [Float] = [], q = [Int8](repeating: 0, count: headSize)
      for i in 0..<count {
        keyScales.append(k.kv_quantize(Array(key[i * headSize..<(i + 1) * headSize]), &q, headSize))
        ct_key_store(q, keys.pointer, i, headSize)
        valueScales.append(k.kv_quantize(Array(value[i * headSize..<(i + 1) * headSize]), &q, headSize))
        ct_value_store(q, values.pointer, i, headSize)
      }
      let softmaxScale = 1 / Float(headSize).squareRoot()
      for i in 0..<queries {
        queryScales.append(
          k.query_prepare(Array(query[i * headSize..<(i + 1) * headSize]), prepared.pointer + i * 2 * headSize, headSize) * softmaxScale)
      }
      var scores = [Float](repeating: 0, count: queries * count), sums = [Int32](repeating: 0, count: queries * headSize)
      best.key_scores(keys.pointer, keyScales, count, headSize, prepared.pointer, queryScales, queries, &scores, count)
      var squares = 0.0, errors = 0.0
      for i in 0..<queries {
        var row = Array(scores[i * count..<(i + 1) * count]), w = [Int16](repeating: 0, count: count)
        let scale = best.value_weights(&row, valueScales, count, &w)
        sums.withUnsafeMutableBufferPointer { best.value_sums(values.pointer, count, headSize, w, count, 1, $0.baseAddress! + i * headSize) }
        let exact = (0..<count).map { j in
          (0..<headSize).reduce(0.0) { $0 + Double(query[i * headSize + $1]) * Double(key[j * headSize + $1]) } / Double(headSize).squareRoot()
        }
        let top = exact.max() ?? 0, p = exact.map { exp($0 - top) }, total = p.reduce(0, +)
        for d in 0..<headSize {
          let expected = (0..<count).reduce(0.0) { $0 + p[$1] / total * Double(value[$1 * headSize + d]) }
          squares += expected * expected
          errors += pow(Double(Float(sums[i * headSize + d]) * scale) - expected, 2)
        }
      }
      let relative = (errors / squares).squareRoot()
      print("int8 attention, head size \(headSize), \(count) positions, queries of deviation \(sharpness): relative error \(relative)")
      #expect(relative < 0.02)
    }
  }

  // MARK: self test

  @Test func aPathWithOneWrongScoreWeightOrSumFailsItsSelfTest() {
    var wrong = ct_scalar().pointee
    wrong.key_scores = { keys, scales, count, size, prepared, queryScales, queries, scores, stride in
      ct_scalar().pointee.key_scores(keys, scales, count, size, prepared, queryScales, queries, scores, stride)
      if queries > 1 { scores[(queries - 1) * stride + count - 1] = scores[(queries - 1) * stride + count - 1].nextUp }
    }
    #expect(!ct_self_test(&wrong))
    wrong = ct_scalar().pointee
    wrong.value_sums = { values, count, size, w, stride, queries, out in
      ct_scalar().pointee.value_sums(values, count, size, w, stride, queries, out)
      if queries == 3 { out[size * 3 - 1] += 1 }
    }
    #expect(!ct_self_test(&wrong))
    wrong = ct_scalar().pointee
    wrong.value_weights = { scores, scales, count, w in
      let scale = ct_scalar().pointee.value_weights(scores, scales, count, w)
      w[count - 1] += 1
      return scale
    }
    #expect(!ct_self_test(&wrong))
    wrong = ct_scalar().pointee
    wrong.head_q6_k = { weights, rows, n, prepared, out in
      ct_scalar().pointee.head_q6_k(weights, rows, n, prepared, out)
      out[rows - 1] = out[rows - 1].nextDown
    }
    #expect(!ct_self_test(&wrong))
  }
}
