import Basics

/// All that is decided before the first byte is written: which tensors there will be, in which form.
struct StoragePlan {
  /// What is stored, in the order of the file, without neurons that are always zero.
  let stored: [PlannedTensor]
  let table: EmbeddingTable.Storage
  let live: LiveNeurons
  let layout: TernaryMatrix.Layout
  /// Of matrices that are not ternary, but experts.
  private let weights: [ModelPart: WeightStorage]
  /// Of experts; nil where there are none.
  let record: ExpertRecord?
  /// Of the source: all rows and columns.
  private let matrices: [ModelPart: TernaryRows]
  private let configuration: ModelConfiguration

  init(_ source: some WeightSource, _ configuration: ModelConfiguration, _ options: PackOptions, progress: (String) -> Void) throws(SternaError) {
    var matrices: [ModelPart: TernaryRows] = [:]
    var weightCount = 0
    for planned in configuration.plan() {
      guard case .ternary(let rows, let columns) = planned.kind else { continue }
      let matrix = try source.ternary(planned)
      guard matrix.scaleKind != .groups || columns % 128 == 0 else {
        throw SternaError(.unsupported, "scales by group need a multiple of 128 columns", at: "tensor \(planned.name)", found: "\(columns) columns")
      }
      // Activations are quantised by groups where the weights have scales by groups: a coarser scale is that of each of its groups.
      matrices[planned.part] = configuration.groupsActivations && columns % 128 == 0 ? matrix.byGroups(columns: columns) : matrix
      weightCount += rows * columns
    }
    self.matrices = matrices
    self.configuration = configuration
    layout = options.layout ?? Self.layout(fastBytes: weightCount / 4, options)
    table = options.embedding ?? Self.table(configuration)
    var storage: [ModelPart: WeightStorage] = [:]
    for planned in configuration.plan() {
      guard case .matrix = planned.kind else { continue }
      if let asked = options.trunk { storage[planned.part] = asked } else { storage[planned.part] = try source.storage(planned) ?? .q8_0 }
    }
    self.weights = storage
    if let experts = configuration.experts {
      let stored = if let asked = options.experts { asked } else { try Self.expertStorage(source, configuration) ?? .q4_0 }
      record = ExpertRecord(stored, hiddenSize: configuration.hiddenSize, expertSize: experts.size)
    } else {
      record = nil
    }
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

  /// How the source stores its experts, where it stores all in one way that we have too.
  private static func expertStorage(_ source: some WeightSource, _ configuration: ModelConfiguration) throws(SternaError) -> WeightStorage? {
    var common: WeightStorage?
    for block in 0..<configuration.blockCount where configuration.isRouted(block) {
      for linear in [Linear.gate, .up, .down] {
        guard let found = try source.storage(configuration.expert(block, 0, linear)), common ?? found == found else { return nil }
        common = found
      }
    }
    return common
  }

  /// How a matrix that is not ternary is stored.
  func weightStorage(_ part: ModelPart) -> WeightStorage { weights[part] ?? .f32 }

  /// How a ternary matrix is stored.
  func storage(_ part: ModelPart) -> MatrixStorage { MatrixStorage(layout: layout, scaleKind: matrices[part]?.scaleKind ?? .tensor) }

  /// All tensors of the file but sections.
  var tensors: [PackedFormat.Stored] { stored.flatMap { PackedFormat.stored($0, .init(ternary: storage($0.part), weights: weightStorage($0.part), table: table, record: record)) } }

  /// The rows and columns of a matrix that are stored.
  func matrix(_ planned: PlannedTensor) throws(SternaError) -> TernaryRows {
    guard case .block(_, .linear(let linear)) = planned.part, let matrix = matrices[planned.part] else {
      throw SternaError(.badFile, "not a matrix", at: "tensor \(planned.name)")
    }
    return live.select(planned.part, matrix, columns: linear.shape(configuration).columns)
  }
}
