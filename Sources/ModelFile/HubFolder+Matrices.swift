import Basics

extension HubFolder {
  /// Rows and columns of a block of 8-bit floats that has one scale.
  static let scaleBlock = 128

  /// A matrix of the plan, checked.
  func matrix(_ planned: PlannedTensor) throws(SternaError) -> SourceMatrix {
    let rows, columns: Int
    switch planned.kind {
    case .router(let r, let c), .matrix(let r, let c, _): (rows, columns) = (r, c)
    default: throw SternaError(.badFile, "not a matrix", at: planned.name)
    }
    var (order, shape) = (SourceMatrix.Order.asIs, [rows, columns])
    if case .block(_, .linear(let linear)) = planned.part { (order, shape) = configuration.latentOrder(linear, interleaves: interleavesRope) }
    if let found = try fp4(planned) {
      return SourceMatrix(columns: columns, order: order) { (first, out) throws(SternaError) in try found.floats(from: first, into: out) }
    }
    let source = try required(hubName(planned.part))
    try source.require(shape: shape)
    let width = shape[1]
    guard isQuantized, source.tensor.type == .f8e4m3 else {
      try source.requireFloat()
      return SourceMatrix(columns: columns, order: order) { (first, out) throws(SternaError) in try source.floats(from: first * width, into: out) }
    }
    let scales = try required(hubName(planned.part) + "_scale_inv")
    try scales.require(shape: shape.map { ($0 + Self.scaleBlock - 1) / Self.scaleBlock })
    try scales.requireScale()
    return SourceMatrix(columns: columns, order: order) { (first, out) throws(SternaError) in
      try source.floats(from: first * width, into: out)
      try Self.scale(out, from: first, width: width, scales)
    }
  }

  /// A matrix of the plan that is stored in 4-bit floats, checked; nil where it is not.
  func fp4(_ planned: PlannedTensor) throws(SternaError) -> HubFP4? {
    guard isQuantized, case .matrix(let rows, let columns, _) = planned.kind else { return nil }
    var (stored, width) = (rows, columns)
    if case .block(_, .linear(let linear)) = planned.part {
      let shape = configuration.latentOrder(linear, interleaves: interleavesRope).shape
      (stored, width) = (shape[0], shape[1])
    }
    return try HubFP4(self, hubName(planned.part), planned.part, experts: configuration.experts?.router.experts ?? 0, rows: stored, columns: width)
  }

  /// Multiplies rows with the scales of their blocks.
  private static func scale(_ out: UnsafeMutableBufferPointer<Float>, from first: Int, width: Int, _ scales: HubTensor) throws(SternaError) {
    let across = (width + scaleBlock - 1) / scaleBlock
    let factors = UnsafeMutableBufferPointer<Float>.allocate(capacity: across)
    defer { factors.deallocate() }
    for i in 0..<out.count / width {
      try scales.floats(from: (first + i) / scaleBlock * across, into: factors)
      for c in 0..<width { out[i * width + c] *= factors[c / scaleBlock] }
    }
  }

  /// Whether a tensor belongs to a part of the checkpoint that is not run: heads for the prediction of several tokens, which are blocks behind the last,
  /// towers for pictures, and what chooses the keys of sparse attention.
  func isLeftOut(_ name: String) -> Bool {
    let parts = name.split(separator: ".")
    if parts.contains(where: { $0 == "mtp" || $0 == "visual" || $0 == "indexer" || $0.hasPrefix("vision_") }) { return true }
    guard parts.count > 2, parts[1] == "layers", let block = Int(parts[2]) else { return false }
    return block >= configuration.blockCount
  }
}
