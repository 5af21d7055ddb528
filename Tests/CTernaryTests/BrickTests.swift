import CTernary
import Foundation
import TestSupport
import Testing

extension ct_brick_kind {
  static let all: [ct_brick_kind] = [CT_BRICK_Q8_0, CT_BRICK_Q4_0, CT_BRICK_MXFP4, CT_BRICK_IQ4_NL]

  /// Of a GGUF block of 32 weights.
  var blockBytes: Int { self == CT_BRICK_Q8_0 ? 34 : self == CT_BRICK_MXFP4 ? 17 : 18 }

  /// Weight i of a GGUF block before scaling, from the description of its type. MXFP4's are doubled.
  func number(_ block: ArraySlice<UInt8>, _ i: Int) -> Int {
    let bytes = Array(block.dropFirst(self == CT_BRICK_MXFP4 ? 1 : 2))
    if self == CT_BRICK_Q8_0 { return Int(Int8(bitPattern: bytes[i])) }
    let code = Int(bytes[i % 16]) / (i < 16 ? 1 : 16) % 16
    if self == CT_BRICK_Q4_0 { return code - 8 }
    if self == CT_BRICK_MXFP4 { return [0, 1, 2, 3, 4, 6, 8, 12][code % 8] * (code < 8 ? 1 : -1) }
    return [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113][code]
  }

  func scale(_ block: ArraySlice<UInt8>) -> Float {
    let first = block[block.startIndex]
    if self == CT_BRICK_MXFP4 { return Float(sign: .plus, exponent: max(-128, min(127, Int(first) - 128)), significand: 1) }
    return Float(Float16(bitPattern: UInt16(first) + 256 * UInt16(block[block.startIndex + 1])))
  }

  func randomBlocks(_ count: Int, _ random: inout SplitMix64) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0..<count {
      if self == CT_BRICK_MXFP4 {
        bytes.append(UInt8.random(in: 0...140, using: &random))
      } else {
        let scale = Float16(Float.random(in: -0.01...0.01, using: &random)).bitPattern
        bytes += [UInt8(scale & 255), UInt8(scale >> 8)]
      }
      for _ in 0..<(self == CT_BRICK_Q8_0 ? 32 : 16) { bytes.append(.random(in: 0...255, using: &random)) }
    }
    return bytes
  }
}

/// A matrix in bricks and a batch of activations.
private struct BrickProduct {
  let kind: ct_brick_kind
  let rows: Int, bricks: Int, tokens: Int
  let blocks: [UInt8]  // GGUF, [rows, bricks]
  let packed: Aligned<UInt8>
  let x: Aligned<Int8>, stride: Int
  let sums: Aligned<Int32>, scales: Aligned<Float>  // [tokens, bricks]

  var rowBlocks: Int { (rows + 15) / 16 }

  init(_ kind: ct_brick_kind, rows: Int, bricks: Int, tokens: Int, seed: UInt64, extreme: UInt8? = nil) {
    var random = SplitMix64(seed: seed)
    self.kind = kind
    self.rows = rows
    self.bricks = bricks
    self.tokens = tokens
    var blocks = kind.randomBlocks(rows * bricks, &random)
    if let extreme {
      for i in blocks.indices where i % kind.blockBytes >= (kind == CT_BRICK_MXFP4 ? 1 : 2) { blocks[i] = extreme }
    }
    self.blocks = blocks
    packed = Aligned(count: ct_brick_bytes(kind, rows, 32 * bricks), repeating: 0xee)
    ct_brick_pack(kind, blocks, rows, 32 * bricks, packed.pointer)
    stride = (32 * bricks + 63) / 64 * 64
    x = Aligned(count: max(0, tokens - 1) * stride + 32 * bricks, repeating: 0)
    sums = Aligned(count: tokens * bricks, repeating: 0)
    scales = Aligned(count: tokens * bricks, repeating: 0)
    for t in 0..<tokens {
      let values = extreme != nil ? [Float](repeating: t % 2 == 0 ? -3 : 3, count: 32 * bricks) : random.floats(32 * bricks)
      ct_scalar().pointee.quantize_bricks(values, x.pointer + t * stride, 32 * bricks, sums.pointer + t * bricks, scales.pointer + t * bricks)
    }
  }

  /// [tokens, 16 * rowBlocks]; what was not written stays `untouched`.
  func run(_ path: Path, tokens count: Int, untouched: Float = 0) -> [UInt32] {
    var out = [Float](repeating: untouched, count: tokens * 16 * rowBlocks)
    path.kernels.brick_matmul(
      kind, packed.pointer, rowBlocks, bricks, x.pointer, stride, sums.pointer, scales.pointer, count, &out, 16 * rowBlocks)
    return out.map(\.bitPattern)
  }

  /// As the header defines it, from the GGUF blocks.
  func expected(_ token: Int, _ row: Int) -> Float {
    var sum: Float = 0
    for b in 0..<bricks {
      let block = blocks[(row * bricks + b) * kind.blockBytes..<(row * bricks + b + 1) * kind.blockBytes]
      let dot = (0..<32).reduce(0) { $0 + kind.number(block, $1) * Int(x.buffer[token * stride + 32 * b + $1]) }
      let term = Float(dot) * (kind.scale(block) * scales.buffer[token * bricks + b])
      sum += term
    }
    return sum
  }
}

