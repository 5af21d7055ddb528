import Basics
import CTernary
import ModelFile

/// What this machine does with ternary weights, measured: how fast memory is read, and what each layout makes of it.
public struct BoxProbe: Sendable {
  /// One layout at a number of threads.
  public struct Rate: Sendable {
    public let layout: TernaryMatrix.Layout
    public let threads: Int
    /// One token: bytes of weights a second, and multiply-adds a second.
    public let decodeBytes: Double
    public let decodeProducts: Double
    /// 64 tokens at once: multiply-adds a second.
    public let prefillProducts: Double
  }

  public let kernel: String
  public let cores: Int
  /// Bytes a second, read once and linearly, by number of threads.
  public let bandwidth: [(threads: Int, bytes: Double)]
  /// int8 multiply-adds a second of the fast layout on a matrix that stays in the cache, by number of threads.
  public let products: [(threads: Int, rate: Double)]
  public let rates: [Rate]

  /// Takes a second or two a number of threads, and `bytes` of memory.
  ///
  /// - Parameter bytes: of weights; more than the caches hold, or decode looks faster than it is.
  /// - Throws: `unsupported` where no kernel passes its self-test.
  public init(threads counts: [Int], bytes: Int = 256 << 20, seconds: Double = 0.25) throws(SternaError) {
    guard let kernels = ct_select(nil)?.pointee else { throw SternaError(.unsupported, "no kernel passes its self-test on this machine") }
    kernel = String(cString: kernels.name)
    cores = counts.max() ?? 1
    let columns = 2560
    let buffer = ProbeBuffer(bytes: bytes)
    var bandwidth: [(threads: Int, bytes: Double)] = []
    var products: [(threads: Int, rate: Double)] = []
    var rates: [Rate] = []
    for count in counts {
      let threads = WorkerThreads(count: count)
      bandwidth.append((count, buffer.readRate(kernels, threads, seconds)))
      products.append((count, buffer.productRate(kernels, threads, .fast, columns: columns, tokens: 64, blocks: 16 * count, seconds)))
      for layout in [TernaryMatrix.Layout.small, .fast] {
        let blockBytes = columns / layout.unitColumns * 64
        let blocks = bytes / blockBytes
        let decode = buffer.productRate(kernels, threads, layout, columns: columns, tokens: 1, blocks: blocks, seconds)
        rates.append(
          Rate(
            layout: layout, threads: count, decodeBytes: decode * Double(blockBytes) / Double(16 * columns), decodeProducts: decode,
            prefillProducts: buffer.productRate(kernels, threads, layout, columns: columns, tokens: 64, blocks: min(blocks, 400), seconds)))
      }
    }
    self.bandwidth = bandwidth
    self.products = products
    self.rates = rates
  }

  /// The number of threads that decodes fastest; fewer where more bring under 5 %.
  public var threads: Int {
    var best = rates.first
    for rate in rates where rate.decodeProducts > (best?.decodeProducts ?? 0) * (rate.threads > (best?.threads ?? 0) ? 1.05 : 1) { best = rate }
    return best?.threads ?? 1
  }

  /// The layout that decodes faster at that number of threads; the small one where they are within 5 %.
  public var layout: TernaryMatrix.Layout {
    func rate(_ layout: TernaryMatrix.Layout) -> Double { rates.first { $0.layout == layout && $0.threads == threads }?.decodeProducts ?? 0 }
    return rate(.fast) > rate(.small) * 1.05 ? .fast : .small
  }
}

/// Weights and activations to measure with. All codes are 1, which is valid in both layouts' arithmetic and takes as long as any.
private final class ProbeBuffer: @unchecked Sendable {
  // @unchecked: weights and activations are only read, and each piece of the output belongs to one task.
  let weights: UnsafeMutablePointer<UInt8>
  let bytes: Int
  let x: QuantizedRows
  let floats = FloatBuffer(count: 4096)
  let out: UnsafeMutablePointer<Int32>
  private static let outCount = 1 << 22

  init(bytes: Int) {
    self.bytes = bytes
    let raw = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 4096)
    weights = raw.bindMemory(to: UInt8.self, capacity: bytes)
    weights.initialize(repeating: 0x55, count: bytes)
    x = QuantizedRows(tokens: 64, columns: 2560, groups: 1)
    out = .allocate(capacity: Self.outCount)
    out.initialize(repeating: 0, count: Self.outCount)
  }

  deinit {
    weights.deallocate()
    out.deallocate()
  }

  /// The best rate of several passes, so that another process's burst does not count.
  private func best(_ seconds: Double, work: Double, _ pass: () -> Void) -> Double {
    let clock = ContinuousClock()
    pass()
    var best = 0.0
    let end = clock.now + .seconds(seconds)
    repeat {
      let start = clock.now
      pass()
      let took = start.duration(to: clock.now)
      best = max(best, work / (Double(took.components.seconds) + Double(took.components.attoseconds) * 1e-18))
    } while clock.now < end
    return best
  }

  func readRate(_ kernels: ct_kernels, _ threads: WorkerThreads, _ seconds: Double) -> Double {
    let values = floats.count
    let chunks = bytes / (values * 4)
    let pieces = threads.count * 4
    let weights = UnsafeRawPointer(self.weights).assumingMemoryBound(to: Float.self)
    return best(seconds, work: Double(chunks * values * 4)) {
      threads.parallel(pieces, work: .max) { piece, _ in
        var sum: Float = 0
        for chunk in chunks * piece / pieces..<chunks * (piece + 1) / pieces { sum += kernels.dot_f32(weights + chunk * values, floats.base, values) }
        out[piece] = sum > 0 ? 1 : 0  // somebody must want the sum
      }
    }
  }

  func productRate(
    _ kernels: ct_kernels, _ threads: WorkerThreads, _ layout: TernaryMatrix.Layout, columns: Int, tokens: Int, blocks: Int, _ seconds: Double
  ) -> Double {
    let multiply = layout == .fast ? kernels.fast_matmul : kernels.small_matmul
    let blockBytes = columns / layout.unitColumns * 64
    let pieces = min(blocks, threads.count * 4)
    let stride = (blocks + pieces - 1) / pieces * 16
    return best(seconds, work: Double(blocks) * 16 * Double(columns) * Double(tokens)) {
      threads.parallel(pieces, work: .max) { piece, _ in
        let first = blocks * piece / pieces
        multiply(
          weights + first * blockBytes, blocks * (piece + 1) / pieces - first, columns, x.values, x.stride, x.sums, tokens,
          out + piece * stride * tokens, stride)
      }
    }
  }
}
