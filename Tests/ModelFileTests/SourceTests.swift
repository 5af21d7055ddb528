import Basics
import Foundation
import ModelFile
import TestSupport
import Testing

/// Every weight and scale of a source is that of the model that was written.
func expectSame(_ source: some WeightSource, _ model: TinyTernary, _ granularity: TinyTernary.Granularity? = nil) throws {
  let granularity = granularity ?? model.granularity
  for matrix in model.matrices {
    let (scale, weights, scales) = try source.everything("blk.0.\(matrix.gguf).weight")
    switch granularity {
    case .tensor: #expect(scale == .tensor(matrix.scales[0]))
    case .rows: #expect(scale == .rows)
    case .groups: #expect(scale == .groups)
    }
    #expect(weights == matrix.weights, "\(matrix.gguf)")
    #expect(scales == matrix.scales, "\(matrix.gguf)")
  }
}

@Suite struct SourceTests {
  private static let relu2 = GGUFSource.Options(activation: .relu2)

  @Test(arguments: [GGUFTensorType.f32, .f16, .bf16, .q8_0, .q4_0, .q6_K, .tq1_0, .tq2_0, .i2_s])
  func everyTypeGivesTheWeightsAndTheScale(_ type: GGUFTensorType) throws {
    let scratch = try Scratch()
    for architecture in ["llama", "falcon3", "qwen3", "bitnet", "bitnet-b1.58", "bitnet-25"] {
      var model = TinyTernary(architecture)
      if type == .bf16 { for i in model.matrices.indices { model.matrices[i].scales = model.matrices[i].scales.map { _ in 0.03125 + 0.000244140625 * Float(i) } } }
      let path = try scratch.write(model.gguf(type).bytes, to: "\(architecture).gguf")
      try expectSame(GGUFSource(path, options: architecture.hasPrefix("bitnet") ? Self.relu2 : .init()), model)
    }
  }

  @Test func layoutsOfI2S() throws {
    let scratch = try Scratch()
    let model = TinyTernary("llama", seed: 3)
    for layout in I2SLayout.allCases {
      let path = try scratch.write(model.gguf(.i2_s, layout: layout).bytes, to: "m.gguf")
      try expectSame(GGUFSource(path, options: .init(i2sLayout: layout)), model)
      let other = I2SLayout.allCases.first { $0 != layout } ?? .arm
      #expect(try GGUFSource(path, options: .init(i2sLayout: other)).everything("blk.0.ffn_up.weight").weights != model.matrices[5].weights)
    }
  }

  /// In trained models the rows and columns of a neuron have zeros together; that tells the layouts apart.
  @Test func theWrongLayoutOfATrainedModelIsRefused() throws {
    let scratch = try Scratch()
    var random = SplitMix64(seed: 8)
    var model = TinyTernary("llama", seed: 8)
    for neuron in 0..<512 {
      let live = Double.random(in: 0.3...0.9, using: &random)
      func weight() -> Int8 { Double.random(in: 0..<1, using: &random) < live ? (Bool.random(using: &random) ? 1 : -1) : 0 }
      for c in 0..<256 {
        model.matrices[4].weights[neuron * 256 + c] = weight()
        model.matrices[6].weights[c * 512 + neuron] = weight()
      }
    }
    for layout in I2SLayout.allCases {
      let path = try scratch.write(model.gguf(.i2_s, layout: layout).bytes, to: "m.gguf")
      for said in I2SLayout.allCases {
        let error = failure { _ = try GGUFSource(path, options: .init(i2sLayout: said)) }
        #expect(error?.remedy?.contains("--i2s-layout \(layout.rawValue)") == (said == layout ? nil : true))
      }
    }
  }

  @Test func scalesByRowAndByGroup() throws {
    let scratch = try Scratch()
    for (granularity, types) in [
      (TinyTernary.Granularity.rows, [GGUFTensorType.f32, .f16, .q8_0, .q4_0, .q6_K, .tq1_0, .tq2_0]), (.groups, [.f32, .f16, .q8_0, .q4_0]),
    ] {
      for type in types {
        for architecture in ["llama", "qwen3"] {
          let model = TinyTernary(architecture, granularity, seed: 5)
          try expectSame(GGUFSource(scratch.write(model.gguf(type).bytes, to: "m.gguf")), model)
        }
      }
    }
  }

