// Blocks whose scale is searched: of all that are tried, the one with the smallest squared error.

extension RowEncoder {
  private typealias Sixteen = SIMD16<Float>

  /// Added and subtracted, this rounds float32 numbers below 2^22 half to even.
  private static let roundingConstant: Float = 12_582_912

  /// Q6_K: 256 values as d * scale[i / 16] * q[i], with d in half precision, scales in 8 bits and q in -32...31. A block is 128 bytes with the
  /// low four bits of q, 64 with the high two, the 16 scales, and d.
  ///
  /// d is such that the largest 16 values can have any scale that is worth trying; then each 16 values try all scales that put their
  /// largest magnitude between 30 and 34 steps of -1, what lies beyond 31 being clipped.
  static func q6(_ values: UnsafePointer<Float>, _ out: UnsafeMutableRawPointer) -> Bool {
    out.initializeMemory(as: UInt8.self, repeating: 0, count: 210)
    var largest: Float = 0
    for i in 0..<256 { largest = max(largest, abs(values[i])) }
    let wanted = largest / (30 * 127)
    guard put(wanted, out + 208) else { return false }
    let d = Float(Float16(wanted))
    guard d > 0 else { return true }
    for group in 0..<16 {
      let x = UnsafeRawPointer(values + 16 * group).loadUnaligned(as: Sixteen.self)
      let (scale, q) = scaleOfSix(x, d)
      out.storeBytes(of: scale, toByteOffset: 192 + group, as: Int8.self)
      for lane in 0..<16 {
        let i = 16 * group + lane
        let code = UInt8(Int(q[lane]) + 32)
        let column = i % 32
        // 128 values share 64 bytes of low bits, the second half of them in the upper nibbles, and 32 bytes of high bits.
        let low = i / 128 * 64 + i / 32 % 2 * 32 + column
        let high = 128 + i / 128 * 32 + column
        out.storeBytes(of: out.load(fromByteOffset: low, as: UInt8.self) | (code & 15) << UInt8(i / 64 % 2 * 4), toByteOffset: low, as: UInt8.self)
        out.storeBytes(of: out.load(fromByteOffset: high, as: UInt8.self) | (code >> 4) << UInt8(i / 32 % 4 * 2), toByteOffset: high, as: UInt8.self)
      }
    }
    return true
  }

  /// The scale of 16 values in units of d, and the values in units of both.
  private static func scaleOfSix(_ x: Sixteen, _ d: Float) -> (scale: Int8, q: Sixteen) {
    var extreme: Float = 0
    for lane in 0..<16 where abs(x[lane]) > abs(extreme) { extreme = x[lane] }
    guard extreme != 0 else { return (0, .zero) }
    // -32 goes one step further than 31, so the largest magnitude gets the negative end.
    let sign: Float = extreme > 0 ? -1 : 1
    let magnitude = abs(extreme) / d
    var best: (error: Float, scale: Float, q: Sixteen) = (.infinity, 0, .zero)
    var scale = max((magnitude / 34).rounded(.down), 1)
    let last = min(max((magnitude / 30).rounded(.up), 1), 127)
    while scale <= last {
      let step = sign * scale * d
      var q = x * (1 / step)
      q = (q + roundingConstant) - roundingConstant
      q.replace(with: Sixteen(repeating: 31), where: q .> 31)
      q.replace(with: Sixteen(repeating: -32), where: q .< -32)
      let rest = x - q * step
      let error = sum(rest * rest)
      if error < best.error { best = (error, sign * scale, q) }
      scale += 1
    }
    return (Int8(best.scale), best.q)
  }

  @inline(__always) private static func sum(_ x: Sixteen) -> Float {
    let eight = x.lowHalf + x.highHalf
    let four = eight.lowHalf + eight.highHalf
    return (four[0] + four[1]) + (four[2] + four[3])
  }

  /// The values that the 16 codes of IQ4_NL stand for.
  private static let fourBitValues = GGUFBlocks.iq4Values.map(Float.init)
  /// The code nearest to a number between n / 2 and (n + 1) / 2, at n + 256: all middles between two neighbours are multiples of a half.
  private static let nearestCode: [UInt8] = (-256..<256).map { n in
    let number = Float(n) / 2 + 0.25
    return UInt8(fourBitValues.indices.min { abs(fourBitValues[$0] - number) < abs(fourBitValues[$1] - number) } ?? 0)
  }
  private static let nearestValue: [Float] = nearestCode.map { fourBitValues[Int($0)] }
  /// What the value of the largest magnitude becomes, in all tries: around both ends of the codes.
  private static let targets: [Float] = [-140, -134, -129, -124, -119, -114, -109, -104, 98, 103, 108, 113, 118, 124]

  /// IQ4_NL: 32 values as d * v[code], with d in half precision and v the 16 values above, dense around zero. A block is d and 16 bytes, value i in
  /// the low nibble of byte i, value i + 16 in the high one.
  ///
  /// For each target the values get their codes, and the d that fits these best has the error sum x² - (sum x v)² / sum v².
  static func q4(_ values: UnsafePointer<Float>, _ out: UnsafeMutableRawPointer) -> Bool {
    var extreme: Float = 0
    for i in 0..<32 where abs(values[i]) > abs(extreme) { extreme = values[i] }
    out.initializeMemory(as: UInt8.self, repeating: 8 | 8 << 4, count: 18)
    // So small that twice a target over it is infinite: the half-precision d is zero then anyway.
    guard (280 / extreme).isFinite else { return put(0, out) }
    var best: (score: Float, d: Float) = (-1, 0)
    nearestValue.withUnsafeBufferPointer { nearest in
      for target in targets {
        let inverse = 2 * (target / extreme)
        var products: Float = 0
        var squares: Float = 0
        for i in 0..<32 {
          let v = nearest[index(values[i] * inverse)]
          products += values[i] * v
          squares += v * v
        }
        let score = products * products / squares
        if score > best.score { best = (score, products / squares) }
      }
    }
    guard put(best.d, out) else { return false }
    let d = Float(Float16(best.d))
    guard d != 0 else { return true }
    for i in 0..<16 {
      let low = nearestCode[index(values[i] * (2 / d))]
      let high = nearestCode[index(values[i + 16] * (2 / d))]
      out.storeBytes(of: low | high << 4, toByteOffset: 2 + i, as: UInt8.self)
    }
    return true
  }

  /// The place of twice a number in the tables.
  @inline(__always) private static func index(_ doubled: Float) -> Int {
    // Shifted to be positive, so that cutting off rounds down.
    Int(min(max(doubled + 256, 0), 511))
  }
}
