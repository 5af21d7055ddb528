import Basics
import CTernary
import ModelFile
import Testing

@Suite struct DummyTests {
  @Test(arguments: [
    (DummyShape.pocket, 3_440_640), (.bitnet2B, 2_084_044_800), (.falconE, 2_919_235_584), (.llama3, 6_979_321_856), (.bonsai, 1_409_286_144),
    (.bitnet100B, 99_958_652_928),
  ])
  func shapesHaveTheWeightsOfTheirModels(shape: DummyShape, weights: Int) throws {
    let configuration = shape.configuration
    try configuration.validate()
    let sum = configuration.plan().reduce(0) { if case .ternary(let rows, let columns) = $1.kind { $0 + rows * columns } else { $0 } }
    #expect(sum == weights)
  }

  /// Parameters of one expert, and of all matrices but the experts'; the sizes that their makers give.
  @Test(arguments: [
    (DummyShape.qwen3MoE, 6144, 4_718_592), (.qwen15MoE, 1440, 8_650_752), (.olmoe, 1024, 6_291_456), (.deepseekV2Lite, 1664, 8_650_752),
  ])
  func mixturesHaveTheExpertsOfTheirModels(shape: DummyShape, records: Int, weights: Int) throws {
    for blocks in [nil, 2] {
      let configuration = shape.configuration(blocks: blocks)
      try configuration.validate()
      let experts = try #require(configuration.experts)
      let sum = configuration.plan().reduce(0) { if case .experts(let count) = $1.kind { $0 + count } else { $0 } }
      #expect(blocks != nil || sum == records)
      #expect(3 * experts.size * configuration.hiddenSize == weights)
    }
  }

  /// Products with values of size 1 have size 1, or a tenth of the embeddings where they go back into the residual stream.
  @Test(arguments: [WeightStorage.q4_0, .q8_0, .mxfp4, .iq4_nl]) func mixturesAreMadeInTheirStoredForm(storage: WeightStorage) throws {
    let source = DummySource(.olmoe, experts: storage, seed: 4)
    let kind = try #require(storage.brickKind)
    let blockBytes = storage == .q8_0 ? 34 : storage == .mxfp4 ? 17 : 18
    for (linear, gain) in [(Linear.gate, Float(1)), (.down, 0.15 / Float(2048).squareRoot())] {
      let planned = source.configuration.expert(3, 17, linear)
      guard case .matrix(_, let columns, _) = planned.kind else { throw SternaError(.badFile, "not a matrix") }
      #expect(try source.storage(planned) == storage)
      func blocks(_ planned: PlannedTensor, _ rows: Range<Int>) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: rows.count * columns / 32 * blockBytes)
        try bytes.withUnsafeMutableBytes { try source.blocks(planned, rows: rows, into: $0) }
        return bytes
      }
      let some = try blocks(planned, 16..<48)
      #expect(try blocks(planned, 32..<33) == Array(some[16 * columns / 32 * blockBytes..<17 * columns / 32 * blockBytes]))
      #expect(try blocks(source.configuration.expert(3, 18, linear), 16..<48) != some)
      var bricks = [UInt8](repeating: 0, count: storage.bytes(rows: 32, columns: columns)), row = [Float](repeating: 0, count: columns)
      ct_brick_pack(kind, some, 32, columns, &bricks)
      ct_brick_unpack(kind, bricks, columns, 5, &row)
      let size = row.reduce(0) { $0 + $1 * $1 }.squareRoot() / gain
      #expect(0.6 < size && size < 1.6, "\(size)")
    }
  }

  @Test func sameSeedSameBytes() throws {
    let scratch = try Scratch()
    let options = PackOptions(embedding: .q6, layout: .small)
    try Packer.pack(DummySource(.pocket, seed: 7), to: scratch["a"], options: options)
    try Packer.pack(DummySource(.pocket, seed: 7), to: scratch["b"], options: options)
    try Packer.pack(DummySource(.pocket, seed: 8), to: scratch["c"], options: options)
    #expect(try contents(scratch["a"]) == contents(scratch["b"]))
    #expect(try PackedModel.open(scratch["a"]).fingerprint != PackedModel.open(scratch["c"]).fingerprint)
  }

  @Test(arguments: TernaryMatrix.Layout.allCases) func weightsAreRandomWithTheZerosOfARealModel(layout: TernaryMatrix.Layout) throws {
    let scratch = try Scratch()
    let report = try Packer.pack(DummySource(.pocket, seed: 1, beginOfText: 5, endOfText: 6), to: scratch["m"], options: PackOptions(layout: layout))
    let model = try PackedModel.open(scratch["m"])
    defer { withExtendedLifetime(model) {} }
    try model.verify()
    #expect(model.configuration.beginOfText == 5 && model.configuration.endOfText == [6])
    // 640 neurons a block, dead as in BitNet b1.58 2B4T: 43.6 % of the second block, 27.6 % of the third.
    #expect(model.gguf.metadata["sterna.feed_forward.live"]?.ints == [609, 361, 464, 545, 583])
    #expect(report.droppedNeurons == 31 + 279 + 176 + 95 + 57)
    var counts = [0, 0, 0]
    for (i, block) in model.weights.blocks.enumerated() {
      for (name, matrix) in block.linears(i) {
        var own = [0, 0, 0]
        for r in 0..<matrix.rows { for c in 0..<matrix.columns { own[matrix.weight(r, c) + 1] += 1 } }
        let zeros = Double(own[1]) / Double(matrix.rows * matrix.columns)
        #expect(abs(zeros - 0.422) < 0.01, "\(name)")
        for k in 0..<3 { counts[k] += own[k] }
      }
    }
    #expect(abs(Double(counts[0] - counts[2])) < 0.005 * Double(counts[0]))
  }

  /// Any rows can be asked for, in any order: the packer passes over gate and up twice.
  @Test func rowsDoNotDependOnHowTheyAreRead() throws {
    let source = DummySource(.pocket, seed: 3)
    for planned in source.configuration.plan() {
      guard case .ternary(let rows, let columns) = planned.kind else { continue }
      let matrix = try source.ternary(planned)
      var none: Float = 0
      var whole = [Int8](repeating: 9, count: rows * columns)
      try matrix.read(0..<rows, &whole, &none)
      for row in [rows - 1, 0, rows / 3] {
        var one = [Int8](repeating: 9, count: columns)
        try matrix.read(row..<row + 1, &one, &none)
        #expect(one == Array(whole[row * columns..<(row + 1) * columns]))
      }
    }
  }
}