  /// A block of 256 with one factor is two groups of 128.
  @Test func blocksOf256AreTwoGroups() throws {
    let scratch = try Scratch()
    var model = TinyTernary("qwen3", .groups)
    for i in model.matrices.indices { for g in model.matrices[i].scales.indices { model.matrices[i].scales[g] = model.matrices[i].scales[g / 2 * 2] } }
    for type in [GGUFTensorType.tq1_0, .tq2_0] {
      // Where rows are a single block, their scales are by row.
      let source = try GGUFSource(scratch.write(model.gguf(type).bytes, to: "m.gguf"))
      for matrix in model.matrices {
        let (scale, weights, scales) = try source.everything("blk.0.\(matrix.gguf).weight")
        #expect(scale == (matrix.columns == 256 ? .rows : .groups))
        #expect(weights == matrix.weights && scales == matrix.scales)
      }
    }
  }

  @Test func zerosFitEveryScale() throws {
    let scratch = try Scratch()
    for (granularity, dead) in [(TinyTernary.Granularity.tensor, 0..<128), (.groups, 128..<256), (.rows, 0..<256), (.tensor, 0..<256 * 256)] {
      var model = TinyTernary("qwen3", granularity)
      for i in dead { model.matrices[0].weights[i] = 0 }
      // Encoders write the factor 0 for blocks of zeros.
      var written = model
      for g in dead.lowerBound / 128..<dead.upperBound / 128 {
        written.matrices[0].scales[g] = 0
        model.matrices[0].scales[g] = dead.count == 256 * 256 ? 1 : granularity == .tensor ? model.matrices[0].scales[0] : 1
      }
      for type in [GGUFTensorType.f16, .q8_0, .tq2_0] {
        if type == .tq2_0, dead.count == 128 { continue }  // its blocks are of 256
        let source = try GGUFSource(scratch.write(written.gguf(type).bytes, to: "m.gguf"))
        let (_, weights, scales) = try source.everything("blk.0.attn_q.weight")
        #expect(weights == model.matrices[0].weights && scales == model.matrices[0].scales, "\(granularity) \(dead) \(type)")
      }
    }
    // Codes under a factor of 0 are zeros, whatever they say.
    var model = TinyTernary("qwen3")
    var file = model.gguf(.tq1_0)
    file.change("blk.0.attn_v.weight") { $0.bytes.replaceSubrange(52..<54, with: [0, 0]) }
    for i in 0..<256 { model.matrices[2].weights[i] = 0 }
    try expectSame(GGUFSource(scratch.write(file.bytes, to: "m.gguf")), model)
  }

