import Basics
import Inference
import ModelFile
import TestSupport
import Testing

/// Jobs as an engine runs them: prompt, text and what stands behind it, with a cache.
struct CachedJob {
  var prompt: [Int32]
  var text: [Int32]
  var suffix: [Int32]
  var tokens: [Int32] { prompt + text + suffix }

  /// The hidden states behind the suffix' tokens, with whatever the cache has, and everything offered to it.
  func run(_ model: Model, _ cache: PrefixCache, room: Int = 5) throws -> [Float] {
    var match = cache.find(tokens, prompt: prompt.count)
    if match?.count ?? 0 < prompt.count {
      let start = match?.count ?? 0
      let sequence = try model.sequence(after: match?.sequence, upTo: start, capacity: prompt.count - start)
      _ = try model.forward([Step(sequence: sequence, tokens: Array(prompt[start...]), want: .none)])
      match = cache.insert(sequence, tokens: prompt, isPrompt: true)
    }
    let start = match?.count ?? 0
    let text = prompt + self.text
    let sequence = try model.sequence(after: match?.sequence, upTo: start, capacity: tokens.count - start + room)
    var states: [Float] = []
    let common = min(start, text.count)
    if common < text.count { _ = try model.forward([Step(sequence: sequence, tokens: Array(text[common...]), want: .none)]) }
    states += try model.forward([Step(sequence: sequence, tokens: Array(tokens[max(start, text.count)...]), want: .last)]).values
    cache.insert(sequence, tokens: text, isPrompt: false)
    // The answer comes behind what the cache may have taken.
    if !sequence.isFrozen { states += try model.forward([Step(sequence: sequence, tokens: Array(repeating: 7, count: room), want: .last)]).values }
    return states
  }

  /// The same without one.
  func runAlone(_ model: Model, room: Int = 5) throws -> [Float] {
    let all = try model.run(tokens + Array(repeating: 7, count: room))
    return Array(all.values[(tokens.count - 1) * all.width..<tokens.count * all.width] + all.values.suffix(all.width))
  }
}

@Suite struct PrefixCacheTests {
  static func tokens(_ count: Int, _ random: inout SplitMix64) -> [Int32] { (0..<count).map { _ in Int32.random(in: 0..<320, using: &random) } }

  private func filled(_ model: Model, _ tokens: [Int32]) throws -> Sequence {
    let sequence = try model.sequence(capacity: tokens.count)
    _ = try model.forward([Step(sequence: sequence, tokens: tokens, want: .none)])
    return sequence
  }

  /// A child of what the cache knows, or a sequence of its own, with all of the tokens.
  private func filled(_ model: Model, _ tokens: [Int32], _ cache: PrefixCache, prompt: Int) throws -> Sequence {
    let match = cache.find(tokens, prompt: prompt)
    let sequence = try model.sequence(after: match?.sequence, upTo: match?.count, capacity: tokens.count - (match?.count ?? 0))
    _ = try model.forward([Step(sequence: sequence, tokens: Array(tokens[(match?.count ?? 0)...]), want: .none)])
    return sequence
  }

  // MARK: - Results

