import Basics
import Foundation
import Inference
import ModelFile
import TestSupport
import Testing

/// Mixtures of experts against the public implementation, and against themselves.
@Suite struct MixtureTests {
  static let mixtures = ["mixtral", "qwen2-moe", "qwen3-moe", "glm4-moe", "deepseek-v3", "deepseek-v2", "deepseek-v2-lite", "olmoe"]

  private func errors(_ name: String) throws -> [Float] {
    let model = try model(packed(name, trunk: .f32, experts: .f32))
    var errors: [Float] = []
    for item in try ReferenceCase.all(name) {
      let hidden = try model.run(item.ids)
      for (position, want) in item.logits { errors.append(relativeError(try model.logits(hidden, row: position), want)) }
    }
    return errors
  }

  @Test(arguments: mixtures) func logitsStoredExactlyAreTheReferences(name: String) throws {
    let errors = try errors(name)
    print("\(name): largest relative error \(errors.max() ?? 0)")
    #expect(errors.allSatisfy { $0 < 1e-3 })
  }

  /// Runs some tokens. Returns also the experts that each of them was given, of all blocks.
  /// - Precondition: `model` runs one token a pass, so that a call of its trace is one token's.
  private func traced(_ model: Model, _ ids: [Int32]) throws -> (hidden: HiddenStates, choices: [[ExpertTrace.Call]]) {
    model.traceExperts()
    let before = model.expertTrace?.calls.count ?? 0
    let hidden = try model.run(ids)
    let calls = Array(try #require(model.expertTrace).calls[before...])
    let each = calls.count / ids.count
    #expect(each > 0 && calls.count == each * ids.count)
    return (hidden, ids.indices.map { Array(calls[$0 * each..<($0 + 1) * each]) })
  }

  /// These models are so small, and their weights so random, that the last expert chosen and the first left out nearly tie for some tokens: any rounding exchanges
  /// them, also that of the weights alone (Benchmarks/router_ties.py), and such a token differs visibly. All others must not, and they must be few.
  @Test(arguments: mixtures) func logitsWithExpertsIn8BitsAreCloseWhereTheSameExpertsAreChosen(name: String) throws {
    let exact = try model(packed(name, trunk: .f32, experts: .f32), batchTokens: 1)
    let stored = try model(packed(name, trunk: .f32, experts: .q8_0), batchTokens: 1)
    var exchanged = 0, tokens = 0, compared = 0
    for item in try ReferenceCase.all(name) {
      let wanted = try traced(exact, item.ids).choices
      let (hidden, found) = try traced(stored, item.ids)
      tokens += item.ids.count
      exchanged += zip(wanted, found).count { $0 != $1 }
      for (position, logits) in item.logits where wanted[position] == found[position] {
        compared += 1
        #expect(relativeError(try stored.logits(hidden, row: position), logits) < 3e-2, "position \(position) of \(item.ids.count)")
      }
    }
    print("\(name): experts in q8_0 are others than in f32 for \(exchanged) of \(tokens) tokens; \(compared) positions compared")
    #expect(exchanged * 10 < tokens && compared >= 5)
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
    var random = SplitMix64(seed: seed)
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
    var random = SplitMix64(seed: 5)
    let prompts = [9, 33].map { PrefixCacheTests.tokens($0, &random) }
    for round in 0..<8 {
      let job = CachedJob(prompt: prompts[round % 2], text: PrefixCacheTests.tokens(round * 3, &random), suffix: PrefixCacheTests.tokens(3, &random))
      #expect(try job.run(model, cache) == job.runAlone(plain), "round \(round)")
    }
    #expect(cache.statistics.promptsFound > 0)
  }
}
