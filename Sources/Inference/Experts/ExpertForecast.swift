import Basics
import CTernary
import ModelFile
import Tokenizer

/// How fast a model with experts on disk will be, from what it takes to compute a token whose experts are in memory, and to read as many as are not.
///
///     seconds a token = computing + blocks with something to read * seconds until the disk begins + bytes to read / disk rate
///
/// with no overlap counted. Computing is measured with the model itself: what memory gives to the best kernel is a third more than what all the small things between
/// the large ones leave of it.
public struct ExpertForecast: Sendable {
  /// What a token reads whatever it is: the body, and the head.
  public let denseBytes: Int
  public let recordBytes: Int
  /// Records of all blocks, and how many of them a token uses.
  public let records: Int
  public let perToken: Int
  /// Experts of a block, and how many of them a token uses.
  public let experts: Int
  public let chosen: Int
  /// Blocks that have experts.
  public let routedBlocks: Int
  /// Of a token whose experts are in memory.
  public let computingSeconds: Double
  /// Nil where the disk could not be measured.
  public let disk: DiskProbe?

  /// Measures the model and the disk, some three seconds and what it takes to read what all tokens need.
  ///
  /// - Parameter options: how the model will run. It is measured with no more in memory than a token needs, under whatever limit.
  /// - Throws: `unsupported` where the model has no experts, or no kernel runs here; `memoryLimit` where this machine has no memory for that.
  public init(_ packed: PackedModel, _ options: ModelOptions, seconds: Double = 1) throws(SternaError) {
    guard let record = packed.weights.record, let mixture = packed.configuration.experts else {
      throw SternaError(.unsupported, "this model has no experts: all of it is read for every token", at: packed.path, remedy: "sterna bench measures it")
    }
    guard let kernels = ct_select(options.kernel)?.pointee else { throw SternaError(.unsupported, "no kernel passes its self-test on this machine") }
    let sizes = ExpertSizes(packed.weights, packed.configuration)
    denseBytes = packed.bodyRange.count + (packed.weights.head ?? packed.weights.embedding).bytes
    recordBytes = record.bytes
    records = sizes.records
    perToken = sizes.perToken
    experts = mixture.router.experts
    chosen = sizes.chosen
    routedBlocks = mixture.routed.count { $0 }
    computingSeconds = try Self.computingSeconds(packed, options, sizes, seconds: seconds)
    let places = packed.weights.expertPlaces.flatMap { $0 ?? [] }
    disk = DiskProbe.fastest(packed.gguf.file, places, options.expertReads, threads: options.expertReaders, together: chosen, kernels: kernels, seconds: seconds)
  }

  /// The part of the experts that a cache has where every expert is as likely as any other: the least that any model gives. 0 below one token's worth.
  public func uniformHitRate(slots: Int) -> Double { slots >= min(perToken, records) ? min(1, Double(slots) / Double(records)) : 0 }

  /// Bytes of weights a second, where all of them are in memory.
  public var memoryRate: Double { Double(denseBytes + perToken * recordBytes) / computingSeconds }

  /// - Parameter hitRate: 0...1
  public func tokensPerSecond(hitRate: Double) -> Double {
    guard hitRate < 1 else { return 1 / computingSeconds }
    let all = (0..<chosen).reduce(1.0) { product, _ in product * hitRate }  // nothing of a block's is missing
    let reading = disk?.seconds(records: Double(perToken) * (1 - hitRate), blocks: Double(routedBlocks) * (1 - all)) ?? .infinity
    return 1 / (computingSeconds + reading)
  }

  /// Experts of one block that a chunk of a prompt needs, where every expert is as likely as any other.
  public func distinctExperts(tokens: Int) -> Double {
    var unused = 1.0
    for _ in 0..<tokens { unused *= 1 - Double(chosen) / Double(experts) }
    return Double(experts) * (1 - unused)
  }

  /// Seconds that the disk takes for a prompt of so many tokens in one chunk.
  public func diskSeconds(prompt tokens: Int, hitRate: Double) -> Double {
    (1 - hitRate) * distinctExperts(tokens: tokens) * Double(records / max(1, experts)) * Double(recordBytes) / max(1, disk?.rate ?? 1)
  }

  /// The median of several passes of one token, and always the same one, so that its experts are there from the second pass on.
  private static func computingSeconds(_ packed: PackedModel, _ options: ModelOptions, _ sizes: ExpertSizes, seconds: Double) throws(SternaError) -> Double {
    var options = options
    options.memoryLimit = nil
    options.expertCacheBytes = sizes.perToken * sizes.recordBytes
    options.contextLength = min(packed.configuration.contextLength, 64)
    options.batchTokens = 1
    options.expertReads = options.expertReads ?? .buffered  // it makes no difference here
    let needed = packed.bodyRange.count + sizes.perToken * sizes.recordBytes
    let available = ProcessMemory.availableBytes
    func isShort() -> SternaError {
      SternaError(
        .memoryLimit, "there is no memory for what a token needs, so nothing can be measured here", at: packed.path, expected: "more than \(needed / 1_000_000) MB",
        found: "\(available / 1_000_000) MB", remedy: "stop what else needs memory, or take a smaller model")
    }
    guard needed < available else { throw isShort() }
    let model = try Model(packed, options: options)
    // A buffer in place of a cache would have the disk in every pass.
    guard model.expertCache?.isCache ?? true else { throw isShort() }
    var times: [Int] = []
    let begin = now()
    repeat {
      let sequence = try model.sequence(capacity: 1)
      let start = now()
      let hidden = try model.forward([Step(sequence: sequence, tokens: [TokenID(1 % packed.configuration.vocabularySize)], want: .last)])
      _ = try model.logits(hidden, row: 0)
      times.append(now() - start)
    } while times.count < 8 || Double(now() - begin) * 1e-9 < seconds && times.count < 1 << 16
    return Double(times.dropFirst().sorted()[(times.count - 1) / 2]) * 1e-9
  }
}
