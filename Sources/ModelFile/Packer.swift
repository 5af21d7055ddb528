import Basics
import CTernary

/// What `Packer` may choose.
public struct PackOptions: Sendable {
  /// How the embedding, and a head of its own, are stored. Nil: in 8 bits, unless the whole table is so small that this saves nothing
  /// worth its rounding error.
  public var embedding: EmbeddingTable.Storage?
  /// For people; nil takes the source's name.
  public var name: String?

  public init(embedding: EmbeddingTable.Storage? = nil, name: String? = nil) {
    self.embedding = embedding
    self.name = name
  }
}

/// Writes packed model files (docs/format.md).
public enum Packer {
  /// Streams a model into a packed file, which appears under its name only when it is complete and on stable storage.
  /// - Parameters:
  ///   - sections: named byte strings that travel in the file, such as `sterna.tokenizer`.
  ///   - metadata: additional keys, such as `sterna.template`.
  ///   - progress: told what is being done, one line at a time.
  public static func pack(
    _ source: HubFolder, to path: String, options: PackOptions = PackOptions(), sections: [(name: String, bytes: [UInt8])] = [],
    metadata: [(String, GGUFValue)] = [], progress: ((String) -> Void)? = nil
  ) throws(SternaError) {
    try write(source, to: path, options: options, sections: sections, metadata: metadata, progress: progress)
  }

  static func write(
    _ source: some WeightSource, to path: String, options: PackOptions, sections: [(name: String, bytes: [UInt8])],
    metadata: [(String, GGUFValue)], progress: ((String) -> Void)?
  ) throws(SternaError) {
    var configuration = source.configuration
    configuration.name = options.name ?? configuration.name
    try configuration.validate()
    try check(options, sections, configuration)
    let plan = configuration.plan()
    try source.check(plan)
    let table = tableStorage(options, configuration)

    let tensors =
      sections.map { (name: $0.name, type: GGUFTensorType.i8, shape: [$0.bytes.count]) }
      + plan.map { planned in
        let (type, shape) = PackedFormat.storage(planned.kind, table: table)
        return (name: planned.name, type: type, shape: shape)
      }
    let keys = try header(configuration, plan, tensorCount: tensors.count, extra: metadata)
    let writer = try GGUFWriter(path, metadata: keys, tensors: tensors, alignment: PackedFormat.alignment)
    for section in sections { try writer.write(section.bytes) }
    var scales: [Float] = []
    for (i, planned) in plan.enumerated() {
      progress?("\(planned.name) (\(i + 1) of \(plan.count))")
      switch planned.kind {
      case .vector(let count): try writeFloats(source, planned, rows: 1, columns: count, as: .f32, writer)
      case .table(let rows, let columns): try writeFloats(source, planned, rows: rows, columns: columns, as: table, writer)
      case .ternary(let rows, let columns): scales.append(try writeTernary(source, planned, rows, columns, writer))
      }
    }
    try writer.finish(replacing: [
      PackedFormat.Key.ternaryScale: .array(.float32(scales)), PackedFormat.Key.checksums: .array(.string(writer.checksums)),
    ])
  }

  /// The storage of embedding and head when nobody chose one: 8 bits, but float32 for a table up to a mebibyte, and half precision where
  /// rows are no whole number of blocks.
  private static func tableStorage(_ options: PackOptions, _ configuration: ModelConfiguration) -> EmbeddingTable.Storage {
    if let chosen = options.embedding { return chosen }
    if configuration.vocabularySize * configuration.hiddenSize * 4 <= 1 << 20 { return .f32 }
    return configuration.hiddenSize % 32 == 0 ? .q8 : .f16
  }

