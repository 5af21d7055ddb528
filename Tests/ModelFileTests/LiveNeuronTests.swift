import Basics
import Foundation
import ModelFile
import TestSupport
import Testing

/// Neurons of the feed-forward part that are always zero are not stored, and nothing else changes.
@Suite struct LiveNeuronTests {
  /// Kills some neurons of every block by their gate row, their up row or both. Returns those that stay.
  private func kill(_ source: MadeSource) -> [[Int]] {
    let c = source.configuration
    return (0..<c.blockCount).map { block in
      var live: [Int] = []
      for neuron in 0..<c.feedForwardSize {
        switch (neuron + block) % 7 {
        case 1: source.clear("blk.\(block).ffn_gate.weight", row: neuron, columns: c.hiddenSize)
        case 2: source.clear("blk.\(block).ffn_up.weight", row: neuron, columns: c.hiddenSize)
        case 5 where neuron > 40:
          source.clear("blk.\(block).ffn_gate.weight", row: neuron, columns: c.hiddenSize)
          source.clear("blk.\(block).ffn_up.weight", row: neuron, columns: c.hiddenSize)
        default: live.append(neuron)
        }
      }
      return live
    }
  }

  @Test(arguments: TernaryMatrix.Layout.allCases, [MadeSource.Scales.tensor, .rows]) func whatStaysIsUnchanged(layout: TernaryMatrix.Layout, kind: MadeSource.Scales) throws {
    let scratch = try Scratch()
    let source = MadeSource(.made(linearNorms: true), kind)
    let live = kill(source)
    let model = try source.packed(in: scratch, PackOptions(embedding: .f32, layout: layout))
    defer { withExtendedLifetime(model) {} }
    try model.verify()
    #expect(model.configuration.feedForwardSize == 90)
    #expect(model.gguf.metadata["sterna.feed_forward.live"]?.ints == live.map(\.count))
    for (i, block) in model.weights.blocks.enumerated() {
      for (name, matrix) in block.linears(i) {
        let isInner = name.contains("gate") || name.contains("up")
        let isDown = name.contains("down")
        let rows = isInner ? live[i] : Array(0..<matrix.rows)
        let columns = isDown ? live[i] : Array(0..<matrix.columns)
        #expect(matrix.rows == rows.count && matrix.columns == columns.count)
        let width = isDown ? 90 : matrix.columns
        let weights = try #require(source.weights[name])
        var wrong = 0
        for (r, row) in rows.enumerated() { for (c, column) in columns.enumerated() where matrix.weight(r, c) != Int(weights[row * width + column]) { wrong += 1 } }
        #expect(wrong == 0, "\(name)")
        if case .rows(let stored) = matrix.scale {
          let scales = try #require(source.scales[name])
          #expect(Array(stored.array.prefix(rows.count)) == rows.map { scales[$0] })
        }
      }
      let subNorm = try #require(source.floats["blk.\(i).ffn_sub_norm.weight"])
      #expect(block.feedForwardSubNorm?.array == live[i].map { subNorm[$0] })
      let inputNorm = try #require(source.floats["blk.\(i).ffn_down.input_norm"])
      #expect(block.down.inputNorm?.array == live[i].map { inputNorm[$0] })
      #expect(block.up.inputNorm?.array == source.floats["blk.\(i).ffn_up.input_norm"])
    }
  }

  /// The feed-forward part in double precision, from weights however they are stored: `width` is the mean square's divisor.
  private func feedForward(
    _ x: [Double], gate: (Int, Int) -> Int, up: (Int, Int) -> Int, down: (Int, Int) -> Int, rows: Int, norm: [Float]?, width: Int,
    scales: (gate: Float, up: Float, down: Float), activation: ModelConfiguration.Activation
  ) -> [Double] {
    func quantised(_ x: [Double]) -> (q: [Int], s: Double) {
      let s = 127 / max(x.map(abs).max() ?? 0, 1e-5)
      return (x.map { Int(max(-128, min(127, ($0 * s).rounded(.toNearestOrEven)))) }, s)
    }
    let (q, s) = quantised(x)
    var inner: [Double] = (0..<rows).map { row in
      let g = Double(q.indices.reduce(0) { $0 + gate(row, $1) * q[$1] }) * Double(scales.gate) / s
      let u = Double(q.indices.reduce(0) { $0 + up(row, $1) * q[$1] }) * Double(scales.up) / s
      return (activation == .relu2 ? max(g, 0) * max(g, 0) : g / (1 + exp(-g))) * u
    }
    if let norm {
      let root = (inner.reduce(0) { $0 + $1 * $1 } / Double(width) + 1e-5).squareRoot()
      for i in inner.indices { inner[i] = inner[i] / root * Double(norm[i]) }
    }
    let (p, t) = quantised(inner)
    return (0..<x.count).map { row in Double(p.indices.reduce(0) { $0 + down(row, $1) * p[$1] }) * Double(scales.down) / t }
  }

