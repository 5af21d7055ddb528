// What a model *weighs*: views of a mapped file, in the form in which kernels read them. They own nothing: the `PackedModel` that
// made them must outlive them.

/// Float32 values in a mapped file.
// @unchecked: the pointer is to read-only mapped memory, which nobody writes.
public struct FloatVector: @unchecked Sendable, Equatable {
  public let pointer: UnsafePointer<Float>
  public let count: Int

  public init(pointer: UnsafePointer<Float>, count: Int) {
    self.pointer = pointer
    self.count = count
  }
}

/// Half-precision values in a mapped file.
// @unchecked: the pointer is to read-only mapped memory, which nobody writes.
public struct HalfVector: @unchecked Sendable, Equatable {
  public let pointer: UnsafePointer<UInt16>
  public let count: Int

  public init(pointer: UnsafePointer<UInt16>, count: Int) {
    self.pointer = pointer
    self.count = count
  }
}

/// A linear layer with weights in {-1, 0, 1}: y[row] = scale * sum over columns of weight[row][column] * x[column].
// @unchecked: the pointer is to read-only mapped memory, which nobody writes.
public struct TernaryMatrix: @unchecked Sendable {
  /// How the codes lie; docs/format.md describes each to the bit.
  public enum Layout: String, Sendable, CaseIterable {
    /// 2 bits a weight in units of 16 rows by 16 columns.
    case fast
    /// 1.6 bits a weight in units of 16 rows by 20 columns.
    case small

    /// Columns of a unit of 64 bytes.
    public var unitColumns: Int { self == .fast ? 16 : 20 }

    /// Columns as stored where there is a scale for each group of 128: whole units.
    public var groupStride: Int { self == .fast ? 128 : 140 }

    /// Columns as stored: whole units, in each group of 128 where `grouped`.
    public func paddedColumns(_ columns: Int, grouped: Bool) -> Int {
      grouped ? columns / 128 * groupStride : (columns + unitColumns - 1) / unitColumns * unitColumns
    }

    /// Bytes of a matrix in this layout, paddings included.
    public func bytes(rows: Int, columns: Int, grouped: Bool) -> Int {
      (rows + 15) / 16 * (paddedColumns(columns, grouped: grouped) / unitColumns) * 64
    }
  }

  /// What the integer product is multiplied by.
  public enum Scale: Sendable, Equatable {
    /// One factor for the whole matrix.
    case tensor(Float)
    /// A factor for each row. [paddedRows]
    case rows(FloatVector)
    /// A factor for each row and 128 columns, half precision. [rowBlocks, groups, 16 rows]
    case groups(HalfVector)
  }

  public let layout: Layout
  /// Rows are outputs, columns inputs, without padding.
  public let rows: Int
  public let columns: Int
  /// 64-byte aligned; `layout.bytes(rows:columns:)` bytes.
  public let codes: UnsafePointer<UInt8>
  /// y = (integer dot product) * scale / s, where s = 127 / absmax of the activations.
  public let scale: Scale
  /// An RMS norm over the inputs, before they are quantised (`use_rms_norm`). `columns` values.
  public let inputNorm: FloatVector?

  /// Rows as stored: a multiple of 16, those beyond `rows` all zero weights.
  public var paddedRows: Int { (rows + 15) / 16 * 16 }
  /// Columns as stored: whole units, those beyond `columns` (of a group) all zero weights.
  public var paddedColumns: Int { layout.paddedColumns(columns, grouped: isGrouped) }
  public var isGrouped: Bool { if case .groups = scale { true } else { false } }
  public var bytes: Int { layout.bytes(rows: rows, columns: columns, grouped: isGrouped) }

  public init(layout: Layout, rows: Int, columns: Int, codes: UnsafePointer<UInt8>, scale: Scale, inputNorm: FloatVector? = nil) {
    self.layout = layout
    self.rows = rows
    self.columns = columns
    self.codes = codes
    self.scale = scale
    self.inputNorm = inputNorm
  }
}

