import Basics

/// All that is decided before the first byte is written: which tensors there will be, in which form.
struct StoragePlan {
  /// What is stored, in the order of the file, without neurons that are always zero.
  let stored: [PlannedTensor]
  let table: EmbeddingTable.Storage
  let live: LiveNeurons
  let layout: TernaryMatrix.Layout
  /// Of matrices that are not ternary.
  let trunk: WeightStorage
  /// Of experts; nil where there are none.
  let record: ExpertRecord?
  /// Of the source: all rows and columns.
  private let matrices: [ModelPart: TernaryRows]
  private let configuration: ModelConfiguration

  init(_ source: some WeightSource, _ configuration: ModelConfiguration, _ options: PackOptions, progress: (String) -> Void) throws(SternaError) {
    var matrices: [ModelPart: TernaryRows] = [:]
    var weights = 0
    for planned in configuration.plan() {
      guard case .ternary(let rows, let columns) = planned.kind else { continue }
      let matrix = try source.ternary(planned)
      guard matrix.scaleKind != .groups || columns % 128 == 0 else {
        throw SternaError(.unsupported, "scales by group need a multiple of 128 columns", at: "tensor \(planned.name)", found: "\(columns) columns")
      }
      // Activations are quantised by groups where the weights have scales by groups: a coarser scale is that of each of its groups.
      matrices[planned.part] = configuration.groupsActivations && columns % 128 == 0 ? matrix.byGroups(columns: columns) : matrix
      weights += rows * columns
    }
    self.matrices = matrices
    self.configuration = configuration
    layout = options.layout ?? Self.layout(fastBytes: weights / 4, options)
    table = options.embedding ?? Self.table(configuration)
    trunk = options.trunk ?? .q8_0
    record = configuration.experts.map { ExpertRecord(options.experts ?? .q4_0, hiddenSize: configuration.hiddenSize, expertSize: $0.size) }
    live = try LiveNeurons(configuration, matrices, progress: progress)
    stored = configuration.plan(live: live.counts)
  }

  /// The layout when nobody chose one. Caches hold a small model, so arithmetic decides; a large one is bound by the memory's speed, which
  /// the machine knows.
  private static func layout(fastBytes: Int, _ options: PackOptions) -> TernaryMatrix.Layout {
    fastBytes > 64 << 20 ? options.layoutOfBox?(fastBytes) ?? .small : .fast
  }

  /// The storage of embedding and head when nobody chose one: 8 bits, but float32 for a table up to a mebibyte, and half precision where
  /// rows are no whole number of blocks.
  private static func table(_ configuration: ModelConfiguration) -> EmbeddingTable.Storage {
    if configuration.vocabularySize * configuration.hiddenSize * 4 <= 1 << 20 { return .f32 }
    return configuration.hiddenSize % EmbeddingTable.Storage.q8.blockValues == 0 ? .q8 : .f16
  }

  /// How a ternary matrix is stored.
  func storage(_ part: ModelPart) -> MatrixStorage { MatrixStorage(layout: layout, scaleKind: matrices[part]?.scaleKind ?? .tensor) }

  /// All tensors of the file but sections.
  var tensors: [PackedFormat.Stored] { stored.flatMap { PackedFormat.stored($0, .init(ternary: storage($0.part), weights: trunk, table: table, record: record)) } }

  /// The rows and columns of a matrix that are stored.
  func matrix(_ planned: PlannedTensor) throws(SternaError) -> TernaryRows {
    guard case .block(_, .linear(let linear)) = planned.part, let matrix = matrices[planned.part] else {
      throw SternaError(.badFile, "not a matrix", at: "tensor \(planned.name)")
    }
    return live.select(planned.part, matrix, columns: linear.shape(configuration).columns)
  }
}
