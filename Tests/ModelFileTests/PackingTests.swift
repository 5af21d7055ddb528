import Basics
import CTernary
import Foundation
import ModelFile
import Testing

@Suite struct PackingTests {
  /// The linears of a block: name in the hub folder, and the packed matrix.
  private func linears(_ block: BlockWeights) -> [(String, TernaryMatrix)] {
    [
      ("self_attn.q_proj", block.query), ("self_attn.k_proj", block.key), ("self_attn.v_proj", block.value), ("self_attn.o_proj", block.output),
      ("mlp.gate_proj", block.gate), ("mlp.up_proj", block.up), ("mlp.down_proj", block.down),
    ]
  }

  @Test(arguments: allModels) func everyWeightIsThatOfTheSource(_ name: String) throws {
    let scratch = try Scratch()
    let model = try PackedModel.open(scratch.pack(name))
    defer { withExtendedLifetime(model) {} }
    try model.verify()
    let source = try PlainSafetensors("\(fixtures)/\(name)/model.safetensors")
    let config = try JSONSerialization.jsonObject(with: Data(contents("\(fixtures)/\(name)/config.json"))) as? [String: Any] ?? [:]
    let quantization = config["quantization_config"] as? [String: Any] ?? [:]
    #expect(model.weights.blocks.count == 3)
    #expect(model.weights.finalNorm.array == source.floats("model.norm.weight"))

    for (i, block) in model.weights.blocks.enumerated() {
      let prefix = "model.layers.\(i)."
      #expect(block.attentionNorm.array == source.floats(prefix + "input_layernorm.weight"))
      #expect(block.feedForwardNorm.array == source.floats(prefix + "post_attention_layernorm.weight"))
      #expect(block.attentionSubNorm?.array ?? [] == source.floats(prefix + "self_attn.attn_sub_norm.weight"))
      #expect(block.feedForwardSubNorm?.array ?? [] == source.floats(prefix + "mlp.ffn_sub_norm.weight"))
      for (linear, matrix) in linears(block) {
        let entry = try #require(source.entries[prefix + linear + ".weight"])
        #expect(matrix.inputNorm?.array ?? [] == source.floats(prefix + linear + ".rms_norm.weight"))
        var expected: [Int] = []
        let scale: Float
        if entry.type == "U8" {
          #expect(entry.shape == [matrix.rows / 4, matrix.columns])
          for r in 0..<matrix.rows {
            let quarter = matrix.rows / 4
            let divisor = [1, 4, 16, 64][r / quarter]
            for c in 0..<matrix.columns {
              let byte = Int(entry.bytes[r % quarter * matrix.columns + c])
              expected.append(byte / divisor % 4 - 1)
            }
          }
          let stored = source.floats(prefix + linear + ".weight_scale")[0]
          scale = quantization["linear_class"] as? String == "autobitlinear" ? stored : 1 / stored
        } else {
          #expect(entry.shape == [matrix.rows, matrix.columns])
          let masters = source.floats(prefix + linear + ".weight")
          let mean = Float(masters.map { abs(Double($0)) }.reduce(0, +) / Double(masters.count))
          let s = 1 / max(mean, 1e-5)
          // Half to even, by hand: above half goes up, exactly half goes to the even neighbour, which is 0 (and 2 clamps to 1).
          expected = masters.map { w in
            let x = w * s
            return abs(x) <= 0.5 ? 0 : (x < 0 ? -1 : 1)
          }
          scale = 1 / s
        }
        #expect(matrix.scale == .tensor(scale))
        var wrong = 0
        for r in 0..<matrix.rows { for c in 0..<matrix.columns where matrix.weight(r, c) != expected[r * matrix.columns + c] { wrong += 1 } }
        #expect(wrong == 0, "\(linear) of block \(i)")
        #expect(ct_fast_weight(matrix.codes, matrix.rows, matrix.columns, 3, 5) == Int32(expected[3 * matrix.columns + 5]))
      }
    }
  }

  @Test(arguments: allModels) func exactStorageKeepsEmbeddingAndHead(_ name: String) throws {
    let scratch = try Scratch()
    let model = try PackedModel.open(scratch.pack(name))
    defer { withExtendedLifetime(model) {} }
    let source = try PlainSafetensors("\(fixtures)/\(name)/model.safetensors")
    func values(_ table: EmbeddingTable) -> [Float] {
      (0..<table.rows).flatMap { row in (0..<table.columns).map { table.pointer(row).load(fromByteOffset: 4 * $0, as: Float.self) } }
    }
    #expect(values(model.weights.embedding) == source.floats("model.embed_tokens.weight"))
    if let head = model.weights.head {
      #expect(values(head) == source.floats("lm_head.weight"))
    } else {
      #expect(model.configuration.tiedHead)
    }
  }

