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
    static let ternaryScaleKind = "sterna.ternary.scale_kind"
    static let matrixName = "sterna.matrix.name"
    static let matrixStorage = "sterna.matrix.storage"
    static let expertStorage = "sterna.experts.storage"
    static let expertChecksums = "sterna.experts.checksum"
    static let liveNeurons = "sterna.feed_forward.live"
    static let checksums = "sterna.sha256"
  }

  /// The tensor of a matrix's scales, where there are more than one.
  static func scaleName(_ matrix: String) -> String { "\(matrix).scale" }

  /// Whether a tensor holds the experts of a block.
  static func isExperts(_ name: String) -> Bool { name.hasPrefix("blk.") && name.hasSuffix(".ffn_exps") }

  /// A tensor as it stands in the file.
  struct Stored: Equatable {
    let name: String
    let type: GGUFTensorType
    /// Contiguous dimension first.
    let shape: [Int]
  }

  /// In which form a planned tensor is stored, where its kind leaves a choice.
  struct Forms {
    /// Of ternary matrices.
    var ternary = MatrixStorage(layout: .fast, scaleKind: .tensor)
    /// Of other matrices.
    var weights = WeightStorage.f32
    var table: EmbeddingTable.Storage
    /// Of experts.
    var record: ExpertRecord?
  }

  /// The tensors of a planned one: itself, and its scales behind it where it has such.
  static func stored(_ planned: PlannedTensor, _ forms: Forms) -> [Stored] {
    switch planned.kind {
    case .vector(let count): return [Stored(name: planned.name, type: .f32, shape: [count])]
    case .router(let rows, let columns): return [Stored(name: planned.name, type: .f32, shape: [columns, rows])]
    case .table(let rows, let columns): return [Stored(name: planned.name, type: forms.table.ggufType, shape: [columns, rows])]
    case .matrix(let rows, let columns, let heads):
      guard forms.weights != .f32 else { return [Stored(name: planned.name, type: .f32, shape: [columns, rows])] }
      // One row a block of 16 rows of the matrix.
      return [Stored(name: planned.name, type: .i8, shape: [forms.weights.bytes(rows: 16, columns: columns), (rows / heads + 15) / 16 * heads])]
    case .experts(let count): return [Stored(name: planned.name, type: .i8, shape: [forms.record?.bytes ?? 0, count])]
    case .ternary(let rows, let columns):
      let matrix = forms.ternary
      // One row a block of 16 rows of the matrix.
      let blocks = (rows + 15) / 16
      let bytes = matrix.layout.bytes(rows: 16, columns: columns, grouped: matrix.scaleKind == .groups)
      let codes = Stored(name: planned.name, type: .i8, shape: [bytes, blocks])
      return switch matrix.scaleKind {
      case .tensor: [codes]
      case .rows: [codes, Stored(name: scaleName(planned.name), type: .f32, shape: [blocks * 16])]
      case .groups: [codes, Stored(name: scaleName(planned.name), type: .f16, shape: [16, columns / 128, blocks])]
      }
    }
  }
}

/// What a ternary matrix has a scale for; the words of `sterna.ternary.scale_kind`.
enum ScaleKind: String, CaseIterable {
  case tensor, rows, groups
}

/// How a ternary matrix is stored.
struct MatrixStorage: Equatable {
  var layout: TernaryMatrix.Layout
  var scaleKind: ScaleKind
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
