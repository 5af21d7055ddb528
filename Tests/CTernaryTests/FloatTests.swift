import CTernary
import Foundation
import TestSupport
import Testing

/// The float functions as lists of results, so that paths can be compared bit for bit.
private func results(_ k: ct_kernels, count n: Int, seed: UInt64, scale: Float) -> [(name: String, bits: [UInt32])] {
  var random = SplitMix64(seed: seed)
  let a = random.floats(n, in: -scale...scale), b = random.floats(n)
  let halves = (0..<n).map { _ in UInt16.random(in: 0...0x7bff, using: &random) | UInt16(random.next() & 1) << 15 }
  var blocks = [UInt8](repeating: 0, count: (n + 31) / 32 * 34)
  for i in blocks.indices { blocks[i] = i % 34 == 1 ? 0x2c : UInt8.random(in: 0...255, using: &random) }
  func bits(_ x: [Float]) -> [UInt32] { x.map(\.bitPattern) }
  func filled(_ body: (UnsafeMutablePointer<Float>) -> Void) -> [UInt32] {
    var out = a + [3]  // one more, which must stay
    body(&out)
    return bits(out)
  }

  var list: [(String, [UInt32])] = []
  list.append(("dot_f32", [k.dot_f32(a, b, n).bitPattern]))
  list.append(("dot_f16", [k.dot_f16(halves, b, n).bitPattern]))
  list.append(("dot_q8_0", [k.dot_q8_0(blocks, b, n).bitPattern]))
  list.append(("axpy_f32", filled { k.axpy_f32(0.37, b, $0, n) }))
  list.append(("axpy_f16", filled { k.axpy_f16(0.37, halves, $0, n) }))
  list.append(("f16_to_f32", filled { k.f16_to_f32(halves, $0, n) }))
  list.append(("rms_norm", filled { k.rms_norm(a, b, $0, n, n + 1, 1e-5) }))
  list.append(("softmax", filled { k.softmax($0, n) }))
  list.append(("exp", filled { k.exp(a, $0, n) }))
  list.append(("silu_mul", filled { k.silu_mul(a, b, $0, n) }))
  list.append(("relu2_mul", filled { k.relu2_mul(a, b, $0, n) }))
  list.append(("rope_half", filled { k.rope_half($0, b, b.suffix(n / 2) + [], n / 2) }))
  var q = [Int8](repeating: 99, count: n + 20), s: Float = 0
  let sum = k.quantize(a, &q, n, n + 19, &s)
  list.append(("quantize", [s.bitPattern, UInt32(bitPattern: sum)] + q.map { UInt32(bitPattern: Int32($0)) }))
  var h = [UInt16](repeating: 99, count: n + 1)
  k.f32_to_f16(a, &h, n)
  list.append(("f32_to_f16", h.map(UInt32.init)))
  return list
}

@Suite struct FloatTests {
  @Test(arguments: Path.all)
  func everyPathGivesTheSameBitsAtEveryLength(path: Path) {
    for n in Array(0...130) + [160, 176, 255, 640, 2560, 6912, 6913] {
      for scale: Float in [1e-38, 1, 90] {
        let expected = results(ct_scalar().pointee, count: n, seed: UInt64(n), scale: scale)
        for (one, other) in zip(results(path.kernels, count: n, seed: UInt64(n), scale: scale), expected) {
          #expect(one.bits == other.bits, "\(one.name) at \(n) values up to \(scale)")
        }
      }
    }
  }

  @Test func dotProductsAreCloseToThoseInDoublePrecision() {
    let k = ct_scalar().pointee
    for n in [0, 1, 15, 16, 17, 63, 64, 65, 79, 127, 128, 2560, 2563] {
      var random = SplitMix64(seed: UInt64(n))
      let a = random.floats(n), x = random.floats(n)
      let halves = a.map { Float16($0).bitPattern }
      let bound = 1e-6 * (1 + zip(a, x).reduce(0.0) { $0 + abs(Double($1.0) * Double($1.1)) })
      let exact = zip(a, x).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
      #expect(abs(Double(k.dot_f32(a, x, n)) - exact) < bound)
      let exactHalf = zip(halves, x).reduce(0.0) { $0 + Double(Float16(bitPattern: $1.0)) * Double($1.1) }
      #expect(abs(Double(k.dot_f16(halves, x, n)) - exactHalf) < bound)

      var blocks: [UInt8] = [], exactBlocks = 0.0
      for start in stride(from: 0, to: n, by: 32) {
        let scale = Float16(Float.random(in: -0.03...0.03, using: &random))
        blocks += [UInt8(scale.bitPattern & 0xff), UInt8(scale.bitPattern >> 8)]
        for i in start..<start + 32 {
          let q = Int8.random(in: -128...127, using: &random)
          blocks.append(UInt8(bitPattern: q))
          if i < n { exactBlocks += Double(scale) * Double(q) * Double(x[i]) }
        }
      }
      #expect(abs(Double(k.dot_q8_0(blocks, x, n)) - exactBlocks) < 1e-6 * (1 + 4 * 4 * Double(n)))
    }
  }