  @Test func halfPrecisionRoundsToNearest() throws {
    let scratch = try Scratch()
    let model = try PackedModel.open(scratch.pack("bitnet-silu", options: PackOptions(embedding: .f16)))
    defer { withExtendedLifetime(model) {} }
    let source = try PlainSafetensors("\(fixtures)/bitnet-silu/model.safetensors").floats("lm_head.weight")
    let head = try #require(model.weights.head)
    #expect(head.rowBytes == 128)
    for (i, value) in source.enumerated() {
      let bits = head.pointer(i / 64).load(fromByteOffset: i % 64 * 2, as: UInt16.self)
      #expect(bits == Float16(value).bitPattern)
    }
  }

  @Test func aSmallTableStaysExactUnlessSomebodyChooses() throws {
    let scratch = try Scratch()
    let model = try PackedModel.open(scratch.pack("bitnet-offline", options: PackOptions()))
    #expect(model.weights.embedding.storage == .f32)
  }

  @Test func eightBitsAreWithinHalfAStep() throws {
    let scratch = try Scratch()
    let model = try PackedModel.open(scratch.pack("bitnet-offline", options: PackOptions(embedding: .q8)))
    defer { withExtendedLifetime(model) {} }
    let table = model.weights.embedding
    #expect(table.storage == .q8)
    #expect(table.rowBytes == 68)
    let source = try PlainSafetensors("\(fixtures)/bitnet-offline/model.safetensors").floats("model.embed_tokens.weight")
    for row in 0..<table.rows {
      for block in 0..<2 {
        let base = table.pointer(row) + 34 * block
        let d = Float(Float16(bitPattern: base.loadUnaligned(as: UInt16.self)))
        let values = source[(row * 64 + block * 32)..<(row * 64 + block * 32 + 32)]
        let largest = values.map(abs).max() ?? 0
        #expect(abs(d - largest / 127) <= largest / 127 / 1024)
        for (i, value) in values.enumerated() {
          let stored = d * Float(base.load(fromByteOffset: 2 + i, as: Int8.self))
          #expect(abs(stored - value) <= d * 0.5 + largest / 2048 + 1e-9)
        }
      }
    }
  }

