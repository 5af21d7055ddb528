import Basics
import CTernary

/// What `Packer` may choose.
public struct PackOptions: Sendable {
  /// How the embedding, and a head of its own, are stored. Nil: in 8 bits, unless the whole table is so small that this saves nothing
  /// worth its rounding error.
  public var embedding: EmbeddingTable.Storage?
  /// How ternary matrices are laid out. Nil: `fast` where caches hold the whole body, else what `layoutOfBox` says.
  public var layout: TernaryMatrix.Layout?
  /// The layout that this machine runs a large body faster in, told the bytes of the body in the fast one; nil: `small`.
  public var layoutOfBox: (@Sendable (_ fastBytes: Int) -> TernaryMatrix.Layout)?
  /// How the matrices of a model that is not ternary are stored, but its experts. Nil: as the source has them where there are kernels for that, else q8_0.
  public var trunk: WeightStorage?
  /// How its experts are stored. Nil: as the source has them where there are kernels for that, else q4_0.
  public var experts: WeightStorage?
  /// For people; nil takes the source's name.
  public var name: String?

  public init(
    embedding: EmbeddingTable.Storage? = nil, layout: TernaryMatrix.Layout? = nil,
    layoutOfBox: (@Sendable (_ fastBytes: Int) -> TernaryMatrix.Layout)? = nil, trunk: WeightStorage? = .q8_0,
    experts: WeightStorage? = nil, name: String? = nil
  ) {
    self.embedding = embedding
    self.layout = layout
    self.layoutOfBox = layoutOfBox
    self.trunk = trunk
    self.experts = experts
    self.name = name
  }
}

/// What the packer chose, and what that costs.
public struct PackReport: Sendable {
  public var layout: TernaryMatrix.Layout
  public var embedding: EmbeddingTable.Storage
  /// Neurons of all feed-forward parts that are always zero and were not stored.
  public var droppedNeurons: Int
  public var embeddingLoss = TableLoss()
  /// Nil where the head is the embedding.
  public var headLoss: TableLoss?
}

/// Writes packed model files (docs/format.md).
public enum Packer {
  /// Streams a model into a packed file, which appears under its name only when it is complete and on stable storage.
  /// - Parameters:
  ///   - sections: named byte strings that travel in the file, such as `sterna.tokenizer`.
  ///   - metadata: additional keys, such as `sterna.template`.
  ///   - progress: told what is being done, one line at a time.
  @discardableResult
  package static func pack(
    _ source: some WeightSource, to path: String, options: PackOptions = PackOptions(), sections: [(name: String, bytes: [UInt8])] = [],
    metadata: [(String, GGUFValue)] = [], progress: ((String) -> Void)? = nil
  ) throws(SternaError) -> PackReport {
    var configuration = source.configuration
    configuration.name = options.name ?? configuration.name
    try configuration.validate()
    try check(options, sections, configuration)
    try source.check(configuration.plan())
    let plan = try StoragePlan(source, configuration, options, progress: progress ?? { _ in })

    let tensors = sections.map { PackedFormat.Stored(name: $0.name, type: .i8, shape: [$0.bytes.count]) } + plan.tensors
    let keys = try header(configuration, plan, tensorCount: tensors.count, extra: metadata)
    let writer = try GGUFWriter(path, metadata: keys, tensors: tensors.map { ($0.name, $0.type, $0.shape) }, alignment: PackedFormat.alignment)
    for section in sections { try writer.write(section.bytes) }
    var report = PackReport(layout: plan.layout, embedding: plan.table, droppedNeurons: plan.live.dropped)
    var scales: [Float] = []
    var recordChecksums: [UInt64] = []
    for (i, planned) in plan.stored.enumerated() {
      progress?("\(planned.name) (\(i + 1) of \(plan.stored.count))")
      switch planned.kind {
      case .vector: try writeVector(source, planned, plan.live, configuration, writer)
      case .table(let rows, let columns):
        let loss = try writeTable(source, planned, rows, columns, as: plan.table, writer)
        if planned.part == .embedding { report.embeddingLoss = loss } else { report.headLoss = loss }
      case .ternary(let rows, let columns): scales.append(try writeTernary(plan, planned, rows, columns, writer))
      case .router(let rows, let columns): try writeMatrix(source, planned, .f32, rows, columns, heads: 1, writer)
      case .matrix(let rows, let columns, let heads): try writeMatrix(source, planned, plan.weightStorage(planned.part), rows, columns, heads: heads, writer)
      case .experts(let count):
        guard case .block(let block, _) = planned.part, let record = plan.record else { continue }
        recordChecksums += try writeExperts(source, block: block, count: count, record, writer, progress: progress ?? { _ in })
      }
    }
    try writer.finish(replacing: [
      PackedFormat.Key.ternaryScale: .array(.float32(scales)), PackedFormat.Key.expertChecksums: .array(.uint64(recordChecksums)), PackedFormat.Key.checksums: .array(.string(writer.checksums)),
    ])
    return report
  }

