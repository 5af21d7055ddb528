import CTernary
import Foundation
import TestSupport
import Testing

@Suite struct ExponentialTests {
  @Test func theExponentialIsWithinOneAndAHalfUnitsInTheLastPlace() {
    var x: [Float] = []
    var value: Float = -103.9
    while value < 88.72 {
      x.append(value)
      value += 0.00037
    }
    var out = x
    ct_scalar().pointee.exp(x, &out, x.count)
    var worst = 0.0
    for (x, y) in zip(x, out) {
      let expected = exp(Double(x))
      worst = max(worst, abs(Double(y) - expected) / Double(Float(expected).ulp))
    }
    #expect(worst < 1.5)
  }

  @Test(arguments: Path.all)
  func theExponentialsEndsAreZeroAndInfinity(path: Path) {
    let x: [Float] = [0, -0.0, 88.72, 88.73, 1000, .infinity, -104, -1000, -.infinity, -.greatestFiniteMagnitude]
    var out = x
    path.kernels.exp(x, &out, x.count)
    #expect(out[0] == 1 && out[1] == 1)
    #expect(out[2].isFinite && out[3] == .infinity && out[4] == .infinity && out[5] == .infinity)
    #expect(out[6...].allSatisfy { $0 == 0 })
    var nan = Float.nan
    path.kernels.exp([Float.nan], &nan, 1)
    #expect(nan.isNaN)
  }

  @Test(arguments: [1, 2, 15, 16, 17, 33, 1000, 4096])
  func softmaxIsCloseToDoublePrecisionAndSumsToOne(n: Int) {
    var random = SplitMix64(seed: UInt64(n))
    for scale: Float in [0.01, 5, 60] {
      let x = random.floats(n, in: -scale...scale)
      var out = x
      ct_scalar().pointee.softmax(&out, n)
      let top = Double(x.max() ?? 0)
      let sum = x.reduce(0.0) { $0 + exp(Double($1) - top) }
      for i in 0..<n {
        let expected = exp(Double(x[i]) - top) / sum
        // The difference to the largest is rounded first: half a unit of up to 120.
        #expect(abs(Double(out[i]) - expected) <= 6e-6 * expected + 1e-40)
      }
      #expect(abs(out.reduce(0.0) { $0 + Double($1) } - 1) < 2e-6)
    }
  }

  @Test(arguments: Path.all)
  func softmaxIgnoresMinusInfinityAndHugeOffsets(path: Path) {
    var x: [Float] = [-.infinity, 3e38, -.infinity, 3e38, -3e38]
    path.kernels.softmax(&x, 5)
    #expect(x == [0, 0.5, 0, 0.5, 0])
    path.kernels.softmax(&x, 0)
    var one: [Float] = [-1234]
    path.kernels.softmax(&one, 1)
    #expect(one == [1])
  }

  @Test func siluAndSquaredReluFollowTheirFormulas() {
    let gate: [Float] = stride(from: -30, through: 30, by: 0.37).map { Float($0) } + [0, -200, 200]
    let up = gate.indices.map { Float($0 % 7) - 2.5 }
    var silu = gate, relu2 = gate
    ct_scalar().pointee.silu_mul(gate, up, &silu, gate.count)
    ct_scalar().pointee.relu2_mul(gate, up, &relu2, gate.count)
    for i in gate.indices {
      let expected = Double(gate[i]) / (1 + exp(-Double(gate[i]))) * Double(up[i])
      #expect(abs(Double(silu[i]) - expected) <= 1e-6 * abs(expected) + 1e-37)
      #expect(relu2[i] == max(gate[i], 0) * max(gate[i], 0) * up[i])
    }
  }
}
