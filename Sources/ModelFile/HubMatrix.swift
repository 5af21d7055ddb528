import Basics

/// A float matrix of a hub folder, its rows in the order in which they are stored in a packed file.
struct HubMatrix {
  /// Rows and columns of a block of 8-bit floats that has one scale.
  static let blockSize = 128

  private let source: HubTensor
  /// [rows / 128, columns / 128], rounded up, where values are 8-bit floats.
  private let scales: HubTensor?
  private let columns: Int
  private let order: Order

  /// Which rows of the source are ours.
  enum Order {
    case asIs
    /// Heads of `head` rows, of which the rotated ones begin at `first` and lie in pairs: ours are all first ones of pairs, then all second ones.
    case interleaved(head: Int, first: Int)
    /// Of heads of `head` rows, those from `first` on, `count` of each.
    case part(head: Int, first: Int, count: Int)
    /// Of heads of `head` rows, the first `count`, and these transposed.
    case transposed(head: Int, count: Int)
  }

  init(_ source: HubTensor, scales: HubTensor?, columns: Int, order: Order) {
    self.source = source
    self.scales = scales
    self.columns = columns
    self.order = order
  }

  /// Some rows. [rows, columns]; where the source is transposed those are its columns.
  func floats(_ rows: Range<Int>, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    switch order {
    case .asIs: try read(rows, into: out)
    case .interleaved(let head, let first):
      let half = (head - first) / 2
      try readEach(rows, into: out) { row in
        let within = row % head
        return within < first ? row : row - within + first + (within - first) % half * 2 + (within - first) / half
      }
    case .part(let head, let first, let count): try readEach(rows, into: out) { $0 / count * head + first + $0 % count }
    case .transposed(let head, let count): try transposed(rows, head, count, into: out)
    }
  }

  private func readEach(_ rows: Range<Int>, into out: UnsafeMutableBufferPointer<Float>, from source: (Int) -> Int) throws(SternaError) {
    for (i, row) in rows.enumerated() {
      let from = source(row)
      try read(from..<from + 1, into: UnsafeMutableBufferPointer(rebasing: out[i * columns..<(i + 1) * columns]))
    }
  }

  /// Our rows are the source's columns, of one head after the other; our columns are `count` rows of the source.
  private func transposed(_ rows: Range<Int>, _ head: Int, _ count: Int, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    guard let rank = source.tensor.shape.last, rank > 0 else { return }
    let part = UnsafeMutableBufferPointer<Float>.allocate(capacity: count * rank)
    defer { part.deallocate() }
    var held = -1
    for (i, row) in rows.enumerated() {
      let index = row / rank
      if index != held {
        try read(index * head..<index * head + count, width: rank, into: part)
        held = index
      }
      for c in 0..<count { out[i * count + c] = part[c * rank + row % rank] }
    }
  }

  private func read(_ rows: Range<Int>, width: Int? = nil, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    let width = width ?? columns
    try source.floats(from: rows.lowerBound * width, into: out)
    guard let scales else { return }
    let across = (width + Self.blockSize - 1) / Self.blockSize
    let row = UnsafeMutableBufferPointer<Float>.allocate(capacity: across)
    defer { row.deallocate() }
    for (i, r) in rows.enumerated() {
      try scales.floats(from: r / Self.blockSize * across, into: row)
      for c in 0..<width { out[i * width + c] *= row[c / Self.blockSize] }
    }
  }
}

extension HubFolder {
  /// A matrix of the plan, checked.
  func matrix(_ planned: PlannedTensor) throws(SternaError) -> HubMatrix {
    let rows, columns: Int
    switch planned.kind {
    case .router(let r, let c), .matrix(let r, let c, _): (rows, columns) = (r, c)
    default: throw SternaError(.badFile, "not a matrix", at: planned.name)
    }
    let source = try required(hubName(planned.part))
    var shape = [rows, columns]
    var order = HubMatrix.Order.asIs
    if let latent = configuration.latent, case .block(_, .linear(let linear)) = planned.part {
      let head = latent.plainSize + latent.valueSize
      switch linear {
      case .query, .queryUp: if interleavesRope { order = .interleaved(head: configuration.headSize, first: latent.plainSize) }
      case .latent: if interleavesRope { order = .interleaved(head: rows, first: latent.rank) }
      case .keyUp: (shape, order) = ([configuration.queryHeads * head, latent.rank], .transposed(head: head, count: latent.plainSize))
      case .valueUp: (shape, order) = ([configuration.queryHeads * head, latent.rank], .part(head: head, first: latent.plainSize, count: latent.valueSize))
      default: break
      }
    }
    try source.require(shape: shape)
    var scales: HubTensor?
    if hasBlockScales, source.tensor.type == .f8e4m3 {
      let found = try required(hubName(planned.part) + "_scale_inv")
      try found.require(shape: shape.map { ($0 + HubMatrix.blockSize - 1) / HubMatrix.blockSize })
      try found.requireFloat()
      scales = found
    } else {
      try source.requireFloat()
    }
    return HubMatrix(source, scales: scales, columns: columns, order: order)
  }

  /// Whether a tensor belongs to a part of the checkpoint that is not run: heads for the prediction of several tokens, which are blocks behind the last,
  /// and towers for pictures.
  func isLeftOut(_ name: String) -> Bool {
    let parts = name.split(separator: ".")
    if parts.contains(where: { $0 == "mtp" || $0 == "visual" || $0.hasPrefix("vision_") }) { return true }
    guard parts.count > 2, parts[1] == "layers", let block = Int(parts[2]) else { return false }
    return block >= configuration.blockCount
  }
}
