import CTernary
import Testing

@Suite struct MatmulTests {
  /// What the reference itself is held against: sums of the weights as they were before packing.
  @Test func theReferenceGivesTheSumsOfTheUnpackedWeights() {
    var random = SplitMix(1)
    let product = Product(
      rows: 37, columns: 210, tokens: 3, weight: { .random(in: -1...1, using: &random) },
      activation: { .random(in: -128...127, using: &random) })
    let out = product.run(.scalar, tokens: 3)
    for t in 0..<3 {
      for row in 0..<48 {
        var expected: Int32 = 0
        if row < 37 {
          for c in 0..<210 { expected += Int32(product.weights[row * 210 + c]) * Int32(product.activations.buffer[t * product.stride + c]) }
        }
        #expect(out[t * 48 + row] == expected)
      }
    }
  }

  /// Columns of the supported models (hidden, feed-forward and attention widths), small ones, and odd ones that need padding.
  @Test(arguments: Path.all, [1, 15, 16, 17, 64, 144, 160, 176, 250, 1024, 2048, 2560, 3072, 4096, 5120, 6144, 6912, 8192])
  func everyPathGivesTheReferencesIntegersForOneToSeventeenTokens(path: Path, columns: Int) {
    var random = SplitMix(UInt64(columns))
    let product = Product(
      rows: 35, columns: columns, tokens: 17, weight: { .random(in: -1...1, using: &random) },
      activation: { .random(in: -128...127, using: &random) })
    let expected = product.run(.scalar, tokens: 17)
    for tokens in 0...17 {
      let out = product.run(path, tokens: tokens, untouched: 0x5555_5555)
      let written = tokens * 16 * product.rowBlocks
      #expect(out[..<written] == expected[..<written])
      #expect(out[written...].allSatisfy { $0 == 0x5555_5555 })  // nothing past the last token
    }
  }

  @Test(arguments: Path.all, [(2560, 6912), (6912, 2560), (640, 2560)])
  func wholeMatricesOfARealModelAgree(path: Path, shape: (rows: Int, columns: Int)) {
    var random = SplitMix(3)
    let product = Product(
      rows: shape.rows, columns: shape.columns, tokens: 2, weight: { .random(in: -1...1, using: &random) },
      activation: { .random(in: -128...127, using: &random) })
    #expect(product.run(path, tokens: 2) == product.run(.scalar, tokens: 2))
  }

  /// Extremes of the same sign in every column reach the bound of every partial sum; lengths lie on both sides of each fold
  /// (8 units on AVX2, 16 on NEON).
  @Test(arguments: Path.all)
  func extremesAreExactOnBothSidesOfEveryFold(path: Path) {
    for units in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 432] {
      for weight: Int8 in [-1, 0, 1] {
        for value: Int8 in [-128, 127] {
          let product = Product(rows: 16, columns: 16 * units, tokens: 13, weight: { weight }, activation: { value })
          let expected = Int32(weight) * Int32(value) * Int32(16 * units)
          for tokens in [1, 2, 5, 12, 13] {
            #expect(product.run(path, tokens: tokens).prefix(16 * tokens).allSatisfy { $0 == expected })
          }
        }
      }
    }
  }

  /// 2^23 columns: |sum| = 2^30, and codes alone sum to 2^31, which must wrap and come back.
  @Test(arguments: Path.all.filter { $0.name != "scalar" })
  func theLargestPromisedWidthIsExact(path: Path) {
    let columns = 1 << 23
    for code: UInt8 in [0x00, 0xaa] {
      let packed = Aligned<UInt8>(count: columns * 4, repeating: code)
      for value: Int8 in [-128, 127] {
        let x = Aligned<Int8>(count: 2 * columns, repeating: value)
        let sums = [Int32](repeating: Int32(value) * Int32(columns), count: 2)
        for tokens in 1...2 {
          var out = [Int32](repeating: 0, count: 32)
          path.kernels.fast_matmul(packed.pointer, 1, columns, x.pointer, columns, sums, tokens, &out, 16)
          let expected = Int32(value) * Int32(columns) * (code == 0 ? -1 : 1)
          #expect(out.prefix(16 * tokens).allSatisfy { $0 == expected })
        }
      }
    }
  }

  @Test(arguments: Path.all)
  func outputsMayLieApart(path: Path) {
    var random = SplitMix(9)
    let product = Product(
      rows: 16, columns: 64, tokens: 5, weight: { .random(in: -1...1, using: &random) },
      activation: { .random(in: -128...127, using: &random) })
    let expected = product.run(.scalar, tokens: 5)
    var out = [Int32](repeating: -7, count: 5 * 21)
    path.kernels.fast_matmul(product.packed.pointer, 1, 64, product.activations.pointer, product.stride, product.sums, 5, &out, 21)
    for t in 0..<5 {
      #expect(out[21 * t..<21 * t + 16] == expected[16 * t..<16 * t + 16])
      #expect(out[21 * t + 16..<21 * t + 21].allSatisfy { $0 == -7 })
    }
  }
}
