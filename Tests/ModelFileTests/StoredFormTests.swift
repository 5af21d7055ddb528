import Basics
import ModelFile
import Testing

/// Both layouts with each kind of scale: what is read back, weight by weight, is what the source said.
@Suite struct StoredFormTests {
  @Test(arguments: TernaryMatrix.Layout.allCases, [MadeSource.Scales.tensor, .rows, .groups])
  func everyWeightAndScaleComesBack(layout: TernaryMatrix.Layout, kind: MadeSource.Scales) throws {
    let scratch = try Scratch()
    let grouped = kind == .groups
    let source = MadeSource(grouped ? .made(hidden: 256, feedForward: 384) : .made(), kind)
    let model = try source.packed(in: scratch, PackOptions(embedding: .f32, layout: layout))
    defer { withExtendedLifetime(model) {} }
    try model.verify()
    for (i, block) in model.weights.blocks.enumerated() {
      for (name, matrix) in block.linears(i) {
        #expect(matrix.layout == layout && matrix.isGrouped == grouped)
        let weights = try #require(source.weights[name])
        let scales = try #require(source.scales[name])
        var wrong = 0
        for r in 0..<matrix.rows { for c in 0..<matrix.columns where matrix.weight(r, c) != Int(weights[r * matrix.columns + c]) { wrong += 1 } }
        #expect(wrong == 0, "\(name)")
        let tensor = try #require(model.gguf.tensor(name))
        #expect(tensor.byteCount == matrix.bytes)
        switch matrix.scale {
        case .tensor(let scale): #expect(kind == .tensor && scale == scales[0])
        case .rows(let stored):
          #expect(kind == .rows && stored.count == matrix.paddedRows)
          #expect(stored.array == scales + [Float](repeating: 0, count: matrix.paddedRows - matrix.rows))
        case .groups(let stored):
          let groups = matrix.columns / 128
          #expect(grouped && stored.count == matrix.paddedRows * groups)
          for r in 0..<matrix.rows {
            for g in 0..<groups { #expect(Float(Float16(bitPattern: stored.pointer[(r / 16 * groups + g) * 16 + r % 16])) == scales[r * groups + g]) }
          }
        }
      }
    }
  }

  /// What pads rows, columns and groups are zero weights.
  @Test(arguments: TernaryMatrix.Layout.allCases) func paddingIsZeroWeights(layout: TernaryMatrix.Layout) throws {
    let scratch = try Scratch()
    for kind in [MadeSource.Scales.tensor, .groups] {
      let source = MadeSource(kind == .groups ? .made(hidden: 128, feedForward: 128) : .made(), kind)
      for name in source.weights.keys { source.weights[name] = source.weights[name]?.map { _ in 1 } }
      let model = try source.packed(in: scratch, PackOptions(embedding: .f32, layout: layout))
      defer { withExtendedLifetime(model) {} }
      for (_, matrix) in model.weights.blocks[0].linears(0) {
        // All codes of the matrix added up: 2 for a weight of 1, 1 for padding.
        let planes = layout == .fast ? [1, 4, 16, 64] : [1, 3, 9, 27, 81]
        let base = layout == .fast ? 4 : 3
        var sum = 0
        for i in 0..<matrix.bytes { for plane in planes { sum += Int(matrix.codes[i]) / plane % base } }
        #expect(sum == matrix.paddedRows * matrix.paddedColumns + matrix.rows * matrix.columns)
      }
    }
  }

  @Test func layoutFollowsFromSizeUnlessSomebodyChooses() throws {
    let scratch = try Scratch()
    #expect(try Packer.pack(MadeSource(.made()), to: scratch["m"], options: PackOptions()).layout == .fast)
    #expect(try Packer.pack(MadeSource(.made()), to: scratch["m"], options: PackOptions(layout: .small)).layout == .small)
  }

  @Test func scalesThatCannotBeStoredAreRefused() throws {
    let scratch = try Scratch()
    let name = "blk.1.ffn_up.weight"
    for (kind, scale, place) in [
      (MadeSource.Scales.groups, Float(0.1), "scale of row 1, group 1"), (.groups, 1e6, "scale of row 1, group 1"), (.groups, .nan, "scale of row 1, group 1"),
      (.rows, -0.5, "scale of row 3"), (.rows, .infinity, "scale of row 3"),
    ] {
      let source = MadeSource(.made(hidden: 256, feedForward: 384), kind)
      source.scales[name]?[3] = scale
      let error = failure { try Packer.pack(source, to: scratch["m"], options: PackOptions()) }
      #expect(error?.place == "tensor \(name), \(place)", "\(scale)")
    }
    // Zero is the scale of a group without weights.
    let source = MadeSource(.made(hidden: 256, feedForward: 384), .groups)
    source.scales[name]?[3] = -0.0
    try source.packed(in: scratch).verify()
  }

  @Test func groupsNeedWholeGroups() throws {
    let scratch = try Scratch()
    let error = failure { try Packer.pack(MadeSource(.made(), .groups), to: scratch["m"], options: PackOptions()) }
    #expect(error?.code == .unsupported && error?.place == "tensor blk.0.attn_q.weight")
  }

  /// Each token reads the body; of the tables it reads a row. No page holds both.
  @Test(arguments: [true, false]) func theBodyIsOneRangeWithoutTables(tied: Bool) throws {
    let scratch = try Scratch()
    let source = MadeSource(.made(tied: tied), .rows)
    try Packer.pack(source, to: scratch["m"], options: PackOptions(), sections: [("sterna.tokenizer", [1, 2, 3])])
    let model = try PackedModel.open(scratch["m"])
    #expect(model.bodyRange.lowerBound % 4096 == 0 && model.bodyRange.upperBound % 4096 == 0)
    for tensor in model.gguf.tensors {
      let outside = ["token_embd.weight", "output.weight", "sterna.tokenizer"].contains(tensor.name)
      let range = tensor.offset..<tensor.offset + tensor.byteCount
      #expect(outside ? !range.overlaps(model.bodyRange) : range.clamped(to: model.bodyRange) == range, "\(tensor.name)")
    }
    #expect(model.weights.embedding.fileOffset == model.bodyRange.upperBound)
    #expect((model.weights.head == nil) == tied)
  }
}