  @Test(arguments: ["F32", "F16", "BF16"]) func hubFoldersOfExactFloats(_ type: String) throws {
    let scratch = try Scratch()
    for architecture in ["llama", "qwen3", "bitnet"] {
      for granularity in TinyTernary.Granularity.allCases {
        var model = TinyTernary(architecture, granularity, seed: 9)
        if type == "BF16" { for i in model.matrices.indices { model.matrices[i].scales = model.matrices[i].scales.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) } } }
        let folder = scratch["\(architecture)-\(granularity)"]
        try model.writeHub(to: folder, type: type)
        let source = try HubFolder(folder)
        try expectSame(source, model)
        #expect(source.configuration.queryKeyNorms == (architecture == "qwen3" ? .heads : .none))
        #expect(source.configuration.groupsActivations == (architecture != "bitnet" || granularity == .groups))
      }
    }
  }

  @Test func packedFilesHoldWhatTheSourceHolds() throws {
    let scratch = try Scratch()
    for (architecture, type) in [("llama", GGUFTensorType.i2_s), ("qwen3", .f16), ("bitnet", .tq1_0)] {
      let model = TinyTernary(architecture)
      let source = try GGUFSource(scratch.write(model.gguf(type).bytes, to: "source.gguf"), options: architecture == "bitnet" ? Self.relu2 : .init())
      try Packer.pack(source, to: scratch["m.gguf"], options: PackOptions(embedding: .f32))
      let packed = try PackedModel.open(scratch["m.gguf"])
      defer { withExtendedLifetime(packed) {} }
      try packed.verify()
      #expect(packed.configuration == source.configuration)
      #expect(packed.configuration.architecture == architecture && packed.configuration.tiedHead && packed.configuration.name == "source.gguf")
      let block = try #require(packed.weights.blocks.first)
      // Where activations go by groups, so do scales.
      #expect(packed.configuration.groupsActivations ? block.query.isGrouped : block.query.scale == .tensor(model.matrices[0].scales[0]))
      func vector(_ name: String) -> [Float]? { model.vectors.first { $0.gguf == name }?.values }
      #expect(block.attentionNorm.array == vector("attn_norm") && block.feedForwardNorm.array == vector("ffn_norm"))
      #expect(block.queryNorm?.array == vector("attn_q_norm") && block.keyNorm?.array == vector("attn_k_norm"))
      #expect(block.attentionSubNorm?.array == vector("attn_sub_norm") && block.feedForwardSubNorm?.array == vector("ffn_sub_norm"))
      let table = packed.weights.embedding
      #expect((0..<24 * 256).allSatisfy { table.pointer($0 / 256).load(fromByteOffset: $0 % 256 * 4, as: Float.self) == model.embedding[$0] })
    }
  }

  @Test(arguments: TinyTernary.Granularity.allCases) func packedFilesKeepEveryWeightAndScale(_ granularity: TinyTernary.Granularity) throws {
    let scratch = try Scratch()
    let model = TinyTernary("qwen3", granularity, seed: 21)
    try model.writeHub(to: scratch["hub"])
    try Packer.pack(HubFolder(scratch["hub"]), to: scratch["m.gguf"], options: PackOptions(embedding: .f32, layout: .fast))
    let packed = try PackedModel.open(scratch["m.gguf"])
    defer { withExtendedLifetime(packed) {} }
    try packed.verify()
    let block = try #require(packed.weights.blocks.first)
    for (wanted, matrix) in zip(model.matrices, [block.query, block.key, block.value, block.output, block.gate, block.up, block.down]) {
      let groups = wanted.columns / 128
      var wrong = 0
      for row in 0..<wanted.rows {
        for group in 0..<groups {
          let scale: Float =
            switch matrix.scale {
            case .tensor(let scale): scale
            case .rows(let scales): scales.pointer[row]
            case .groups(let scales): Float(Float16(bitPattern: scales.pointer[(row / 16 * groups + group) * 16 + row % 16]))
            }
          if scale != wanted.scales[row * groups + group] { wrong += 1 }
        }
        for column in 0..<wanted.columns {
          let byte = matrix.codes[64 * (row / 16 * (wanted.columns / 16) + column / 16) + 4 * (row % 16) + column % 4]
          if Int8(byte >> UInt8(2 * (column % 16 / 4)) & 3) - 1 != wanted.weights[row * wanted.columns + column] { wrong += 1 }
        }
      }
      #expect(wrong == 0, "\(wanted.gguf)")
      // Activations go by groups in a model that was not trained with int8, and so do scales, whatever the source has.
      #expect(matrix.isGrouped)
    }
  }

  @Test func headsOfTheirOwnAndHeadsThatAreTheEmbedding() throws {
    let scratch = try Scratch()
    let model = TinyTernary("qwen3")
    var file = model.gguf(.f16)
    var head = try #require(file.tensors.first { $0.name == "token_embd.weight" })
    head.name = "output.weight"
    // Some converters write the embedding twice.
    file.tensors.append(head)
    #expect(try GGUFSource(scratch.write(file.bytes, to: "m.gguf")).configuration.tiedHead)
    file.change("output.weight") { $0.bytes[5] ^= 1 }
    let source = try GGUFSource(scratch.write(file.bytes, to: "m.gguf"))
    #expect(!source.configuration.tiedHead && source.configuration.plan().last?.name == "output.weight")
    try Packer.pack(source, to: scratch["packed.gguf"])
    #expect(try PackedModel.open(scratch["packed.gguf"]).weights.head != nil)
  }

  @Test func scalesBesideTheMatrix() throws {
    let scratch = try Scratch()
    var model = TinyTernary("bitnet")
    for i in model.matrices.indices { model.matrices[i].scales = model.matrices[i].scales.map { _ in 1 } }
    var file = model.gguf(.tq2_0)
    file.tensors.append(("blk.0.attn_k.scale", [1], 0, HandMadeGGUF.int(Float(0.75).bitPattern)))
    #expect(try GGUFSource(scratch.write(file.bytes, to: "m.gguf"), options: Self.relu2).everything("blk.0.attn_k.weight").scale == .tensor(0.75))
    for bad in [Float.nan, 0, -1, .infinity] {
      file.change("blk.0.attn_k.scale") { $0.bytes = HandMadeGGUF.int(bad.bitPattern) }
      let error = failure { _ = try GGUFSource(scratch.write(file.bytes, to: "m.gguf"), options: Self.relu2).everything("blk.0.attn_k.weight") }
      #expect(error?.place?.hasSuffix("tensor blk.0.attn_k.scale") == true)
    }
  }

  // MARK: What the metadata says

  private func configuration(
    _ architecture: String = "llama", _ options: GGUFSource.Options = .init(), type: GGUFTensorType = .tq2_0, _ change: (inout TinyTernary.GGUF) -> Void
  ) throws -> ModelConfiguration {
    let scratch = try Scratch()
    var file = TinyTernary(architecture).gguf(type)
    change(&file)
    return try GGUFSource(scratch.write(file.bytes, to: "m.gguf"), options: options).configuration
  }

  @Test func keysOfGGUF() throws {
    let c = try configuration {
      $0.set("general.name", "line 3")
      $0.set("tokenizer.ggml.bos_token_id", UInt32(3))
      $0.set("tokenizer.ggml.eos_token_id", UInt32(4))
      $0.set("tokenizer.ggml.eot_token_id", UInt32(5))
      $0[key: "tokenizer.ggml.tokens"] = HandMadeGGUF.array(
        "tokenizer.ggml.tokens", of: 8, count: 3, HandMadeGGUF.text("<|eot_id|>"), HandMadeGGUF.text("<|im_end|>"), HandMadeGGUF.text("a"))
      // The first is ordinary text that looks like the end of a turn.
      $0[key: "tokenizer.ggml.token_type"] = HandMadeGGUF.array(
        "tokenizer.ggml.token_type", of: 5, count: 3, HandMadeGGUF.int(Int32(1)), HandMadeGGUF.int(Int32(3)), HandMadeGGUF.int(Int32(1)))
    }
    #expect(c.name == "line 3" && c.beginOfText == 3 && c.endOfText == [4, 5, 1])
    #expect(c.vocabularySize == 24 && c.hiddenSize == 256 && c.blockCount == 1 && c.queryHeads == 4 && c.kvHeads == 2 && c.headSize == 64)
    #expect(c.feedForwardSize == 512 && c.contextLength == 128 && c.normEpsilon == 1e-5 && c.ropeTheta == 500_000 && c.ropeScaling == .none)
    #expect(c.activation == .silu && !c.hasSubNorms && c.queryKeyNorms == .none && c.tiedHead)
    #expect(try configuration { $0.set("tokenizer.ggml.bos_token_id", UInt32(3)); $0.set("tokenizer.ggml.add_bos_token", false) }.beginOfText == nil)
    let untold = try configuration {
      $0[key: "llama.vocab_size"] = nil
      let texts = (0..<24).flatMap { HandMadeGGUF.text("t\($0)") }
      $0[key: "tokenizer.ggml.tokens"] = HandMadeGGUF.array("tokenizer.ggml.tokens", of: 8, count: 24, texts)
    }
    #expect(untold.vocabularySize == 24)
    #expect(try configuration { $0[key: "llama.rope.freq_base"] = nil }.ropeTheta == 10_000)
    #expect(try configuration { $0[key: "llama.rope.dimension_count"] = nil }.headSize == 64)
  }

  @Test func activationsAreByGroupWhereNobodySaysOtherwise() throws {
    #expect(try configuration { _ in }.groupsActivations)
    #expect(try configuration("qwen3") { _ in }.groupsActivations)
    #expect(try !configuration(type: .i2_s) { _ in }.groupsActivations)
    #expect(try !configuration("bitnet", Self.relu2) { _ in }.groupsActivations)
  }

  @Test func theActivationFunctionIsNeverGuessed() throws {
    let error = failure { _ = try configuration("bitnet") { _ in } }
    #expect(error?.remedy?.contains("--activation") == true && error?.place?.hasSuffix("key general.architecture") == true)
    #expect(try configuration("bitnet", .init(activation: .silu)) { _ in }.activation == .silu)
    #expect(try configuration("bitnet", Self.relu2) { _ in }.activation == .relu2)
    #expect(try configuration("bitnet-b1.58") { _ in }.activation == .relu2)
    #expect(try configuration("bitnet-25", .init(activation: .silu)) { _ in }.activation == .silu)
    #expect(failure { _ = try configuration("llama", Self.relu2) { _ in } }?.place?.hasSuffix("--activation") == true)
    // By shape: these fail only because the tensors of a model of this size are not there.
    for (shape, options, isKnown) in [
      ([2560, 6912, 30, 20], GGUFSource.Options(), true), ([1536, 4096, 24, 16], .init(), true), ([3200, 8640, 26, 32], .init(), true),
      ([2560, 6912, 30, 40], .init(), false), ([2560, 6912, 30, 20], .init(activation: .silu), false),
    ] {
      let error = failure {
        _ = try configuration("bitnet", options) {
          for (key, value) in zip(["embedding_length", "feed_forward_length", "block_count", "attention.head_count"], shape) { $0.set("bitnet.\(key)", UInt32(value)) }
          $0[key: "bitnet.attention.head_count_kv"] = nil
          $0[key: "bitnet.rope.dimension_count"] = nil
        }
      }
      #expect((error?.message == "has another shape than the metadata says") == isKnown, "\(shape): \(String(describing: error))")
    }
  }

  @Test func scalingOfRotaryEmbedding() throws {
    #expect(try configuration { $0.set("llama.rope.scaling.type", "linear"); $0.set("llama.rope.scaling.factor", Float(1)) }.ropeScaling == .none)
    let yarn = try configuration {
      $0.set("llama.rope.scaling.type", "yarn")
      $0.set("llama.rope.scaling.factor", Float(4))
      $0.set("llama.rope.scaling.original_context_length", UInt32(64))
      $0.set("llama.rope.scaling.yarn_beta_fast", Float(16))
    }
    guard case .yarn(4, 64, 16, 1, let attention, true) = yarn.ropeScaling else { Issue.record("\(yarn.ropeScaling)"); return }
    #expect(abs(attention - 1.1386294) < 1e-6)

    /// What converters write: the factor of each frequency, by Llama 3's formula.
    func factors(_ factor: Float, _ context: Float) -> [Float] {
      (0..<32).map { i in
        let wavelength = 2 * Float.pi * pow(500_000, Float(2 * i) / 64)
        if wavelength < context / 4 { return 1 }
        if wavelength > context { return factor }
        let smooth = (context / wavelength - 1) / 3
        return 1 / ((1 - smooth) / factor + smooth)
      }
    }
    func scaling(_ values: [Float]) throws -> ModelConfiguration.RopeScaling {
      try configuration { $0.tensors.append(("rope_freqs.weight", [UInt64(values.count)], 0, values.flatMap { HandMadeGGUF.int($0.bitPattern) })) }.ropeScaling
    }
    for (factor, context) in [(Float(8), Float(8192)), (32, 8192), (8, 4096), (4, 64)] {
      #expect(try scaling(factors(factor, context)) == .llama3(factor: factor, lowFrequency: 1, highFrequency: 4, originalContext: Int(context)))
    }
    #expect(try scaling([Float](repeating: 1, count: 32)) == .none)
    var wrong = factors(8, 8192)
    wrong[14] *= 1.01
    for bad in [wrong, [Float](repeating: 1, count: 31), wrong.map { -$0 }, [Float](repeating: .nan, count: 32)] {
      #expect(failure { _ = try scaling(bad) }?.place?.hasSuffix("tensor rope_freqs.weight") == true)
    }
  }
}

