import Basics
import Foundation
import ModelFile
import TestSupport
import Testing

/// Embedding rows in every storage, read back by decoders written from the description of the blocks (docs/format.md).
@Suite struct EmbeddingStorageTests {
  private static func half(_ at: UnsafeRawPointer) -> Float { Float(Float16(bitPattern: at.loadUnaligned(as: UInt16.self))) }

  /// Row `row` of a table.
  private func decoded(_ table: EmbeddingTable, _ row: Int) -> [Float] {
    let base = table.pointer(row)
    func byte(_ i: Int) -> Int { Int(base.load(fromByteOffset: i, as: UInt8.self)) }
    func signed(_ i: Int) -> Float { Float(base.load(fromByteOffset: i, as: Int8.self)) }
    return (0..<table.columns).map { i in
      switch table.storage {
      case .f32: return base.load(fromByteOffset: 4 * i, as: Float.self)
      case .f16: return Self.half(base + 2 * i)
      case .q8: return Self.half(base + i / 32 * 34) * signed(i / 32 * 34 + 2 + i % 32)
      case .q6:
        let block = i / 256 * 210
        let k = i % 256
        let nibble = byte(block + k / 128 * 64 + k % 64)
        let pair = byte(block + 128 + k / 128 * 32 + k % 32) / [1, 4, 16, 64][k % 128 / 32] % 4
        let low = k % 128 < 64 ? nibble % 16 : nibble / 16
        return Self.half(base + block + 208) * signed(block + 192 + k / 16) * Float(low + 16 * pair - 32)
      case .q4:
        let values: [Float] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
        let block = i / 32 * 18
        let pair = byte(block + 2 + i % 16)
        return Self.half(base + block) * values[i % 32 < 16 ? pair % 16 : pair / 16]
      }
    }
  }

  private func relativeError(_ a: [Float], _ b: [Float]) -> Double {
    let error = zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
    return (error / b.reduce(0) { $0 + Double($1) * Double($1) }).squareRoot()
  }

  /// Normally distributed rows. The plain ways (the largest magnitude becomes the last code) lose 1.87 % in six bits and 7.99 % in four.
  @Test(arguments: [(EmbeddingTable.Storage.f32, 0.0), (.f16, 3e-4), (.q8, 0.006), (.q6, 0.0170), (.q4, 0.0740)])
  func lossIsSmallAndIsWhatTheReportSays(storage: EmbeddingTable.Storage, limit: Double) throws {
    let scratch = try Scratch()
    let source = MadeSource(.made(hidden: 512, feedForward: 32, blocks: 1, vocabulary: 64, tied: false))
    let report = try Packer.pack(source, to: scratch["m"], options: PackOptions(embedding: storage))
    let model = try PackedModel.open(scratch["m"])
    defer { withExtendedLifetime(model) {} }
    try model.verify()
    for (name, table, loss) in [
      ("token_embd.weight", model.weights.embedding, report.embeddingLoss), ("output.weight", try #require(model.weights.head), try #require(report.headLoss)),
    ] {
      #expect(table.storage == storage)
      let stored = (0..<table.rows).flatMap { decoded(table, $0) }
      let values = try #require(source.floats[name])
      let error = relativeError(stored, values)
      #expect(error <= limit)
      #expect(abs(error - loss.relativeError) <= 1e-4 * error)
      #expect(loss.meanCosine <= 1 + 1e-6 && abs((1 - loss.meanCosine) - error * error / 2) <= 0.05 * error * error + 1e-6)
    }
  }

  /// With the block's scales as they are, no other code is nearer to a value.
  @Test func everyCodeIsTheNearest() throws {
    let scratch = try Scratch()
    let values: [Float] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
    for storage in [EmbeddingTable.Storage.q6, .q4] {
      let source = MadeSource(.made(hidden: 256, feedForward: 32, blocks: 1), seed: 3)
      let model = try source.packed(in: scratch, PackOptions(embedding: storage))
      defer { withExtendedLifetime(model) {} }
      let table = model.weights.embedding
      let all = try #require(source.floats["token_embd.weight"])
      for row in 0..<table.rows {
        let stored = decoded(table, row)
        for i in 0..<256 {
          let base = table.pointer(row)
          let step = storage == .q6 ? Self.half(base + 208) * Float(base.load(fromByteOffset: 192 + i / 16, as: Int8.self)) : Self.half(base + i / 32 * 18)
          let candidates = storage == .q6 ? (-32...31).map { Float($0) * step } : values.map { $0 * step }
          let value = all[row * 256 + i]
          let best = candidates.map { abs($0 - value) }.min() ?? 0
          #expect(abs(stored[i] - value) <= best * 1.001 + 1e-6)
        }
      }
    }
  }

  /// Zeros, one large value among small ones, values near the ends of half precision and far beyond, all of one sign.
  @Test(arguments: [EmbeddingTable.Storage.q8, .q6, .q4]) func unusualRowsSurvive(storage: EmbeddingTable.Storage) throws {
    let scratch = try Scratch()
    let source = MadeSource(.made(hidden: 256, feedForward: 32, blocks: 1, vocabulary: 10))
    var random = SplitMix64(seed: 9)
    let normal = (0..<256).map { _ in MadeSource.normal(&random) }
    let rows: [[Float]] = [
      [Float](repeating: 0, count: 256), [Float](repeating: 1, count: 256), [Float](repeating: -3, count: 256),
      (0..<256).map { $0 == 100 ? 50 : 0 }, normal.map { $0 * 1e4 }, normal.map { $0 * 1e-3 }, normal.map(abs),
      (0..<256).map { $0 % 2 == 0 ? 1e-30 : -1e-38 }, (0..<256).map { $0 % 2 == 0 ? 1e-37 : 0 }, (0..<256).map { $0 == 3 ? -Float.leastNormalMagnitude / 4 : 0 },
    ]
    source.floats["token_embd.weight"] = rows.flatMap { $0 }
    let model = try source.packed(in: scratch, PackOptions(embedding: storage))
    defer { withExtendedLifetime(model) {} }
    try model.verify()
    let table = model.weights.embedding
    #expect(decoded(table, 0) == rows[0])
    for row in 7...9 { #expect(decoded(table, row).allSatisfy { $0 == 0 }) }
    for row in 1...6 { #expect(relativeError(decoded(table, row), rows[row]) < (storage == .q4 ? 0.08 : 0.02), "row \(row)") }
  }

  @Test func whatCannotBeStoredIsRefused() throws {
    let scratch = try Scratch()
    for (storage, hidden, values) in [(EmbeddingTable.Storage.q6, 128, 256), (.q4, 72, 32), (.q8, 72, 32)] {
      let error = failure { try Packer.pack(MadeSource(.made(hidden: hidden, feedForward: 32)), to: scratch["m"], options: PackOptions(embedding: storage)) }
      #expect(error?.place == "embedding" && error?.message.contains("\(values)") == true && error?.remedy?.contains("f16") == true)
    }
    for (storage, value) in [(EmbeddingTable.Storage.f16, Float(1e5)), (.q8, 1e7), (.q6, 1e9), (.q4, 1e7)] {
      let source = MadeSource(.made(hidden: 256, feedForward: 32, blocks: 1))
      source.floats["token_embd.weight"]?[300] = value
      let error = failure { try Packer.pack(source, to: scratch["m"], options: PackOptions(embedding: storage)) }
      #expect(error?.code == .unsupported && error?.place?.contains("tensor token_embd.weight") == true && error?.remedy?.contains("f32") == true, "\(storage)")
    }
  }
}
