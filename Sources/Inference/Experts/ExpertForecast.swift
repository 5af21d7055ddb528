import Basics
import CTernary
import ModelFile

/// How fast a model with experts on disk will be, from what this machine's memory and disk give and what the model's header says. Nothing is run.
///
///     seconds a token = dense bytes / memory rate + bytes of its experts / memory rate + (1 - hit rate) * bytes of its experts / disk rate
///
/// with no overlap counted, nor attention over long contexts: both are small beside the rest, and of opposite sign.
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
  /// Bytes of weights a second, one token at a time, from memory.
  public let memoryRate: Double
  /// Nil where the disk could not be measured.
  public let disk: DiskProbe?

  /// Measures memory and disk, some two seconds.
  ///
  /// - Throws: `unsupported` where the model has no experts, or no kernel runs here.
  public init(_ packed: PackedModel, threads: Int, readers: Int, reads: RecordReads?, seconds: Double = 1) throws(SternaError) {
    guard let record = packed.weights.record, let mixture = packed.configuration.experts else {
      throw SternaError(.unsupported, "this model has no experts: all of it is read for every token", at: packed.path, remedy: "sterna bench measures it")
    }
    guard let kernels = ct_select(nil)?.pointee else { throw SternaError(.unsupported, "no kernel passes its self-test on this machine") }
    let sizes = ExpertSizes(packed.weights, packed.configuration)
    denseBytes = packed.bodyRange.count + (packed.weights.head ?? packed.weights.embedding).bytes
    recordBytes = record.bytes
    records = sizes.records
    perToken = sizes.perToken
    experts = mixture.router.experts
    chosen = sizes.chosen
    memoryRate = Self.memoryRate(kernels, record.storage, threads: threads, seconds: seconds / 4)
    let places = packed.weights.expertPlaces.flatMap { $0 ?? [] }
    disk =
      if let reads { DiskProbe(packed.gguf.file, places, reads, threads: readers, seconds: seconds) } else {
        DiskProbe.fastest(packed.gguf.file, places, threads: readers, seconds: seconds)
      }
  }

  /// The part of the experts that a cache has where every expert is as likely as any other: the least that any model gives. 0 below one token's worth.
  public func uniformHitRate(slots: Int) -> Double { slots >= min(perToken, records) ? min(1, Double(slots) / Double(records)) : 0 }

  /// - Parameter hitRate: 0...1
  public func tokensPerSecond(hitRate: Double) -> Double {
    let experts = Double(perToken * recordBytes)
    let memory = (Double(denseBytes) + experts) / memoryRate
    return 1 / (memory + (hitRate >= 1 ? 0 : (1 - hitRate) * experts / max(1, disk?.rate ?? 1)))
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

  /// The best of several passes over more bytes than the caches hold.
  private static func memoryRate(_ kernels: ct_kernels, _ storage: WeightStorage, threads count: Int, seconds: Double) -> Double {
    let columns = 2048
    let kind = storage.brickKind ?? CT_BRICK_Q8_0
    let blockBytes = ct_brick_bytes(kind, 16, columns)
    let blocks = (256 << 20) / blockBytes
    guard let memory = SlotMemory(slots: 1, slotBytes: (blocks * blockBytes + 4095) / 4096 * 4096) else { return 1 }
    let weights = memory[0].bindMemory(to: UInt8.self, capacity: blocks * blockBytes)
    weights.initialize(repeating: 0x11, count: blocks * blockBytes)
    let threads = WorkerThreads(count: count)
    let x = BrickRows(tokens: 1, columns: columns)
    let input = FloatBuffer(count: columns), out = FloatBuffer(count: blocks * 16)
    x.set(0, input.base, columns, kernels)
    nonisolated(unsafe) let (codes, output) = (weights, out.base)  // each piece writes its own part
    let pieces = count * 4
    var best = 0.0
    let begin = now()
    repeat {
      let start = now()
      threads.parallel(pieces, work: .max) { piece, _ in
        let first = blocks * piece / pieces
        kernels.brick_matmul(
          kind, codes + first * blockBytes, blocks * (piece + 1) / pieces - first, columns / 32, x.values(0), x.stride, x.sums(0, columns: columns), x.scales(0, columns: columns), 1, output + first * 16,
          blocks * 16)
      }
      best = max(best, Double(blocks * blockBytes) / (Double(now() - start) * 1e-9))
    } while Double(now() - begin) * 1e-9 < seconds
    return best
  }
}
