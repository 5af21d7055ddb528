import Basics
import Foundation
import Inference
import ModelFile
import Testing

/// Mixtures of experts against the public implementation, and against themselves.
@Suite struct MixtureTests {
  static let mixtures = ["mixtral", "qwen2-moe", "qwen3-moe", "glm4-moe", "deepseek-v3"]

  private func errors(_ name: String, _ storage: WeightStorage, kv: KVFormat = .f32) throws -> [Float] {
    let model = try model(packed(name, trunk: .f32, experts: storage), kv: kv)
    var errors: [Float] = []
    for item in try ReferenceCase.all(name) {
      let hidden = try model.run(item.ids)
      for (position, want) in item.logits { errors.append(relativeError(try model.logits(hidden, row: position), want)) }
    }
    return errors
  }

  @Test(arguments: mixtures) func logitsStoredExactlyAreTheReferences(name: String) throws {
    let errors = try errors(name, .f32)
    print("\(name): largest relative error \(errors.max() ?? 0)")
    #expect(errors.allSatisfy { $0 < 1e-3 })
  }

  /// These models are so small, and their weights so random, that the second and the third best expert of some token nearly tie: any rounding may exchange
  /// them, and then a position differs visibly. All others must not.
  @Test(arguments: mixtures) func logitsWithExpertsIn8BitsAreClose(name: String) throws {
    // The prompts begin alike: what is off at a shared position is one exchange, not several.
    let errors = Set(try errors(name, .q8_0).map { ($0 * 1e5).rounded() / 1e5 }).sorted()
    print("\(name): relative errors with experts in q8_0 \(errors)")
    #expect(errors.count { $0 < 3e-2 } >= errors.count - 2)
  }

  @Test(arguments: mixtures) func greedyTokensAreTheReferences(name: String) throws {
    let model = try model(packed(name, trunk: .f32, experts: .f32))
    for item in try ReferenceCase.all(name) {
      let hidden = try model.run(item.ids + item.greedy)
      for (step, want) in item.greedy.enumerated() { #expect(argmax(try model.logits(hidden, row: item.ids.count - 1 + step)) == want, "step \(step)") }
    }
  }

  /// As long as the indexer chooses every key there is, nothing is missing without it; the context ends where that ends.
  @Test(arguments: ["deepseek-v32", "glm-5"]) func sparseAttentionIsExactAsFarAsItSeesEverything(name: String) throws {
    let model = try model(packed(name, trunk: .f32, experts: .f32))
    #expect(model.contextLength == 12)
    var compared = 0
    for item in try ReferenceCase.all(name) {
      let hidden = try model.run(Array(item.ids.prefix(12)))
      for (position, want) in item.logits where position < 12 {
        compared += 1
        #expect(relativeError(try model.logits(hidden, row: position), want) < 1e-3, "position \(position)")
      }
    }
    #expect(compared == 4)
  }

  // MARK: - Independence, bit for bit

  private func tokens(_ count: Int, seed: UInt64) -> [Int32] {
    var random = Random(state: seed)
    return (0..<count).map { _ in Int32.random(in: 0..<320, using: &random) }
  }

  @Test(arguments: mixtures, [WeightStorage.f32, .q8_0, .q4_0, .mxfp4]) func threadsAndChunksDoNotMatter(name: String, storage: WeightStorage) throws {
    let packed = try packed(name, trunk: storage, experts: storage)
    let ids = tokens(45, seed: 1)
    for kv in KVFormat.allCases {
      let want = try model(packed, kv: kv).run(ids).values
      let areNumbers = want.allSatisfy { $0.isFinite }
      #expect(areNumbers)
      for (threads, batch, kernel) in [(1, 1, nil), (2, 7, nil), (4, 128, nil), (3, 16, "scalar")] {
        #expect(try model(packed, threads: threads, kv: kv, batchTokens: batch, kernel: kernel).run(ids).values == want, "\(threads) threads, chunks of \(batch)")
      }
    }
  }

  @Test(arguments: mixtures, KVFormat.allCases) func companyDraftsAndDivisionsDoNotMatter(name: String, kv: KVFormat) throws {
    let model = try model(packed(name, trunk: .q8_0, experts: .q8_0), threads: 2, kv: kv, batchTokens: 16)
    let width = model.configuration.hiddenSize
    // Together with others.
    let texts = (0..<4).map { tokens(3 + 11 * $0, seed: UInt64($0 + 10)) }
    let alone = try texts.map { try model.run($0).values }
    let steps = try texts.map { Step(sequence: try model.sequence(capacity: $0.count), tokens: $0, want: .all) }
    #expect(try model.forward(steps).values == alone.flatMap { $0 })
    // Behind a parent, and behind a draft that was taken back.
    let (ids, want) = (texts[3], alone[3])
    for cut in [1, 5, 17, ids.count - 1] {
      let parent = try model.sequence(capacity: cut)
      _ = try model.forward([Step(sequence: parent, tokens: Array(ids[..<cut]), want: .none)])
      let child = try model.sequence(after: parent, capacity: ids.count - cut + 4)
      _ = try model.forward([Step(sequence: child, tokens: tokens(3, seed: 99), want: .none)])
      child.truncate(to: cut)
      #expect(try model.forward([Step(sequence: child, tokens: Array(ids[cut...]), want: .all)]).values == Array(want[(cut * width)...]), "divided at \(cut)")
    }
  }

  @Test(arguments: mixtures, KVFormat.allCases) func theCacheOfPrefixesDoesNotMatter(name: String, kv: KVFormat) throws {
    let packed = try packed(name, trunk: .q8_0, experts: .q4_0)
    let (plain, model) = (try model(packed, kv: kv), try model(packed, threads: 2, kv: kv, kvBudgetBytes: 1 << 24))
    let cache = PrefixCache(model, budgetBytes: 400 * model.kvBytesPerToken)
    var random = Random(state: 5)
    let prompts = [9, 33].map { PrefixCacheTests.tokens($0, &random) }
    for round in 0..<8 {
      let job = CachedJob(prompt: prompts[round % 2], text: PrefixCacheTests.tokens(round * 3, &random), suffix: PrefixCacheTests.tokens(3, &random))
      #expect(try job.run(model, cache) == job.runAlone(plain), "round \(round)")
    }
    #expect(cache.statistics.promptsFound > 0)
  }
}
