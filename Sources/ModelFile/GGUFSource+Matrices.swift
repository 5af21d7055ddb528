import Basics

extension GGUFSource {
  /// A matrix that is not ternary, checked, with the name of the tensor that it is read from.
  func sourceMatrix(_ planned: PlannedTensor) throws(SternaError) -> (matrix: SourceMatrix, name: String) {
    let place = try self.place(of: planned)
    let values = GGUFTensorValues(gguf: gguf, tensor: place.tensor)
    let width = place.tensor.shape[0]
    let matrix = SourceMatrix(columns: place.columns, order: place.order) { (first, out) throws(SternaError) in
      try values.floats(from: (place.firstRow + first) * width, into: out)
    }
    return (matrix, place.tensor.name)
  }

  package func storage(_ planned: PlannedTensor) throws(SternaError) -> WeightStorage? {
    let place = try self.place(of: planned)
    guard case .asIs = place.order else { return nil }
    switch place.tensor.type {
    case .q8_0: return .q8_0
    case .q4_0: return .q4_0
    case .mxfp4: return .mxfp4
    case .iq4_nl: return .iq4_nl
    default: return nil
    }
  }

  package func blocks(_ planned: PlannedTensor, rows: Range<Int>, into out: UnsafeMutableRawBufferPointer) throws(SternaError) {
    let place = try self.place(of: planned)
    let (values, bytes) = place.tensor.type.block
    let begin = (place.firstRow + rows.lowerBound) * place.columns / values * bytes
    let data = gguf.bytes(of: place.tensor)
    guard begin >= 0, out.count <= data.count - begin else { throw SternaError(.badFile, "does not hold so many values", at: self.place(place.tensor.name)) }
    out.copyMemory(from: UnsafeRawBufferPointer(rebasing: data[begin..<begin + out.count]))
    // Their scales must be numbers: the rest may be any bits.
    for block in stride(from: 0, to: out.count, by: bytes) {
      let bits = out.loadUnaligned(fromByteOffset: block, as: UInt16.self)
      guard place.tensor.type == .mxfp4 ? bits & 0xFF != 0xFF : bits & 0x7C00 != 0x7C00 else {
        throw SternaError(.badFile, "holds a scale that is not a finite number", at: self.place(place.tensor.name), found: "in rows from \(rows.lowerBound) on")
      }
    }
    place.tensor.file.release(place.tensor.offset + begin..<place.tensor.offset + begin + out.count)
  }

  private struct Place {
    let tensor: GGUFFile.Tensor
    /// Where the matrix begins in the tensor.
    let firstRow: Int
    let columns: Int
    let order: SourceMatrix.Order
  }

  /// Where a matrix that is not ternary lies.
  private func place(of planned: PlannedTensor) throws(SternaError) -> Place {
    guard case .block(let block, let part) = planned.part else { throw SternaError(.badFile, "not a matrix", at: planned.name) }
    let rows, columns, heads: Int
    switch planned.kind {
    case .router(let r, let c): (rows, columns, heads) = (r, c, 1)
    case .matrix(let r, let c, let h): (rows, columns, heads) = (r, c, h)
    default: throw SternaError(.badFile, "not a matrix", at: planned.name)
    }
    switch part {
    case .expert(let expert, _):
      let count = configuration.experts?.router.experts ?? 0
      return try found(planned.name, [columns, rows, count], firstRow: expert * rows, columns, .asIs)
    case .linear(let linear) where linear == .keyUp || linear == .valueUp:
      // Since engines keep the latent the two are apart, and in absorbed form.
      if gguf.tensor(planned.name) != nil { return try found(planned.name, [columns, rows / heads, heads], columns, .asIs) }
      let (order, shape) = configuration.latentOrder(linear, interleaves: interleaves)
      return try found("blk.\(block).attn_kv_b.weight", shape.reversed(), columns, order)
    case .linear(let linear):
      let isRotated = interleaves && configuration.latent == nil && (linear == .query || linear == .key)
      let order = isRotated ? .interleaved(head: configuration.headSize, first: 0) : configuration.latentOrder(linear, interleaves: interleaves).order
      return try found(planned.name, [columns, rows], columns, order)
    default: return try found(planned.name, [columns, rows], columns, .asIs)
    }
  }

  private func found(
    _ name: String, _ shape: [Int], firstRow: Int = 0, _ columns: Int, _ order: SourceMatrix.Order
  ) throws(SternaError) -> Place {
    Place(tensor: try tensor(name, shape, of: GGUFBlocks.matrixTypes), firstRow: firstRow, columns: columns, order: order)
  }

  /// Whether a tensor belongs to blocks behind the last that is run: heads for the prediction of several tokens.
  func isLeftOut(_ name: String) -> Bool {
    let parts = name.split(separator: ".")
    guard parts.count > 2, parts[0] == "blk", let block = Int(parts[1]) else { return false }
    return block >= configuration.blockCount && configuration.experts != nil
  }
}
