import CTernary
import Foundation
import TestSupport
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

extension SplitMix64 {
  mutating func floats(_ count: Int, in range: ClosedRange<Float> = -4...4) -> [Float] {
    (0..<count).map { _ in Float.random(in: range, using: &self) }
  }
}

/// Memory aligned to 64 bytes, as the kernels want weights and activations, that ends (but for the alignment) where reading ends the process.
final class Aligned<Element: BitwiseCopyable> {
  let buffer: UnsafeMutableBufferPointer<Element>
  var pointer: UnsafeMutablePointer<Element> { buffer.baseAddress! }
  private let pages: UnsafeMutableRawBufferPointer

  init(count: Int, repeating value: Element) {
    let bytes = count * MemoryLayout<Element>.stride, page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let whole = (bytes + 64 + page - 1) / page * page
    let start = mmap(nil, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    precondition(start != nil && start != MAP_FAILED && mprotect(start! + whole, page, PROT_NONE) == 0)
    pages = UnsafeMutableRawBufferPointer(start: start, count: whole + page)
    let first = (start! + (whole - bytes) / 64 * 64).bindMemory(to: Element.self, capacity: max(1, count))
    buffer = UnsafeMutableBufferPointer(start: first, count: count)
    buffer.initialize(repeating: value)
  }

  deinit { munmap(pages.baseAddress, pages.count) }
}

enum Layout: String, CaseIterable, CustomTestStringConvertible {
  case fast, small

  var testDescription: String { rawValue }
  /// Columns of a unit.
  var unit: Int { self == .fast ? 16 : 20 }
  /// Columns that a group of 128 takes.
  var groupColumns: Int { self == .fast ? 128 : 140 }
  /// All bytes that may occur.
  var bytes: [UInt8] { self == .fast ? (0...255).filter { $0 & $0 >> 1 & 0x55 == 0 } : Array(0...242) }

  func packed(_ weights: [Int8], rows: Int, columns: Int) -> Aligned<UInt8> {
    let packed = Aligned<UInt8>(count: self == .fast ? ct_fast_bytes(rows, columns) : ct_small_bytes(rows, columns), repeating: 0xff)
    if self == .fast { ct_fast_pack(weights, rows, columns, packed.pointer) } else { ct_small_pack(weights, rows, columns, packed.pointer) }
    return packed
  }
}

extension Path {
  func matmul(_ layout: Layout) -> @convention(c) (
    UnsafePointer<UInt8>, Int, Int, UnsafePointer<Int8>, Int, UnsafePointer<Int32>, Int, UnsafeMutablePointer<Int32>, Int
  ) -> Void {
    layout == .fast ? kernels.fast_matmul : kernels.small_matmul
  }
}

/// A packed matrix and a batch of activations.
struct Product {
  let layout: Layout
  let rows, columns, tokens: Int
  let weights: [Int8]  // [rows, columns]
  let packed: Aligned<UInt8>
  let activations: Aligned<Int8>  // [tokens, stride], the last row without what lies between its columns and the stride
  let stride: Int
  var sums: [Int32]

  var rowBlocks: Int { (rows + 15) / 16 }
  var paddedColumns: Int { (columns + layout.unit - 1) / layout.unit * layout.unit }

  init(_ layout: Layout, rows: Int, columns: Int, tokens: Int, weight: () -> Int8, activation: () -> Int8) {
    self.layout = layout
    self.rows = rows
    self.columns = columns
    self.tokens = tokens
    weights = (0..<rows * columns).map { _ in weight() }
    packed = layout.packed(weights, rows: rows, columns: columns)
    let padded = (columns + layout.unit - 1) / layout.unit * layout.unit
    stride = (padded + 63) / 64 * 64
    activations = Aligned(count: (tokens - 1) * stride + padded, repeating: 0)
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
    path.matmul(layout)(packed.pointer, rowBlocks, paddedColumns, activations.pointer, stride, sums, count, &out, 16 * rowBlocks)
    return out
  }
}
