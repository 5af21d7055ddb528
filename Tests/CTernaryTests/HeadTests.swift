import CTernary
import Foundation
import TestSupport
import Testing

/// A block type of GGUF, decoded here from its description, one weight at a time.
enum BlockType: String, CaseIterable, Sendable {
  case q8_0, q6_k, iq4_nl

  var weights: Int { self == .q6_k ? 256 : 32 }
  var bytes: Int { self == .q8_0 ? 34 : self == .q6_k ? 210 : 18 }
  /// Where the half precision scale of the block lies.
  var scaleOffset: Int { self == .q6_k ? 208 : 0 }

  /// Weight i of a block, before scaling.
  func number(_ block: ArraySlice<UInt8>, _ i: Int) -> Int {
    func byte(_ offset: Int) -> Int { Int(block[block.startIndex + offset]) }
    switch self {
    case .q8_0: return Int(Int8(bitPattern: UInt8(byte(2 + i))))
    case .iq4_nl:
      let codebook = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
      return codebook[byte(2 + i % 16) / (i < 16 ? 1 : 16) % 16]
    case .q6_k:
      let within = i % 128  // of a half: 64 bytes of low bits, 32 of high bits
      let low = byte(i / 128 * 64 + within % 64) / (within < 64 ? 1 : 16) % 16
      let high = byte(128 + i / 128 * 32 + within % 32) / [1, 4, 16, 64][within / 32] % 4
      return low + 16 * high - 32
    }
  }

  func scale(_ block: ArraySlice<UInt8>) -> Float {
    Float(Float16(bitPattern: UInt16(block[block.startIndex + scaleOffset]) + 256 * UInt16(block[block.startIndex + scaleOffset + 1])))
  }

  /// The scale of the 16 weights around weight i, 1 where the type has none.
  func runScale(_ block: ArraySlice<UInt8>, _ i: Int) -> Float {
    self == .q6_k ? Float(Int8(bitPattern: block[block.startIndex + 192 + i / 16])) : 1
  }

  func randomRows(_ rows: Int, _ n: Int, _ random: inout SplitMix64) -> [UInt8] {
    var bytes = (0..<rows * n / weights * self.bytes).map { _ in UInt8.random(in: 0...255, using: &random) }
    for start in stride(from: 0, to: bytes.count, by: self.bytes) {
      let scale = Float16(Float.random(in: -0.01...0.01, using: &random)).bitPattern
      bytes[start + scaleOffset] = UInt8(scale & 255)
      bytes[start + scaleOffset + 1] = UInt8(scale >> 8)
    }
    return bytes
  }

  func unpacked(_ row: UnsafePointer<UInt8>, _ n: Int) -> [Float] {
    var out = [Float](repeating: -7, count: n)
    switch self {
    case .q8_0: ct_unpack_q8_0(row, &out, n)
    case .q6_k: ct_unpack_q6_k(row, &out, n)
    case .iq4_nl: ct_unpack_iq4_nl(row, &out, n)
    }
    return out
  }
}

/// x prepared for a head.
private struct Prepared {
  let memory: Aligned<UInt8>
  let n: Int

  init(_ path: Path, _ x: [Float]) {
    n = x.count
    memory = Aligned(count: ct_head_bytes(n), repeating: 0xee)
    path.kernels.head_prepare(x, n, memory.pointer)
  }

  /// Products of `rows` rows; bytes begin at any address.
  func times(_ path: Path, _ type: BlockType, _ weights: UnsafePointer<UInt8>, rows: Int) -> [Float] {
    var out = [Float](repeating: -7, count: rows + 1)
    switch type {
    case .q8_0: path.kernels.head_q8_0(weights, rows, n, memory.pointer, &out)
    case .q6_k: path.kernels.head_q6_k(weights, rows, n, memory.pointer, &out)
    case .iq4_nl: path.kernels.head_iq4_nl(weights, rows, n, memory.pointer, &out)
    }
    #expect(out[rows] == -7)
    return Array(out.dropLast())
  }
}