/// One row of `columns` values for every token: the embedding, or a head of its own.
// @unchecked: the pointer is to read-only mapped memory, which nobody writes.
public struct EmbeddingTable: @unchecked Sendable {
  /// How a value is stored.
  public enum Storage: String, Sendable, CaseIterable {
    case f32, f16
    /// GGUF Q8_0: blocks of 32 values in 34 bytes, a half-precision factor d and 32 int8; value = d * q.
    case q8
    /// GGUF Q6_K: superblocks of 256 values in 210 bytes.
    case q6
    /// GGUF IQ4_NL: blocks of 32 values in 18 bytes, a half-precision factor and 4-bit indices into 16 fixed values.
    case q4

    /// Values of a block: `columns` must be a multiple of it.
    public var blockValues: Int {
      switch self {
      case .f32, .f16: 1
      case .q8, .q4: 32
      case .q6: 256
      }
    }

    /// Bytes of a row.
    public func rowBytes(columns: Int) -> Int {
      switch self {
      case .f32: columns * 4
      case .f16: columns * 2
      case .q8: columns / 32 * 34
      case .q6: columns / 256 * 210
      case .q4: columns / 32 * 18
      }
    }
  }

  public let storage: Storage
  public let rows: Int
  public let columns: Int
  public let base: UnsafeRawPointer
  /// Where the table begins in the file, for readers that do not want it mapped.
  public let fileOffset: Int
  public var rowBytes: Int { storage.rowBytes(columns: columns) }
  public var bytes: Int { rows * rowBytes }

  public init(storage: Storage, rows: Int, columns: Int, base: UnsafeRawPointer, fileOffset: Int) {
    self.storage = storage
    self.rows = rows
    self.columns = columns
    self.base = base
    self.fileOffset = fileOffset
  }

  /// Where the row of a token begins. `row` must be below `rows`: callers check token ids before they get here.
  public func pointer(_ row: Int) -> UnsafeRawPointer {
    precondition(row >= 0 && row < rows, "row outside the embedding")
    return base + row * rowBytes
  }
}

/// A matrix that is not ternary.
// @unchecked: the pointer is to read-only memory, which nobody writes.
public struct WeightMatrix: @unchecked Sendable {
  public let storage: WeightStorage
  /// Of all heads together.
  public let rows: Int
  public let columns: Int
  /// Equal parts of the rows, each stored as a matrix of its own.
  public let heads: Int
  /// 64-byte aligned.
  public let base: UnsafeRawPointer

  public init(storage: WeightStorage, rows: Int, columns: Int, heads: Int = 1, base: UnsafeRawPointer) {
    self.storage = storage
    self.rows = rows
    self.columns = columns
    self.heads = heads
    self.base = base
  }

  /// The matrix of one head.
  public func head(_ head: Int) -> WeightMatrix {
    WeightMatrix(
      storage: storage, rows: rows / heads, columns: columns, base: base + head * storage.bytes(rows: rows / heads, columns: columns))
  }
}

/// A linear layer.
public enum Matrix: Sendable {
  case ternary(TernaryMatrix)
  case weights(WeightMatrix)

  public var rows: Int {
    switch self {
    case .ternary(let matrix): matrix.rows
    case .weights(let matrix): matrix.rows
    }
  }

  public var columns: Int {
    switch self {
    case .ternary(let matrix): matrix.columns
    case .weights(let matrix): matrix.columns
    }
  }

  public var ternary: TernaryMatrix? { if case .ternary(let matrix) = self { matrix } else { nil } }
}

/// One decoder block. Shapes in terms of the configuration: rows by columns.
public struct BlockWeights: Sendable {
  public enum Attention: Sendable {
    case grouped(GroupedAttentionWeights)
    case latent(LatentAttentionWeights)
  }

  public enum FeedForward: Sendable {
    case dense(FeedForwardWeights)
    case routed(RoutedWeights)
  }

  /// [hidden]
  public let attentionNorm: FloatVector
  public let attention: Attention
  /// [querySize], in front of `attentionOutput`
  public let attentionSubNorm: FloatVector?
  /// hidden by attentionSize
  public let attentionOutput: Matrix
  /// [hidden]
  public let feedForwardNorm: FloatVector
  public let feedForward: FeedForward