@Suite struct BrickTests {
  @Test(arguments: ct_brick_kind.all)
  func theReferenceFollowsTheDefinition(kind: ct_brick_kind) {
    for bricks in [1, 2, 3, 4, 5, 8] {
      let product = BrickProduct(kind, rows: 21, bricks: bricks, tokens: 3, seed: 1)
      let out = product.run(.scalar, tokens: 3)
      for t in 0..<3 {
        for row in 0..<21 { #expect(out[t * 32 + row] == product.expected(t, row).bitPattern, "\(bricks) bricks, row \(row)") }
        for row in 21..<32 { #expect(Float(bitPattern: out[t * 32 + row]) == 0) }
      }
    }
  }

  @Test(arguments: Path.all, [0, 1, 2, 3, 4, 7, 24, 44, 64])
  func everyPathGivesTheReferencesBitsForEveryNumberOfTokens(path: Path, bricks: Int) {
    for kind in ct_brick_kind.all {
      let product = BrickProduct(kind, rows: 19, bricks: bricks, tokens: 27, seed: UInt64(bricks))
      let expected = product.run(.scalar, tokens: 27)
      for tokens in 0...27 {
        let out = product.run(path, tokens: tokens, untouched: 77)
        let written = tokens * 32
        #expect(out[..<written] == expected[..<written], "\(kind) \(tokens)")
        #expect(out[written...].allSatisfy { $0 == Float(77).bitPattern })
      }
    }
  }

  /// The largest weights of both signs times the largest activations of both signs.
  @Test(arguments: Path.all)
  func extremesAreExact(path: Path) {
    for kind in ct_brick_kind.all {
      for byte: UInt8 in [0x00, 0x77, 0x7f, 0x80, 0x88, 0xff] {
        let product = BrickProduct(kind, rows: 16, bricks: 5, tokens: 13, seed: 3, extreme: byte)
        for tokens in [1, 4, 13] {
          let out = product.run(path, tokens: tokens)
          for t in 0..<tokens { #expect(out[t * 16 + 7] == product.expected(t, 7).bitPattern, "\(kind) \(byte)") }
        }
      }
    }
  }

  @Test(arguments: ct_brick_kind.all)
  func rowsUnpackToWhatTheirBlocksMean(kind: ct_brick_kind) {
    var random = SplitMix64(seed: 5)
    for bricks in [1, 2, 5, 8] {
      let rows = 18
      let blocks = kind.randomBlocks(rows * bricks, &random)
      let packed = Aligned<UInt8>(count: ct_brick_bytes(kind, rows, 32 * bricks), repeating: 0xee)
      ct_brick_pack(kind, blocks, rows, 32 * bricks, packed.pointer)
      var out = [Float](repeating: -7, count: 32 * bricks)
      for row in 0..<rows {
        ct_brick_unpack(kind, packed.pointer, 32 * bricks, row, &out)
        for i in 0..<32 * bricks {
          let block = blocks[(row * bricks + i / 32) * kind.blockBytes..<(row * bricks + i / 32 + 1) * kind.blockBytes]
          #expect(out[i] == Float(kind.number(block, i % 32)) * kind.scale(block))
        }
      }
    }
  }

  @Test func everyExponentOfMXFP4IsItsPowerOfTwo() {
    for e in UInt8.min...UInt8.max {
      let block = [e] + [UInt8](repeating: 0x11, count: 16)
      let packed = Aligned<UInt8>(count: ct_brick_bytes(CT_BRICK_MXFP4, 1, 32), repeating: 0)
      ct_brick_pack(CT_BRICK_MXFP4, block, 1, 32, packed.pointer)
      var out = [Float](repeating: -7, count: 32)
      ct_brick_unpack(CT_BRICK_MXFP4, packed.pointer, 32, 0, &out)
      #expect(out[0] == Float(sign: .plus, exponent: Int(e) - 128, significand: 1))
      for path in Path.all {
        var product = [Float](repeating: 0, count: 16)
        let x = Aligned<Int8>(count: 64, repeating: 1)
        path.kernels.brick_matmul(CT_BRICK_MXFP4, packed.pointer, 1, 1, x.pointer, 64, [32], [1], 1, &product, 16)
        #expect(product[0] == 32 * out[0])
      }
    }
  }

  @Test(arguments: Path.all)
  func activationsAreQuantisedByTheirDefinition(path: Path) {
    var random = SplitMix64(seed: 6)
    var x = random.floats(32 * 7)
    for i in 32..<64 { x[i] *= 1e-20 }
    for i in 64..<96 { x[i] = 0 }
    x[100] = .nan
    x[150] = .infinity
    x[170] = .greatestFiniteMagnitude
    var q = [Int8](repeating: 9, count: 32 * 7), sums = [Int32](repeating: 9, count: 7), scales = [Float](repeating: 9, count: 7)
    path.kernels.quantize_bricks(x, &q, 32 * 7, &sums, &scales)
    for b in 0..<7 {
      let values = x[32 * b..<32 * b + 32]
      let s = 127 / max(values.filter { !$0.isNaN }.map(abs).max() ?? 0, 1e-10)
      #expect(scales[b] == 1 / s)
      #expect(sums[b] == q[32 * b..<32 * b + 32].reduce(0) { $0 + Int32($1) })
      for i in 32 * b..<32 * b + 32 { #expect(q[i] == ((x[i] * s).isNaN ? 0 : Int8((x[i] * s).rounded(.toNearestOrEven)))) }
    }
  }

  @Test(arguments: Path.all)
  func anInfiniteActivationCannotHide(path: Path) {
    var random = SplitMix64(seed: 7)
    for kind in ct_brick_kind.all {
      var x = random.floats(64)
      x[40] = -.infinity
      let q = Aligned<Int8>(count: 64, repeating: 0)
      var sums: [Int32] = [0, 0], scales: [Float] = [0, 0], out = [Float](repeating: 0, count: 16)
      path.kernels.quantize_bricks(x, q.pointer, 64, &sums, &scales)
      let packed = Aligned<UInt8>(count: ct_brick_bytes(kind, 16, 64), repeating: 0)
      ct_brick_pack(kind, kind.randomBlocks(32, &random), 16, 64, packed.pointer)
      path.kernels.brick_matmul(kind, packed.pointer, 1, 2, q.pointer, 64, sums, scales, 1, &out, 16)
      #expect(out.allSatisfy { $0.isNaN })
    }
  }

  @Test func sizes() {
    #expect(ct_brick_bytes(CT_BRICK_Q4_0, 768, 2048) == 768 * 2048 / 32 * 18)
    #expect(ct_brick_bytes(CT_BRICK_Q8_0, 768, 2048) == 768 * 2048 / 32 * 34)
    #expect(ct_brick_bytes(CT_BRICK_MXFP4, 768, 2048) == 768 * 2048 / 32 * 17)
    #expect(ct_brick_bytes(CT_BRICK_Q4_0, 1, 32) == 64 + 512)
    #expect(ct_brick_bytes(CT_BRICK_Q4_0, 0, 32) == 0)
    #expect(ct_brick_bytes(CT_BRICK_Q4_0, 16, 33) == 0)
    #expect(ct_brick_bytes(CT_BRICK_Q4_0, 1 << 40, 1 << 40) == 0)
    #expect(ct_brick_bytes(CT_BRICK_Q8_0, 16, Int(bitPattern: UInt.max) & ~31) == 0)
  }
}

@Suite struct ChecksumTests {
  /// XXH32 itself, lane by lane.
  private func expected(_ bytes: [UInt8]) -> UInt64 {
    let p: [UInt32] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1]
    func turned(_ x: UInt32, _ n: UInt32) -> UInt32 { x << n | x >> (32 - n) }
    var lanes = (0..<64).map { UInt32($0) &* p[0] &+ p[1] }
    for start in stride(from: 0, to: bytes.count, by: 4) {
      let word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[start + $1]) << UInt32(8 * $1) }
      let lane = start / 4 % 64
      lanes[lane] = turned(lanes[lane] &+ word &* p[1], 13) &* p[0]
    }
    return (0..<2).reduce(0) { result, half in
      var hash = lanes.reduce(p[4] &+ UInt32(half) &* p[0] &+ UInt32(bytes.count)) { turned($0 &+ $1 &* p[2], 17) &* p[3] }
      hash = (hash ^ hash >> 15) &* p[1]
      hash = (hash ^ hash >> 13) &* p[2]
      return result | UInt64(hash ^ hash >> 16) << UInt64(32 * half)
    }
  }

  @Test(arguments: Path.all)
  func isTheSameEverywhereAtAnyAddress(path: Path) {
    var random = SplitMix64(seed: 8)
    for count in [0, 256, 512, 4096, 4352] {
      let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
      for offset in [0, 1, 63] {
        let moved = [UInt8](repeating: 9, count: offset) + bytes
        let found = moved.withUnsafeBytes { $0.baseAddress.map { path.kernels.checksum($0 + offset, count) } }
        if let found { #expect(found == expected(bytes)) } else { #expect(moved.isEmpty) }
      }
    }
  }

  @Test func everyBitAndTheOrderCount() {
    var bytes = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) }
    let whole = expected(bytes)
    for i in bytes.indices {
      for bit in 0..<8 {
        bytes[i] ^= 1 << UInt8(bit)
        #expect(ct_scalar().pointee.checksum(bytes, 1024) != whole)
        bytes[i] ^= 1 << UInt8(bit)
      }
    }
    #expect(ct_scalar().pointee.checksum(Array(bytes[256...] + bytes[..<256]), 1024) != whole)
    #expect(ct_scalar().pointee.checksum([UInt8](repeating: 0, count: 256), 256) != ct_scalar().pointee.checksum([UInt8](repeating: 0, count: 512), 512))
  }
}
