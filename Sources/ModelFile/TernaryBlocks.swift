import Basics

/// How bitnet.cpp's I2_S lies in bytes. It differs with the machine on which the file was made, and nothing in the file says which.
public enum I2SLayout: String, Sendable, CaseIterable {
  /// 128 weights in 32 bytes: byte j holds weights j, 32 + j, 64 + j and 96 + j, from the high bits down.
  case x86
  /// 64 weights in 16 bytes: byte j holds weights j, 16 + j, 32 + j and 48 + j, from the high bits down.
  case arm

  /// Bytes of a block, which holds four times as many weights.
  var blockBytes: Int { self == .x86 ? 32 : 16 }
}

/// A matrix in one of GGUF's ternary types: I2_S of bitnet.cpp, TQ1_0 and TQ2_0 of llama.cpp. Codes are weight + 1.
package struct TernaryBlocks {
  let gguf: GGUFFile
  let tensor: GGUFFile.Tensor
  let rows: Int
  let columns: Int
  let layout: I2SLayout

  package static let types: [GGUFTensorType] = [.i2_s, .tq1_0, .tq2_0]

  /// - Precondition: the tensor is of a type of `types` and of shape [columns, rows].
  package init(_ gguf: GGUFFile, _ tensor: GGUFFile.Tensor, rows: Int, columns: Int, layout: I2SLayout) throws(SternaError) {
    (self.gguf, self.tensor, self.rows, self.columns, self.layout) = (gguf, tensor, rows, columns, layout)
    let unit = tensor.type == .i2_s ? layout.blockBytes * 4 : 256
    guard columns % unit == 0 else {
      throw SternaError(
        .unsupported, "has rows that are no whole number of blocks", at: place, expected: "a multiple of \(unit) columns", found: "\(columns)")
    }
  }

  private var place: String { tensor.place }
  private var rowBytes: Int { tensor.type == .i2_s ? columns / 4 : columns / 256 * tensor.type.block.bytes }
  private var bytes: UnsafeRawBufferPointer { gguf.bytes(of: tensor) }

  /// Reads all scales, and finds the coarsest form that says the same.
  package func scale() throws(SternaError) -> TernaryRows.Scale {
    if tensor.type == .i2_s {
      let value = Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: rows * rowBytes, as: UInt32.self)))
      guard value.isFinite, value > 0 else {
        throw SternaError(.badFile, "is not a usable scale", at: place + ", scale", expected: "a positive number", found: "\(value)")
      }
      return .tensor(value)
    }
    var tensorScale: Float = 0
    var (byTensor, byRow) = (true, true)
    for row in 0..<rows {
      var rowScale: Float = 0
      for block in 0..<columns / 256 {
        let value = try blockScale(row, block)
        // A block of zeros fits every scale.
        if value == 0 { continue }
        byRow = byRow && (rowScale == 0 || value == rowScale)
        byTensor = byTensor && (tensorScale == 0 || value == tensorScale)
        if rowScale == 0 { rowScale = value }
        if tensorScale == 0 { tensorScale = value }
      }
    }
    if byTensor { return .tensor(tensorScale == 0 ? 1 : tensorScale) }
    return byRow ? .rows : .groups
  }

  /// The half-precision factor at the end of a block of 256; 0 where all its weights are zero.
  private func blockScale(_ row: Int, _ block: Int) throws(SternaError) -> Float {
    guard let base = bytes.baseAddress else { return 0 }
    let size = tensor.type.block.bytes
    let value = GGUFBlocks.half(base + row * rowBytes + (block + 1) * size - 2)
    guard value.isFinite, value >= 0 else {
      throw SternaError(
        .badFile, "is not a usable scale", at: place + ", row \(row), block \(block)", expected: "a positive number, or 0", found: "\(value)")
    }
    return value
  }

  /// - Parameter scale: what `scale()` found.
  package func ternaryRows(_ scale: TernaryRows.Scale) -> TernaryRows {
    TernaryRows(scale: scale) { (range, weights, scales) throws(SternaError) in
      guard let base = bytes.baseAddress else { return }
      for (i, row) in range.enumerated() {
        let (from, to) = (base + row * rowBytes, weights + i * columns)
        let isRight =
          switch tensor.type {
          case .i2_s: i2_s(from, to)
          case .tq1_0: (0..<columns / 256).allSatisfy { Self.tq1_0(from + $0 * 54, to + $0 * 256) }
          default: (0..<columns / 256).allSatisfy { Self.tq2_0(from + $0 * 66, to + $0 * 256) }
          }
        guard isRight else {
          throw SternaError(
            .badFile, "holds a code that stands for no weights", at: place + ", row \(row)",
            expected: tensor.type == .tq1_0 ? "bytes of five digits of base 3" : "codes 0, 1 and 2",
            remedy: "the file is damaged, or not what it says: copy or convert it again")
        }
        if tensor.type != .i2_s { try finish(row, to, scale, scales, i) }
      }
      let begin = tensor.offset + range.lowerBound * rowBytes
      tensor.file.release(begin..<begin + range.count * rowBytes)
    }
  }

  /// How many weights of each row and of each column are not zero.
  func liveWeights() throws(SternaError) -> (byRow: [Int], byColumn: [Int]) {
    var byRow = [Int](repeating: 0, count: rows)
    var byColumn = [Int](repeating: 0, count: columns)
    let matrix = ternaryRows(try scale())
    let chunk = max(1, (1 << 18) / columns)
    let weights = UnsafeMutablePointer<Int8>.allocate(capacity: chunk * columns)
    let scales = UnsafeMutablePointer<Float>.allocate(capacity: chunk * (columns / 128 + 1))
    defer {
      weights.deallocate()
      scales.deallocate()
    }
    for first in stride(from: 0, to: rows, by: chunk) {
      let range = first..<min(first + chunk, rows)
      try matrix.read(range, weights, scales)
      for row in range {
        for column in 0..<columns {
          let live = Int(weights[(row - first) * columns + column] & 1)  // -1 and 1 are odd
          byRow[row] += live
          byColumn[column] += live
        }
      }
    }
    return (byRow, byColumn)
  }

  /// Blocks whose factor is 0 are zeros whatever their codes say; and the scales that go with the row.
  private func finish(
    _ row: Int, _ weights: UnsafeMutablePointer<Int8>, _ scale: TernaryRows.Scale, _ scales: UnsafeMutablePointer<Float>, _ i: Int
  ) throws(SternaError) {
    let blocks = columns / 256
    var rowScale: Float = 0
    for block in 0..<blocks {
      let value = try blockScale(row, block)
      if value == 0 { (weights + block * 256).update(repeating: 0, count: 256) }
      if rowScale == 0 { rowScale = value }
      if scale == .groups {
        let group = scales + (i * blocks + block) * 2
        group[0] = value == 0 ? 1 : value
        group[1] = group[0]
      }
    }
    if scale == .rows { scales[i] = rowScale == 0 ? 1 : rowScale }
  }

  private func i2_s(_ from: UnsafeRawPointer, _ to: UnsafeMutablePointer<Int8>) -> Bool {
    let size = layout.blockBytes
    var worst: UInt8 = 0
    for block in 0..<columns / (4 * size) {
      for j in 0..<size {
        let byte = from.load(fromByteOffset: block * size + j, as: UInt8.self)
        for part in 0..<4 {
          let code = byte >> UInt8(6 - 2 * part) & 3
          worst = max(worst, code)
          to[block * 4 * size + part * size + j] = Int8(code) - 1
        }
      }
    }
    return worst < 3
  }

  /// A block of 256. 64 bytes and a factor: bits 2k of byte 32h + j hold weight 128h + 32k + j.
  static func tq2_0(_ from: UnsafeRawPointer, _ to: UnsafeMutablePointer<Int8>) -> Bool {
    var worst: UInt8 = 0
    for i in 0..<64 {
      let byte = from.load(fromByteOffset: i, as: UInt8.self)
      for part in 0..<4 {
        let code = byte >> UInt8(2 * part) & 3
        worst = max(worst, code)
        to[i / 32 * 128 + part * 32 + i % 32] = Int8(code) - 1
      }
    }
    return worst < 3
  }

  /// A block of 256. 32 bytes with weights 32k + j, 16 bytes with 160 + 16k + j (k 0...4), 4 bytes with 240 + 4k + j (k 0...3), and a factor. A byte is
  /// the number of its digits in base 3, k = 0 the highest, times 256 / 243, rounded up.
  static func tq1_0(_ from: UnsafeRawPointer, _ to: UnsafeMutablePointer<Int8>) -> Bool {
    for (first, count, weight, digits) in [(0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4)] {
      for j in 0..<count {
        let number = Int(numbers[Int(from.load(fromByteOffset: first + j, as: UInt8.self))])
        guard number >= 0, digits == 5 || number % 3 == 0 else { return false }
        for k in 0..<digits { to[weight + k * count + j] = Int8(number / powers[k] % 3 - 1) }
      }
    }
    return true
  }

  private static let powers = [81, 27, 9, 3, 1]
  /// The number that a byte of TQ1_0 stands for, -1 for the thirteen that stand for none.
  private static let numbers: [Int16] = {
    var numbers = [Int16](repeating: -1, count: 256)
    for number in 0..<243 { numbers[(number * 256 + 242) / 243] = Int16(number) }
    return numbers
  }()
}