  @Test(arguments: [ModelConfiguration.Activation.relu2, .silu], [true, false])
  func theFeedForwardPartComputesTheSame(activation: ModelConfiguration.Activation, subNorms: Bool) throws {
    let scratch = try Scratch()
    let source = MadeSource(.made(activation: activation, subNorms: subNorms))
    _ = kill(source)
    let model = try source.packed(in: scratch, PackOptions(embedding: .f32, layout: .small))
    defer { withExtendedLifetime(model) {} }
    let c = source.configuration
    var random = SplitMix64(seed: 5)
    for (i, block) in model.weights.blocks.enumerated() {
      #expect(block.gate.rows < c.feedForwardSize)
      func whole(_ name: String, _ columns: Int) throws -> (Int, Int) -> Int {
        let weights = try #require(source.weights["blk.\(i).\(name).weight"])
        return { Int(weights[$0 * columns + $1]) }
      }
      func scale(_ name: String) throws -> Float { try #require(source.scales["blk.\(i).\(name).weight"])[0] }
      let scales = try (gate: scale("ffn_gate"), up: scale("ffn_up"), down: scale("ffn_down"))
      for _ in 0..<20 {
        let x = (0..<c.hiddenSize).map { _ in Double(MadeSource.normal(&random)) }
        let expected = try feedForward(
          x, gate: whole("ffn_gate", c.hiddenSize), up: whole("ffn_up", c.hiddenSize), down: whole("ffn_down", c.feedForwardSize), rows: c.feedForwardSize,
          norm: source.floats["blk.\(i).ffn_sub_norm.weight"], width: c.feedForwardSize, scales: scales, activation: activation)
        let stored = feedForward(
          x, gate: block.gate.weight, up: block.up.weight, down: block.down.weight, rows: block.gate.rows, norm: block.feedForwardSubNorm?.array,
          width: c.feedForwardSize, scales: scales, activation: activation)
        // Only the order of the norm's sum differs.
        for (a, b) in zip(expected, stored) { #expect(abs(a - b) <= 1e-9 * max(1, abs(a))) }
      }
    }
  }

  @Test func aModelWithoutDeadNeuronsDoesNotMentionThem() throws {
    let scratch = try Scratch()
    let model = try MadeSource(.made()).packed(in: scratch)
    #expect(model.gguf.metadata["sterna.feed_forward.live"] == nil)
    #expect(model.gguf.metadata["sterna.ternary.scale_kind"] == nil)
    #expect(model.weights.blocks[0].down.columns == 90)
  }

  /// Taking columns away would move others into another group.
  @Test func groupsKeepTheirColumns() throws {
    let scratch = try Scratch()
    let grouped = MadeSource(.made(hidden: 256, feedForward: 384), .groups)
    _ = kill(grouped)
    #expect(try Packer.pack(grouped, to: scratch["m"], options: PackOptions()).droppedNeurons == 0)
    let activations = MadeSource(.made(hidden: 256, feedForward: 384))
    activations.configuration.groupsActivations = true
    _ = kill(activations)
    #expect(try Packer.pack(activations, to: scratch["m"], options: PackOptions()).droppedNeurons == 0)
  }

  @Test func aBlockThatIsDeadKeepsANeuron() throws {
    let scratch = try Scratch()
    let source = MadeSource(.made())
    for neuron in 0..<90 { source.clear("blk.1.ffn_gate.weight", row: neuron, columns: 72) }
    #expect(try Packer.pack(source, to: scratch["m"], options: PackOptions()).droppedNeurons == 89)
    let model = try PackedModel.open(scratch["m"])
    try model.verify()
    #expect(model.gguf.metadata["sterna.feed_forward.live"]?.ints == [90, 1])
    #expect(model.weights.blocks[1].down.columns == 1)
  }
}