  @Test func blockScalesAreReadAsHalvesIncludingSubnormals() {
    let x = [Float](repeating: 0, count: 31) + [1]
    for bits: UInt16 in [0, 1, 0x8001, 0x3ff, 0x400, 0x3c00, 0xbc00, 0x7bff, 0x7c00] {
      let block = [UInt8(bits & 0xff), UInt8(bits >> 8)] + [UInt8](repeating: 0, count: 31) + [2]
      for path in Path.all {
        let expected = bits == 0x7c00 ? Float.nan : Float(Float16(bitPattern: bits)) * 2  // infinity meets zeros
        let value = path.kernels.dot_q8_0(block, x, 32)
        #expect(value == expected || (value.isNaN && expected.isNaN))
      }
    }
  }

  @Test(arguments: Path.all)
  func allHalvesBecomeTheirFloatsAndComeBack(path: Path) {
    let halves = (0...UInt16.max).map { $0 }
    var floats = [Float](repeating: 0, count: halves.count), back = halves
    path.kernels.f16_to_f32(halves, &floats, halves.count)
    path.kernels.f32_to_f16(floats, &back, halves.count)
    var wrong = 0
    for (half, float) in zip(halves, floats) {
      let expected = Float(Float16(bitPattern: half))
      if expected.isNaN ? !float.isNaN : float.bitPattern != expected.bitPattern { wrong += 1 }
      let returned = back[Int(half)]
      if expected.isNaN ? !Float16(bitPattern: returned).isNaN || returned >> 15 != half >> 15 : returned != half { wrong += 1 }
    }
    #expect(wrong == 0)
  }

  @Test(arguments: Path.all)
  func floatsBecomeTheNearestHalfTiesToEven(path: Path) {
    var random = SplitMix64(seed: 16)
    var floats: [Float] = [65504, 65519.996, 65520, 65536, 1e10, .infinity, -.infinity, .nan, 0, -0.0, 0x1p-24, 0x1p-25, 0x1.000002p-25, 0x1p-149]
    for bits in UInt16(0)..<0x7bff {  // between every two neighbours: the tie, and the floats beside it
      let tie = (Float(Float16(bitPattern: bits)) + Float(Float16(bitPattern: bits + 1))) / 2
      floats += [tie, tie.nextUp, -tie.nextDown]
    }
    for _ in 0..<300_000 { floats.append(Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &random))) }
    for _ in 0..<300_000 {
      let exponent = UInt32.random(in: 98...145, using: &random)
      floats.append(Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &random) & 0x807f_ffff | exponent << 23))
    }
    var halves = [UInt16](repeating: 0, count: floats.count)
    path.kernels.f32_to_f16(floats, &halves, floats.count)
    var wrong = 0
    for (float, half) in zip(floats, halves) {
      let expected = Float16(float)
      if expected.isNaN ? !Float16(bitPattern: half).isNaN : half != expected.bitPattern { wrong += 1 }
    }
    #expect(wrong == 0)
  }

  @Test func rmsNormDividesByTheRootOfTheMeanSquare() {
    var random = SplitMix64(seed: 4)
    for n in [1, 16, 100, 2560] {
      let x = random.floats(n), weight = random.floats(n)
      var out = [Float](repeating: 0, count: n)
      ct_scalar().pointee.rms_norm(x, weight, &out, n, n, 1e-5)
      let root = (x.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(n) + Double(Float(1e-5))).squareRoot()
      for i in 0..<n {
        let expected = Double(x[i]) / root * Double(weight[i])
        #expect(abs(Double(out[i]) - expected) <= 1e-6 * abs(expected))
      }
    }
  }

  @Test func ropeTurnsEachPairByItsAngle() {
    let angles = (0..<37).map { Double($0) * 0.7 }
    var x = (0..<74).map { Float($0) - 30 }
    let before = x.map(Double.init)
    ct_scalar().pointee.rope_half(&x, angles.map { Float(cos($0)) }, angles.map { Float(sin($0)) }, 37)
    for i in 0..<37 {
      #expect(abs(Double(x[i]) - (before[i] * cos(angles[i]) - before[i + 37] * sin(angles[i]))) < 1e-5)
      #expect(abs(Double(x[i + 37]) - (before[i + 37] * cos(angles[i]) + before[i] * sin(angles[i]))) < 1e-5)
    }
  }
}
