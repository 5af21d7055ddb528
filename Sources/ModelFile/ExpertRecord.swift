import CTernary

/// How the weights of a matrix that is not ternary are stored.
public enum WeightStorage: String, Sendable, CaseIterable {
  /// Float32, row by row.
  case f32
  /// Bricks (docs/kernels.md) with the codes and scales of the GGUF type of that name.
  case q8_0, q4_0, mxfp4, iq4_nl

  /// What the kernels call it; nil for `f32`.
  public var brickKind: ct_brick_kind? {
    switch self {
    case .f32: nil
    case .q8_0: CT_BRICK_Q8_0
    case .q4_0: CT_BRICK_Q4_0
    case .mxfp4: CT_BRICK_MXFP4
    case .iq4_nl: CT_BRICK_IQ4_NL
    }
  }

  /// Columns as stored: bricks have 32.
  public func paddedColumns(_ columns: Int) -> Int { self == .f32 ? columns : (columns + 31) / 32 * 32 }

  /// Bytes of a matrix.
  public func bytes(rows: Int, columns: Int) -> Int {
    brickKind.map { ct_brick_bytes($0, rows, paddedColumns(columns)) } ?? rows * columns * 4
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

  /// One matrix of a record.
  public func gate(_ record: UnsafeRawPointer) -> WeightMatrix { matrix(record + gateOffset, expertSize, hiddenSize) }
  public func up(_ record: UnsafeRawPointer) -> WeightMatrix { matrix(record + upOffset, expertSize, hiddenSize) }
  public func down(_ record: UnsafeRawPointer) -> WeightMatrix { matrix(record + downOffset, hiddenSize, expertSize) }

  private func matrix(_ base: UnsafeRawPointer, _ rows: Int, _ columns: Int) -> WeightMatrix {
    WeightMatrix(storage: storage, rows: rows, columns: columns, base: base)
  }
}