  @Test func eightBitsNeedWholeBlocks() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("llama-bitlinear") { $0["hidden_size"] = 48 }
    let error = failure { try Packer.pack(HubFolder(folder), to: scratch["m"], options: PackOptions(embedding: .q8)) }
    #expect(error?.place == "embedding" && error?.remedy?.contains("f16") == true)
  }

  @Test func configurationSurvives() throws {
    let scratch = try Scratch()
    for name in allModels {
      let folder = try HubFolder("\(fixtures)/\(name)")
      #expect(try PackedModel.open(scratch.pack(name, to: name + ".gguf")).configuration == folder.configuration)
    }
    let llama = try HubFolder(fixtures + "/llama-autobitlinear").configuration
    #expect(llama.ropeScaling == .llama3(factor: 8, lowFrequency: 1, highFrequency: 4, originalContext: 64))
    #expect(llama.architecture == "llama" && llama.activation == .silu && !llama.hasSubNorms && !llama.tiedHead && llama.linearNormEpsilon == nil)
    let bitnet = try HubFolder(fixtures + "/bitnet-offline").configuration
    #expect(bitnet.architecture == "bitnet" && bitnet.activation == .relu2 && bitnet.hasSubNorms && bitnet.tiedHead && bitnet.ropeTheta == 500_000)
    #expect(bitnet.headSize == 16 && bitnet.kvSize == 32 && bitnet.beginOfText == 0 && bitnet.endOfText == [1] && bitnet.name == "bitnet-offline")
    #expect(try HubFolder(fixtures + "/llama-rmsnorm-bitlinear").configuration.linearNormEpsilon == 1e-6)
  }

  @Test func yarnSurvivesAndMoreEndsOfTextAreFound() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("llama-bitlinear") { config in
      config["rope_parameters"] = nil
      config["rope_theta"] = 20_000
      config["rope_scaling"] = ["type": "yarn", "factor": 4, "original_max_position_embeddings": 64, "beta_fast": 16]
    }
    try Data(#"{"eos_token_id": [1, 2]}"#.utf8).write(to: URL(fileURLWithPath: folder + "/generation_config.json"))
    try Packer.pack(HubFolder(folder), to: scratch["yarn.gguf"])
    let configuration = try PackedModel.open(scratch["yarn.gguf"]).configuration
    #expect(configuration.ropeTheta == 20_000)
    #expect(configuration.endOfText == [1, 2])
    guard case .yarn(4, 64, 16, 1, let attention, true) = configuration.ropeScaling else { Issue.record("\(configuration.ropeScaling)"); return }
    #expect(abs(attention - 1.1386294) < 1e-6)  // 0.1 ln 4 + 1
  }

  @Test func shardsGiveTheSameBytesAsOneFile() throws {
    let scratch = try Scratch()
    let whole = try scratch.pack("bitnet-offline")
    let folder = try scratch.copy("bitnet-offline")
    let source = try PlainSafetensors(folder + "/model.safetensors")
    try FileManager.default.removeItem(atPath: folder + "/model.safetensors")
    var shards = [PlainSafetensors](repeating: PlainSafetensors(), count: 3)
    var map: [String: String] = [:]
    for (i, name) in source.entries.keys.sorted().enumerated() {
      shards[i % 3].entries[name] = source.entries[name]
      map[name] = "model-0000\(i % 3 + 1)-of-00003.safetensors"
    }
    for (i, shard) in shards.enumerated() {
      try Data(shard.serialised()).write(to: URL(fileURLWithPath: folder + "/model-0000\(i + 1)-of-00003.safetensors"))
    }
    let index = URL(fileURLWithPath: folder + "/model.safetensors.index.json")
    try JSONSerialization.data(withJSONObject: ["metadata": ["total_size": 1], "weight_map": map]).write(to: index)
    try Packer.pack(HubFolder(folder), to: scratch["shards.gguf"], options: PackOptions(embedding: .f32, name: "bitnet-offline"))
    #expect(try contents(scratch["shards.gguf"]) == contents(whole))

    map["model.norm.weight"] = "../model-00001-of-00003.safetensors"
    try JSONSerialization.data(withJSONObject: ["weight_map": map]).write(to: index)
    #expect(failure { _ = try HubFolder(folder) }?.code == .badField)
    map["model.norm.weight"] = "model-00009-of-00003.safetensors"
    try JSONSerialization.data(withJSONObject: ["weight_map": map]).write(to: index)
    #expect(failure { _ = try HubFolder(folder) }?.code == .io)
  }

  @Test func sectionsAndMetadataTravel() throws {
    let scratch = try Scratch()
    var lines: [String] = []
    let bytes = (0..<5000).map { UInt8($0 % 251) }
    try Packer.pack(
      HubFolder(fixtures + "/bitnet-offline"), to: scratch["m.gguf"], options: PackOptions(embedding: .q8, name: "line 3"),
      sections: [("sterna.tokenizer", bytes)], metadata: [("sterna.template", .string("{}"))], report: { if case .progress(let progress) = $0 { lines.append(progress.doing) } })
    let model = try PackedModel.open(scratch["m.gguf"])
    defer { withExtendedLifetime(model) {} }
    #expect(model.section("sterna.tokenizer").map { Array($0) } == bytes)
    #expect(model.section("sterna.other") == nil)
    #expect(model.section("token_embd.weight") == nil)
    #expect(model.metadataString("sterna.template") == "{}")
    #expect(model.configuration.name == "line 3")
    #expect(lines.contains("token_embd.weight (35 of 35)") && lines.contains("blk.0.attn_norm.weight (1 of 35)"))
    #expect(model.fingerprint.count == 64)
    try model.verify()
  }

  @Test func sameSourceSameBytes() throws {
    let scratch = try Scratch()
    #expect(try contents(scratch.pack("llama-rmsnorm-bitlinear", to: "a.gguf")) == contents(scratch.pack("llama-rmsnorm-bitlinear", to: "b.gguf")))
  }

  @Test func aFailureLeavesNothingBehind() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("bitnet-offline")
    var source = try PlainSafetensors(folder + "/model.safetensors")
    source.entries["model.norm.weight"]?.bytes.replaceSubrange(0..<4, with: [0, 0, 0xC0, 0x7F])  // NaN
    try Data(source.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    try scratch.write("the old model".utf8, to: "m.gguf")
    let error = failure { try Packer.pack(HubFolder(folder), to: scratch["m.gguf"]) }
    #expect(error?.place?.hasSuffix("tensor model.norm.weight") == true)
    #expect(try contents(scratch["m.gguf"]) == Array("the old model".utf8))
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted() == ["copy-of-bitnet-offline", "m.gguf"])
  }

  @Test func unstorableWishesAreRefused() throws {
    let scratch = try Scratch()
    let source = try HubFolder(fixtures + "/bitnet-offline")
    #expect(failure { try Packer.pack(source, to: scratch["m"], sections: [("tokenizer", [1])]) }?.code == .badField)
    #expect(failure { try Packer.pack(source, to: scratch["m"], sections: [("sterna.a", [1]), ("sterna.a", [2])]) }?.code == .badField)
    #expect(failure { try Packer.pack(source, to: scratch["m"], sections: [("sterna.a", [])]) }?.code == .badField)
    #expect(failure { try Packer.pack(source, to: scratch["m"], metadata: [("general.name", .string("x"))]) }?.code == .badField)
    #expect(failure { try Packer.pack(source, to: scratch["no/such/folder/m"]) }?.code == .io)
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).isEmpty)
  }
}