/// One row's product as the header defines it.
private func expectedProduct(_ type: BlockType, _ row: ArraySlice<UInt8>, _ x: [Float]) -> Float {
  var numbers: [Int] = [], scales: [Float] = []
  for start in stride(from: 0, to: x.count, by: 32) {
    let block = x[start..<start + 32]
    let s = 16256 / max(block.filter { !$0.isNaN }.map(abs).max() ?? 0, 1e-10)
    numbers += block.map { ($0 * s).isNaN ? 0 : Int(($0 * s).rounded(.toNearestOrEven)) }
    scales.append(1 / s)
  }
  let run = type == .q6_k ? 16 : 32
  return laneSum(
    stride(from: 0, to: x.count, by: run).map { start in
      let block = row.dropFirst(start / type.weights * type.bytes)
      let dot = (start..<start + run).reduce(0) { $0 + type.number(block, $1 % type.weights) * numbers[$1] }
      let scale = type.scale(block) * scales[start / 32]
      return Float(dot) * (type == .q6_k ? type.runScale(block, start % 256) * scale : scale)
    })
}

@Suite struct HeadTests {
  @Test(arguments: BlockType.allCases)
  func rowsUnpackToTheirWeightsTimesTheirScales(type: BlockType) {
    var random = SplitMix64(seed: 6)
    for n in [256, 512, 2560] {
      let row = type.randomRows(1, n, &random)
      let out = type.unpacked(row, n)
      for i in 0..<n {
        let block = row.dropFirst(i / type.weights * type.bytes)
        let j = i % type.weights
        #expect(out[i] == Float(type.number(block, j)) * type.runScale(block, j) * type.scale(block))
      }
    }
  }

