// What a model *weighs*: views of a mapped file, in the form in which kernels read them. They own nothing: the `PackedModel` that
// made them must outlive them.

/// Float32 values in a mapped file.
// @unchecked: the pointer is to read-only mapped memory, which nobody writes.
public struct FloatVector: @unchecked Sendable {
  public let pointer: UnsafePointer<Float>
  public let count: Int

  public init(pointer: UnsafePointer<Float>, count: Int) {
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

    /// Bytes of a matrix in this layout, paddings included.
    public func bytes(rows: Int, columns: Int) -> Int {
      switch self {
      case .fast: (rows + 15) / 16 * ((columns + 15) / 16) * 64
      }
    }
  }

  /// What the integer product is multiplied by.
  public enum Scale: Sendable, Equatable {
    /// One factor for the whole matrix.
    case tensor(Float)
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
  /// Columns as stored: a multiple of 16, those beyond `columns` all zero weights.
  public var paddedColumns: Int { (columns + 15) / 16 * 16 }
  public var bytes: Int { layout.bytes(rows: rows, columns: columns) }

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

    /// Bytes of a row. For `q8`, `columns` must be a multiple of 32.
    public func rowBytes(columns: Int) -> Int {
      switch self {
      case .f32: columns * 4
      case .f16: columns * 2
      case .q8: columns / 32 * 34
      }
    }
  }

  public let storage: Storage
  public let rows: Int
  public let columns: Int
  public let base: UnsafeRawPointer
  public var rowBytes: Int { storage.rowBytes(columns: columns) }

  public init(storage: Storage, rows: Int, columns: Int, base: UnsafeRawPointer) {
    self.storage = storage
    self.rows = rows
    self.columns = columns
    self.base = base
  }

  /// Where the row of a token begins. `row` must be below `rows`: callers check token ids before they get here.
  public func pointer(_ row: Int) -> UnsafeRawPointer {
    precondition(row >= 0 && row < rows, "row outside the embedding")
    return base + row * rowBytes
  }
}

/// One decoder block. Shapes in terms of the configuration: rows by columns.
public struct BlockWeights: Sendable {
  /// [hidden]
  public let attentionNorm: FloatVector
  /// querySize by hidden
  public let query: TernaryMatrix
  /// kvSize by hidden
  public let key: TernaryMatrix
  /// kvSize by hidden
  public let value: TernaryMatrix
  /// hidden by querySize
  public let output: TernaryMatrix
  /// [querySize], in front of `output`
  public let attentionSubNorm: FloatVector?
  /// [hidden]
  public let feedForwardNorm: FloatVector
  /// feedForwardSize by hidden
  public let gate: TernaryMatrix
  /// feedForwardSize by hidden
  public let up: TernaryMatrix
  /// hidden by feedForwardSize
  public let down: TernaryMatrix
  /// [feedForwardSize], in front of `down`
  public let feedForwardSubNorm: FloatVector?
}

/// All weights of a dense ternary decoder.
public struct ModelWeights: Sendable {
  /// vocabulary by hidden
  public let embedding: EmbeddingTable
  public let blocks: [BlockWeights]
  /// [hidden]
  public let finalNorm: FloatVector
  /// vocabulary by hidden; nil when the head is the embedding.
  public let head: EmbeddingTable?
}
