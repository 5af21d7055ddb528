import Basics

/// Finds the weights of a packed file. The names, types, shapes and sizes are those of the plan, or the file is refused: what the file
/// says about shapes is compared, never used.
struct PackedWeights {
  let gguf: GGUFFile
  let configuration: ModelConfiguration
  private let tableStorage: EmbeddingTable.Storage
  /// Of each block's feed-forward part; nil where none was dropped.
  private let live: [Int]?
  /// Of every ternary matrix, by its name.
  let ternary: [String: Ternary]
  /// Of every other matrix, by its name.
  let weightStorage: [String: WeightStorage]
  /// Nil where the model has no experts.
  let record: ExpertRecord?
  /// Of all records, in the order of the file.
  private let recordChecksums: [UInt64]

  /// What the metadata says of a ternary matrix.
  struct Ternary {
    var storage: MatrixStorage
    var scale: Float
  }

  init(_ gguf: GGUFFile, _ configuration: ModelConfiguration, _ metadata: MetadataReader) throws(SternaError) {
    self.gguf = gguf
    self.configuration = configuration
    let embedding = ModelPart.embedding.ggufName
    guard let type = gguf.tensor(embedding)?.type else { throw SternaError(.badFile, "is missing", at: "tensor \(embedding)") }
    guard let storage = EmbeddingTable.Storage(type) else {
      throw SternaError(.badFile, "has an unexpected type", at: "tensor \(embedding)", expected: "F32, F16, Q8_0, Q6_K or IQ4_NL", found: type.label)
    }
    guard configuration.hiddenSize % storage.blockValues == 0 else {
      throw SternaError(.badFile, "has rows that are no whole number of blocks", at: "tensor \(embedding)")
    }
    tableStorage = storage
    live = try Self.live(configuration, metadata)
    let plan = configuration.plan(live: live)
    ternary = try Self.ternary(plan, metadata)
    weightStorage = try Self.weightStorage(plan, metadata)
    record = try Self.record(configuration, metadata)
    recordChecksums = try Self.recordChecksums(configuration, metadata)
    try check(plan)
  }

  private static func live(_ configuration: ModelConfiguration, _ metadata: MetadataReader) throws(SternaError) -> [Int]? {
    let key = PackedFormat.Key.liveNeurons
    guard metadata.has(key) else { return nil }
    let live = try metadata.ints(key)
    guard live.count == configuration.blockCount else {
      throw SternaError(.badFile, "does not have one element a block", at: "key \(key)", expected: "\(configuration.blockCount)", found: "\(live.count)")
    }
    for (i, count) in live.enumerated() where !(1...configuration.feedForwardSize ~= count) {
      throw SternaError(.badFile, "is out of range", at: "key \(key)[\(i)]", expected: "1 to \(configuration.feedForwardSize)", found: "\(count)")
    }
    return live
  }

  /// How the matrices that are not ternary are stored: each is named, in the order of the plan.
  private static func weightStorage(_ plan: [PlannedTensor], _ metadata: MetadataReader) throws(SternaError) -> [String: WeightStorage] {
    let matrices = plan.filter { if case .matrix = $0.kind { true } else { false } }
    guard !matrices.isEmpty else { return [:] }
    let names = try metadata.strings(PackedFormat.Key.matrixName)
    let words = try metadata.strings(PackedFormat.Key.matrixStorage)
    for (key, count) in [(PackedFormat.Key.matrixName, names.count), (PackedFormat.Key.matrixStorage, words.count)] where count != matrices.count {
      throw SternaError(.badFile, "does not have one element a matrix", at: "key \(key)", expected: "\(matrices.count)", found: "\(count)")
    }
    var storage: [String: WeightStorage] = [:]
    for (i, planned) in matrices.enumerated() {
      guard names[i] == planned.name else {
        throw SternaError(
          .badFile, "is not what this model must have", at: "key \(PackedFormat.Key.matrixName)[\(i)]", expected: planned.name, found: names[i])
      }
      storage[planned.name] = try word(words[i], "key \(PackedFormat.Key.matrixStorage)[\(i)]")
    }
    return storage
  }

