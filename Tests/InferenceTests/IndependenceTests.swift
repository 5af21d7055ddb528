import Inference
import TestSupport
import Testing

/// A result depends on the tokens before it and on nothing else. All comparisons here are bit for bit.
@Suite struct IndependenceTests {
  static let storages: [KVFormat] = [.f32, .f16, .q8]

  private func tokens(_ count: Int, seed: UInt64) -> [Int32] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int32.random(in: 0..<320, using: &random) }
  }

  @Test(arguments: storages) func threadsAndChunksDoNotMatter(kv: KVFormat) throws {
    let packed = try packed("bitnet-online")
    let ids = tokens(70, seed: 1)
    let want = try model(packed, kv: kv).run(ids).values
    for threads in [1, 2, 3, 4] {
      for batch in [1, 2, 7, 64, 128] {
        #expect(try model(packed, threads: threads, kv: kv, batchTokens: batch).run(ids).values == want, "\(threads) threads, chunks of \(batch)")
      }
    }
  }

  @Test(arguments: storages) func instructionSetsDoNotMatter(kv: KVFormat) throws {
    let packed = try packed("llama-autobitlinear")
    let ids = tokens(40, seed: 2)
    let want = try model(packed, kv: kv, kernel: "scalar").run(ids).values
    for kernel in ["avx512vbmi", "avx512vnni", "avx2", "neon_dotprod", "neon"] {
      guard let other = try? model(packed, kv: kv, kernel: kernel) else { continue }  // not on this machine
      #expect(try other.run(ids).values == want, "\(kernel)")
    }
  }

  @Test(arguments: storages) func companyInABatchDoesNotMatter(kv: KVFormat) throws {
    let packed = try packed("bitnet-silu")
    let model = try model(packed, threads: 2, kv: kv, batchTokens: 16)
    let jobs = (0..<5).map { tokens(3 + 9 * $0, seed: UInt64($0 + 10)) }
    let alone = try jobs.map { try model.run($0).values }
    let steps = try jobs.map { Step(sequence: try model.sequence(capacity: $0.count), tokens: $0, want: .all) }
    #expect(try model.forward(steps).values == alone.flatMap { $0 })
  }

  @Test(arguments: storages) func whereASequenceIsDividedDoesNotMatter(kv: KVFormat) throws {
    let model = try model(packed("llama-bitlinear"), kv: kv)
    let ids = tokens(24, seed: 3)
    let want = try model.run(ids).values
    for cut in 0...ids.count {
      let parent = try model.sequence(capacity: cut)
      var values = try model.forward([Step(sequence: parent, tokens: Array(ids[..<cut]), want: .all)]).values
      let child = try model.sequence(after: parent, capacity: ids.count - cut)
      values += try model.forward([Step(sequence: child, tokens: Array(ids[cut...]), want: .all)]).values
      #expect(values == want, "divided at \(cut)")
    }
  }

  @Test(arguments: storages) func oneTokenAtATimeIsTheSameAsAllAtOnce(kv: KVFormat) throws {
    let model = try model(packed("bitnet-offline"), threads: 2, kv: kv)
    let ids = tokens(20, seed: 4)
    let want = try model.run(ids).values
    let sequence = try model.sequence(capacity: ids.count)
    var values: [Float] = []
    for id in ids { values += try model.forward([Step(sequence: sequence, tokens: [id], want: .last)]).values }
    #expect(values == want)
  }

  @Test(arguments: storages) func aForgottenDraftLeavesNothingBehind(kv: KVFormat) throws {
    let model = try model(packed("bitnet-offline"), kv: kv)
    let ids = tokens(12, seed: 5)
    let want = try model.run(ids).values
    let sequence = try model.sequence(capacity: 16)
    var values = try model.forward([Step(sequence: sequence, tokens: Array(ids[..<6]), want: .all)]).values
    _ = try model.forward([Step(sequence: sequence, tokens: tokens(5, seed: 6), want: .none)])
    sequence.truncate(to: 6)
    values += try model.forward([Step(sequence: sequence, tokens: Array(ids[6...]), want: .all)]).values
    #expect(values == want)
  }

  @Test(arguments: storages) func branchesOfOneParentDoNotSeeEachOther(kv: KVFormat) throws {
    let model = try model(packed("llama-rmsnorm-bitlinear"), threads: 2, kv: kv)
    let stem = tokens(9, seed: 7)
    let branches = (0..<6).map { tokens(1 + $0 % 3, seed: UInt64(20 + $0)) }
    let alone = try branches.map { try model.run(stem + $0).values.suffix($0.count * model.configuration.hiddenSize) }
    let parent = try model.sequence(capacity: stem.count)
    _ = try model.forward([Step(sequence: parent, tokens: stem, want: .none)])
    let steps = try branches.map { Step(sequence: try model.sequence(after: parent, capacity: $0.count), tokens: $0, want: .all) }
    #expect(try model.forward(steps).values == alone.flatMap { $0 })
  }
}