  /// What can be refused before anything is written.
  private static func check(
    _ options: PackOptions, _ sections: [(name: String, bytes: [UInt8])], _ configuration: ModelConfiguration
  ) throws(SternaError) {
    guard options.embedding != .q8 || configuration.hiddenSize % 32 == 0 else {
      throw SternaError(
        .unsupported, "an embedding in 8 bits needs rows of a multiple of 32 values", at: "embedding", found: "\(configuration.hiddenSize) values",
        remedy: "store the embedding as f16 (--embedding f16)")
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
    _ configuration: ModelConfiguration, _ plan: [PlannedTensor], tensorCount: Int, extra: [(String, GGUFValue)]
  ) throws(SternaError) -> [(key: String, value: GGUFValue)] {
    var names: [String] = []
    var rowCounts: [UInt32] = []
    var columnCounts: [UInt32] = []
    for planned in plan {
      guard case .ternary(let rows, let columns) = planned.kind else { continue }
      names.append(planned.name)
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
    keys += [
      (PackedFormat.Key.ternaryName, .array(.string(names))),
      (PackedFormat.Key.ternaryLayout, .array(.string(names.map { _ in TernaryMatrix.Layout.fast.rawValue }))),
      (PackedFormat.Key.ternaryRows, .array(.uint32(rowCounts))),
      (PackedFormat.Key.ternaryColumns, .array(.uint32(columnCounts))),
      (PackedFormat.Key.ternaryScale, .array(.float32(names.map { _ in 0 }))),
      (PackedFormat.Key.checksums, .array(.string([String](repeating: String(repeating: "0", count: 64), count: tensorCount)))),
    ]
    var seen: Set<String> = []
    for (key, _) in keys where !seen.insert(key).inserted || key.isEmpty {
      throw SternaError(.badField, "this key is there already, or empty", at: "metadata key \(key)")
    }
    return keys
  }

  /// How much is read, converted and written at once.
  private static let chunkValues = 1 << 18

  private static func writeFloats(
    _ source: some WeightSource, _ planned: PlannedTensor, rows: Int, columns: Int, as storage: EmbeddingTable.Storage, _ writer: GGUFWriter
  ) throws(SternaError) {
    let chunk = min(rows, max(1, chunkValues / columns))
    let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: chunk * columns)
    defer { values.deallocate() }
    let encoder = RowEncoder(storage: storage, columns: columns)
    var bytes: [UInt8] = []
    for first in stride(from: 0, to: rows, by: chunk) {
      let range = first..<min(first + chunk, rows)
      let part = UnsafeMutableBufferPointer(rebasing: values[..<(range.count * columns)])
      try source.floats(planned, rows: range, into: part)
      try encoder.encode(UnsafeBufferPointer(part), into: &bytes, at: "tensor \(planned.name), rows \(range.lowerBound) to \(range.upperBound - 1)")
      try writer.write(bytes)
    }
  }

  /// Returns the matrix's scale.
  private static func writeTernary(
    _ source: some WeightSource, _ planned: PlannedTensor, _ rows: Int, _ columns: Int, _ writer: GGUFWriter
  ) throws(SternaError) -> Float {
    let matrix = try source.ternary(planned)
    // Whole blocks of 16 rows: the layout of a matrix is that of its blocks, one behind the other.
    let chunk = min((rows + 15) / 16, max(1, chunkValues / columns / 16)) * 16
    let weights = UnsafeMutablePointer<Int8>.allocate(capacity: chunk * columns)
    defer { weights.deallocate() }
    var bytes: [UInt8] = []
    for first in stride(from: 0, to: rows, by: chunk) {
      let range = first..<min(first + chunk, rows)
      var none: Float = 0
      try matrix.read(range, weights, &none)
      let count = ct_fast_bytes(range.count, columns)
      bytes = [UInt8](unsafeUninitializedCapacity: count) { out, initialised in
        if let base = out.baseAddress { ct_fast_pack(weights, range.count, columns, base) }
        initialised = count
      }
      try writer.write(bytes)
    }
    guard case .tensor(let scale) = matrix.scale else {
      throw SternaError(.unsupported, "scales by row or group are not written yet", at: "tensor \(planned.name)")
    }
    return scale
  }
}