  /// All byte values in all places, all halves as scales.
  @Test(arguments: BlockType.allCases)
  func everyByteAndEveryScaleUnpacks(type: BlockType) {
    for value in UInt8.min...UInt8.max {
      var block = [UInt8](repeating: value, count: type.bytes)
      block[type.scaleOffset] = 0
      block[type.scaleOffset + 1] = 0x3c  // 1
      let out = type.unpacked(block, type.weights)
      for i in 0..<type.weights { #expect(out[i] == Float(type.number(block[...], i)) * type.runScale(block[...], i)) }
    }
    var block = [UInt8](repeating: type == .q8_0 ? 1 : 0x11, count: type.bytes)
    for bits in UInt16.min...UInt16.max {
      block[type.scaleOffset] = UInt8(bits & 255)
      block[type.scaleOffset + 1] = UInt8(bits >> 8)
      let expected = Float(type.number(block[...], 0)) * type.runScale(block[...], 0) * Float(Float16(bitPattern: bits))
      let value = type.unpacked(block, type.weights)[0]
      #expect(value == expected || (value.isNaN && expected.isNaN))
    }
  }

  @Test(arguments: Path.all, BlockType.allCases)
  func everyPathGivesTheDefinitionsProducts(path: Path, type: BlockType) {
    var random = SplitMix64(seed: 7)
    let widths = type == .q6_k ? [256, 512, 768, 1024, 1280, 2560] : [32, 64, 160, 256, 480, 512, 544, 1000 / 32 * 32, 1024, 2048, 2560]
    for n in widths {
      for rows in [0, 1, 2, 3, 7] {
        let weights = type.randomRows(rows, n, &random)
        let x = (0..<n).map { Float.random(in: -1...1, using: &random) * ($0 / 32 % 3 == 0 ? 100 : 0.01) }
        let out = Prepared(path, x).times(path, type, weights, rows: rows)
        for r in 0..<rows {
          let row = weights[r * n / type.weights * type.bytes..<(r + 1) * n / type.weights * type.bytes]
          #expect(out[r].bitPattern == expectedProduct(type, row, x).bitPattern, "\(n) columns, row \(r) of \(rows)")
        }
      }
    }
  }

  /// The largest weights times the largest integers of one sign; zeros; one huge value in a block of small ones.
  @Test(arguments: Path.all, BlockType.allCases)
  func extremesAreExact(path: Path, type: BlockType) {
    for byte: UInt8 in [0x00, 0x7f, 0x80, 0xff] {
      var row = [UInt8](repeating: byte, count: 512 / type.weights * type.bytes)
      for start in stride(from: 0, to: row.count, by: type.bytes) {
        row[start + type.scaleOffset] = 0
        row[start + type.scaleOffset + 1] = 0x3c
      }
      for x in [
        [Float](repeating: 5, count: 512), [Float](repeating: -5, count: 512), [Float](repeating: 0, count: 512),
        (0..<512).map { $0 % 32 == 9 ? 1e30 : 1 }, (0..<512).map { $0 % 2 == 0 ? 1e-30 : -1e-30 }, (0..<512).map { $0 == 300 ? .nan : 2 },
      ] {
        #expect(Prepared(path, x).times(path, type, row, rows: 1)[0].bitPattern == expectedProduct(type, row[...], x).bitPattern)
      }
    }
  }

  @Test(arguments: Path.all, BlockType.allCases)
  func aRowDoesNotDependOnTheOthersNorOnItsAddress(path: Path, type: BlockType) {
    var random = SplitMix64(seed: 9)
    let n = 768, rows = 9, rowBytes = n / type.weights * type.bytes
    let weights = type.randomRows(rows, n, &random), x = Prepared(path, random.floats(n))
    let out = x.times(path, type, weights, rows: rows)
    for offset in [0, 1, 2, 3, 31, 63] {
      let moved = [UInt8](repeating: 0xff, count: offset) + weights
      moved.withUnsafeBufferPointer { moved in
        for r in 0..<rows { #expect(x.times(path, type, moved.baseAddress! + offset + r * rowBytes, rows: 1)[0] == out[r]) }
      }
    }
  }

  @Test(arguments: Path.all, BlockType.allCases)
  func infinitiesAndForeignBytesGiveSomethingAndDoNotCrash(path: Path, type: BlockType) {
    var random = SplitMix64(seed: 10)
    let weights = (0..<3 * 512 / type.weights * type.bytes).map { _ in UInt8.random(in: 0...255, using: &random) }
    for special: Float in [.infinity, -.infinity, .nan, .greatestFiniteMagnitude] {
      var x = random.floats(512)
      x[77] = special
      _ = Prepared(path, x).times(path, type, weights, rows: 3)
    }
    var x = random.floats(512)
    x[77] = .infinity
    #expect(Prepared(path, x).times(path, type, type.randomRows(1, 512, &random), rows: 1)[0].isNaN)
  }

  /// 15 bits for each 32 values of x cost nothing beside the rounding of floats.
  @Test(arguments: BlockType.allCases)
  func productsAreCloseToThoseInDoublePrecision(type: BlockType) {
    var random = SplitMix64(seed: 11)
    let path = Path.all[0], n = 2560, rows = 200
    let weights = type.randomRows(rows, n, &random), x = random.floats(n)
    let out = Prepared(path, x).times(path, type, weights, rows: rows)
    var errors = 0.0, squares = 0.0
    for r in 0..<rows {
      let row = weights[r * n / type.weights * type.bytes..<(r + 1) * n / type.weights * type.bytes]
      let exact = zip(type.unpacked(Array(row), n), x).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
      errors += pow(Double(out[r]) - exact, 2)
      squares += exact * exact
    }
    let relative = (errors / squares).squareRoot()
    print("head \(type.rawValue): relative error \(relative)")
    #expect(relative < 1e-4)
  }

  @Test func sizesThatOverflowAreZero() {
    #expect(ct_head_bytes(0) == 0)
    #expect(ct_head_bytes(32) == ct_head_bytes(512))
    #expect(ct_head_bytes(2560) == 5 * ct_head_bytes(512))
    #expect(ct_head_bytes(Int(bitPattern: UInt.max)) == 0)
  }
}
