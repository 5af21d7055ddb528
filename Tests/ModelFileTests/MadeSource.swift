import Basics
import ModelFile
import TestSupport

/// A model made up by a test: every value of every tensor is in memory, and what is packed can be compared with it.
final class MadeSource: WeightSource {
  enum Scales { case tensor, rows, groups }

  var configuration: ModelConfiguration
  /// By name: norms and tables, row after row.
  var floats: [String: [Float]] = [:]
  /// By name, row after row: -1, 0, 1.
  var weights: [String: [Int8]] = [:]
  /// By name: one, one a row, or one a row and 128 columns.
  var scales: [String: [Float]] = [:]
  let kind: Scales

  init(_ configuration: ModelConfiguration, _ kind: Scales = .tensor, seed: UInt64 = 1) {
    self.configuration = configuration
    self.kind = kind
    var random = SplitMix64(seed: seed)
    for planned in configuration.plan() {
      switch planned.kind {
      case .vector(let count): floats[planned.name] = (0..<count).map { _ in Float.random(in: 0.5...1.5, using: &random) }
      case .table(let rows, let columns): floats[planned.name] = (0..<rows * columns).map { _ in Self.normal(&random) }
      case .ternary(let rows, let columns):
        weights[planned.name] = (0..<rows * columns).map { _ in Int8.random(in: -1...1, using: &random) }
        let count = kind == .tensor ? 1 : kind == .rows ? rows : rows * (columns / 128)
        scales[planned.name] = (0..<count).map { _ in
          let scale = Float.random(in: 0.01...0.1, using: &random)
          return kind == .groups ? Float(Float16(scale)) : scale
        }
      case .matrix, .router, .experts: break  // dense families have none
      }
    }
  }

  /// The sum of twelve uniform numbers: nearly normal, with variance 1.
  static func normal(_ random: inout SplitMix64) -> Float { (0..<12).reduce(-6) { sum, _ in sum + Float.random(in: 0...1, using: &random) } }

  func check(_ plan: [PlannedTensor]) throws(SternaError) {}

  func floats(_ tensor: PlannedTensor, rows: Range<Int>, into: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    let columns = into.count / rows.count
    for i in into.indices { into[i] = floats[tensor.name]?[rows.lowerBound * columns + i] ?? .nan }
  }

  func ternary(_ tensor: PlannedTensor) throws(SternaError) -> TernaryRows {
    guard case .ternary(_, let columns) = tensor.kind, let all = weights[tensor.name], let scales = scales[tensor.name] else {
      throw SternaError(.badFile, "is missing", at: tensor.name)
    }
    let scale: TernaryRows.Scale = kind == .tensor ? .tensor(scales[0]) : kind == .rows ? .rows : .groups
    let count = kind == .tensor ? 0 : kind == .rows ? 1 : columns / 128
    return TernaryRows(scale: scale) { (range, out, scalesOut) throws(SternaError) in
      for i in 0..<range.count * columns { out[i] = all[range.lowerBound * columns + i] }
      for i in 0..<range.count * count { scalesOut[i] = scales[range.lowerBound * count + i] }
    }
  }

  /// Makes a row of a matrix zero.
  func clear(_ name: String, row: Int, columns: Int) {
    weights[name]?.replaceSubrange(row * columns..<(row + 1) * columns, with: [Int8](repeating: 0, count: columns))
  }

  func packed(in scratch: Scratch, _ options: PackOptions = PackOptions(embedding: .f32), as name: String = "made.gguf") throws -> PackedModel {
    try Packer.pack(self, to: scratch[name], options: options)
    return try PackedModel.open(scratch[name])
  }
}

extension ModelConfiguration {
  /// Small, with sizes of which nothing is a whole number of units unless asked for.
  static func made(
    hidden: Int = 72, feedForward: Int = 90, blocks: Int = 2, activation: Activation = .relu2, subNorms: Bool = true, linearNorms: Bool = false,
    vocabulary: Int = 19, tied: Bool = true
  ) -> ModelConfiguration {
    ModelConfiguration(
      architecture: "bitnet", name: "made", vocabularySize: vocabulary, hiddenSize: hidden, blockCount: blocks, queryHeads: 4, kvHeads: 2,
      headSize: hidden % 128 == 0 ? 64 : 18, feedForwardSize: feedForward, contextLength: 64, normEpsilon: 1e-5,
      linearNormEpsilon: linearNorms ? 1e-6 : nil, activation: activation, ropeTheta: 10_000, hasSubNorms: subNorms, tiedHead: tied)
  }
}

/// The parts of a dense block; a test of one of these has no other kind.
extension BlockWeights {
  private var grouped: GroupedAttentionWeights {
    guard case .grouped(let weights) = attention else { preconditionFailure("not a dense block") }
    return weights
  }
  private var dense: FeedForwardWeights {
    guard case .dense(let weights) = feedForward else { preconditionFailure("not a dense block") }
    return weights
  }
  var query: TernaryMatrix { grouped.query.ternary! }
  var key: TernaryMatrix { grouped.key.ternary! }
  var value: TernaryMatrix { grouped.value.ternary! }
  var output: TernaryMatrix { attentionOutput.ternary! }
  var gate: TernaryMatrix { dense.gate.ternary! }
  var up: TernaryMatrix { dense.up.ternary! }
  var down: TernaryMatrix { dense.down.ternary! }
  var queryNorm: FloatVector? { grouped.queryNorm }
  var keyNorm: FloatVector? { grouped.keyNorm }
  var feedForwardSubNorm: FloatVector? { dense.subNorm }

  /// The linears with their names in the file.
  func linears(_ block: Int) -> [(String, TernaryMatrix)] {
    [("attn_q", query), ("attn_k", key), ("attn_v", value), ("attn_output", output), ("ffn_gate", gate), ("ffn_up", up), ("ffn_down", down)]
      .map { ("blk.\(block).\($0.0).weight", $0.1) }
  }
}

extension TernaryMatrix {
  /// A weight straight from the bytes, as docs/format.md says.
  func weight(_ row: Int, _ column: Int) -> Int {
    var stored = column
    var storedColumns = columns
    if case .groups = scale, layout == .small {
      stored = column / 128 * 140 + column % 128
      storedColumns = columns / 128 * 140
    }
    switch layout {
    case .fast:
      let unit = row / 16 * ((storedColumns + 15) / 16) + stored / 16
      let byte = codes[64 * unit + 4 * (row % 16) + stored % 4]
      return Int(byte) / [1, 4, 16, 64][stored % 16 / 4] % 4 - 1
    case .small:
      let unit = row / 16 * ((storedColumns + 19) / 20) + stored / 20
      let byte = codes[64 * unit + 4 * (row % 16) + stored % 4]
      return Int(byte) / [1, 3, 9, 27, 81][stored % 20 / 4] % 3 - 1
    }
  }
}
