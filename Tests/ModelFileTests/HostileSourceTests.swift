import Basics
import Foundation
import ModelFile
import TestSupport
import Testing

/// GGUF files and float checkpoints that are damaged, lie, or are not what they should be.
@Suite struct HostileSourceTests {
  private typealias G = HandMadeGGUF

  private func refusal(
    _ architecture: String = "llama", _ type: GGUFTensorType = .tq2_0, _ options: GGUFSource.Options = .init(),
    _ change: (inout TinyTernary.GGUF) -> Void
  ) throws -> SternaError {
    let scratch = try Scratch()
    var file = TinyTernary(architecture).gguf(type)
    change(&file)
    let path = try scratch.write(file.bytes, to: "m.gguf")
    return try #require(failure { try Packer.pack(GGUFSource(path, options: options), to: scratch["out.gguf"]) }, "was accepted")
  }

  @Test func metadataThatIsWrong() throws {
    let cases: [(String, (inout TinyTernary.GGUF) -> Void)] = [
      ("general.architecture", { $0[key: "general.architecture"] = nil }),
      ("general.architecture", { $0.set("general.architecture", "mamba") }),
      ("general.architecture", { $0.set("general.architecture", UInt32(1)) }),
      ("llama.embedding_length", { $0[key: "llama.embedding_length"] = nil }),
      ("llama.embedding_length", { $0.set("llama.embedding_length", "256") }),
      ("llama.embedding_length", { $0.set("llama.embedding_length", UInt32(0)) }),
      ("llama.embedding_length", { $0.set("llama.embedding_length", UInt32.max) }),
      ("llama.block_count", { $0.set("llama.block_count", UInt32.max) }),
      ("llama.block_count", { $0.set("llama.block_count", UInt32(0)) }),
      ("llama.attention.head_count", { $0.set("llama.attention.head_count", UInt32(0)) }),
      ("llama.attention.head_count", { $0[key: "llama.attention.head_count"] = G.array("llama.attention.head_count", of: 4, count: 1, G.int(UInt32(4))) }),
      ("llama.attention.head_count_kv", { $0.set("llama.attention.head_count_kv", UInt32(0)) }),
      ("number of query heads", { $0.set("llama.attention.head_count_kv", UInt32(3)) }),
      ("llama.rope.dimension_count", { $0.set("llama.rope.dimension_count", UInt32(32)) }),
      ("llama.attention.value_length", { $0.set("llama.attention.value_length", UInt32(32)) }),
      ("llama.attention.key_length", { $0.set("llama.attention.key_length", UInt32(0)); $0[key: "llama.rope.dimension_count"] = nil }),
      ("head size", { $0.set("llama.attention.key_length", UInt32(63)); $0[key: "llama.rope.dimension_count"] = nil }),
      ("llama.embedding_length", { $0.set("llama.embedding_length", UInt32(257)); $0[key: "llama.rope.dimension_count"] = nil }),
      ("llama.vocab_size", { $0.set("llama.vocab_size", UInt32.max) }),
      ("llama.context_length", { $0[key: "llama.context_length"] = nil }),
      ("llama.expert_used_count", { $0.set("llama.expert_count", UInt32(8)) }),
      ("llama.attention.sliding_window", { $0.set("llama.attention.sliding_window", UInt32(512)) }),
      ("llama.attention.layer_norm_rms_epsilon", { $0[key: "llama.attention.layer_norm_rms_epsilon"] = nil }),
      ("norm epsilon", { $0.set("llama.attention.layer_norm_rms_epsilon", Float.nan) }),
      ("rope theta", { $0.set("llama.rope.freq_base", Float.infinity) }),
      ("llama.rope.scaling.factor", { $0.set("llama.rope.scaling.type", "linear"); $0.set("llama.rope.scaling.factor", Float(2)) }),
      ("llama.rope.scaling.type", { $0.set("llama.rope.scaling.type", "longrope") }),
      ("llama.rope.scaling.factor", { $0.set("llama.rope.scaling.type", "yarn"); $0.set("llama.rope.scaling.factor", Float.nan) }),
      ("rope original context", {
        $0.set("llama.rope.scaling.type", "yarn")
        $0.set("llama.rope.scaling.factor", Float(2))
        $0.set("llama.rope.scaling.original_context_length", UInt32(0))
      }),
      ("begin or end of text", { $0.set("tokenizer.ggml.eos_token_id", UInt32(24)) }),
      ("tokenizer.ggml.bos_token_id", { $0.set("tokenizer.ggml.bos_token_id", UInt32.max) }),
    ]
    for (place, change) in cases {
      let error = try refusal("llama", .tq2_0, .init(), change)
      #expect(error.place?.contains("m.gguf") == true && error.place?.contains(place) == true, "\(place): \(error)")
    }
  }

