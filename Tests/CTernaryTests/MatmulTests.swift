import CTernary
import TestSupport
import Testing

@Suite struct MatmulTests {
  /// What the reference itself is held against: sums of the weights as they were before packing.
  @Test(arguments: Layout.allCases)
  func theReferenceGivesTheSumsOfTheUnpackedWeights(layout: Layout) {
    var random = SplitMix64(seed: 1)
    let product = Product(
      layout, rows: 37, columns: 210, tokens: 3, weight: { .random(in: -1...1, using: &random) },
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

  /// Columns of the supported models (hidden, feed-forward and attention widths), small ones, odd ones that need padding, and those around a panel.
  @Test(
    arguments: Path.all, [
      1, 15, 16, 17, 19, 20, 21, 64, 144, 160, 176, 250, 639, 640, 641, 656, 660, 1024, 1536, 2048, 2560, 3072, 3200, 4096, 5120, 6144, 6912,
      8192, 8640, 14336,
    ])
  func everyPathGivesTheReferencesIntegersForEveryNumberOfTokens(path: Path, columns: Int) {
    for layout in Layout.allCases {
      var random = SplitMix64(seed: UInt64(columns))
      let product = Product(
        layout, rows: 35, columns: columns, tokens: 33, weight: { .random(in: -1...1, using: &random) },
        activation: { .random(in: -128...127, using: &random) })
      let expected = product.run(.scalar, tokens: 33)
      for tokens in 0...33 {
        let out = product.run(path, tokens: tokens, untouched: 0x5555_5555)
        let written = tokens * 16 * product.rowBlocks
        #expect(out[..<written] == expected[..<written], "\(layout) \(tokens)")
        #expect(out[written...].allSatisfy { $0 == 0x5555_5555 })  // nothing past the last token
      }
    }
  }

  @Test(arguments: Path.all, [(2560, 6912), (6912, 2560), (640, 2560)])
  func wholeMatricesOfARealModelAgree(path: Path, shape: (rows: Int, columns: Int)) {
    for layout in Layout.allCases {
      var random = SplitMix64(seed: 3)
      let product = Product(
        layout, rows: shape.rows, columns: shape.columns, tokens: 2, weight: { .random(in: -1...1, using: &random) },
        activation: { .random(in: -128...127, using: &random) })
      #expect(product.run(path, tokens: 2) == product.run(.scalar, tokens: 2))
    }
  }

  /// More tokens than a slice holds: the activations of a slice stay in the second cache, so wide ones are few (docs/kernels.md).
  @Test(arguments: Path.all.filter { $0.name != "scalar" })
  func manyTokensAreCutIntoSlices(path: Path) {
    for layout in Layout.allCases {
      var random = SplitMix64(seed: 4)
      let product = Product(
        layout, rows: 33, columns: 6912, tokens: 400, weight: { .random(in: -1...1, using: &random) },
        activation: { .random(in: -128...127, using: &random) })
      #expect(product.run(path, tokens: 400) == product.run(.scalar, tokens: 400))
    }
  }

  /// Every byte that may occur at every place of a unit, decoded in registers for one token, for several, and into a panel.
  @Test(arguments: Path.all, Layout.allCases)
  func everyByteAtEveryPlaceMeansItsWeights(path: Path, layout: Layout) {
    let bytes = layout.bytes, columns = bytes.count * layout.unit, tokens = 33
    let packed = Aligned<UInt8>(count: bytes.count * 64, repeating: 0)
    for i in 0..<packed.buffer.count { packed.buffer[i] = bytes[(i / 64 + i % 64) % bytes.count] }
    var random = SplitMix64(seed: 5)
    let stride = (columns + 63) / 64 * 64
    let x = Aligned<Int8>(count: tokens * stride, repeating: 0)
    var sums = [Int32](repeating: 0, count: tokens), expected = [Int32](repeating: 0, count: tokens * 16)
    for t in 0..<tokens {
      for c in 0..<columns {
        x.buffer[t * stride + c] = .random(in: -128...127, using: &random)
        sums[t] += Int32(x.buffer[t * stride + c])
      }
    }
    for row in 0..<16 {
      for column in 0..<columns {
        var byte = Int(packed.buffer[column / layout.unit * 64 + 4 * row + column % 4])
        for _ in 0..<column % layout.unit / 4 { byte /= layout == .fast ? 4 : 3 }
        let weight = Int32(byte % (layout == .fast ? 4 : 3)) - 1
        for t in 0..<tokens { expected[t * 16 + row] += weight * Int32(x.buffer[t * stride + column]) }
      }
    }
    for count in [1, 2, 3, 4, 5, 12, 13, 14, 15, 28, 33] {
      var out = [Int32](repeating: 0, count: tokens * 16)
      path.matmul(layout)(packed.pointer, 1, columns, x.pointer, stride, sums, count, &out, 16)
      #expect(out.prefix(16 * count) == expected.prefix(16 * count), "\(count) tokens")
    }
  }

  /// Extremes of the same sign in every column reach the bound of every partial sum; lengths lie on both sides of each fold of int16 sums: 64 steps of four
  /// columns on AVX2 (16 units of the fast layout, 12 of the small one), 128 on NEON (32 and 25), and of each panel (40 and 32).
  @Test(arguments: Path.all)
  func extremesAreExactOnBothSidesOfEveryFold(path: Path) {
    for layout in Layout.allCases {
      for units in [1, 2, 11, 12, 13, 15, 16, 17, 24, 25, 26, 31, 32, 33, 39, 40, 41, 63, 64, 65, 80, 81, 432] {
        let columns = layout.unit * units
        for value: Int8 in [-128, 127] {
          for weight: Int8 in [-1, 0, 1] {
            let product = Product(layout, rows: 17, columns: columns, tokens: 15, weight: { weight }, activation: { value })
            let expected = Int32(weight) * Int32(value) * Int32(columns)
            for tokens in [1, 3, 4, 5, 12, 13, 15] {
              let out = product.run(path, tokens: tokens)
              #expect((0..<tokens).allSatisfy { t in out[32 * t..<32 * t + 17].allSatisfy { $0 == expected } }, "\(layout) \(units) \(tokens)")
            }
          }
        }
      }
    }
  }

  /// 2^23 columns: |sum| = 2^30, and codes alone sum to 2^31, which must wrap and come back.
  @Test(arguments: Path.all.filter { $0.name != "scalar" }, Layout.allCases)
  func theLargestPromisedWidthIsExact(path: Path, layout: Layout) {
    let columns = (1 << 23) / layout.unit * layout.unit, stride = 1 << 23
    for (code, weight): (UInt8, Int32) in [(0x00, -1), (layout == .fast ? 0xaa : 242, 1)] {
      let packed = Aligned<UInt8>(count: columns / layout.unit * 64, repeating: code)
      for value: Int8 in [-128, 127] {
        let x = Aligned<Int8>(count: 15 * stride, repeating: value)
        let sums = [Int32](repeating: Int32(value) * Int32(columns), count: 15)
        for tokens in [1, 2, 4, 15] {
          var out = [Int32](repeating: 0, count: 15 * 16)
          path.matmul(layout)(packed.pointer, 1, columns, x.pointer, stride, sums, tokens, &out, 16)
          let expected = Int32(value) * Int32(columns) * weight
          #expect(out.prefix(16 * tokens).allSatisfy { $0 == expected })
        }
      }
    }
  }

  @Test(arguments: Path.all, Layout.allCases)
  func outputsAndInputsMayLieApart(path: Path, layout: Layout) {
    var random = SplitMix64(seed: 9)
    for tokens in [1, 5, 33] {
      let product = Product(
        layout, rows: 48, columns: 80, tokens: tokens, weight: { .random(in: -1...1, using: &random) },
        activation: { .random(in: -128...127, using: &random) })
      let expected = product.run(.scalar, tokens: tokens)
      let apart = Aligned<Int8>(count: (tokens - 1) * 320 + 80, repeating: 99)
      for t in 0..<tokens {
        for c in 0..<80 { apart.buffer[t * 320 + c] = product.activations.buffer[t * product.stride + c] }
      }
      var out = [Int32](repeating: -7, count: tokens * 53)
      path.matmul(layout)(product.packed.pointer, 3, 80, apart.pointer, 320, product.sums, tokens, &out, 53)
      for t in 0..<tokens {
        #expect(out[53 * t..<53 * t + 48] == expected[48 * t..<48 * t + 48])
        #expect(out[53 * t + 48..<53 * t + 53].allSatisfy { $0 == -7 })
      }
    }
  }

  @Test(arguments: Path.all, Layout.allCases)
  func noColumnsGiveZeros(path: Path, layout: Layout) {
    let none = Aligned<UInt8>(count: 0, repeating: 0), x = Aligned<Int8>(count: 0, repeating: 0)
    for tokens in [0, 1, 20] {
      var out = [Int32](repeating: 5, count: 20 * 32)
      path.matmul(layout)(none.pointer, 2, 0, x.pointer, 0, [Int32](repeating: 0, count: 20), tokens, &out, 32)
      #expect(out.prefix(32 * tokens).allSatisfy { $0 == 0 } && out.dropFirst(32 * tokens).allSatisfy { $0 == 5 })
    }
  }
}
