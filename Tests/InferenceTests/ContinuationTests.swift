import Basics
import Foundation
import Inference
import ModelFile
import TestSupport
import Testing

/// Sequences that continue a part of another one, and drafts that are taken back. All comparisons are bit for bit.
@Suite struct ContinuationTests {
  private static func tokens(_ count: Int, _ random: inout SplitMix64) -> [Int32] { (0..<count).map { _ in Int32.random(in: 0..<320, using: &random) } }

  /// 3.4 million random weights.
  private static let pocket = Result {
    let path = NSTemporaryDirectory() + "continuation-\(UUID().uuidString).gguf"
    defer { unlink(path) }  // the mapping stays
    try Packer.pack(DummySource(.pocket), to: path, options: PackOptions())
    return try PackedModel.open(path)
  }

  @Test(arguments: KVFormat.allCases) func aBeginningOfASequenceIsContinuedAsIfNothingFollowedIt(kv: KVFormat) throws {
    var random = SplitMix64(seed: 31)
    let model = try model(packed("bitnet-offline"), kv: kv)
    let width = model.configuration.hiddenSize
    // Three generations, one of them shorter than a group of keys.
    let parts = [19, 5, 22].map { Self.tokens($0, &random) }
    let stem = parts.flatMap { $0 }
    var holders: [Sequence] = []
    for part in parts {
      let sequence = try model.sequence(after: holders.last, capacity: part.count + 3)
      _ = try model.forward([Step(sequence: sequence, tokens: part, want: .none)])
      holders.append(sequence)
    }
    let youngest = try #require(holders.last)
    for count in 0...stem.count {
      let rest = Self.tokens(1 + count % 18, &random)
      let want = try model.run(Array(stem[..<count]) + rest).values.suffix(rest.count * width)
      let child = try model.sequence(after: youngest, upTo: count, capacity: rest.count)
      #expect(child.count == count)
      #expect(try model.forward([Step(sequence: child, tokens: rest, want: .all)]).values == Array(want), "behind \(count)")
      // A child of that child sees through it.
      let grandchild = try model.sequence(after: child, upTo: count + 1, capacity: 4)
      let other = Self.tokens(4, &random)
      let wantOther = try model.run(Array(stem[..<count]) + rest[..<1] + other).values.suffix(4 * width)
      #expect(try model.forward([Step(sequence: grandchild, tokens: other, want: .all)]).values == Array(wantOther), "behind \(count) and one")
    }
    #expect(youngest.count == stem.count)
  }

  @Test func onlyTheSequencesThatAreSeenAreHeld() throws {
    let model = try model(packed("bitnet-offline"))
    let root = try model.sequence(capacity: 4)
    _ = try model.forward([Step(sequence: root, tokens: [1, 2, 3, 4], want: .none)])
    let middle = try model.sequence(after: root, capacity: 2)
    _ = try model.forward([Step(sequence: middle, tokens: [5, 6], want: .none)])
    for count in [3, 4] {
      let child = try model.sequence(after: middle, upTo: count, capacity: 1)
      #expect(!middle.isFrozen && root.isFrozen)
      withExtendedLifetime(child) {}
    }
    let child = try model.sequence(after: middle, upTo: 5, capacity: 1)
    #expect(middle.isFrozen)
    withExtendedLifetime(child) {}
    let alone = try model.sequence(after: root, upTo: 0, capacity: 1)
    #expect(alone.count == 0 && alone.room == 1)
    for wrong in [-1, 7, .max, .min] { #expect(throws: SternaError.self) { try model.sequence(after: middle, upTo: wrong, capacity: 1) } }
    #expect(throws: SternaError.self) { try model.sequence(upTo: 1, capacity: 1) }
    #expect(throws: SternaError.self) { try model.sequence(after: middle, upTo: 3, capacity: model.contextLength - 2) }
  }

  /// Drafts of all lengths, some of them accepted in part, at all places: the same bits as token by token without any.
  @Test(arguments: KVFormat.allCases, [(1, 128), (3, 128), (2, 7), (1, 1)])
  func draftsLeaveNoTrace(kv: KVFormat, machine: (threads: Int, batch: Int)) throws {
    var random = SplitMix64(seed: 37)
    // Threads share the work of models that are worth it.
    let packed = try machine.threads > 1 ? Self.pocket.get() : packed("bitnet-silu")
    let model = try model(packed, threads: machine.threads, kv: kv, batchTokens: machine.batch)
    for round in 0..<12 {
      let ids = Self.tokens(70, &random)
      let plain = try model.sequence(capacity: ids.count)
      var want: [Float] = []
      for id in ids { want += try model.forward([Step(sequence: plain, tokens: [id], want: .last)]).values }

      let stem = Int.random(in: 0...40, using: &random)
      let parent = try model.sequence(capacity: stem)
      var got = try model.forward([Step(sequence: parent, tokens: Array(ids[..<stem]), want: .all)]).values
      // Room for the longest draft behind the last token, and sequences on both sides of a group of keys.
      let sequence = try model.sequence(after: parent, capacity: ids.count - stem + (round % 2 == 0 ? 0 : 9))
      var at = stem
      while at < ids.count {
        // The next token, then a draft of which `right` are right.
        let length = min(Int.random(in: 0...8, using: &random), sequence.room - 1)
        let right = min(Int.random(in: 0...length, using: &random), ids.count - at - 1)
        let draft = Array(ids[at..<at + 1 + right]) + Self.tokens(length - right, &random)
        let states = try model.forward([Step(sequence: sequence, tokens: draft, want: .all)])
        got += states.values.prefix((1 + right) * states.width)
        at += 1 + right
        sequence.truncate(to: at)
        #expect(sequence.count == at)
      }
      #expect(got == want, "round \(round)")
    }
  }

  /// The tree's other shape: a verified draft in one sequence of a batch beside others that decode.
  @Test(arguments: KVFormat.allCases) func draftsDoNotDisturbTheirCompany(kv: KVFormat) throws {
    var random = SplitMix64(seed: 41)
    let model = try model(packed("llama-bitlinear"), threads: 2, kv: kv, batchTokens: 16)
    let jobs = (0..<4).map { _ in Self.tokens(30, &random) }
    let want = try jobs.map { try model.run($0).values }
    let sequences = try jobs.map { _ in try model.sequence(capacity: 36) }
    var got = jobs.map { _ in [Float]() }
    var at = [0, 0, 0, 0]
    while let longest = at.min(), longest < 30 {
      var steps: [Step] = []
      var rights: [(job: Int, kept: Int, fed: Int)] = []
      for job in 0..<4 where at[job] < 30 {
        let kept = Int.random(in: 1...min(5, 30 - at[job]), using: &random)
        let draft = Array(jobs[job][at[job]..<at[job] + kept]) + Self.tokens(Int.random(in: 0...6, using: &random), &random)
        steps.append(Step(sequence: sequences[job], tokens: Array(draft.prefix(sequences[job].room)), want: .all))
        rights.append((job, kept, min(draft.count, sequences[job].room)))
      }
      let states = try model.forward(steps)
      var row = 0
      for (job, kept, fed) in rights {
        got[job] += states.values[row * states.width..<(row + kept) * states.width]
        row += fed
        at[job] += kept
        sequences[job].truncate(to: at[job])
      }
    }
    #expect(got == want)
  }
}
