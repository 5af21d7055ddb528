import Basics
import Foundation
import Inference
import ModelFile
import TestSupport
import Testing

/// The vocabulary's table under a memory limit: on disk, with some rows in memory, and nobody can tell from the results.
@Suite struct MemoryPlanTests {
  private static let context = 64

  /// A model whose table (4,096 rows of 1,024 or 512 bytes) is larger than the least that its row cache takes.
  private func withModel(_ storage: EmbeddingTable.Storage, _ body: (PackedModel, String) throws -> Void) throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("plan-\(UUID().uuidString).gguf").path
    defer { unlink(path) }
    try Packer.pack(DummySource(.pocket), to: path, options: PackOptions(embedding: storage))
    try body(PackedModel.open(path), path)
  }

  private func model(_ packed: PackedModel, limit: Int?, threads: Int = 1) throws -> Model {
    var options = ModelOptions()
    options.threads = threads
    options.contextLength = Self.context
    options.kv = .q8
    options.memoryLimit = limit
    return try Model(packed, options: options)
  }

  /// One byte less than what has the table mapped.
  private func tightest(_ packed: PackedModel) throws -> Int {
    var limit = 1 << 30
    while try !model(packed, limit: limit).streamsHead { limit = try model(packed, limit: limit).memory.total - 1 }
    return limit
  }

  @Test(arguments: [EmbeddingTable.Storage.f32, .f16]) func rowsFromTheDiskGiveTheSameBits(storage: EmbeddingTable.Storage) throws {
    try withModel(storage) { packed, _ in
      let limit = try tightest(packed)
      let mapped = try model(packed, limit: nil)
      let streamed = try model(packed, limit: limit)
      #expect(!mapped.streamsHead && streamed.streamsHead && streamed.memory.total <= limit)
      var random = SplitMix64(seed: 3)
      for _ in 0..<4 {
        // More rows than the cache holds, some of them often.
        let ids = (0..<60).map { _ in Int32.random(in: 0..<(Bool.random(using: &random) ? 40 : 4096), using: &random) }
        let candidates = (0..<3000).map { _ in Int32.random(in: 0..<4096, using: &random) } + [-1, 4096]
        let want = try mapped.run(ids)
        let got = try streamed.run(ids)
        #expect(got.values == want.values)
        #expect(try streamed.logits(got, row: 59, of: candidates) == mapped.logits(want, row: 59, of: candidates))
        #expect(try streamed.logits(got, row: 7) == mapped.logits(want, row: 7))
      }
    }
  }

  @Test func aTableThatCannotBeReadFailsTheJobAndNotTheProcess() throws {
    try withModel(.f32) { packed, path in
      let model = try model(packed, limit: tightest(packed))
      let hidden = try model.run([1, 2, 3])
      // The body stays: a mapped page beyond the end would be a signal, a read is an error.
      #expect(truncate(path, off_t(packed.weights.embedding.fileOffset + 4096)) == 0)
      for body in [{ _ = try model.logits(hidden, row: 0, of: [4000]) }, { _ = try model.logits(hidden, row: 0) }, { _ = try model.run([3900]) }] as [() throws -> Void] {
        do {
          try body()
          Issue.record("read beyond the end")
        } catch let error as SternaError {
          #expect(error.code == .modelIO && error.place?.contains(path) == true)
        }
      }
      #expect(try model.run([1, 2, 3]).values == hidden.values)
    }
  }

  @Test func partsAddUpAndWhatDoesNotFitIsRefusedWithThem() throws {
    try withModel(.f32) { packed, _ in
      let model = try model(packed, limit: 200_000_000)
      #expect(model.memory.entries.reduce(0) { $0 + $1.bytes } == model.memory.total && model.memory.total <= 200_000_000)
      #expect(model.memory.entries.first { $0.name == "weights" }?.bytes == packed.bodyRange.count)
      do {
        _ = try self.model(packed, limit: 20_000_000)
        Issue.record("fits")
      } catch let error as SternaError {
        #expect(error.code == .memoryLimit && error.found?.contains("keys and values") == true && error.remedy != nil)
      }
    }
  }
}
