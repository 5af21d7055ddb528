import Basics
import Foundation
import Inference
import ModelFile
import TestSupport
import Testing

/// Models whose experts stay on disk: nobody can tell from the results.
@Suite struct ExpertDiskTests {
  private func model(
    _ packed: PackedModel, cache: Int?, threads: Int = 1, readers: Int = 4, reads: RecordReads? = nil, batch: Int? = 128, limit: Int? = nil, guesses: Int? = nil, faults: Faults? = nil
  ) throws -> Model {
    var options = ModelOptions()
    options.threads = threads
    options.kv = .q8
    options.batchTokens = batch
    options.expertCacheBytes = cache
    options.expertReaders = readers
    options.expertReads = reads
    options.memoryLimit = limit
    options.expertGuesses = guesses
    options.contextLength = 128
    if let faults {
      options.expertReader = { reader in
        faults.set(reader)
        return faults
      }
    }
    return try Model(packed, options: options)
  }

  private func tokens(_ count: Int, seed: UInt64) -> [Int32] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int32.random(in: 0..<320, using: &random) }
  }

  /// A prompt in one step, then token by token: what a job does.
  private func states(_ model: Model) throws -> [Float] {
    let ids = tokens(40, seed: 2)
    let sequence = try model.sequence(capacity: ids.count)
    var values = try model.forward([Step(sequence: sequence, tokens: Array(ids[..<25]), want: .all)]).values
    for id in ids[25...] { values += try model.forward([Step(sequence: sequence, tokens: [id], want: .all)]).values }
    return values
  }

  @Test(arguments: MixtureTests.mixtures, [WeightStorage.q4_0, .f32]) func cachesReadersAndThreadsChangeNoBit(name: String, storage: WeightStorage) throws {
    let want = try states(model(packed(name, experts: storage), cache: nil))
    for reads in [RecordReads.direct, .buffered, nil] {
      let packed = try packed(name, experts: storage)
      let record = try #require(packed.weights.record).bytes
      let all = packed.weights.expertBytes
      let mixture = try #require(packed.configuration.experts)
      let token = mixture.router.chosen * mixture.routed.count { $0 } * record
      for (cache, threads, readers, batch) in [(0, 4, 4, 128), (2 * record, 1, 1, 128), (token - 1, 4, 4, 7), (token, 2, 4, 128), (all / 2, 1, 4, 16), (all / 2, 4, 1, 128), (all, 4, 4, 128)] {
        let model: Model
        do { model = try self.model(packed, cache: cache, threads: threads, readers: readers, reads: reads, batch: batch) } catch let error as SternaError where reads == .direct && error.code == .unsupported {
          break  // no direct reads in this file system
        }
        #expect(try states(model) == want, "cache of \(cache), \(threads) threads, \(readers) readers")
        let held = try #require(model.expertCache)
        #expect(held.slots * record <= (cache == 0 ? 2 * mixture.router.chosen * record : cache) && held.isCache == (cache >= token))
        let counters = try #require(model.expertCounters)
        #expect(counters.reads > 0 && counters.bytesRead == counters.reads * record && counters.asked >= counters.hits)
        if cache == all { #expect(counters.reads <= all / record) }
      }
    }
  }

  /// What the next block's router says of the stream before this block's experts is only a guess: right or wrong, on time or late, it changes what is read when, and nothing else.
  @Test(arguments: MixtureTests.mixtures, [false, true]) func guessesChangeNoBit(name: String, stumbles: Bool) throws {
    let packed = try packed(name, experts: .q4_0)
    let want = try states(model(packed, cache: nil))
    let record = try #require(packed.weights.record).bytes
    let mixture = try #require(packed.configuration.experts)
    let token = mixture.router.chosen * mixture.routed.count { $0 } * record
    for cache in [token, packed.weights.expertBytes / 2, packed.weights.expertBytes] {
      for (guesses, threads) in [(0, 1), (1, 1), (1, 4), (mixture.router.experts, 1), (mixture.router.experts, 4)] {
        let model = try model(packed, cache: cache, threads: threads, batch: nil, guesses: guesses, faults: stumbles ? Faults(transient: true, damagesFirst: true) : nil)
        #expect(try states(model) == want, "cache of \(cache), \(guesses) guesses, \(threads) threads")
        let counters = try #require(model.expertCounters)
        // Only guesses that were right are counted.
        #expect(guesses == 0 ? counters.guessed == 0 : counters.guessed > 0, "cache of \(cache), \(guesses) guesses, \(threads) threads: \(counters)")
      }
    }
    // No cache, no guesses: they would push out what is needed.
    let none = try model(packed, cache: token - 1, guesses: mixture.router.experts)
    #expect(try states(none) == want)
    #expect(try #require(none.expertCounters).guessed == 0)
  }

  /// Late, in pieces, in any order, damaged at first, refused at first: nothing of it is seen. What stays refused is an error, and the next pass is as if nothing had been.
  @Test(arguments: [RecordReads.direct, .buffered], [1, 4]) func aDiskThatStumblesChangesNoBit(reads: RecordReads, threads: Int) throws {
    let packed = try packed("qwen2-moe", experts: .q4_0)
    let want = try states(model(packed, cache: nil))
    let record = try #require(packed.weights.record).bytes
    let mixture = try #require(packed.configuration.experts)
    let token = mixture.router.chosen * mixture.routed.count { $0 } * record
    for cache in [2 * record, token, packed.weights.expertBytes / 2, packed.weights.expertBytes] {
      let faults = Faults(transient: true, damagesFirst: true)
      let model: Model
      do { model = try self.model(packed, cache: cache, threads: threads, reads: reads, batch: nil, faults: faults) } catch let error as SternaError where error.code == .unsupported {
        return  // no direct reads in this file system
      }
      #expect(try states(model) == want, "cache of \(cache)")
      #expect(try #require(model.expertCounters).retries > 0)
      // The last block's: by then most of the pass is done.
      faults.setBroken(Set(try #require(packed.weights.expertPlaces.last??.map(\.offset))))
      if cache < packed.weights.expertBytes {
        let error = #expect(throws: SternaError.self) { try states(model) }
        #expect(error?.code == .modelIO && error?.cause == "Input/output error")
      }
      faults.setBroken([])
      #expect(try states(model) == want, "cache of \(cache), after a failure")
    }
  }

  @Test func aDamagedRecordFailsThePassAndNothingElse() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("damaged-\(UUID().uuidString).gguf").path
    defer { unlink(path) }
    try Packer.pack(HubFolder(mixtureFolder("mixtral")), to: path, options: PackOptions(embedding: .f32, experts: .q8_0))
    let packed = try PackedModel.open(path)
    let model = try model(packed, cache: 2 * #require(packed.weights.record).bytes)
    let want = try states(model)
    let places = try #require(packed.weights.expertPlaces[1])
    func flip() throws {
      let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
      defer { try? file.close() }
      for place in places {
        try file.seek(toOffset: UInt64(place.offset + 300))
        let byte = try #require(try file.read(upToCount: 1)?.first)
        try file.seek(toOffset: UInt64(place.offset + 300))
        try file.write(contentsOf: Data([byte ^ 1]))
      }
    }
    try flip()
    for _ in 0..<2 {
      let error = #expect(throws: SternaError.self) { try states(model) }
      #expect(error?.code == .modelIO && error?.place?.contains("of block 1") == true && error?.message == "is damaged")
    }
    try flip()
    #expect(try states(model) == want)
  }

  @Test func thePlanSaysWhatExpertsGet() throws {
    let packed = try packed("qwen3-moe", experts: .q4_0)
    let record = try #require(packed.weights.record).bytes
    let everything = try model(packed, cache: nil, limit: 1 << 30)
    #expect(everything.expertCache == nil && everything.expertCounters == nil)
    #expect(everything.memory.entries.contains(.init("experts", packed.weights.expertBytes, "mapped")))
    // A byte less than all of it.
    let some = try model(packed, cache: nil, limit: everything.memory.total - 1)
    #expect(some.expertCache.map { $0.isCache && $0.slots < packed.weights.expertBytes / record } == true)
    #expect(some.memory.total < everything.memory.total)
    #expect(try states(some) == states(everything))
    // Down to two records, and no further.
    var limit = some.memory.total
    while let smaller = try? model(packed, cache: nil, reads: .buffered, limit: limit - 1) {
      #expect(smaller.memory.total <= limit - 1)
      limit = smaller.memory.total
    }
    let least = try model(packed, cache: nil, limit: limit)
    #expect(least.expertCache?.slots == 2 && least.expertCache?.isCache == false)
    #expect(least.memory.entries.first { $0.name == "experts" }?.reason.contains("a buffer of 2 of") == true)
    #expect(try states(least) == states(everything))
    let error = #expect(throws: SternaError.self) { try model(packed, cache: nil, limit: limit - 1) }
    #expect(error?.code == .memoryLimit)
  }

  @Test func aTraceReplaysWhatThePoolDid() throws {
    let packed = try packed("mixtral", experts: .q4_0)
    let record = try #require(packed.weights.record).bytes
    let slots = packed.weights.expertBytes / record * 2 / 3
    let model = try model(packed, cache: slots * record)
    model.traceExperts()
    _ = try states(model)
    let trace = try #require(model.expertTrace)
    let counters = try #require(model.expertCounters)
    #expect(trace.asked == counters.asked)
    #expect(abs(trace.hitRate(.lru, slots: slots) - counters.hitRate) < 1e-12)
    #expect(try ExpertTrace(text: trace.text) == trace)
  }
}

@Suite struct ExpertTraceTests {
  private func trace(_ calls: [[Int]]) throws -> ExpertTrace {
    try ExpertTrace(text: "sterna experts 2 8 4096\n" + calls.map { $0.map(String.init).joined(separator: " ") }.joined(separator: "\n") + "\n")
  }

  @Test func policiesByHand() throws {
    // One expert a call: 0 1 2 0 1 2, two slots: nothing for who forgets the oldest, one of each pair for who knows the future.
    let round = try trace((0..<12).map { [0, $0 % 3] })
    #expect(round.hitRate(.lru, slots: 2) == 0)
    #expect(round.hitRate(.belady, slots: 2) == 6.0 / 12)
    #expect(round.hitRate(.lru, slots: 3) == 9.0 / 12)
    // What is used often stays.
    let often = try trace([[0, 1], [0, 1], [0, 1], [0, 2], [0, 3], [0, 4], [0, 1]])
    #expect(often.hitRate(.lfu, slots: 2) == 3.0 / 7)
    #expect(often.hitRate(.lru, slots: 2) == 2.0 / 7)
    // The same expert of two blocks is two records.
    #expect(try trace([[0, 5], [1, 5], [0, 5], [1, 5]]).hitRate(.lru, slots: 2) == 0.5)
  }

  @Test func nobodyIsBetterThanBeladyAndMoreRoomIsNeverWorse() throws {
    var random = SplitMix64(seed: 3)
    let calls = (0..<400).map { i in [i % 2] + Array((0..<8).shuffled(using: &random).prefix(3)).map { min($0, Int.random(in: 0..<8, using: &random)) }.uniqued().sorted() }
    let trace = try trace(calls)
    var last = [0.0, 0.0, 0.0]
    for slots in 3...16 {
      let rates = ExpertTrace.Policy.allCases.map { trace.hitRate($0, slots: slots) }
      #expect(rates[2] >= rates[0] && rates[2] >= rates[1])
      #expect(rates[0] >= last[0] && rates[2] >= last[2])  // stack algorithms
      last = rates
    }
    #expect(last[0] == last[1] && last[1] == last[2])
  }

  @Test(arguments: [
    "", "sterna experts 2 8", "sterna experts 0 8 4096\n", "sterna experts 2 8 4096\n0\n", "sterna experts 2 8 4096\n2 1\n", "sterna experts 2 8 4096\n0 8\n",
    "sterna experts 2 8 4096\n0 3 3\n", "sterna experts 2 8 4096\n0 x\n", "sterna experts 99999999999999999999 8 4096\n", "GGUF",
  ]) func damagedTracesAreRefused(text: String) {
    #expect(throws: SternaError.self) { try ExpertTrace(text: text) }
  }
}

extension Swift.Sequence where Element: Hashable {
  fileprivate func uniqued() -> [Element] {
    var seen: Set<Element> = []
    return filter { seen.insert($0).inserted }
  }
}