  /// All matrices but those of experts.
  public var matrices: [Matrix] {
    let heads: [Matrix] =
      switch attention {
      case .grouped(let a): [a.query, a.key, a.value]
      case .latent(let a): [a.queryDown, a.query, a.latent, .weights(a.keyUp), .weights(a.valueUp)].compactMap { $0 }
      }
    let neurons: FeedForwardWeights? =
      switch feedForward {
      case .dense(let dense): dense
      case .routed(let routed): routed.shared
      }
    return heads + [attentionOutput] + (neurons.map { [$0.gate, $0.up, $0.down] } ?? [])
  }
}

/// Attention with keys and values for groups of query heads.
public struct GroupedAttentionWeights: Sendable {
  /// querySize by hidden
  public let query: Matrix
  /// kvSize by hidden
  public let key: Matrix
  /// kvSize by hidden
  public let value: Matrix
  /// [querySize], [kvSize], [kvSize]
  public let biases: (query: FloatVector, key: FloatVector, value: FloatVector)?
  /// [headSize], over each query head before it is rotated; or [querySize], over all of them together
  public let queryNorm: FloatVector?
  /// [headSize], over each key head before it is rotated; or [kvSize]
  public let keyNorm: FloatVector?
}

/// Latent attention in its absorbed form.
public struct LatentAttentionWeights: Sendable {
  /// queryRank by hidden; nil where queries come from the hidden state.
  public let queryDown: Matrix?
  /// [queryRank]
  public let queryNorm: FloatVector?
  /// querySize by queryRank or hidden
  public let query: Matrix
  /// rank + ropeSize by hidden
  public let latent: Matrix
  /// [rank]
  public let latentNorm: FloatVector
  /// Each head: rank by plainSize
  public let keyUp: WeightMatrix
  /// Each head: valueSize by rank
  public let valueUp: WeightMatrix
}

/// gate, up, down; `live` is feedForwardSize without the neurons that are always zero, which are not stored.
public struct FeedForwardWeights: Sendable {
  /// live by hidden
  public let gate: Matrix
  /// live by hidden
  public let up: Matrix
  /// [live], in front of `down`. Its mean square is over feedForwardSize values all the same.
  public let subNorm: FloatVector?
  /// hidden by live
  public let down: Matrix
}

/// A feed-forward part of experts.
public struct RoutedWeights: Sendable {
  /// [experts, hidden]
  public let router: FloatVector
  /// [experts], for choosing only
  public let bias: FloatVector?
  public let shared: FeedForwardWeights?
  /// [hidden]
  public let sharedGating: FloatVector?
  public let experts: ExpertRecords
}

/// The records of one block's experts, one behind the other.
// @unchecked: the pointer is to read-only mapped memory, which nobody writes.
public struct ExpertRecords: @unchecked Sendable {
  public let record: ExpertRecord
  public let count: Int
  /// Of each record's bytes (`checksum` of the kernels). [count]
  public let checksums: [UInt64]
  /// In the mapped file.
  public let base: UnsafeRawPointer
  /// Where they begin in the file, for readers that do not want them mapped.
  public let fileOffset: Int
}

/// All weights of a decoder.
public struct ModelWeights: Sendable {
  /// vocabulary by hidden
  public let embedding: EmbeddingTable
  public let blocks: [BlockWeights]
  /// [hidden]
  public let finalNorm: FloatVector
  /// vocabulary by hidden; nil when the head is the embedding.
  public let head: EmbeddingTable?

  /// How ternary matrices are laid out; nil where there are none.
  public var ternaryLayout: TernaryMatrix.Layout? { blocks.first?.attentionOutput.ternary?.layout }
  /// Weights of all ternary matrices.
  public var ternaryCount: Int { blocks.reduce(0) { $1.matrices.reduce($0) { $0 + ($1.ternary.map { $0.rows * $0.columns } ?? 0) } } }

  /// How experts lie; nil where there are none.
  public var record: ExpertRecord? {
    for block in blocks { if case .routed(let routed) = block.feedForward { return routed.experts.record } }
    return nil
  }

  /// Bytes of all experts.
  public var expertBytes: Int {
    blocks.reduce(0) { sum, block in
      if case .routed(let routed) = block.feedForward { sum + routed.experts.count * routed.experts.record.bytes } else { sum }
    }
  }
}
