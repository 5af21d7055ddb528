import Basics

/// The constants of the packed format that writer and reader share (docs/format.md).
enum PackedFormat {
  static let version: UInt32 = 1
  static let alignment = 4096
  static let sectionPrefix = "sterna."

  enum Key {
    static let version = "sterna.format.version"
    static let ternaryName = "sterna.ternary.name"
    static let ternaryLayout = "sterna.ternary.layout"
    static let ternaryRows = "sterna.ternary.rows"
    static let ternaryColumns = "sterna.ternary.columns"
    static let ternaryScale = "sterna.ternary.scale"
    static let checksums = "sterna.sha256"
  }

  /// GGUF type and shape of a tensor of the plan.
  static func storage(_ kind: PlannedTensor.Kind, table: EmbeddingTable.Storage) -> (type: GGUFTensorType, shape: [Int]) {
    switch kind {
    case .vector(let count): (.f32, [count])
    // One row a block of 16 rows of the matrix.
    case .ternary(let rows, let columns): (.i8, [(columns + 15) / 16 * 64, (rows + 15) / 16])
    case .table(let rows, let columns): (table.ggufType, [columns, rows])
    }
  }
}

extension EmbeddingTable.Storage {
  var ggufType: GGUFTensorType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .q8: .q8_0
    case .q6: .q6_K
    case .q4: .iq4_nl
    }
  }

  init?(_ type: GGUFTensorType) {
    switch type {
    case .f32: self = .f32
    case .f16: self = .f16
    case .q8_0: self = .q8
    case .q6_K: self = .q6
    case .iq4_nl: self = .q4
    default: return nil
    }
  }
}
