import Basics
import Glibc

/// A model of a given shape with random weights: what a real one costs, without downloading it. 42.2 % of its weights are zero, as in
/// BitNet b1.58 2B4T. Scales are such that values keep their size on the way through the blocks, so that nothing overflows and
/// no softmax is one-hot.
///
/// Nothing is held in memory: each value is a function of the seed, its tensor and its place.
public struct DummySource: Sendable {
  public let configuration: ModelConfiguration
  let shape: DummyShape
  private let seed: UInt64
  /// How the matrices of a mixture are made, in blocks where the storage has such, and those of its experts.
  private let trunk: WeightStorage
  private let experts: WeightStorage

  /// - Parameters:
  ///   - blocks: of the shape's, the first so many; nil: all.
  ///   - beginOfText, endOfText: the tokens of the vocabulary that goes with it.
  public init(
    _ shape: DummyShape, blocks: Int? = nil, trunk: WeightStorage = .q8_0, experts: WeightStorage = .q4_0, seed: UInt64 = 0, beginOfText: Int32? = nil,
    endOfText: Int32? = nil
  ) {
    self.shape = shape
    self.seed = seed
    self.trunk = trunk
    self.experts = experts
    var configuration = shape.configuration(blocks: blocks)
    configuration.beginOfText = beginOfText
    configuration.endOfText = endOfText.map { [$0] } ?? []
    self.configuration = configuration
  }

  /// Random bits of a place in a tensor: a counter behind a mixing function (SplitMix64), so any place can be read alone.
  private struct Stream {
    let key: UInt64

    init(seed: UInt64, _ name: String) {
      // FNV-1a over the name.
      key = name.utf8.reduce(0xCBF2_9CE4_8422_2325 ^ Stream.mixed(seed)) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
    }

    @inline(__always) func bits(_ index: Int) -> UInt64 { Stream.mixed(key &+ UInt64(truncatingIfNeeded: index) &* 0x9E37_79B9_7F4A_7C15) }

    @inline(__always) private static func mixed(_ value: UInt64) -> UInt64 {
      var z = value
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
  }

  /// Of 256 values of a byte, 74 mean -1 and 74 mean 1: 42.2 % zeros.
  private static let weightOfByte: [Int8] = (0..<256).map { $0 < 74 ? -1 : $0 < 148 ? 1 : 0 }
  private static let nonzero = 148.0 / 256
}

extension DummySource: WeightSource {
  package func check(_ plan: [PlannedTensor]) throws(SternaError) {}

  /// The deviation of logits. A token that is fed in has a larger one of its own, since its embedding is still in the residual stream:
  /// this is small enough for it not to win always.
  private static let logitDeviation: Float = 1.5

  /// Norms are near 1. Embeddings are nearly normally distributed, so small that logits, sums of hiddenSize products with values of
  /// magnitude 1, have that deviation.
  package func floats(_ tensor: PlannedTensor, rows: Range<Int>, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    let stream = Stream(seed: seed, tensor.name)
    let isVector = if case .vector = tensor.kind { true } else { false }
    let isMatrix = switch tensor.kind { case .matrix, .router: true default: false }
    let columns = rows.isEmpty ? 0 : out.count / rows.count
    let first = rows.lowerBound * columns
    // The sum of four uniform numbers in 0...1 has mean 2 and variance 1/3.
    let factor = isVector ? 0.05 : isMatrix ? (3 / Float(columns)).squareRoot() : Self.logitDeviation / Float(configuration.hiddenSize).squareRoot() * Float(3).squareRoot()
    for i in 0..<out.count {
      let bits = stream.bits(first + i)
      let sum = (bits & 0xFFFF) &+ (bits >> 16 & 0xFFFF) &+ (bits >> 32 & 0xFFFF) &+ bits >> 48
      let centred = Float(Int32(truncatingIfNeeded: sum) &- 131_070) * (1 / 65_535)
      out[i] = isVector ? 1 + centred * factor : centred * factor
    }
  }

  /// Matrices of mixtures are made in the form in which they are stored: a model of 16 GB would take hours as floats.
  package func storage(_ tensor: PlannedTensor) throws(SternaError) -> WeightStorage? {
    guard case .matrix(_, let columns, _) = tensor.kind else { return nil }
    let storage = if case .block(_, .expert) = tensor.part { experts } else { trunk }
    return storage == .f32 || columns % 32 != 0 ? nil : storage
  }

