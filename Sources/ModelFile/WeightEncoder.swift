import Basics
import CTernary

/// Turns rows of floats into the stored form of a matrix (`WeightStorage`), some blocks of 16 rows at a time.
struct WeightEncoder: ~Copyable {
  let storage: WeightStorage
  let columns: Int
  /// Rows that are encoded at a time: whole blocks of 16.
  let rows: Int
  private let values: UnsafeMutableBufferPointer<Float>
  /// Rows of GGUF blocks, from which bricks are laid.
  private let blocks: UnsafeMutableRawBufferPointer

  init(_ storage: WeightStorage, columns: Int, chunkValues: Int) {
    self.storage = storage
    self.columns = columns
    rows = max(1, chunkValues / columns / 16) * 16
    values = .allocate(capacity: rows * columns)
    blocks = .allocate(byteCount: max(1, rows * storage.paddedColumns(columns) / 32 * storage.blockBytes), alignment: 64)
  }

  deinit {
    values.deallocate()
    blocks.deallocate()
  }

  /// Reads some rows of a source and encodes them into `storage.bytes(rows: rows.count, columns: columns)` bytes; blocks of the same kind are taken over.
  func encode(_ source: some WeightSource, _ planned: PlannedTensor, rows: Range<Int>, into out: UnsafeMutableRawPointer) throws(SternaError) {
    if let kind = storage.brickKind, columns % 32 == 0, try source.storage(planned) == storage {
      let part = UnsafeMutableRawBufferPointer(rebasing: blocks[..<(rows.count * columns / 32 * storage.blockBytes)])
      try source.blocks(planned, rows: rows, into: part)
      if let start = part.baseAddress { ct_brick_pack(kind, start, rows.count, columns, out.assumingMemoryBound(to: UInt8.self)) }
      return
    }
    try source.floats(planned, rows: rows, into: UnsafeMutableBufferPointer(rebasing: values[..<(rows.count * columns)]))
    try encode(rows.count, into: out, at: "tensor \(planned.name), rows \(rows.lowerBound) to \(rows.upperBound - 1)")
  }

  /// Encodes the floats of `count` rows into `storage.bytes(rows: count, columns: columns)` bytes.
  /// - Throws: `unsupported` when a value does not fit.
  private func encode(_ count: Int, into out: UnsafeMutableRawPointer, at place: String) throws(SternaError) {
    guard let from = values.baseAddress, let block = blocks.baseAddress else { return }
    guard let kind = storage.brickKind else {
      out.copyMemory(from: from, byteCount: count * columns * 4)
      return
    }
    let perRow = storage.paddedColumns(columns) / 32
    var fits = true
    for row in 0..<count {
      for i in 0..<perRow {
        let to = block + (row * perRow + i) * storage.blockBytes
        let first = row * columns + i * 32
        if columns - i * 32 >= 32 {
          fits = storage.encode(from + first, to) && fits
        } else {
          withUnsafeTemporaryAllocation(of: Float.self, capacity: 32) { padded in
            for k in 0..<32 { padded[k] = k < columns - i * 32 ? from[first + k] : 0 }
            if let start = padded.baseAddress { fits = storage.encode(start, to) && fits }
          }
        }
      }
    }
    guard fits else {
      throw SternaError(.unsupported, "a value does not fit into \(storage.rawValue)", at: place, remedy: "store these weights as f32")
    }
    ct_brick_pack(kind, block, count, perRow * 32, out.assumingMemoryBound(to: UInt8.self))
  }
}

extension WeightStorage {
  /// Bytes of a GGUF block of 32 values.
  var blockBytes: Int {
    switch self {
    case .f32: 0
    case .q8_0: 34
    case .q4_0, .iq4_nl: 18
    case .mxfp4: 17
    }
  }