  private static func word(_ word: String, _ place: String) throws(SternaError) -> WeightStorage {
    guard let storage = WeightStorage(rawValue: word) else {
      throw SternaError(
        .unsupported, "this way to store weights is not supported", at: place, expected: WeightStorage.allCases.map(\.rawValue).joined(separator: ", "), found: word)
    }
    return storage
  }

  private static func record(_ configuration: ModelConfiguration, _ metadata: MetadataReader) throws(SternaError) -> ExpertRecord? {
    guard let experts = configuration.experts else { return nil }
    let key = PackedFormat.Key.expertStorage
    return ExpertRecord(try word(metadata.string(key), "key \(key)"), hiddenSize: configuration.hiddenSize, expertSize: experts.size)
  }

  private static func recordChecksums(_ configuration: ModelConfiguration, _ metadata: MetadataReader) throws(SternaError) -> [UInt64] {
    guard let experts = configuration.experts else { return [] }
    let key = PackedFormat.Key.expertChecksums
    let checksums = try metadata.words(key)
    let count = experts.routed.count { $0 } * experts.router.experts
    guard checksums.count == count else {
      throw SternaError(.badFile, "does not have one element an expert", at: "key \(key)", expected: "\(count)", found: "\(checksums.count)")
    }
    return checksums
  }

  /// The table of ternary matrices must be exactly the plan's.
  private static func ternary(_ plan: [PlannedTensor], _ metadata: MetadataReader) throws(SternaError) -> [String: Ternary] {
    let matrices = plan.filter { if case .ternary = $0.kind { true } else { false } }
    guard !matrices.isEmpty else { return [:] }
    let names = try metadata.strings(PackedFormat.Key.ternaryName)
    let layouts = try metadata.strings(PackedFormat.Key.ternaryLayout)
    let rowCounts = try metadata.ints(PackedFormat.Key.ternaryRows)
    let columnCounts = try metadata.ints(PackedFormat.Key.ternaryColumns)
    let scales = try metadata.floats(PackedFormat.Key.ternaryScale)
    // Files without this key have one scale a matrix.
    let kinds = metadata.has(PackedFormat.Key.ternaryScaleKind) ? try metadata.strings(PackedFormat.Key.ternaryScaleKind) : nil
    for (key, count) in [
      (PackedFormat.Key.ternaryName, names.count), (PackedFormat.Key.ternaryLayout, layouts.count), (PackedFormat.Key.ternaryRows, rowCounts.count),
      (PackedFormat.Key.ternaryColumns, columnCounts.count), (PackedFormat.Key.ternaryScale, scales.count),
      (PackedFormat.Key.ternaryScaleKind, kinds?.count ?? matrices.count),
    ] where count != matrices.count {
      throw SternaError(.badFile, "does not have one element a ternary matrix", at: "key \(key)", expected: "\(matrices.count)", found: "\(count)")
    }
    var byName: [String: Ternary] = [:]
    for (i, planned) in matrices.enumerated() {
      func wrong(_ key: String, _ expected: String, _ found: String, _ code: SternaError.Code = .badFile) -> SternaError {
        SternaError(code, "is not what this model must have", at: "key \(key)[\(i)], of tensor \(planned.name)", expected: expected, found: found)
      }
      guard case .ternary(let rows, let columns) = planned.kind else { continue }
      guard names[i] == planned.name else { throw wrong(PackedFormat.Key.ternaryName, planned.name, names[i]) }
      guard let layout = TernaryMatrix.Layout(rawValue: layouts[i]) else {
        throw wrong(PackedFormat.Key.ternaryLayout, TernaryMatrix.Layout.allCases.map(\.rawValue).joined(separator: " or "), layouts[i], .unsupported)
      }
      guard let kind = ScaleKind(rawValue: kinds?[i] ?? ScaleKind.tensor.rawValue) else {
        throw wrong(PackedFormat.Key.ternaryScaleKind, ScaleKind.allCases.map(\.rawValue).joined(separator: " or "), kinds?[i] ?? "", .unsupported)
      }
      guard kind != .groups || columns % 128 == 0 else {
        throw wrong(PackedFormat.Key.ternaryScaleKind, "columns of a multiple of 128", "\(columns) columns")
      }
      guard rowCounts[i] == rows else { throw wrong(PackedFormat.Key.ternaryRows, "\(rows)", "\(rowCounts[i])") }
      guard columnCounts[i] == columns else { throw wrong(PackedFormat.Key.ternaryColumns, "\(columns)", "\(columnCounts[i])") }
      guard scales[i].isFinite, scales[i] > 0 else { throw wrong(PackedFormat.Key.ternaryScale, "a positive number", "\(scales[i])") }
      byName[planned.name] = Ternary(storage: MatrixStorage(layout: layout, scaleKind: kind), scale: scales[i])
    }
    return byName
  }

