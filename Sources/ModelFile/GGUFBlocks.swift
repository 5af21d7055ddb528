/// Values of GGUF's float and block types as float32, by their definitions: factors are multiplied in the order in which they are written
/// there, so that the result is that of the reference implementations to the last bit. Blocks are little-endian and have no alignment.
package enum GGUFBlocks {
  /// The types of tables and vectors.
  package static let types: [GGUFTensorType] = [.f32, .f16, .bf16, .q8_0, .q6_K, .q5_K, .q4_K, .q4_0, .iq4_nl, .mxfp4]
  /// The types of matrices that may be ternary and need not be: all that `floats` reads.
  package static let matrixTypes = types + [.tq1_0, .tq2_0]

  /// The values of some blocks. Requires: a type of `matrixTypes`; `from` holds `count` blocks; `out` has room for their values.
  package static func floats(_ type: GGUFTensorType, from: UnsafeRawPointer, blocks count: Int, into out: UnsafeMutablePointer<Float>) {
    let (values, bytes) = type.block
    switch type {
    case .f32: for i in 0..<count { out[i] = Float(bitPattern: UInt32(littleEndian: from.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self))) }
    case .f16: for i in 0..<count { out[i] = half(from + 2 * i) }
    case .bf16: for i in 0..<count { out[i] = Float(bitPattern: UInt32(UInt16(littleEndian: from.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))) << 16) }
    case .q8_0: for i in 0..<count { q8_0(from + i * bytes, out + i * values) }
    case .q6_K: for i in 0..<count { q6_K(from + i * bytes, out + i * values) }
    case .q5_K: for i in 0..<count { q5_K(from + i * bytes, out + i * values) }
    case .mxfp4: for i in 0..<count { mxfp4(from + i * bytes, out + i * values) }
    case .q4_K: for i in 0..<count { q4_K(from + i * bytes, out + i * values) }
    case .q4_0: for i in 0..<count { nibbles(from + i * bytes, out + i * values) { Float($0) - 8 } }
    case .iq4_nl: for i in 0..<count { nibbles(from + i * bytes, out + i * values) { Float(iq4Values[$0]) } }
    case .tq1_0: for i in 0..<count { ternary(from + i * bytes, bytes, out + i * values, TernaryBlocks.tq1_0) }
    case .tq2_0: for i in 0..<count { ternary(from + i * bytes, bytes, out + i * values, TernaryBlocks.tq2_0) }
    default: out.update(repeating: .nan, count: count * values)  // refused by whoever asks for finite values
    }
  }

  /// What the 16 codes of IQ4_NL stand for.
  static let iq4Values: [Int8] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

  static func half(_ p: UnsafeRawPointer) -> Float { Float(Float16(bitPattern: UInt16(littleEndian: p.loadUnaligned(as: UInt16.self)))) }

  private static func byte(_ p: UnsafeRawPointer, _ at: Int) -> Int { Int(p.load(fromByteOffset: at, as: UInt8.self)) }

  /// 32 values: half d, 32 signed bytes; value = d * q.
  private static func q8_0(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>) {
    let d = half(p)
    for i in 0..<32 { out[i] = d * Float(p.load(fromByteOffset: 2 + i, as: Int8.self)) }
  }

  /// 32 values: half d, 16 bytes whose low halves are the first 16 values and whose high halves are the others; value = d * value(code).
  private static func nibbles(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>, value: (Int) -> Float) {
    let d = half(p)
    for i in 0..<16 {
      out[i] = d * value(byte(p, 2 + i) & 15)
      out[16 + i] = d * value(byte(p, 2 + i) >> 4)
    }
  }

  /// 256 values: codes, and a half d behind them; value = d * (-1, 0 or 1). Not a number where a code stands for none of these.
  private static func ternary(
    _ p: UnsafeRawPointer, _ bytes: Int, _ out: UnsafeMutablePointer<Float>, _ decode: (UnsafeRawPointer, UnsafeMutablePointer<Int8>) -> Bool
  ) {
    let d = half(p + bytes - 2)
    withUnsafeTemporaryAllocation(of: Int8.self, capacity: 256) { weights in
      guard let start = weights.baseAddress else { return }
      let isRight = decode(p, start)
      for i in 0..<256 { out[i] = isRight ? d * Float(weights[i]) : .nan }
    }
  }

  /// 256 values: 128 bytes of low halves, 64 bytes of 2 high bits, 16 signed scales, half d; value = d * scale * (code - 32), one scale for
  /// 16 values. Each half of 128 values: low bytes l and 32 + l hold values l, 32 + l in their low and 64 + l, 96 + l in their high halves.
  private static func q6_K(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>) {
    let d = half(p + 208)
    for i in 0..<256 {
      let (part, within) = (i / 128, i % 128)
      let (quarter, l) = (within / 32, within % 32)
      let low = byte(p, part * 64 + quarter % 2 * 32 + l) >> (quarter / 2 * 4) & 15
      let high = byte(p, 128 + part * 32 + l) >> (quarter * 2) & 3
      let scale = Float(p.load(fromByteOffset: 192 + i / 16, as: Int8.self))
      out[i] = d * scale * Float((high << 4 | low) - 32)
    }
  }

  /// 256 values: half d and half m, 12 bytes with 8 scales and 8 minima of 6 bits, 128 bytes of codes; value = d * scale * code - m * minimum,
  /// one of each for 32 values. Byte 32j + l holds values 64j + l and 64j + 32 + l.
  private static func q4_K(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>) {
    for part in 0..<8 {
      let (factor, offset) = scaleAndMinimum(p, part)
      for l in 0..<32 {
        let code = byte(p, 16 + part / 2 * 32 + l) >> (part % 2 * 4) & 15
        out[part * 32 + l] = factor * Float(code) - offset
      }
    }
  }

  /// As Q4_K, with 32 bytes of fifth bits between scales and codes: bit j of byte l is that of value 32j + l.
  private static func q5_K(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>) {
    for part in 0..<8 {
      let (factor, offset) = scaleAndMinimum(p, part)
      for l in 0..<32 {
        let code = byte(p, 48 + part / 2 * 32 + l) >> (part % 2 * 4) & 15 | (byte(p, 16 + l) >> part & 1) << 4
        out[part * 32 + l] = factor * Float(code) - offset
      }
    }
  }

  /// The factor and the offset of 32 values of Q4_K and Q5_K.
  private static func scaleAndMinimum(_ p: UnsafeRawPointer, _ part: Int) -> (factor: Float, offset: Float) {
    let scale: Int
    let minimum: Int
    if part < 4 {
      scale = byte(p, 4 + part) & 63
      minimum = byte(p, 8 + part) & 63
    } else {
      scale = byte(p, 8 + part) & 15 | (byte(p, part) >> 6) << 4
      minimum = byte(p, 8 + part) >> 4 | (byte(p, 4 + part) >> 6) << 4
    }
    return (half(p) * Float(scale), half(p + 2) * Float(minimum))
  }

  private static let fp4Values: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]

  /// 32 values: a power of two 2^(e - 127), 16 bytes with 4-bit floats as `nibbles` has them.
  private static func mxfp4(_ p: UnsafeRawPointer, _ out: UnsafeMutablePointer<Float>) {
    let exponent = byte(p, 0)
    let scale = exponent == 255 ? Float.nan : Float(sign: .plus, exponent: exponent - 127, significand: 1)
    for i in 0..<16 {
      out[i] = scale * fp4Values[byte(p, 1 + i) & 15]
      out[16 + i] = scale * fp4Values[byte(p, 1 + i) >> 4]
    }
  }
}