  /// One GGUF block of 32 values; false where their scale does not fit.
  fileprivate func encode(_ values: UnsafePointer<Float>, _ out: UnsafeMutableRawPointer) -> Bool {
    if self == .q8_0 || self == .q4_0, let scale = Self.ternaryScale(values) {
      for i in 0..<32 {
        let weight: Int8 = values[i] > 0 ? 1 : values[i] < 0 ? -1 : 0
        if self == .q8_0 { out.storeBytes(of: weight, toByteOffset: 2 + i, as: Int8.self) }
      }
      if self == .q4_0 {
        func code(_ value: Float) -> UInt8 { value > 0 ? 9 : value < 0 ? 7 : 8 }
        for i in 0..<16 { out.storeBytes(of: code(values[i]) | code(values[16 + i]) << 4, toByteOffset: 2 + i, as: UInt8.self) }
      }
      return RowEncoder.put(scale, out)
    }
    return switch self {
    case .f32: false
    case .q8_0: RowEncoder.q8(values, out)
    case .iq4_nl: RowEncoder.q4(values, out)
    case .q4_0: Self.q4_0(values, out)
    case .mxfp4: Self.mxfp4(values, out)
    }
  }

  /// The s of values that are all -s, 0 or s, where half precision holds it: ternary weights lose nothing in blocks that have a factor and small integers.
  private static func ternaryScale(_ values: UnsafePointer<Float>) -> Float? {
    var largest: Float = 0
    for i in 0..<32 { largest = max(largest, abs(values[i])) }
    guard largest > 0, Float(Float16(largest)) == largest else { return nil }
    for i in 0..<32 where values[i] != 0 && abs(values[i]) != largest { return nil }
    return largest
  }

  /// Half d, 16 bytes: value = d * (code - 8), the code in the low halves of the bytes for the first 16 values. The value of the largest magnitude gets -8.
  private static func q4_0(_ values: UnsafePointer<Float>, _ out: UnsafeMutableRawPointer) -> Bool {
    var largest: Float = 0
    for i in 0..<32 where abs(values[i]) > abs(largest) { largest = values[i] }
    let d = largest / -8
    let inverse = d != 0 ? 1 / d : 0
    // A d so small that its inverse is infinite counts as zero: the half-precision d is zero then anyway.
    let factor = inverse.isFinite ? inverse : 0
    func code(_ value: Float) -> UInt8 { UInt8(min(max(value * factor + 8.5, 0), 15)) }
    for i in 0..<16 { out.storeBytes(of: code(values[i]) | code(values[16 + i]) << 4, toByteOffset: 2 + i, as: UInt8.self) }
    return RowEncoder.put(d, out)
  }

  /// A power of two, 2^(e - 127), and 16 bytes of 4-bit floats (OCP microscaling): 0, 0.5, 1, 1.5, 2, 3, 4, 6, and negative from code 8 on.
  private static func mxfp4(_ values: UnsafePointer<Float>, _ out: UnsafeMutableRawPointer) -> Bool {
    var largest: Float = 0
    for i in 0..<32 { largest = max(largest, abs(values[i])) }
    // The largest value gets the exponent of 4 or 6.
    let exponent = largest > 0 ? min(max(Int(largest.exponent) - 2 + 127, 0), 254) : 0
    let scale = Float(sign: .plus, exponent: exponent - 127, significand: 1)
    func code(_ value: Float) -> UInt8 {
      let x = abs(value) / scale
      // Halfway to the next, ties to the even code.
      let magnitude: UInt8 = x <= 0.25 ? 0 : x < 0.75 ? 1 : x <= 1.25 ? 2 : x < 1.75 ? 3 : x <= 2.5 ? 4 : x < 3.5 ? 5 : x <= 5 ? 6 : 7
      return value < 0 ? magnitude | 8 : magnitude
    }
    out.storeBytes(of: UInt8(exponent), as: UInt8.self)
    for i in 0..<16 { out.storeBytes(of: code(values[i]) | code(values[16 + i]) << 4, toByteOffset: 1 + i, as: UInt8.self) }
    return true
  }
}
