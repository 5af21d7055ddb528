import Basics
import CTernary
import ModelFile

extension Model {
  /// Where the experts of a model come from: nil where it has none.
  static func expertSource(_ packed: PackedModel, _ options: ModelOptions, _ memory: MemoryPlan, _ kernels: ct_kernels) throws(SternaError) -> (any ExpertSource)? {
    guard packed.weights.record != nil, let experts = packed.configuration.experts else { return nil }
    guard let budget = memory.expertCacheBytes else { return MappedExperts(packed.weights) }
    let file = packed.gguf.file
    // The page cache gives away what was not used for a while, and with experts that stream by, that is soon.
    try file.keepInMemory(packed.bodyRange)
    let places = packed.weights.expertPlaces
    let chosen = experts.router.chosen
    let reads =
      options.expertReads
      ?? DiskProbe.fastest(file, places.flatMap { $0 ?? [] }, threads: options.expertReaders, together: chosen, kernels: kernels, seconds: 0.1)?.reads ?? .buffered
    guard let reader = FileRecords(file, reads) else {
      throw SternaError(
        .unsupported, "this file system has no reads past the page cache", at: packed.path, remedy: "leave the choice to Sterna, or read buffered")
    }
    return try ExpertPool(
      places, chosen: chosen, budget: budget, threads: options.expertReaders,
      reader: options.expertReader?(reader) ?? reader, guesses: options.expertGuesses, path: packed.path, kernels: kernels)
  }

  /// Where the memory of a model would go, without taking it.
  ///
  /// - Throws: `memoryLimit` when the parts do not fit.
  public static func plan(_ packed: PackedModel, options: ModelOptions) throws(SternaError) -> MemoryPlan {
    try MemoryPlan(packed, options, contextLength: options.contextLength ?? packed.configuration.contextLength)
  }

  /// What experts on disk cost so far; nil where there are none.
  public var expertCounters: ExpertCounters? { expertPool?.counters }

  /// How experts on disk are held; nil where there are none.
  public var expertCache: (slots: Int, isCache: Bool, reads: RecordReads)? { expertPool.map { ($0.slots, $0.isCache, $0.reads) } }

  private var expertPool: ExpertPool? { (experts as? TracedExperts)?.source as? ExpertPool ?? experts as? ExpertPool }

  /// Writes down from now on which experts are asked for. Nothing is guessed meanwhile, so that what caches had of it can be compared.
  public func traceExperts() {
    guard let experts, !(experts is TracedExperts), let record = packed.weights.record, let sizes = configuration.experts else { return }
    self.experts = TracedExperts(experts, ExpertTrace(blocks: configuration.blockCount, experts: sizes.router.experts, recordBytes: record.bytes))
  }

  /// What was written down since `traceExperts`.
  public var expertTrace: ExpertTrace? { (experts as? TracedExperts)?.trace }
}

extension ModelWeights {
  /// Where the records of each block lie; nil where it has none.
  package var expertPlaces: [[RecordPlace]?] {
    blocks.enumerated().map { index, block in
      guard case .routed(let routed) = block.feedForward else { return nil }
      let experts = routed.experts
      return (0..<experts.count).map { expert in
        RecordPlace(
          offset: experts.fileOffset + expert * experts.record.bytes, bytes: experts.record.bytes, name: "expert \(expert) of block \(index)",
          checksum: experts.checksums[expert])
      }
    }
  }
}
