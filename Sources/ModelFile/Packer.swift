import Basics
import Crypto

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

  /// All of it, for a journal.
  var asked: String {
    "\(embedding?.rawValue ?? "-") \(layout?.rawValue ?? "-") \(trunk?.rawValue ?? "-") \(experts?.rawValue ?? "-") \(name ?? "")"
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
  ///   - program: what packs. With it, packing that was interrupted stays, and the same program goes on with it if source and options are the same; the file gets the
  ///     same bytes. Without, nothing stays. Sources that have no identity are packed at once or not at all.
  ///   - report: told what is being done.
  @discardableResult
  package static func pack(
    _ source: some WeightSource, to path: String, options: PackOptions = PackOptions(), sections: [(name: String, bytes: [UInt8])] = [],
    metadata: [(String, GGUFValue)] = [], resumedBy program: String? = nil, report: (PackEvent) -> Void = { _ in }
  ) throws(SternaError) -> PackReport {
    var configuration = source.configuration
    configuration.name = options.name ?? configuration.name
    try configuration.validate()
    try check(options, sections, configuration)
    try source.check(configuration.plan())
    guard let program, let identity = source.identity else {
      return try write(source, configuration, options, sections, metadata, to: DurableFile(path), nil, report)
    }
    let file = try DurableFile(resumable: path)
    let choices = [program, options.asked] + sections.map { "\($0.name) \(hexadecimal(SHA256.hash(data: $0.bytes)))" } + metadata.map { "\($0.0) \($0.1)" }
    let journal = try PackJournal(beside: path, identity, options: choices)
    if let mismatch = journal.mismatch { report(.note("\(path): there is a part of this file, but it was packed \(mismatch): packing begins again")) }
    do {
      let result = try write(source, configuration, options, sections, metadata, to: file, journal, report)
      journal.remove()
      return result
    } catch {
      guard error.code == .io, file.position > 0 else {
        file.abandon()
        journal.remove()
        throw error
      }
      // What the system refuses today it may grant tomorrow.
      var error = error
      error.remedy = (error.remedy.map { $0 + "; then " } ?? "") + "give the same command again: it goes on where it stopped"
      throw error
    }
  }

  /// How much is written before it is brought to stable storage: what an interruption may cost, with the tensor that is being written.
  private static let checkpointBytes = 1 << 25

  private static func write(
    _ source: some WeightSource, _ configuration: ModelConfiguration, _ options: PackOptions, _ sections: [(name: String, bytes: [UInt8])], _ metadata: [(String, GGUFValue)],
    to file: DurableFile, _ journal: PackJournal?, _ report: (PackEvent) -> Void
  ) throws(SternaError) -> PackReport {
    var options = options
    options.layout = options.layout ?? journal?.layout
    let plan = try StoragePlan(source, configuration, options) { report(.progress(PackProgress(doing: $0))) }
    let tensors = sections.map { PackedFormat.Stored(name: $0.name, type: .i8, shape: [$0.bytes.count]) } + plan.tensors
    let keys = try header(configuration, plan, tensorCount: tensors.count, extra: metadata)
    let earlier = journal?.steps ?? []
    if let journal, file.position == 0, earlier.count == sections.count + plan.stored.count, checksums(of: file.path) == earlier.flatMap(\.checksums) {
      // Interrupted between giving the file its name and forgetting how it came about.
      report(.note("\(file.path): was finished already"))
      file.abandon()
      return summary(plan, journal.steps[sections.count...].map(\.words)).report
    }
    let writer = try GGUFWriter(
      file, metadata: keys, tensors: tensors.map { ($0.name, $0.type, $0.shape) }, alignment: PackedFormat.alignment, finished: earlier.flatMap(\.checksums))
    let done = writer.checksums.isEmpty ? [] : earlier
    try journal?.restart(keeping: done.count, layout: plan.layout)
    let resumed = done.isEmpty ? 0 : writer.writtenBytes
    if resumed > 0 { report(.note("\(file.path): going on behind \(resumed / 1_000_000) MB of \(writer.totalBytes / 1_000_000), which are written")) }
    var synced = writer.writtenBytes

    func tell(_ doing: String) { report(.progress(PackProgress(doing: doing, writtenBytes: writer.writtenBytes, totalBytes: writer.totalBytes, resumedBytes: resumed))) }
    /// Runs a step, or takes what an interrupted packing has left of it.
    func step(_ number: Int, _ body: () throws(SternaError) -> [UInt64]) throws(SternaError) -> [UInt64] {
      if number < done.count { return done[number].words }
      let before = writer.checksums.count
      let words: [UInt64]
      do { words = try body() } catch {
        // What is finished so far need not be done again.
        if let journal, error.code == .io, (try? writer.sync()) != nil { try? journal.write() }
        throw error
      }
      guard let journal else { return words }
      journal.add(PackJournal.Step(checksums: Array(writer.checksums[before...]), words: words))
      guard writer.writtenBytes - synced >= checkpointBytes else { return words }
      try writer.sync()
      try journal.write()
      synced = writer.writtenBytes
      return words
    }

    for (i, section) in sections.enumerated() {
      _ = try step(i) { () throws(SternaError) in
        try writer.write(section.bytes)
        return []
      }
    }
    var words: [[UInt64]] = []
    for (i, planned) in plan.stored.enumerated() {
      words.append(try step(sections.count + i) { () throws(SternaError) in
        tell("\(planned.name) (\(i + 1) of \(plan.stored.count))")
        switch planned.kind {
        case .vector: try writeVector(source, planned, plan.live, configuration, writer)
        case .table(let rows, let columns): return try writeTable(source, planned, rows, columns, as: plan.table, writer).words
        case .ternary(let rows, let columns): return [UInt64(try writeTernary(plan, planned, rows, columns, writer).bitPattern)]
        case .router(let rows, let columns): try writeMatrix(source, planned, .f32, rows, columns, heads: 1, writer)
        case .matrix(let rows, let columns, let heads): try writeMatrix(source, planned, plan.weightStorage(planned.part), rows, columns, heads: heads, writer)
        case .experts(let count):
          guard case .block(let block, _) = planned.part, let record = plan.record else { return [] }
          return try writeExperts(source, block: block, count: count, record, writer, progress: tell)
        }
        return []
      })
    }
    tell("bringing the file to stable storage")
    if let journal {
      try writer.sync()
      try journal.write()
    }
    let summary = summary(plan, words)
    try writer.finish(replacing: [
      PackedFormat.Key.ternaryScale: .array(.float32(summary.scales)), PackedFormat.Key.expertChecksums: .array(.uint64(summary.recordChecksums)),
      PackedFormat.Key.checksums: .array(.string(writer.checksums)),
    ])
    return summary.report
  }

  /// What the steps of all planned tensors have left.
  private static func summary(_ plan: StoragePlan, _ words: [[UInt64]]) -> (report: PackReport, scales: [Float], recordChecksums: [UInt64]) {
    var report = PackReport(layout: plan.layout, embedding: plan.table, droppedNeurons: plan.live.dropped)
    var scales: [Float] = []
    var recordChecksums: [UInt64] = []
    for (planned, words) in zip(plan.stored, words) {
      switch planned.kind {
      case .table: if planned.part == .embedding { report.embeddingLoss = TableLoss(words: words) } else { report.headLoss = TableLoss(words: words) }
      case .ternary: scales.append(Float(bitPattern: UInt32(truncatingIfNeeded: words.first ?? 0)))
      case .experts: recordChecksums += words
      default: break
      }
    }
    return (report, scales, recordChecksums)
  }

  /// Those of a packed file's tensors; empty where there is no such file.
  private static func checksums(of path: String) -> [String] {
    guard let file = try? GGUFFile(path) else { return [] }
    return file.metadata[PackedFormat.Key.checksums]?.strings ?? []
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