  @Test func tensorsThatAreWrong() throws {
    func place(_ change: (inout TinyTernary.GGUF) -> Void) throws -> String { try refusal("llama", .tq2_0, .init(), change).place ?? "" }
    for name in ["token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_down.weight"] {
      #expect(try place { $0.tensors.removeAll { $0.name == name } }.hasSuffix("tensor \(name)"))
      // Rows and columns in the other order, and a dimension too many.
      #expect(try place { file in file.change(name) { $0.shape = $0.shape.reversed() + ($0.shape.count == 1 ? [2] : [])
        if $0.shape.count == 2 && $0.shape[1] == 2 { $0.bytes += $0.bytes } } }.contains("tensor \(name)") || name == "blk.0.attn_output.weight")
    }
    #expect(try refusal { $0.tensors.append(("blk.0.attn_q.bias", [256], 0, [UInt8](repeating: 0, count: 1024))) }.place?.hasSuffix("attn_q.bias") == true)
    #expect(try refusal { $0.tensors.append(("blk.0.attn_sub_norm.weight", [256], 0, [UInt8](repeating: 0, count: 1024))) }.code == .unsupported)
    #expect(try refusal { $0.tensors.append(("blk.1.attn_norm.weight", [256], 0, [UInt8](repeating: 0, count: 1024))) }.code == .unsupported)
    // A ternary type where floats belong, and a type that is not read.
    #expect(try refusal { $0.change("token_embd.weight") { $0.type = 35; $0.bytes = [UInt8](repeating: 0, count: 24 * 66) } }.found == "TQ2_0")
    #expect(try refusal { $0.change("blk.0.ffn_up.weight") { $0.type = 24; $0.bytes = [UInt8](repeating: 0, count: 256 * 512) } }.found == "I8")
    #expect(try refusal { $0.tensors.append(("rope_freqs.weight", [1 << 12], 0, [UInt8](repeating: 0, count: 1 << 14))) }.place?.hasSuffix("rope_freqs.weight") == true)
    #expect(try refusal { $0.tensors.append(("rope_freqs.weight", [32], 24, [UInt8](repeating: 0, count: 32))) }.place?.hasSuffix("rope_freqs.weight") == true)
    // One whose block count says there must be a thousand more.
    #expect(try refusal { $0.set("llama.block_count", UInt32(1000)) }.message == "this tensor is missing")
  }

  @Test func rowsThatAreNoWholeBlocks() throws {
    // 64 columns: TQ blocks cannot be, I2_S of ARM can, of x86 cannot.
    let scratch = try Scratch()
    var file = HandMadeGGUF()
    file.tensors = [G.tensor("t", [64, 4], type: 36)]
    file.data = [UInt8](repeating: 0x55, count: 64) + G.int(Float(1).bitPattern) + [UInt8](repeating: 0, count: 28)
    let gguf = try GGUFFile(scratch.write(file.bytes, to: "t.gguf"))
    let tensor = try #require(gguf.tensor("t"))
    #expect(failure { _ = try TernaryBlocks(gguf, tensor, rows: 4, columns: 64, layout: .x86) }?.found == "64")
    #expect(try TernaryBlocks(gguf, tensor, rows: 4, columns: 64, layout: .arm).scale() == .tensor(1))
  }

  @Test func scalesAndCodesThatCannotBe() throws {
    for bad in [Float.nan, -.infinity, .infinity, -1, 0] {
      let error = try refusal("llama", .i2_s) { $0.change("blk.0.attn_k.weight") { $0.bytes.replaceSubrange(8192..<8196, with: G.int(bad.bitPattern)) } }
      #expect(error.place?.hasSuffix("tensor blk.0.attn_k.weight, scale") == true && error.code == .badFile)
      if bad == 0 { continue }  // of TQ: a block of zeros
      for (type, size) in [(GGUFTensorType.tq1_0, 54), (.tq2_0, 66)] {
        let error = try refusal("qwen3", type) { $0.change("blk.0.ffn_down.weight") { $0.bytes.replaceSubrange(3 * size - 2..<3 * size, with: G.int(Float16(bad).bitPattern)) } }
        #expect(error.place?.hasSuffix("tensor blk.0.ffn_down.weight, row 1, block 0") == true && error.code == .badFile, "\(error)")
      }
      if bad == -1 { continue }  // of other types: a sign
      for type in [GGUFTensorType.q8_0, .q4_0, .f16] {
        let error = try refusal("qwen3", type) { $0.change("blk.0.ffn_gate.weight") { $0.bytes.replaceSubrange(0..<2, with: G.int(Float16(bad).bitPattern)) } }
        #expect(error.place?.hasSuffix("tensor blk.0.ffn_gate.weight") == true && error.message.contains("finite"))
      }
    }
    // Code 3, in the last byte of a matrix; rows of query are told as they are stored.
    for (type, at) in [(GGUFTensorType.i2_s, 256 * 64 - 1), (.tq2_0, 255 * 66 + 63)] {
      for bits in [UInt8(0x03), 0x0C, 0x30, 0xC0] {
        let error = try refusal("qwen3", type) { $0.change("blk.0.attn_q.weight") { $0.bytes[at] |= bits } }
        #expect(error.place?.hasSuffix("tensor blk.0.attn_q.weight, row 255") == true, "\(error)")
      }
    }
    let error = try refusal("qwen3", .tq1_0) { $0.change("blk.0.attn_v.weight") { $0.bytes[54 + 50] = 255 } }
    #expect(error.place?.hasSuffix("tensor blk.0.attn_v.weight, row 1") == true)
  }

  @Test func normsAndEmbeddingsThatAreNotNumbers() throws {
    for name in ["blk.0.attn_norm.weight", "output_norm.weight"] {
      #expect(try refusal { $0.change(name) { $0.bytes.replaceSubrange(40..<44, with: G.int(Float.nan.bitPattern)) } }.found == "nan as value 10")
    }
    #expect(try refusal { $0.change("token_embd.weight") { $0.bytes.replaceSubrange(2..<4, with: [0, 0x7C]) } }.found == "inf as value 1")
  }

  /// The file of a real, but not ternary model: said at the first value that does not fit, with advice.
  @Test(arguments: [GGUFTensorType.f32, .f16, .q8_0, .q6_K, .iq4_nl, .q4_K]) func modelsThatAreNotTernary(_ type: GGUFTensorType) throws {
    var random = SplitMix64(seed: 4)
    let error = try refusal("qwen3", type == .iq4_nl || type == .q4_K ? .f16 : type) {
      $0.change("blk.0.attn_k.weight") { tensor in
        let (values, size) = type.block
        tensor.type = type.rawValue
        tensor.bytes = (0..<128 * 256 / values).flatMap { _ -> [UInt8] in
          if type == .f32 { return G.int(Float.random(in: -1...1, using: &random).bitPattern) }
          if type == .f16 { return G.int(Float16(Float.random(in: -1...1, using: &random)).bitPattern) }
          var block = (0..<size).map { _ in UInt8.random(in: 0...127, using: &random) }
          let at = type == .q6_K ? 208 : 0
          block.replaceSubrange(at..<at + 2, with: G.int(Float16(0.01).bitPattern))
          if type == .q4_K { block.replaceSubrange(2..<4, with: G.int(Float16(0.01).bitPattern)) }
          return block
        }
      }
    }
    #expect(error.code == .unsupported && error.message == "this matrix is not ternary")
    #expect(error.place?.hasSuffix("tensor blk.0.attn_k.weight, row 0") == true && error.found?.contains("in column") == true)
    #expect(error.remedy?.contains("does not make models ternary") == true)
  }

  /// One value in one group that is off by the smallest step is found, wherever it is.
  @Test func oneWrongValueIsEnough() throws {
    let scratch = try Scratch()
    for granularity in TinyTernary.Granularity.allCases {
      for (row, column) in [(0, 0), (300, 127), (511, 255)] {
        let model = TinyTernary("qwen3", granularity)
        var file = model.gguf(.f32)
        let at = row * 256 + column
        file.change("blk.0.ffn_gate.weight") { $0.bytes.replaceSubrange(4 * at..<4 * at + 4, with: G.int((model.matrices[4].scales[at / 128].nextUp).bitPattern)) }
        let error = failure { _ = try GGUFSource(scratch.write(file.bytes, to: "m.gguf")) }
        #expect(error?.place?.hasSuffix("tensor blk.0.ffn_gate.weight, row \(row)") == true, "\(String(describing: error))")
      }
    }
    // Rows that are no whole groups need one scale each.
    let floats: [Float] = (0..<2 * 192).map { $0 < 300 ? 0.5 : 0.25 }
    let matrix = ExactTernary(place: "tensor t", rows: 2, columns: 192) { range, out in
      for i in 0..<out.count { out[i] = floats[range.lowerBound * 192 + i] }
    }
    let error = failure { _ = try matrix.scale() }
    #expect(error?.place == "tensor t, row 1" && error?.found == "0.25 in column 108, and 0.5 beside it" && error?.expected?.contains("128") == false)
  }

  @Test func hubFoldersThatAreNotTernary() throws {
    let scratch = try Scratch()
    let model = TinyTernary("qwen3")
    try model.writeHub(to: scratch["a"], type: "F32")
    var file = try PlainSafetensors(scratch["a"] + "/model.safetensors")
    file.entries["model.layers.0.mlp.down_proj.weight"]?.bytes.replaceSubrange(4 * 512 * 7..<4 * 512 * 7 + 4, with: G.int(Float(0.3).bitPattern))
    try Data(file.serialised()).write(to: URL(fileURLWithPath: scratch["a"] + "/model.safetensors"))
    let error = failure { _ = try HubFolder(scratch["a"]) }
    #expect(error?.code == .unsupported && error?.place?.hasSuffix("tensor model.layers.0.mlp.down_proj.weight, row 7") == true)
    // What the configuration may not ask for.
    for (key, value) in [("use_sliding_window", true as Any), ("sliding_window", 64), ("layer_types", ["sliding_attention"]), ("attention_bias", true)] {
      try model.writeHub(to: scratch[key]) { $0[key] = value }
      #expect(failure { _ = try HubFolder(scratch[key]) }?.place?.contains("config.json: \(key)") == true)
    }
    try model.writeHub(to: scratch["silent"]) { $0["hidden_act"] = nil }
    #expect(failure { _ = try HubFolder(scratch["silent"]) }?.remedy?.contains("--activation") == true)
    #expect(try HubFolder(scratch["silent"], activation: .silu).configuration.activation == .silu)
    #expect(failure { _ = try HubFolder(scratch["a"], activation: .relu2) }?.place?.hasSuffix("hidden_act") == true)
    // Masters of the 1bitLLM kind, and packed weights that nobody explains.
    try FileManager.default.createDirectory(atPath: scratch["b"], withIntermediateDirectories: true)
    let masters = try scratch.copy("bitnet-online") { $0["quantization_config"] = nil }
    #expect(failure { _ = try HubFolder(masters) }?.remedy?.contains("quantization_config") == true)
  }

  /// Whatever the header says, it is refused or everything that is read lies inside the file.
  @Test func damagedFilesNeverCrash() throws {
    let scratch = try Scratch()
    var random = SplitMix64(seed: 11)
    for type in [GGUFTensorType.tq1_0, .i2_s, .q8_0] {
      var file = TinyTernary("llama").gguf(type)
      file.tensors.append(("rope_freqs.weight", [32], 0, [Float](repeating: 1, count: 32).flatMap { G.int($0.bitPattern) }))
      let whole = file.bytes
      let header = try GGUFFile(scratch.write(whole, to: "m.gguf")).dataOffset
      var refused = 0
      for round in 0..<400 {
        var bytes = whole
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let at = Int.random(in: 0..<(round % 4 == 0 ? whole.count : header), using: &random)
          switch round % 3 {
          case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
          case 1: bytes[at] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
          default: for i in at..<min(at + 8, bytes.count) { bytes[i] = round % 2 == 0 ? 0xFF : 0 }
          }
        }
        if round % 10 == 9 { bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random)) }
        try scratch.write(bytes, to: "bad.gguf")
        if let error = failure({ try Packer.pack(GGUFSource(scratch["bad.gguf"]), to: scratch["out.gguf"]) }) {
          refused += 1
          #expect(error.place?.isEmpty == false)
        }
      }
      #expect(refused > 100)
    }
  }
}
