/// How the weights of a matrix that is not ternary are stored.
public enum WeightStorage: String, Sendable, CaseIterable {
  /// Float32, row by row.
  case f32
  /// Bricks (docs/kernels.md) with the codes and scales of the GGUF type of that name.
  case q8_0, q4_0, mxfp4, iq4_nl

  /// Columns as stored: bricks have 32.
  public func paddedColumns(_ columns: Int) -> Int { self == .f32 ? columns : (columns + 31) / 32 * 32 }

  /// Bytes of a matrix. A block of 16 rows is groups of bricks, each a line of 64 bytes with their scales and then their codes.
  public func bytes(rows: Int, columns: Int) -> Int {
    let (bricks, codes) =
      switch self {
      case .f32: (0, 0)
      case .q8_0: (2, 512)
      case .q4_0, .iq4_nl: (2, 256)
      case .mxfp4: (4, 256)
      }
    guard bricks > 0 else { return rows * columns * 4 }
    let groups = (paddedColumns(columns) / 32 + bricks - 1) / bricks
    return (rows + 15) / 16 * groups * (64 + bricks * codes)
  }
}

/// How one expert lies in its record: gate, up and down, each at a multiple of 64 bytes, in whole pages.
public struct ExpertRecord: Sendable, Equatable {
  public let storage: WeightStorage
  public let hiddenSize: Int
  /// Neurons.
  public let expertSize: Int
  /// Where each matrix begins. Gate and up: expertSize by hiddenSize. Down: hiddenSize by expertSize.
  public let gateOffset = 0
  public let upOffset: Int
  public let downOffset: Int
  /// What is not padding.
  public let usedBytes: Int
  /// From one record to the next: a multiple of 4096.
  public let bytes: Int

  public init(_ storage: WeightStorage, hiddenSize: Int, expertSize: Int) {
    self.storage = storage
    self.hiddenSize = hiddenSize
    self.expertSize = expertSize
    func aligned(_ bytes: Int, _ to: Int) -> Int { (bytes + to - 1) / to * to }
    let wide = aligned(storage.bytes(rows: expertSize, columns: hiddenSize), 64)
    upOffset = wide
    downOffset = 2 * wide
    usedBytes = 2 * wide + aligned(storage.bytes(rows: hiddenSize, columns: expertSize), 64)
    bytes = aligned(usedBytes, 4096)
  }
}
