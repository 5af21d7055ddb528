import Basics
import CTernary

/// Turns the rows of a ternary matrix into the bytes of a layout, block by block, and collects their scales for the scale tensor.
struct TernaryEncoder {
  let name: String
  let storage: MatrixStorage
  let columns: Int
  /// Scales so far: [rows] or [rows, groups].
  private var scales: [Float] = []

  init(_ name: String, _ storage: MatrixStorage, columns: Int) {
    self.name = name
    self.storage = storage
    self.columns = columns
  }

  /// The bytes of some rows, whole blocks of 16 except at the matrix's end: the layout of a matrix is that of its blocks, one behind the other.
  /// - Throws: `badFile` for a scale that is not finite or is negative.
  mutating func encode(_ buffer: borrowing RowBuffer, rows: Range<Int>) throws(SternaError) -> [UInt8] {
    for i in 0..<rows.count * buffer.scaleCount {
      let scale = buffer.scales[i]
      // An entirely zero group has no scale of its own, so zero is one too.
      guard scale.isFinite, scale >= 0 else {
        throw SternaError(.badFile, "a scale is not usable", at: place(rows.lowerBound + i / buffer.scaleCount, i % buffer.scaleCount), expected: "a positive number", found: "\(scale)")
      }
      scales.append(scale == 0 ? 0 : scale)  // no -0
    }
    guard storage.scaleKind == .groups, storage.layout.groupStride != 128 else { return pack(buffer.weights, rows.count, columns) }
    // Each group becomes whole units.
    let groups = columns / 128
    let stride = storage.layout.groupStride
    let padded = UnsafeMutablePointer<Int8>.allocate(capacity: rows.count * groups * stride)
    defer { padded.deallocate() }
    padded.initialize(repeating: 0, count: rows.count * groups * stride)
    for group in 0..<rows.count * groups { (padded + group * stride).update(from: buffer.weights + group * 128, count: 128) }
    return pack(padded, rows.count, groups * stride)
  }

  private func pack(_ weights: UnsafePointer<Int8>, _ rows: Int, _ columns: Int) -> [UInt8] {
    let count = storage.layout.bytes(rows: rows, columns: columns, grouped: false)
    return [UInt8](unsafeUninitializedCapacity: count) { out, initialised in
      if let base = out.baseAddress {
        switch storage.layout {
        case .fast: ct_fast_pack(weights, rows, columns, base)
        case .small: ct_small_pack(weights, rows, columns, base)
        }
      }
      initialised = count
    }
  }

  /// The bytes of the scale tensor, of all rows; those that pad the last block are zero.
  /// - Throws: `unsupported` for a scale of a group that half precision cannot hold exactly.
  func scaleBytes() throws(SternaError) -> [UInt8] {
    switch storage.scaleKind {
    case .tensor: return []
    case .rows:
      let padding = (16 - scales.count % 16) % 16
      return (scales + [Float](repeating: 0, count: padding)).withUnsafeBytes(Array.init)
    case .groups:
      let groups = columns / 128
      let rows = scales.count / groups
      var halves = [UInt16](repeating: 0, count: (rows + 15) / 16 * groups * 16)
      for row in 0..<rows {
        for group in 0..<groups {
          let scale = scales[row * groups + group]
          let half = Float16(scale)
          guard Float(half) == scale else {
            throw SternaError(
              .unsupported, "a scale has no exact half-precision value", at: place(row, group), found: "\(scale)",
              remedy: "only models whose group scales were trained in half precision can be packed without loss")
          }
          halves[(row / 16 * groups + group) * 16 + row % 16] = half.bitPattern.littleEndian
        }
      }
      return halves.withUnsafeBytes(Array.init)
    }
  }

  private func place(_ row: Int, _ group: Int) -> String {
    "tensor \(name), scale of row \(row)" + (storage.scaleKind == .groups ? ", group \(group)" : "")
  }
}
