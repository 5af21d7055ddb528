import CTernary
import TestSupport
import Testing

@Suite struct QuantizeTests {
  private func quantized(_ path: Path, _ x: [Float], padded: Int? = nil) -> (q: [Int8], sum: Int32, scale: Float) {
    var q = [Int8](repeating: 77, count: max(x.count, padded ?? 0)), scale: Float = -1
    let sum = path.kernels.quantize(x, &q, x.count, padded ?? x.count, &scale)
    return (q, sum, scale)
  }

  @Test(arguments: Path.all)
  func halvesRoundToEven(path: Path) {
    let x: [Float] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5, 125.5, 0.49999997, 0.50000006, -127, 3.5, 4.5, -3.5, 63.5, 64.5]
    let (q, sum, scale) = quantized(path, x)
    #expect(scale == 1)
    #expect(q == [127, 0, 2, 2, 0, -2, -2, 126, -126, 126, 0, 1, -127, 4, 4, -4, 64, 64])
    #expect(sum == q.reduce(0) { $0 + Int32($1) })
  }

  @Test(arguments: Path.all)
  func theScaleIsTakenFromTheLargestMagnitudeAndPaddingIsZero(path: Path) {
    var random = SplitMix64(seed: 5)
    for n in [0, 1, 5, 16, 31, 160, 2560] {
      var x = random.floats(n)
      for place in [0, n / 2, n - 1] where n > 0 {
        x[place] = -9
        let (q, sum, scale) = quantized(path, x, padded: n + 24)
        #expect(scale == Float(127) / 9)
        for i in 0..<n { #expect(q[i] == Int8((x[i] * scale).rounded(.toNearestOrEven))) }
        #expect(q[n...].allSatisfy { $0 == 0 })
        #expect(sum == q.reduce(0) { $0 + Int32($1) })
      }
    }
  }

  @Test(arguments: Path.all)
  func zerosTinyValuesAndValuesThatAreNotNumbersAreDefined(path: Path) {
    let zeros = quantized(path, [Float](repeating: 0, count: 20))
    #expect(zeros.q.allSatisfy { $0 == 0 } && zeros.sum == 0 && zeros.scale == 127 / Float(1e-5))
    #expect(quantized(path, [5e-6, -5e-6]).q == [64, -64])  // 63.5, under the smallest scale's absmax
    #expect(quantized(path, [.nan, 1, -1, .nan]).q == [0, 127, -127, 0])
    let infinite = quantized(path, [.infinity, 1, -.infinity])
    #expect(infinite.q == [0, 0, 0] && infinite.scale == 0 && infinite.sum == 0)
    #expect(quantized(path, [.greatestFiniteMagnitude, 0]).q == [127, 0])
  }

  @Test(arguments: Path.all, [128, 140])
  func groupsAreQuantisedOneByOne(path: Path, stride: Int) {
    var random = SplitMix64(seed: 6)
    for groups in [0, 1, 3, 20] {
      var x = random.floats(groups * 128)
      if groups > 2 { for i in 128..<256 { x[i] = 0 } }
      var q = [Int8](repeating: 77, count: groups * stride + 1)
      var sums = [Int32](repeating: -1, count: groups + 1), scales = [Float](repeating: -1, count: groups + 1)
      path.kernels.quantize_groups(x, &q, groups * 128, stride, &sums, &scales)
      for g in 0..<groups {
        let one = quantized(path, Array(x[128 * g..<128 * (g + 1)]), padded: stride)
        #expect(Array(q[g * stride..<(g + 1) * stride]) == one.q)
        #expect(sums[g] == one.sum && scales[g] == 1 / one.scale)
      }
      #expect(q.last == 77 && sums.last == -1 && scales.last == -1)
    }
  }
}
