import CTernary
import TestSupport
import Testing

/// A matrix with a scale for each row and group of 128 columns, and a batch of activations quantised by groups.
private struct GroupedProduct {
  let layout: Layout
  let rows: Int, groups: Int, tokens: Int
  let weights: [Int8]  // [rows, groups * 128]
  let packed: Aligned<UInt8>
  let scales: Aligned<UInt16>  // [row blocks, groups, 16]
  let x: Aligned<Int8>, stride: Int
  var sums: Aligned<Int32>, xScales: Aligned<Float>  // [tokens, groups]

  var rowBlocks: Int { (rows + 15) / 16 }

  init(_ layout: Layout, rows: Int, groups: Int, tokens: Int, seed: UInt64, extreme: Bool = false) {
    var random = SplitMix64(seed: seed)
    self.layout = layout
    self.rows = rows
    self.groups = groups
    self.tokens = tokens
    let columns = groups * layout.groupColumns
    weights = (0..<rows * groups * 128).map { _ in extreme ? 1 : .random(in: -1...1, using: &random) }
    var spread = [Int8](repeating: 0, count: rows * columns)
    for row in 0..<rows {
      for c in 0..<groups * 128 { spread[row * columns + c / 128 * layout.groupColumns + c % 128] = weights[row * groups * 128 + c] }
    }
    packed = layout.packed(spread, rows: rows, columns: columns)
    scales = Aligned(count: (rows + 15) / 16 * groups * 16, repeating: 0)
    for i in 0..<scales.buffer.count { scales.buffer[i] = UInt16.random(in: 0...0x5000, using: &random) | UInt16(random.next() & 1) << 15 }
    stride = (columns + 63) / 64 * 64
    x = Aligned(count: (tokens - 1) * stride + columns, repeating: 0)
    sums = Aligned(count: tokens * groups, repeating: 0)
    xScales = Aligned(count: tokens * groups, repeating: 0)
    for t in 0..<tokens {
      let values = extreme ? [Float](repeating: -3, count: groups * 128) : random.floats(groups * 128)
      ct_scalar().pointee.quantize_groups(
        values, x.pointer + t * stride, groups * 128, layout.groupColumns, sums.pointer + t * groups, xScales.pointer + t * groups)
    }
  }

  /// [tokens, 16 * rowBlocks]; what was not written stays `untouched`.
  func run(_ path: Path, tokens count: Int, untouched: Float = 0) -> [UInt32] {
    var out = [Float](repeating: untouched, count: tokens * 16 * rowBlocks)
    (layout == .fast ? path.kernels.fast_grouped : path.kernels.small_grouped)(
      packed.pointer, scales.pointer, rowBlocks, groups, x.pointer, stride, sums.pointer, xScales.pointer, count, &out, 16 * rowBlocks)
    return out.map(\.bitPattern)
  }
}

@Suite struct GroupedTests {
  @Test(arguments: Layout.allCases)
  func theReferenceFollowsTheDefinition(layout: Layout) {
    let product = GroupedProduct(layout, rows: 21, groups: 3, tokens: 2, seed: 1)
    let out = product.run(.scalar, tokens: 2)
    for t in 0..<2 {
      for row in 0..<21 {
        var sum: Float = 0
        for g in 0..<3 {
          var dot: Int32 = 0
          for c in 0..<128 {
            dot += Int32(product.weights[row * 384 + 128 * g + c]) * Int32(product.x.buffer[t * product.stride + g * layout.groupColumns + c])
          }
          let scale = Float(Float16(bitPattern: product.scales.buffer[(row / 16 * 3 + g) * 16 + row % 16]))
          let product = Float(dot) * (scale * product.xScales.buffer[t * 3 + g])
          sum += product
        }
        #expect(out[t * 32 + row] == sum.bitPattern)
      }
    }
  }

  /// Groups of 2048, 2560, 6144 and 6912 columns, few ones, and those around a panel of five.
  @Test(arguments: Path.all, [0, 1, 2, 4, 5, 6, 10, 11, 16, 20, 48, 54])
  func everyPathGivesTheReferencesBitsForEveryNumberOfTokens(path: Path, groups: Int) {
    for layout in Layout.allCases {
      let product = GroupedProduct(layout, rows: 35, groups: groups, tokens: 33, seed: UInt64(groups))
      let expected = product.run(.scalar, tokens: 33)
      for tokens in 0...33 {
        let out = product.run(path, tokens: tokens, untouched: 77)
        let written = tokens * 48
        #expect(out[..<written] == expected[..<written], "\(layout) \(tokens)")
        #expect(out[written...].allSatisfy { $0 == Float(77).bitPattern })
      }
    }
  }

  @Test(arguments: Path.all)
  func extremesAndManyTokensAgree(path: Path) {
    for layout in Layout.allCases {
      let extreme = GroupedProduct(layout, rows: 48, groups: 7, tokens: 15, seed: 3, extreme: true)
      for tokens in [1, 4, 15] { #expect(extreme.run(path, tokens: tokens) == extreme.run(.scalar, tokens: tokens)) }
      let many = GroupedProduct(layout, rows: 16, groups: 54, tokens: 300, seed: 4)
      #expect(many.run(path, tokens: 300) == many.run(.scalar, tokens: 300))
    }
  }
}
