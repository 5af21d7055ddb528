import Basics

/// A matrix of a hub folder in 4-bit floats with a power of two for each 32 of a row (OCP microscaling, MXFP4). A byte holds the values of two columns, the first in its low
/// half. Who writes them agrees on the bytes and not on the names:
///
///     NAME.weight         NAME.weight_scale                U8 [rows, columns / 2]     U8 [rows, columns / 32]        Quark
///     NAME.weight         NAME.scale                       I8                         F8_E8M0                        DeepSeek
///     NAME.weight_packed  NAME.weight_scale                U8                         U8                             compressed-tensors
///     experts.down_proj_blocks     experts.down_proj_scales      U8 [experts, rows, columns / 32, 16]    U8 [experts, rows, columns / 32]      gpt-oss
///     experts.gate_up_proj_blocks  experts.gate_up_proj_scales   the same, with rows of gate and up in turns
struct HubFP4 {
  private let codes: HubTensor
  private let scales: HubTensor
  private let columns: Int
  /// Where the first row lies in the tensor, and how far the next one is.
  private let first: Int
  private let step: Int

  /// - Parameter name: of the matrix as floats.
  /// - Returns: nil where it is not stored so.
  /// - Throws: where it is, but not all is there in the shapes that belong to it.
  init?(_ folder: HubFolder, _ name: String, _ part: ModelPart, experts: Int, rows: Int, columns: Int) throws(SternaError) {
    self.columns = columns
    let base = name.hasSuffix(".weight") ? String(name.dropLast(".weight".count)) : name
    var expected: (codes: [[Int]], scales: [Int]) = ([[rows, columns / 2]], [rows, columns / 32])
    if let found = folder.tensor(name), found.tensor.type == .u8 || found.tensor.type == .i8 {
      codes = found
      scales = if let scale = folder.tensor(base + ".scale") { scale } else { try folder.required(name + "_scale") }
      (first, step) = (0, 1)
    } else if let found = folder.tensor(name + "_packed") {
      codes = found
      scales = try folder.required(name + "_scale")
      (first, step) = (0, 1)
    } else if case .block(_, .expert(let expert, let linear)) = part, let all = name.firstRange(of: ".experts.") {
      let both = linear == .down ? "down_proj" : "gate_up_proj"
      let place = name[..<all.upperBound] + both
      guard let found = folder.tensor(place + "_blocks") else { return nil }
      codes = found
      scales = try folder.required(place + "_scales")
      step = linear == .down ? 1 : 2
      first = expert * rows * step + (linear == .up ? 1 : 0)
      expected = ([[experts, rows * step, columns / 32, 16], [experts, rows * step, columns / 2]], [experts, rows * step, columns / 32])
    } else {
      return nil
    }
    guard columns % 32 == 0 else {
      throw codes.error("4-bit floats need rows of a multiple of 32 values", found: "\(columns)", code: .unsupported)
    }
    guard codes.tensor.type == .u8 || codes.tensor.type == .i8, expected.codes.contains(codes.tensor.shape) else {
      throw codes.error(
        "is not a matrix of 4-bit floats with a scale for each 32", expected: "U8 \(expected.codes[0])", found: "\(codes.tensor.type.rawValue) \(codes.tensor.shape)", code: .unsupported)
    }
    guard scales.tensor.type == .u8 || scales.tensor.type == .f8e8m0, scales.tensor.shape == expected.scales else {
      throw scales.error(
        "is no scale for each 32 values", expected: "U8 or F8_E8M0 \(expected.scales)", found: "\(scales.tensor.type.rawValue) \(scales.tensor.shape)", code: .unsupported,
        remedy: "other formats of 4 bits are not read: take the model in bf16, fp8 or mxfp4")
    }
  }

  /// Rows from one on, as GGUF's blocks of MXFP4: as many as there is room for.
  func blocks(from row: Int, into out: UnsafeMutableRawBufferPointer) throws(SternaError) {
    guard let codeBytes = codes.start, let scaleBytes = scales.start, let to = out.baseAddress else { return }
    let across = columns / 32
    for i in 0..<out.count / (17 * across) {
      let place = first + (row + i) * step
      for block in 0..<across {
        let scale = scaleBytes.load(fromByteOffset: place * across + block, as: UInt8.self)
        guard scale != 255 else { throw scales.error("holds a scale that is not a number", found: "255 in row \(row + i)") }
        let (from, target) = (codeBytes + (place * across + block) * 16, to + (i * across + block) * 17)
        target.storeBytes(of: scale, as: UInt8.self)
        // GGUF has values k and 16 + k in a byte.
        for k in 0..<16 {
          let (low, high) = (from.load(fromByteOffset: k / 2, as: UInt8.self), from.load(fromByteOffset: 8 + k / 2, as: UInt8.self))
          target.storeBytes(of: k % 2 == 0 ? low & 15 | high << 4 : low >> 4 | high & 0xF0, toByteOffset: 1 + k, as: UInt8.self)
        }
      }
    }
    let read = codes.tensor.bytes.lowerBound + (first + row * step) * across * 16
    codes.file.release(read..<read + out.count / 17 * 16 * step)
  }

  /// The values of rows from one on: as many as there is room for.
  func floats(from row: Int, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    let blocks = UnsafeMutableRawBufferPointer.allocate(byteCount: out.count / 32 * 17, alignment: 16)
    defer { blocks.deallocate() }
    try self.blocks(from: row, into: blocks)
    guard let from = blocks.baseAddress, let to = out.baseAddress else { return }
    GGUFBlocks.floats(.mxfp4, from: from, blocks: out.count / 32, into: to)
  }
}