  /// Every planned tensor is there in its form; whatever else there is, is a section.
  private func check(_ plan: [PlannedTensor]) throws(SternaError) {
    var planned: Set<String> = []
    for tensor in plan {
      var forms = PackedFormat.Forms(table: tableStorage, record: record)
      if let storage = ternary[tensor.name]?.storage { forms.ternary = storage }
      if let storage = weightStorage[tensor.name] { forms.weights = storage }
      for stored in PackedFormat.stored(tensor, forms) {
        guard let found = gguf.tensor(stored.name) else { throw SternaError(.badFile, "is missing", at: "tensor \(stored.name)") }
        guard found.type == stored.type, found.shape == stored.shape else {
          throw SternaError(
            .badFile, "does not have the form that this architecture must have", at: "tensor \(stored.name)", expected: "\(stored.type.label) \(stored.shape)",
            found: "\(found.type.label) \(found.shape)")
        }
        planned.insert(stored.name)
      }
    }
    for tensor in gguf.tensors where !planned.contains(tensor.name) {
      guard tensor.name.hasPrefix(PackedFormat.sectionPrefix), tensor.type == .i8, tensor.shape.count == 1 else {
        throw SternaError(.badFile, "does not belong to a model of this architecture", at: "tensor \(tensor.name)", found: "\(tensor.type.label) \(tensor.shape)")
      }
    }
  }

  func weights() throws(SternaError) -> ModelWeights {
    var blocks: [BlockWeights] = []
    blocks.reserveCapacity(configuration.blockCount)
    for i in 0..<configuration.blockCount {
      blocks.append(
        BlockWeights(
          attentionNorm: try vector(.block(i, .attentionNorm)),
          attention: configuration.latent == nil ? .grouped(try grouped(i)) : .latent(try latent(i)),
          attentionSubNorm: configuration.hasSubNorms ? try vector(.block(i, .attentionSubNorm)) : nil,
          attentionOutput: try matrix(i, .output),
          feedForwardNorm: try vector(.block(i, .feedForwardNorm)),
          feedForward: configuration.isRouted(i) ? .routed(try routed(i)) : .dense(try neurons(i, .gate, .up, .down))))
    }
    return ModelWeights(
      embedding: try table(.embedding), blocks: blocks, finalNorm: try vector(.finalNorm), head: configuration.tiedHead ? nil : try table(.head))
  }

  private func grouped(_ i: Int) throws(SternaError) -> GroupedAttentionWeights {
    GroupedAttentionWeights(
      query: try matrix(i, .query), key: try matrix(i, .key), value: try matrix(i, .value),
      biases: configuration.hasProjectionBias
        ? (try vector(.block(i, .bias(.query))), try vector(.block(i, .bias(.key))), try vector(.block(i, .bias(.value)))) : nil,
      queryNorm: configuration.queryKeyNorms != .none ? try vector(.block(i, .queryNorm)) : nil,
      keyNorm: configuration.queryKeyNorms != .none ? try vector(.block(i, .keyNorm)) : nil)
  }

  private func latent(_ i: Int) throws(SternaError) -> LatentAttentionWeights {
    let hasQueryLatent = (configuration.latent?.queryRank ?? 0) > 0
    return LatentAttentionWeights(
      queryDown: hasQueryLatent ? try matrix(i, .queryDown) : nil, queryNorm: hasQueryLatent ? try vector(.block(i, .queryLatentNorm)) : nil,
      query: try matrix(i, hasQueryLatent ? .queryUp : .query), latent: try matrix(i, .latent), latentNorm: try vector(.block(i, .latentNorm)),
      keyUp: try weightMatrix(i, .keyUp, heads: configuration.queryHeads), valueUp: try weightMatrix(i, .valueUp, heads: configuration.queryHeads))
  }

