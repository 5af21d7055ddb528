import CTernary

/// What the data of a tensor must be like, beyond its checksum: a packer with an error, or a file made by hand, has right checksums over
/// wrong values.
struct TensorCheck {
  private let type: GGUFTensorType
  /// Where the tensor holds ternary codes.
  private let layout: TernaryMatrix.Layout?
  private let isScale: Bool

  init(_ type: GGUFTensorType, layout: TernaryMatrix.Layout?, isScale: Bool) {
    self.type = type
    self.layout = layout
    self.isScale = isScale
  }

  /// About 4 MiB of whole blocks.
  var stepBytes: Int { (4 << 20) / type.block.bytes * type.block.bytes }

  /// The first wrong value of some whole blocks.
  func firstError(_ bytes: UnsafeRawBufferPointer) -> (offset: Int, message: String, found: String?)? {
    guard let base = bytes.baseAddress else { return nil }
    if let layout {
      let codes = base.assumingMemoryBound(to: UInt8.self)
      let bad = layout == .fast ? ct_fast_validate(codes, bytes.count) : ct_small_validate(codes, bytes.count)
      guard bad >= 0 else { return nil }
      return (bad, layout == .fast ? "holds a code that is not 0, 1 or 2" : "holds a byte above 242, which stands for no five weights", "\(codes[bad])")
    }
    switch type {
    case .f32:
      for at in stride(from: 0, to: bytes.count, by: 4) {
        if let wrong = error(bytes.load(fromByteOffset: at, as: Float.self), at: at) { return wrong }
      }
    case .f16: return halves(bytes, stride: 2, first: 0)
    case .q8_0, .iq4_nl: return halves(bytes, stride: type.block.bytes, first: 0)
    case .q6_K: return halves(bytes, stride: type.block.bytes, first: 208)
    default: break
    }
    return nil
  }

  private func halves(_ bytes: UnsafeRawBufferPointer, stride step: Int, first: Int) -> (offset: Int, message: String, found: String?)? {
    for at in stride(from: first, to: bytes.count, by: step) {
      let bits = bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self)
      // An exponent of all ones: infinity or NaN. The sign bit: negative, or -0.
      guard bits & 0x7C00 == 0x7C00 || (isScale && bits & 0x8000 != 0) else { continue }
      return error(Float(Float16(bitPattern: bits)), at: at)
    }
    return nil
  }

  private func error(_ value: Float, at offset: Int) -> (offset: Int, message: String, found: String?)? {
    if !value.isFinite { return (offset, "holds a value that is not a finite number", "\(value)") }
    return isScale && value.sign == .minus ? (offset, "holds a scale that is negative", "\(value)") : nil
  }
}