  /// Random codes, with scales that keep the size of values on the way through the blocks. The mean of all codes is not zero; with scales of either sign that
  /// of the weights is. Else every product would have a part in the same direction, larger from block to block, and all tokens would choose the same experts.
  package func blocks(_ tensor: PlannedTensor, rows: Range<Int>, into out: UnsafeMutableRawBufferPointer) throws(SternaError) {
    guard case .matrix(_, let columns, _) = tensor.kind, let storage = try storage(tensor), let start = out.baseAddress else { return }
    let stream = Stream(seed: seed, tensor.name + "#\(tensor.part)")
    // Root mean squares of random codes.
    let deviation: Float =
      switch storage {
      case .f32: 1
      case .q8_0: 73.9
      case .q4_0: 4.64
      case .mxfp4: 5.85 / 2
      case .iq4_nl: 68.6
      }
    let scale = Self.gain(tensor.part, configuration) / (Float(columns).squareRoot() * deviation)
    let bytes = storage.blockBytes
    let exponent = UInt8(127 + Int(log2(scale).rounded()))  // MXFP4, whose codes have the mean zero
    let half = Float16(scale).bitPattern
    let words = (bytes + 7) / 8
    let first = rows.lowerBound * (columns / 32)
    for block in 0..<rows.count * (columns / 32) {
      let to = start + block * bytes
      let index = (first + block) &* (words &+ 1)
      for word in 0..<words {
        var bits = stream.bits(index &+ word).littleEndian
        memcpy(to + 8 * word, &bits, min(8, bytes - 8 * word))
      }
      guard storage != .mxfp4 else {
        to.storeBytes(of: exponent, as: UInt8.self)
        continue
      }
      let sign = UInt16(truncatingIfNeeded: stream.bits(index &+ words)) & 0x8000
      to.storeBytes(of: (half | sign).littleEndian, as: UInt16.self)
    }
  }

  /// The size of what a matrix gives for values of size 1. What goes back into the residual stream is a tenth of the embeddings in it: attention gives all tokens of
  /// a text much the same, and if that prevailed, so would the same few experts.
  private static func gain(_ part: ModelPart, _ c: ModelConfiguration) -> Float {
    switch part {
    case .block(_, .linear(.output)), .block(_, .linear(.down)), .block(_, .linear(.sharedDown)), .block(_, .expert(_, .down)):
      0.1 * logitDeviation / Float(c.hiddenSize).squareRoot()
    default: 1
    }
  }

  package func ternary(_ tensor: PlannedTensor) throws(SternaError) -> TernaryRows {
    guard case .ternary(let rowCount, let columns) = tensor.kind, case .block(let block, .linear(let linear)) = tensor.part else {
      throw SternaError(.badFile, "not a matrix", at: tensor.name)
    }
    let stream = Stream(seed: seed, tensor.name)
    let scaleStream = Stream(seed: seed, PackedFormat.scaleName(tensor.name))
    // Random products of values of magnitude 1 add up to sqrt(nonzero * columns). What goes back into the residual stream is as large
    // as the embeddings in it.
    let gain: Float = linear == .output || linear == .down ? Self.logitDeviation / Float(configuration.hiddenSize).squareRoot() : 1
    let scale = gain / Float(Self.nonzero * Double(columns)).squareRoot()
    let dead = linear == .gate || linear == .up ? deadRows(block: block, of: rowCount) : []
    let groups = shape.groupsScales ? columns / 128 : 0
    return TernaryRows(scale: groups > 0 ? .groups : .tensor(scale)) { (range, weights, scales) throws(SternaError) in
      let words = (columns + 7) / 8
      Self.weightOfByte.withUnsafeBufferPointer { weightOfByte in
        for (i, row) in range.enumerated() {
          let out = weights + i * columns
          if !dead.isEmpty, dead[row] {
            out.update(repeating: 0, count: columns)
            continue
          }
          for word in 0..<columns / 8 {
            let bits = stream.bits(row &* words &+ word)
            for k in 0..<8 { out[word &* 8 &+ k] = weightOfByte[Int(truncatingIfNeeded: bits &>> UInt64(8 &* k) & 0xFF)] }
          }
          let bits = stream.bits(row &* words &+ columns / 8)
          for k in 0..<columns % 8 { out[columns / 8 * 8 + k] = weightOfByte[Int(truncatingIfNeeded: bits >> UInt64(8 * k) & 0xFF)] }
        }
      }
      // Within a factor of two of each other.
      for i in 0..<range.count * groups {
        let part = Float(scaleStream.bits(range.lowerBound * groups + i) & 0xFFFF) / 65_536
        scales[i] = Float(Float16(scale * (0.7 + 0.6 * part)))
      }
    }
  }

  /// Which rows of gate and up are zero; empty where none is.
  private func deadRows(block: Int, of rows: Int) -> [Bool] {
    let count = min(shape.deadNeurons(block: block), rows)
    guard count > 0 else { return [] }
    let stream = Stream(seed: seed, "dead neurons of block \(block)")
    var dead = [Bool](repeating: false, count: rows)
    for row in (0..<rows).sorted(by: { (stream.bits($0), $0) < (stream.bits($1), $1) }).prefix(count) { dead[row] = true }
    return dead
  }
}