  private func neurons(_ i: Int, _ gate: Linear, _ up: Linear, _ down: Linear) throws(SternaError) -> FeedForwardWeights {
    FeedForwardWeights(
      gate: try matrix(i, gate), up: try matrix(i, up), subNorm: configuration.hasSubNorms ? try vector(.block(i, .feedForwardSubNorm)) : nil,
      down: try matrix(i, down))
  }

  private func routed(_ i: Int) throws(SternaError) -> RoutedWeights {
    guard let experts = configuration.experts, let record else { throw SternaError(.badFile, "has no experts", at: "block \(i)") }
    let (base, tensor) = try base(.block(i, .experts))
    let first = experts.routed[..<i].count { $0 } * experts.router.experts
    return RoutedWeights(
      router: try vector(.block(i, .router)), bias: experts.router.hasBias ? try vector(.block(i, .routerBias)) : nil,
      shared: experts.sharedSize > 0 ? try neurons(i, .sharedGate, .sharedUp, .sharedDown) : nil,
      sharedGating: experts.gatesShared ? try vector(.block(i, .sharedGating)) : nil,
      experts: ExpertRecords(record: record, count: experts.router.experts,
        checksums: Array(recordChecksums[first..<first + experts.router.experts]), base: base, fileOffset: tensor.offset))
  }

  /// The beginning of a tensor's data. Its size was checked above.
  private func base(_ part: ModelPart) throws(SternaError) -> (UnsafeRawPointer, GGUFFile.Tensor) {
    guard let tensor = gguf.tensor(part.ggufName), let base = gguf.bytes(of: tensor).baseAddress else {
      throw SternaError(.badFile, "is missing", at: "tensor \(part.ggufName)")
    }
    return (base, tensor)
  }

  private func vector(_ part: ModelPart) throws(SternaError) -> FloatVector {
    let (base, tensor) = try base(part)
    return FloatVector(pointer: base.assumingMemoryBound(to: Float.self), count: tensor.shape.reduce(1, *))
  }

  private func table(_ part: ModelPart) throws(SternaError) -> EmbeddingTable {
    EmbeddingTable(storage: tableStorage, rows: configuration.vocabularySize, columns: configuration.hiddenSize, base: try base(part).0, fileOffset: try base(part).1.offset)
  }

  private func matrix(_ block: Int, _ linear: Linear) throws(SternaError) -> Matrix {
    guard configuration.isTernary else { return .weights(try weightMatrix(block, linear, heads: 1)) }
    let part = ModelPart.block(block, .linear(linear))
    let (rows, columns) = linear.shape(configuration, live: live?[block])
    guard let matrix = ternary[part.ggufName] else { throw SternaError(.badFile, "is missing", at: "tensor \(part.ggufName)") }
    return .ternary(
      TernaryMatrix(
        layout: matrix.storage.layout, rows: rows, columns: columns, codes: try base(part).0.assumingMemoryBound(to: UInt8.self), scale: try scale(part, matrix),
        inputNorm: configuration.linearNormEpsilon == nil ? nil : try vector(.block(block, .inputNorm(linear)))))
  }

  private func weightMatrix(_ block: Int, _ linear: Linear, heads: Int) throws(SternaError) -> WeightMatrix {
    let part = ModelPart.block(block, .linear(linear))
    let (rows, columns) = linear.shape(configuration)
    guard let storage = weightStorage[part.ggufName] else { throw SternaError(.badFile, "is missing", at: "tensor \(part.ggufName)") }
    return WeightMatrix(storage: storage, rows: rows, columns: columns, heads: heads, base: try base(part).0)
  }

  private func scale(_ part: ModelPart, _ matrix: Ternary) throws(SternaError) -> TernaryMatrix.Scale {
    if matrix.storage.scaleKind == .tensor { return .tensor(matrix.scale) }
    let name = PackedFormat.scaleName(part.ggufName)
    guard let tensor = gguf.tensor(name), let base = gguf.bytes(of: tensor).baseAddress else { throw SternaError(.badFile, "is missing", at: "tensor \(name)") }
    let count = tensor.shape.reduce(1, *)
    return matrix.storage.scaleKind == .rows
      ? .rows(FloatVector(pointer: base.assumingMemoryBound(to: Float.self), count: count))
      : .groups(HalfVector(pointer: base.assumingMemoryBound(to: UInt16.self), count: count))
  }
}
