import Basics

/// Turns float32 rows into the stored form of an embedding.
struct RowEncoder {
  let storage: EmbeddingTable.Storage
  let columns: Int

  /// - Throws: `badField` when a value does not fit into half precision.
  func encode(_ values: UnsafeBufferPointer<Float>, into out: inout [UInt8], at place: String) throws(SternaError) {
    out.removeAll(keepingCapacity: true)
    switch storage {
    case .f32: out.append(contentsOf: UnsafeRawBufferPointer(values))
    case .f16:
      for value in values { try put(Float16(value), of: value, &out, place) }
    case .q6, .q4: throw SternaError(.unsupported, "this storage is not written yet", at: place)
    case .q8:
      for block in 0..<values.count / 32 { try q8(UnsafeBufferPointer(rebasing: values[block * 32..<block * 32 + 32]), &out, place) }
    }
  }

  /// As ggml does it: d = absmax / 127, q = value * (1 / d) rounded half away from zero, d kept in half precision.
  private func q8(_ values: UnsafeBufferPointer<Float>, _ out: inout [UInt8], _ place: String) throws(SternaError) {
    var largest: Float = 0
    for value in values { largest = max(largest, abs(value)) }
    let d = largest / 127
    let inverse = d > 0 ? 1 / d : 0
    try put(Float16(d), of: d, &out, place)
    // A d so small that its inverse is infinite counts as zero: the half-precision d is zero then anyway.
    let factor = inverse.isFinite ? inverse : 0
    for value in values { out.append(UInt8(bitPattern: Int8(min(max((value * factor).rounded(.toNearestOrAwayFromZero), -127), 127)))) }
  }

  private func put(_ half: Float16, of value: Float, _ out: inout [UInt8], _ place: String) throws(SternaError) {
    guard half.isFinite else {
      throw SternaError(.unsupported, "a value does not fit into half precision", at: place, found: "\(value)", remedy: "store the embedding as f32")
    }
    out.append(UInt8(truncatingIfNeeded: half.bitPattern))
    out.append(UInt8(truncatingIfNeeded: half.bitPattern >> 8))
  }
}
