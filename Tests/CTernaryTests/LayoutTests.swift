import CTernary
import TestSupport
import Testing

@Suite struct LayoutTests {
  @Test(arguments: [(1, 1), (16, 16), (17, 33), (31, 176), (48, 64), (5, 250)])
  func packedWeightsReadBackAndPaddingIsZero(rows: Int, columns: Int) {
    var random = SplitMix64(seed: UInt64(rows * 1000 + columns))
    let weights = (0..<rows * columns).map { _ in Int8.random(in: -1...1, using: &random) }
    var packed = [UInt8](repeating: 0xff, count: ct_fast_bytes(rows, columns))
    ct_fast_pack(weights, rows, columns, &packed)
    let paddedRows = (rows + 15) / 16 * 16
    let paddedColumns = (columns + 15) / 16 * 16
    #expect(packed.count == paddedRows * paddedColumns / 4)
    for row in 0..<paddedRows {
      for column in 0..<paddedColumns {
        let expected = row < rows && column < columns ? Int32(weights[row * columns + column]) : 0
        // The padded shape has the same bytes, so padding can be read through it.
        #expect(ct_fast_weight(packed, paddedRows, paddedColumns, row, column) == expected)
      }
    }
    #expect(ct_fast_validate(packed, packed.count) == -1)
  }

  @Test func aWeightLiesWhereTheFormatSays() {
    // Row 18, column 27 of 32 x 48: block 1, unit 1 of 3, byte 4 * 2 + 3, plane 2.
    var weights = [Int8](repeating: 0, count: 32 * 48)
    weights[18 * 48 + 27] = 1
    var packed = [UInt8](repeating: 0, count: ct_fast_bytes(32, 48))
    ct_fast_pack(weights, 32, 48, &packed)
    for (offset, byte) in packed.enumerated() {
      #expect(byte == (offset == (3 + 1) * 64 + 11 ? 0x65 : 0x55))
    }
  }

  @Test func sizesThatOverflowAreZero() {
    #expect(ct_fast_bytes(0, 100) == 0)
    #expect(ct_fast_bytes(2560, 6912) == 2560 * 6912 / 4)
    #expect(ct_fast_bytes(Int(bitPattern: UInt.max), Int(bitPattern: UInt.max)) == 0)
  }

  @Test func validationFindsCodeThreeInEveryByteAtEveryOffset() {
    for value in 0...255 {
      let holdsThree = (0..<4).contains { value / [1, 4, 16, 64][$0] % 4 == 3 }
      for offset in [0, 1, 7, 8, 9, 15, 16, 127, 130] {
        var bytes = [UInt8](repeating: 0xaa, count: 131)
        bytes[offset] = UInt8(value)
        #expect(ct_fast_validate(bytes, bytes.count) == (holdsThree ? offset : -1))
      }
    }
    let two: [UInt8] = [0, 0x55, 0xc0, 0xff]
    #expect(ct_fast_validate(two, 4) == 2)
    #expect(ct_fast_validate(two, 2) == -1)
    #expect(ct_fast_validate(two, 0) == -1)
  }

  @Test(arguments: [(1, 1), (16, 20), (17, 33), (31, 176), (48, 60), (5, 250)])
  func weightsOfTheSmallLayoutReadBackAndPaddingIsZero(rows: Int, columns: Int) {
    var random = SplitMix64(seed: UInt64(rows * 1000 + columns))
    let weights = (0..<rows * columns).map { _ in Int8.random(in: -1...1, using: &random) }
    var packed = [UInt8](repeating: 0xff, count: ct_small_bytes(rows, columns))
    ct_small_pack(weights, rows, columns, &packed)
    let paddedRows = (rows + 15) / 16 * 16
    let paddedColumns = (columns + 19) / 20 * 20
    #expect(packed.count == paddedRows * paddedColumns / 5)
    for row in 0..<paddedRows {
      for column in 0..<paddedColumns {
        let expected = row < rows && column < columns ? Int32(weights[row * columns + column]) : 0
        #expect(ct_small_weight(packed, paddedRows, paddedColumns, row, column) == expected)
      }
    }
    #expect(ct_small_validate(packed, packed.count) == -1)
  }

  @Test func aWeightOfTheSmallLayoutLiesWhereTheFormatSays() {
    // Row 18, column 35 of 32 x 60: block 1, unit 1 of 3, byte 4 * 2 + 3, power 3: 27.
    var weights = [Int8](repeating: 0, count: 32 * 60)
    weights[18 * 60 + 35] = 1
    var packed = [UInt8](repeating: 0, count: ct_small_bytes(32, 60))
    ct_small_pack(weights, 32, 60, &packed)
    for (offset, byte) in packed.enumerated() {
      #expect(byte == (offset == (3 + 1) * 64 + 11 ? 121 + 27 : 121))
    }
  }

  @Test func sizesOfTheSmallLayoutThatOverflowAreZero() {
    #expect(ct_small_bytes(0, 100) == 0)
    #expect(ct_small_bytes(2560, 6912) == 2560 * 6920 / 5)
    #expect(ct_small_bytes(Int(bitPattern: UInt.max), Int(bitPattern: UInt.max)) == 0)
  }

  @Test func validationOfTheSmallLayoutFindsForeignBytesAtEveryOffset() {
    for value in 0...255 {
      for offset in [0, 1, 7, 63, 1023, 1024, 2047, 2048, 2300] {
        var bytes = [UInt8](repeating: 242, count: 2301)
        bytes[offset] = UInt8(value)
        #expect(ct_small_validate(bytes, bytes.count) == (value > 242 ? offset : -1))
      }
    }
    let two: [UInt8] = [0, 121, 243, 255]
    #expect(ct_small_validate(two, 4) == 2)
    #expect(ct_small_validate(two, 2) == -1)
    #expect(ct_small_validate(two, 0) == -1)
  }
}