  /// What can be refused before anything is written.
  private static func check(
    _ options: PackOptions, _ sections: [(name: String, bytes: [UInt8])], _ configuration: ModelConfiguration
  ) throws(SternaError) {
    if let storage = options.embedding, configuration.hiddenSize % storage.blockValues != 0 {
      throw SternaError(
        .unsupported, "an embedding stored as \(storage.rawValue) needs rows of a multiple of \(storage.blockValues) values", at: "embedding",
        found: "\(configuration.hiddenSize) values", remedy: "store the embedding as f16 (--embedding f16)")
    }
    var names: Set<String> = []
    for section in sections {
      guard section.name.hasPrefix(PackedFormat.sectionPrefix), section.name.utf8.count <= 63, !section.bytes.isEmpty, names.insert(section.name).inserted else {
        throw SternaError(
          .badField, "cannot be stored as a section", at: "section \(section.name)",
          expected: "a name of its own, at most 63 bytes, that begins with \(PackedFormat.sectionPrefix), and at least a byte of content")
      }
    }
  }

  /// All metadata; scales and checksums are placeholders of their final length.
  private static func header(
    _ configuration: ModelConfiguration, _ plan: StoragePlan, tensorCount: Int, extra: [(String, GGUFValue)]
  ) throws(SternaError) -> [(key: String, value: GGUFValue)] {
    var names: [String] = []
    var layouts: [String] = []
    var scaleKinds: [String] = []
    var rowCounts: [UInt32] = []
    var columnCounts: [UInt32] = []
    for planned in plan.stored {
      guard case .ternary(let rows, let columns) = planned.kind else { continue }
      let storage = plan.storage(planned.part)
      names.append(planned.name)
      layouts.append(storage.layout.rawValue)
      scaleKinds.append(storage.scaleKind.rawValue)
      rowCounts.append(UInt32(rows))
      columnCounts.append(UInt32(columns))
    }
    var keys: [(key: String, value: GGUFValue)] = [
      ("general.architecture", .string(configuration.architecture)),
      ("general.name", .string(configuration.name)),
      ("general.alignment", .uint32(UInt32(PackedFormat.alignment))),
      (PackedFormat.Key.version, .uint32(PackedFormat.version)),
    ]
    keys += configuration.metadata()
    keys += extra.map { (key: $0.0, value: $0.1) }
    if let live = plan.live.counts { keys.append((PackedFormat.Key.liveNeurons, .array(.uint32(live.map { UInt32($0) })))) }
    if scaleKinds.contains(where: { $0 != ScaleKind.tensor.rawValue }) {
      keys.append((PackedFormat.Key.ternaryScaleKind, .array(.string(scaleKinds))))
    }
    if !names.isEmpty {
      keys += [
        (PackedFormat.Key.ternaryName, .array(.string(names))),
        (PackedFormat.Key.ternaryLayout, .array(.string(layouts))),
        (PackedFormat.Key.ternaryRows, .array(.uint32(rowCounts))),
        (PackedFormat.Key.ternaryColumns, .array(.uint32(columnCounts))),
        (PackedFormat.Key.ternaryScale, .array(.float32(names.map { _ in 0 }))),
      ]
    }
    let matrices = plan.stored.filter { if case .matrix = $0.kind { true } else { false } }
    if !matrices.isEmpty {
      keys += [
        (PackedFormat.Key.matrixName, .array(.string(matrices.map(\.name)))),
        (PackedFormat.Key.matrixStorage, .array(.string(matrices.map { plan.weightStorage($0.part).rawValue }))),
      ]
    }
    if let record = plan.record, let experts = configuration.experts {
      keys.append((PackedFormat.Key.expertStorage, .string(record.storage.rawValue)))
      let records = experts.routed.count { $0 } * experts.router.experts
      keys.append((PackedFormat.Key.expertChecksums, .array(.uint64([UInt64](repeating: 0, count: records)))))
    }
    keys += [
      (PackedFormat.Key.checksums, .array(.string([String](repeating: String(repeating: "0", count: 64), count: tensorCount)))),
    ]
    var seen: Set<String> = []
    for (key, _) in keys where !seen.insert(key).inserted || key.isEmpty {
      throw SternaError(.badField, "this key is there already, or empty", at: "metadata key \(key)")
    }
    return keys
  }