/// The models beside this repository, made by other programs.
@Suite(.enabled(if: FileManager.default.fileExists(atPath: "../shared/reference"), "needs ../shared/reference")) struct SharedSourceTests {
  @Test func filesOfTheEnginesHoldTheHubFoldersModel() throws {
    let scratch = try Scratch()
    func pack(_ name: String) throws -> PackedModel {
      let path = "../shared/reference/gguf/\(name)"
      let options = PackOptions(embedding: .f32, name: "tiny")
      if name == "hub" {
        try Packer.pack(HubFolder(path), to: scratch[name], options: options)
      } else {
        try Packer.pack(GGUFSource(path, options: .init(activation: .relu2)), to: scratch[name], options: options)
      }
      return try PackedModel.open(scratch[name])
    }
    let hub = try pack("hub")
    for name in ["i2_s.gguf", "tq1_0.gguf", "tq2_0.gguf"] {
      let model = try pack(name)
      for tensor in hub.gguf.tensors {
        let other = try #require(model.gguf.tensor(tensor.name))
        #expect(other.type == tensor.type && model.gguf.bytes(of: other).elementsEqual(hub.gguf.bytes(of: tensor)), "\(name): \(tensor.name)")
      }
      for (ours, theirs) in zip(model.weights.blocks, hub.weights.blocks) {
        for part in [\BlockWeights.query, \.key, \.value, \.output, \.gate, \.up, \.down] {
          guard case .tensor(let scale) = theirs[keyPath: part].scale else { Issue.record("not one scale"); continue }
          // llama.cpp's blocks have half-precision factors.
          #expect(ours[keyPath: part].scale == .tensor(name == "i2_s.gguf" ? scale : Float(Float16(scale))))
        }
      }
      var configuration = model.configuration
      // The vocabulary says one more that ends a text.
      #expect(configuration.endOfText.starts(with: hub.configuration.endOfText))
      configuration.endOfText = hub.configuration.endOfText
      #expect(configuration == hub.configuration)
    }
  }

  @Test func groupTernaryFloatsAreFound() throws {
    let path = "../shared/reference/models/qwen3-group-ternary"
    let folder = try HubFolder(path)
    #expect(folder.configuration.architecture == "qwen3" && folder.configuration.queryKeyNorms == .heads && folder.configuration.groupsActivations)
    let plain = try PlainSafetensors(path + "/model.safetensors")
    for (block, hub, gguf) in [(0, "self_attn.q_proj", "attn_q"), (2, "mlp.down_proj", "ffn_down"), (1, "self_attn.k_proj", "attn_k")] {
      let entry = try #require(plain.entries["model.layers.\(block).\(hub).weight"])
      #expect(entry.type == "F16")
      let values = stride(from: 0, to: entry.bytes.count, by: 2).map { Float(Float16(bitPattern: UInt16(entry.bytes[$0]) | UInt16(entry.bytes[$0 + 1]) << 8)) }
      let (scale, weights, scales) = try folder.everything("blk.\(block).\(gguf).weight")
      // A row of 128 is one group.
      #expect(scale == (gguf == "ffn_down" ? .groups : .rows))
      #expect(weights.indices.allSatisfy { Float(weights[$0]) * scales[$0 / 128] == values[$0] })
    }
  }
}
