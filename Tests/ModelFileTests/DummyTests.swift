import Basics
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