  /// Random tasks whose prompts share beginnings, texts that do, budgets from nothing to plenty.
  @Test(arguments: KVFormat.allCases, [0, 60, 200, 2000]) func resultsDoNotDependOnTheCache(kv: KVFormat, budgetTokens: Int) throws {
    var random = SplitMix64(seed: UInt64(budgetTokens) + 1)
    let packed = try packed("bitnet-offline")
    let plain = try model(packed, kv: kv)
    let model = try model(packed, threads: 2, kv: kv, kvBudgetBytes: 1 << 24)
    let cache = PrefixCache(model, budgetBytes: budgetTokens * model.kvBytesPerToken)
    let opening = Self.tokens(20, &random)
    let prompts = [3, 17, 40, 61].map { opening.prefix($0 / 2) + Self.tokens($0 - min($0 / 2, 20), &random) }
    let headers = [16, 30, 45].map { Self.tokens($0, &random) }
    for round in 0..<60 {
      var text = Self.tokens(Int.random(in: 0...40, using: &random), &random)
      if Bool.random(using: &random), let header = headers.randomElement(using: &random) { text = header + text }
      let job = CachedJob(
        prompt: Array(prompts[Int.random(in: 0..<prompts.count, using: &random)]), text: text,
        suffix: Self.tokens(Int.random(in: 1...6, using: &random), &random))
      #expect(try job.run(model, cache) == job.runAlone(plain), "round \(round)")
      #expect(cache.statistics.bytes == model.kvBytesInUse && cache.statistics.bytes <= budgetTokens * model.kvBytesPerToken)
    }
    let found = cache.statistics
    #expect(found.searches == 60 && (budgetTokens == 0) == (found.promptsFound == 0) && (budgetTokens < 100 || found.evictions > 0 || budgetTokens == 2000))
    if budgetTokens == 2000 { #expect(found.texts > 10 && found.prompts == 4 && found.tokensFound > found.tokensAsked / 3) }
    cache.removeAll()
    #expect(model.kvBytesInUse == 0 && cache.statistics.bytes == 0)
  }

  /// Where an entry's keys and values are copied, they are copied right: from any place of a group or pair to any other, across ancestors.
  @Test(arguments: KVFormat.allCases) func copiesAreExact(kv: KVFormat) throws {
    var random = SplitMix64(seed: 43)
    let model = try model(packed("bitnet-online"), kv: kv)
    let cache = PrefixCache(model, budgetBytes: 1 << 30)
    for _ in 0..<40 {
      cache.removeAll()
      let ids = Self.tokens(90, &random)
      // The job's tokens in three sequences, some with room to spare; the cache knows another division of them.
      var job: Sequence?
      var at = 0
      for end in [Int.random(in: 0...30, using: &random), Int.random(in: 31...60, using: &random), 80] {
        let next = try model.sequence(after: job, capacity: end - at + Int.random(in: 0...3, using: &random))
        _ = try model.forward([Step(sequence: next, tokens: Array(ids[at..<end]), want: .none)])
        (job, at) = (next, end)
      }
      let sequence = try #require(job)
      let prompt = Int.random(in: 1...40, using: &random)
      cache.insert(sequence, tokens: Array(ids[..<prompt]), isPrompt: true)
      cache.insert(sequence, tokens: Array(ids[..<Int.random(in: 60...80, using: &random)]), isPrompt: false)
      #expect(cache.statistics.prompts == 1 && cache.statistics.texts == 1)
      job = nil
      let cut = Int.random(in: prompt + 16...60, using: &random)
      let asked = Array(ids[..<cut]) + Self.tokens(7, &random)
      let match = try #require(cache.find(asked, prompt: prompt))
      #expect(match.count >= cut)
      let rest = Array(asked[match.count...])
      let child = try model.sequence(after: match.sequence, upTo: match.count, capacity: rest.count)
      let want = try model.run(asked).values.suffix(rest.count * model.configuration.hiddenSize)
      #expect(try model.forward([Step(sequence: child, tokens: rest, want: .all)]).values == Array(want))
    }
  }

  // MARK: - What is found

  @Test func theLongestBeginningIsFound() throws {
    var random = SplitMix64(seed: 47)
    let model = try model(packed("bitnet-offline"))
    let cache = PrefixCache(model, budgetBytes: 1 << 30)
    let prompt = Self.tokens(20, &random)
    let header = Self.tokens(30, &random)
    let bodies = (0..<3).map { _ in Self.tokens(25, &random) }
    #expect(cache.find(prompt + header, prompt: 20) == nil)
    let root = cache.insert(try filled(model, prompt), tokens: prompt, isPrompt: true).sequence
    #expect(root.isFrozen && cache.statistics.bytes == 20 * model.kvBytesPerToken)

    func found(_ tokens: [Int32]) -> Int { cache.find(tokens, prompt: 20)?.count ?? 0 }
    #expect(found(prompt + header) == 20)
    #expect(found(prompt) == 19, "the last token is left to run")
    #expect(found(Array(prompt[..<17]) + [1, 2, 3, 4]) == 17 && found(Array(prompt[..<12]) + [1, 2, 3, 4]) == 0)
    for (i, body) in bodies.enumerated() {
      let text = prompt + header + body
      #expect(found(text + [1]) == (i == 0 ? 20 : 50))
      cache.insert(try filled(model, text, cache, prompt: 20), tokens: text, isPrompt: false)
      #expect(found(text + [1]) == 75)
      // Each only costs what it adds.
      #expect(cache.statistics.bytes == (20 + 30 + 25 * (i + 1)) * model.kvBytesPerToken)
    }
    // The same text once more, and one that adds little, cost nothing.
    cache.insert(try filled(model, prompt + header + bodies[1]), tokens: prompt + header + bodies[1], isPrompt: false)
    let longer = prompt + header + bodies[2] + Self.tokens(PrefixCache.leastShared - 1, &random)
    cache.insert(try filled(model, longer), tokens: longer, isPrompt: false)
    #expect(cache.statistics.texts == 3 && cache.statistics.bytes == 125 * model.kvBytesPerToken)
    // Two jobs ran the same text side by side, the second with all of it in a sequence of its own.
    let text = prompt + header + bodies[0] + Self.tokens(20, &random)
    cache.insert(try filled(model, text), tokens: text, isPrompt: false)
    #expect(cache.statistics.bytes == 145 * model.kvBytesPerToken)
  }

  @Test func chainsOfTextsEnd() throws {
    var random = SplitMix64(seed: 53)
    let model = try model(packed("bitnet-offline"))
    let cache = PrefixCache(model, budgetBytes: 1 << 30)
    var tokens: [Int32] = []
    for _ in 0..<12 {
      tokens += Self.tokens(16, &random)
      cache.insert(try filled(model, tokens, cache, prompt: 0), tokens: tokens, isPrompt: false)
    }
    #expect(cache.statistics.texts == 8)
    #expect(cache.find(tokens, prompt: 0)?.count == 8 * 16)
  }

  @Test func whatIsNotTheModelsIsNotStored() throws {
    let (own, other) = (try model(packed("bitnet-silu")), try model(packed("bitnet-offline")))
    let cache = PrefixCache(own, budgetBytes: 1 << 30)
    let foreign = try filled(other, [1, 2, 3])
    #expect(cache.insert(foreign, tokens: [1, 2, 3], isPrompt: true).sequence === foreign)
    let short = try filled(own, [1, 2, 3])
    #expect(cache.insert(short, tokens: [1, 2, 3, 4], isPrompt: true).sequence === short && !short.isFrozen)
    #expect(cache.insert(short, tokens: [], isPrompt: true).sequence === short)
    #expect(cache.statistics.bytes == 0 && cache.find([], prompt: 0) == nil && cache.find([1], prompt: 5) == nil)
  }

  // MARK: - What is let go

  @Test func textsGoBeforePromptsAndTheOldestFirst() throws {
    var random = SplitMix64(seed: 59)
    let model = try model(packed("bitnet-offline"))
    let token = model.kvBytesPerToken
    let cache = PrefixCache(model, budgetBytes: 100 * token)
    let prompts = (0..<3).map { _ in Self.tokens(20, &random) }
    for prompt in prompts[..<2] { cache.insert(try filled(model, prompt), tokens: prompt, isPrompt: true) }
    let texts = (0..<4).map { prompts[0] + Self.tokens($0 == 3 ? 40 : 20, &random) }
    func holds(_ tokens: [Int32]) -> Bool { cache.find(tokens + [0], prompt: 0)?.count == tokens.count }
    for text in texts[..<3] { cache.insert(try filled(model, text, cache, prompt: 20), tokens: text, isPrompt: false) }
    #expect(cache.statistics.bytes == 100 * token && cache.statistics.evictions == 0)
    #expect(holds(texts[0]))
    // 40 tokens: the two texts that were not asked for lately.
    cache.insert(try filled(model, texts[3], cache, prompt: 20), tokens: texts[3], isPrompt: false)
    #expect(cache.statistics.evictions == 2 && cache.statistics.bytes == 100 * token)
    #expect(holds(texts[0]) && !holds(texts[1]) && !holds(texts[2]) && holds(texts[3]))
    // A prompt: a text goes, although the prompt of the second task is older.
    cache.insert(try filled(model, prompts[2]), tokens: prompts[2], isPrompt: true)
    #expect(!holds(texts[0]) && holds(texts[3]) && prompts.allSatisfy(holds))
    // A text that only prompts could make room for is not stored.
    let large = prompts[1] + Self.tokens(90, &random)
    cache.insert(try filled(model, large, cache, prompt: 20), tokens: large, isPrompt: false)
    #expect(cache.statistics.prompts == 3 && cache.statistics.texts == 1)
    // Prompts go for prompts.
    let big = Self.tokens(75, &random)
    #expect(holds(prompts[1]) && holds(prompts[2]))
    cache.insert(try filled(model, big), tokens: big, isPrompt: true)
    #expect(cache.statistics.texts == 0 && cache.statistics.prompts == 2 && holds(prompts[2]) && holds(big))
    // And what is larger than the budget costs nobody anything.
    let huge = Self.tokens(101, &random)
    let own = try filled(model, huge)
    #expect(cache.insert(own, tokens: huge, isPrompt: true).sequence === own && cache.statistics.prompts == 2)
  }

  @Test func whatIsInUseStays() throws {
    var random = SplitMix64(seed: 61)
    let packed = try packed("bitnet-offline")
    let token = try model(packed).kvBytesPerToken
    let model = try model(packed, kvBudgetBytes: 100 * token)
    let cache = PrefixCache(model, budgetBytes: 80 * token)
    let prompt = Self.tokens(20, &random)
    cache.insert(try filled(model, prompt), tokens: prompt, isPrompt: true)
    let text = prompt + Self.tokens(30, &random)
    cache.insert(try filled(model, text, cache, prompt: 20), tokens: text, isPrompt: false)
    #expect(model.kvBytesInUse == 50 * token && model.kvBytesFree == 50 * token)
    do {
      // A job behind a part of the text keeps the text and its prompt.
      let match = try #require(cache.find(Array(text[..<40]) + [1, 2], prompt: 20))
      let job = try model.sequence(after: match.sequence, upTo: match.count, capacity: 50)
      #expect(!cache.makeRoom(bytes: 1) && cache.statistics.bytes == 50 * token)
      cache.removeAll()
      #expect(cache.statistics.texts == 1 && cache.statistics.prompts == 1)
      withExtendedLifetime(job) {}
    }
    do {
      // As does somebody who is about to continue it.
      let match = try #require(cache.find(text + [1], prompt: 20))
      #expect(!cache.makeRoom(bytes: 60 * token) && cache.statistics.texts == 1)
      withExtendedLifetime(match) {}
    }
    // Without effect where it is not enough anyway.
    #expect(!cache.makeRoom(bytes: 101 * token) && cache.statistics.texts == 1)
    #expect(cache.makeRoom(bytes: 60 * token) && cache.statistics.texts == 0 && cache.statistics.prompts == 1)
    #expect(cache.makeRoom(bytes: 80 * token) && cache.statistics.prompts == 1)
    #expect(cache.makeRoom(bytes: 81 * token) && cache.statistics.prompts == 0 && model.kvBytesInUse == 0)
  }

  /// Copies come out of the model's budget: where that is used up, texts make room, and else nothing is stored.
  @Test func theModelsBudgetHolds() throws {
    var random = SplitMix64(seed: 67)
    let packed = try packed("bitnet-offline")
    let token = try model(packed).kvBytesPerToken
    let model = try model(packed, kvBudgetBytes: 100 * token)
    let cache = PrefixCache(model, budgetBytes: 1 << 30)
    let first = Self.tokens(30, &random)
    cache.insert(try filled(model, first), tokens: first, isPrompt: false)
    let second = Self.tokens(40, &random)
    let sequence = try model.sequence(capacity: 41)
    _ = try model.forward([Step(sequence: sequence, tokens: second, want: .none)])
    // 30 and 41 are taken, and the copy needs 40.
    cache.insert(sequence, tokens: second, isPrompt: false)
    #expect(cache.statistics.texts == 1 && cache.statistics.bytes == 40 * token && model.kvBytesInUse == 81 * token)
    let other = try model.sequence(capacity: 19)
    cache.insert(sequence, tokens: second, isPrompt: true)
    #expect(cache.statistics.prompts == 1 && cache.statistics.texts == 0)
    cache.insert(sequence, tokens: Array(second[..<39]), isPrompt: true)
    #expect(cache.statistics.prompts == 1 && model.kvBytesInUse == 99 * token)
    withExtendedLifetime(other) {}
  }
}
