import CTernary
import Testing

/// The kernels of this processor, best first, by name.
struct Path: Sendable, CustomTestStringConvertible {
  var kernels: ct_kernels
  var name: String
  var testDescription: String { name }

  static var all: [Path] {
    var list = [UnsafePointer<ct_kernels>?](repeating: nil, count: Int(CT_KERNELS_MAX))
    let count = ct_available(&list, list.count)
    return list.prefix(count).compactMap { $0 }.map { Path(kernels: $0.pointee, name: String(cString: $0.pointee.name)) }
  }

  static var scalar: Path { Path(kernels: ct_scalar().pointee, name: "scalar") }
}

/// Random numbers that are the same in every run.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func floats(_ count: Int, in range: ClosedRange<Float> = -4...4) -> [Float] {
    (0..<count).map { _ in Float.random(in: range, using: &self) }
  }
}

/// Memory aligned to 64 bytes, as the kernels want weights and activations.
final class Aligned<Element: BitwiseCopyable> {
  let buffer: UnsafeMutableBufferPointer<Element>
  var pointer: UnsafeMutablePointer<Element> { buffer.baseAddress! }

  init(count: Int, repeating value: Element) {
    let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, count) * MemoryLayout<Element>.stride, alignment: 64)
    buffer = raw.bindMemory(to: Element.self)
    buffer.initialize(repeating: value)
  }

  deinit { UnsafeMutableRawBufferPointer(buffer).deallocate() }
}

/// A packed matrix and a batch of activations.
struct Product {
  let rows, columns, tokens: Int
  let weights: [Int8]  // [rows, columns]
  let packed: Aligned<UInt8>
  let activations: Aligned<Int8>  // [tokens, stride]
  let stride: Int
  var sums: [Int32]

  var rowBlocks: Int { (rows + 15) / 16 }
  var paddedColumns: Int { (columns + 15) / 16 * 16 }

  init(rows: Int, columns: Int, tokens: Int, weight: () -> Int8, activation: () -> Int8) {
    self.rows = rows
    self.columns = columns
    self.tokens = tokens
    weights = (0..<rows * columns).map { _ in weight() }
    packed = Aligned(count: ct_fast_bytes(rows, columns), repeating: 0)
    ct_fast_pack(weights, rows, columns, packed.pointer)
    stride = (columns + 63) / 64 * 64
    activations = Aligned(count: tokens * stride, repeating: 0)
    sums = []
    for t in 0..<tokens {
      var sum: Int32 = 0
      for c in 0..<columns {
        let value = activation()
        activations.buffer[t * stride + c] = value
        sum += Int32(value)
      }
      sums.append(sum)
    }
  }

  /// [tokens, 16 * rowBlocks], of the first `count` tokens; what was not written stays `untouched`.
  func run(_ path: Path, tokens count: Int, untouched: Int32 = 0) -> [Int32] {
    var out = [Int32](repeating: untouched, count: tokens * 16 * rowBlocks)
    path.kernels.fast_matmul(
      packed.pointer, rowBlocks, paddedColumns, activations.pointer, stride, sums, count, &out, 16 * rowBlocks)
    return out
  }
}
