import Basics

/// A float matrix of a source, its rows in the order in which they are stored in a packed file.
struct SourceMatrix {
  /// Which rows of the source are ours.
  enum Order {
    case asIs
    /// Heads of `head` rows, of which the rotated ones begin at `first` and lie in pairs: ours are all first ones of pairs, then all second ones.
    case interleaved(head: Int, first: Int)
    /// Of heads of `head` rows, those from `first` on, `count` of each.
    case part(head: Int, first: Int, count: Int)
    /// Of heads of `head` rows of `width` columns, the first `count`, and these transposed.
    case transposed(head: Int, count: Int, width: Int)
  }

  let columns: Int
  let order: Order
  /// Reads whole rows of the source from one on: as many as there is room for.
  let read: (_ first: Int, _ into: UnsafeMutableBufferPointer<Float>) throws(SternaError) -> Void

  /// Some rows. [rows, columns]
  func floats(_ rows: Range<Int>, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    switch order {
    case .asIs: try read(rows.lowerBound, out)
    case .interleaved(let head, let first):
      let half = (head - first) / 2
      try readEach(rows, into: out) { row in
        let within = row % head
        return within < first ? row : row - within + first + (within - first) % half * 2 + (within - first) / half
      }
    case .part(let head, let first, let count): try readEach(rows, into: out) { $0 / count * head + first + $0 % count }
    case .transposed(let head, let count, let width): try transposed(rows, head, count, width, into: out)
    }
  }

  private func readEach(_ rows: Range<Int>, into out: UnsafeMutableBufferPointer<Float>, from source: (Int) -> Int) throws(SternaError) {
    for (i, row) in rows.enumerated() { try read(source(row), UnsafeMutableBufferPointer(rebasing: out[i * columns..<(i + 1) * columns])) }
  }

  /// Our rows are the source's columns, of one head after the other; our columns are `count` rows of the source.
  private func transposed(_ rows: Range<Int>, _ head: Int, _ count: Int, _ width: Int, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    let part = UnsafeMutableBufferPointer<Float>.allocate(capacity: count * width)
    defer { part.deallocate() }
    var held = -1
    for (i, row) in rows.enumerated() {
      if row / width != held {
        held = row / width
        try read(held * head, part)
      }
      for c in 0..<count { out[i * count + c] = part[c * width + row % width] }
    }
  }
}

extension ModelConfiguration {
  /// How the matrices of latent attention lie in sources where one matrix makes keys and values of latents, and what shape they have there.
  /// - Parameter interleaves: whether rotated pairs lie side by side.
  func latentOrder(_ linear: Linear, interleaves: Bool) -> (order: SourceMatrix.Order, shape: [Int]) {
    let (rows, columns) = linear.shape(self)
    guard let latent else { return (.asIs, [rows, columns]) }
    let head = latent.plainSize + latent.valueSize
    switch linear {
    case .query where interleaves, .queryUp where interleaves: return (.interleaved(head: headSize, first: latent.plainSize), [rows, columns])
    case .latent where interleaves: return (.interleaved(head: rows, first: latent.rank), [rows, columns])
    case .keyUp: return (.transposed(head: head, count: latent.plainSize, width: latent.rank), [queryHeads * head, latent.rank])
    case .valueUp: return (.part(head: head, first: latent.plainSize, count: latent.valueSize), [queryHeads * head, latent.rank])
    default: return (.asIs, [rows, columns])
    }
  }
}