  /// How much is read, converted and written at once.
  static let chunkValues = 1 << 18

  private static func writeVector(
    _ source: some WeightSource, _ planned: PlannedTensor, _ live: LiveNeurons, _ configuration: ModelConfiguration, _ writer: GGUFWriter
  ) throws(SternaError) {
    guard case .vector(let count) = planned.kind else { return }
    let kept = live.indices(planned.part)
    let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: kept == nil ? count : configuration.feedForwardSize)
    defer { values.deallocate() }
    try source.floats(PlannedTensor(part: planned.part, kind: .vector(values.count)), rows: 0..<1, into: values)
    let stored = kept.map { $0.map { values[$0] } } ?? Array(values)
    try writer.write(stored.withUnsafeBytes(Array.init))
  }

  private static func writeTable(
    _ source: some WeightSource, _ planned: PlannedTensor, _ rows: Int, _ columns: Int, as storage: EmbeddingTable.Storage, _ writer: GGUFWriter
  ) throws(SternaError) -> TableLoss {
    let chunk = min(rows, max(1, chunkValues / columns))
    let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: chunk * columns)
    defer { values.deallocate() }
    let rowBytes = storage.rowBytes(columns: columns)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: chunk * rowBytes, alignment: 16)
    defer { bytes.deallocate() }
    var encoder = RowEncoder(storage: storage, columns: columns)
    for first in stride(from: 0, to: rows, by: chunk) {
      let range = first..<min(first + chunk, rows)
      let part = UnsafeMutableBufferPointer(rebasing: values[..<(range.count * columns)])
      let encoded = UnsafeMutableRawBufferPointer(rebasing: bytes[..<(range.count * rowBytes)])
      try source.floats(planned, rows: range, into: part)
      try encoder.encode(UnsafeBufferPointer(part), into: encoded, at: "tensor \(planned.name), rows \(range.lowerBound) to \(range.upperBound - 1)")
      try writer.write(UnsafeRawBufferPointer(encoded))
    }
    return encoder.loss
  }

  /// Writes codes and scales. Returns the scale of the whole matrix, 1 where each row or group has its own.
  private static func writeTernary(
    _ plan: StoragePlan, _ planned: PlannedTensor, _ rows: Int, _ columns: Int, _ writer: GGUFWriter
  ) throws(SternaError) -> Float {
    let matrix = try plan.matrix(planned)
    var encoder = TernaryEncoder(planned.name, plan.storage(planned.part), columns: columns)
    // Whole blocks of 16 rows: the layout of a matrix is that of its blocks, one behind the other.
    let chunk = min((rows + 15) / 16, max(1, chunkValues / columns / 16)) * 16
    let buffer = RowBuffer(rows: chunk, columns: columns, matrix.scaleKind)
    for first in stride(from: 0, to: rows, by: chunk) {
      let range = first..<min(first + chunk, rows)
      try buffer.read(range, of: matrix)
      try writer.write(encoder.encode(buffer, rows: range))
    }
    if case .tensor(let scale) = matrix.scale { return scale }
    try writer.write(encoder.scaleBytes())
    return 1
  }
}
