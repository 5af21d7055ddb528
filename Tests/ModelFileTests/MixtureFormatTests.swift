import Basics
import CTernary
import Foundation
import ModelFile
import TestSupport
import Testing

/// Each way in which mixtures are stored in the wild, against the values that it stands for.
@Suite struct MixtureFormatTests {
  private static let exact = PackOptions(embedding: .f32, trunk: .f32, experts: .f32)

  private func tensors(_ path: String) throws -> [String: [UInt8]] {
    let gguf = try GGUFFile(path)
    return Dictionary(uniqueKeysWithValues: gguf.tensors.map { ($0.name, Array(gguf.bytes(of: $0))) })
  }

  /// The matrices of all experts as values, block after block: gate, up, down of each.
  private func experts(_ path: String) throws -> (storage: WeightStorage?, values: [[Float]]) {
    let model = try PackedModel.open(path)
    defer { withExtendedLifetime(model) {} }
    try model.verify()
    var storage: WeightStorage?
    var values: [[Float]] = []
    for block in model.weights.blocks {
      guard case .routed(let weights) = block.feedForward else { continue }
      let layout = weights.experts.record
      storage = layout.storage
      for expert in 0..<weights.experts.count {
        let record = weights.experts.base + expert * layout.bytes
        values += [layout.gate(record), layout.up(record), layout.down(record)].map(unpacked)
      }
    }
    return (storage, values)
  }

  private func unpacked(_ matrix: WeightMatrix) -> [Float] {
    guard let kind = matrix.storage.brickKind else {
      return Array(UnsafeBufferPointer(start: matrix.base.assumingMemoryBound(to: Float.self), count: matrix.rows * matrix.columns))
    }
    let padded = matrix.storage.paddedColumns(matrix.columns)
    var row = [Float](repeating: .nan, count: padded)
    return (0..<matrix.rows).flatMap { r -> ArraySlice<Float> in
      ct_brick_unpack(kind, matrix.base.assumingMemoryBound(to: UInt8.self), padded, r, &row)
      return row[..<matrix.columns]
    }
  }

  private func bytes(_ values: [Float]) -> [UInt8] { values.withUnsafeBytes(Array.init) }

  // MARK: - Hub folders

  @Test(arguments: ["F16", "BF16"]) func floatsOf16Bits(type: String) throws {
    let scratch = try Scratch()
    for name in ["mixtral", "deepseek-v3"] {
      let (folder, plain) = (try scratch.copy(name), scratch["plain-\(name)"])
      try FileManager.default.copyItem(atPath: "\(fixtures)/\(name)", toPath: plain)
      var (short, long) = (try PlainSafetensors(folder + "/model.safetensors"), PlainSafetensors())
      for (tensor, entry) in short.entries {
        let values = short.floats(tensor)
        let bits = type == "F16" ? values.map { Float16($0).bitPattern } : values.map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) }
        let meant = type == "F16" ? values.map { Float(Float16($0)) } : values.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) }
        short.entries[tensor] = .init(type: type, shape: entry.shape, bytes: bits.withUnsafeBytes(Array.init))
        long.entries[tensor] = .init(type: "F32", shape: entry.shape, bytes: bytes(meant))
      }
      try Data(short.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      try Data(long.serialised()).write(to: URL(fileURLWithPath: plain + "/model.safetensors"))
      try Packer.pack(HubFolder(folder), to: scratch["short.gguf"], options: Self.exact)
      try Packer.pack(HubFolder(plain), to: scratch["long.gguf"], options: Self.exact)
      #expect(try tensors(scratch["short.gguf"]) == tensors(scratch["long.gguf"]), "\(name)")
    }
  }

  /// How checkpoints call matrices of 4-bit floats and their scales.
  enum Spelling: String, CaseIterable { case quark, deepSeek, compressedTensors, stacked }

  private static let fp4: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]

  /// Turns the experts of a mixture into random 4-bit floats; returns what they stand for, by name.
  private func store(_ source: inout PlainSafetensors, as spelling: Spelling) -> [String: [Float]] {
    var random = SplitMix64(seed: 4)
    var meant: [String: [Float]] = [:]
    var parts: [String: (codes: [UInt8], scales: [UInt8])] = [:]
    for name in source.entries.keys.filter({ $0.contains(".experts.") }).sorted() {
      guard let entry = source.entries[name] else { continue }
      let (rows, columns) = (entry.shape[0], entry.shape[1])
      let nibbles = (0..<rows * columns).map { _ in UInt8.random(in: 0...15, using: &random) }
      let scales = (0..<rows * columns / 32).map { _ in UInt8.random(in: 118...124, using: &random) }
      meant[name] = nibbles.indices.map { Self.fp4[Int(nibbles[$0])] * Float(sign: .plus, exponent: Int(scales[$0 / 32]) - 127, significand: 1) }
      let codes = stride(from: 0, to: nibbles.count, by: 2).map { nibbles[$0] | nibbles[$0 + 1] << 4 }
      source.entries[name] = nil
      let base = name.dropLast(".weight".count)
      let (half, blocks) = ([rows, columns / 2], [rows, columns / 32])
      switch spelling {
      case .quark:
        source.entries[name] = .init(type: "U8", shape: half, bytes: codes)
        source.entries[name + "_scale"] = .init(type: "U8", shape: blocks, bytes: scales)
      case .deepSeek:
        source.entries[name] = .init(type: "I8", shape: half, bytes: codes)
        source.entries[base + ".scale"] = .init(type: "F8_E8M0", shape: blocks, bytes: scales)
      case .compressedTensors:
        source.entries[name + "_packed"] = .init(type: "U8", shape: half, bytes: codes)
        source.entries[name + "_scale"] = .init(type: "U8", shape: blocks, bytes: scales)
      case .stacked: parts[name] = (codes, scales)
      }
    }
    guard spelling == .stacked else { return meant }
    for layer in Set(parts.keys.map { $0.components(separatedBy: ".experts.")[0] }) {
      let count = parts.keys.count { $0.hasPrefix(layer + ".experts.") } / 3
      var (both, down): ((codes: [UInt8], scales: [UInt8]), (codes: [UInt8], scales: [UInt8])) = (([], []), ([], []))
      var (size, hidden) = (0, 0)
      for expert in 0..<count {
        let each = ["gate", "up", "down"].compactMap { parts["\(layer).experts.\(expert).\($0)_proj.weight"] }
        hidden = 64
        size = each[0].codes.count * 2 / hidden
        for row in 0..<size {
          for part in each[..<2] {
            both.codes += part.codes[row * hidden / 2..<(row + 1) * hidden / 2]
            both.scales += part.scales[row * hidden / 32..<(row + 1) * hidden / 32]
          }
        }
        down.codes += each[2].codes
        down.scales += each[2].scales
      }
      source.entries[layer + ".experts.gate_up_proj_blocks"] = .init(type: "U8", shape: [count, 2 * size, hidden / 32, 16], bytes: both.codes)
      source.entries[layer + ".experts.gate_up_proj_scales"] = .init(type: "U8", shape: [count, 2 * size, hidden / 32], bytes: both.scales)
      source.entries[layer + ".experts.down_proj_blocks"] = .init(type: "U8", shape: [count, hidden, size / 32, 16], bytes: down.codes)
      source.entries[layer + ".experts.down_proj_scales"] = .init(type: "U8", shape: [count, hidden, size / 32], bytes: down.scales)
    }
    return meant
  }

  private func method(_ spelling: Spelling) -> [String: Any] {
    switch spelling {
    case .quark: ["quant_method": "quark"]
    case .deepSeek: ["quant_method": "fp8", "weight_block_size": [128, 128]]
    case .compressedTensors: ["quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"]
    case .stacked: ["quant_method": "mxfp4"]
    }
  }

  @Test(arguments: Spelling.allCases) func floatsOf4Bits(spelling: Spelling) throws {
    let scratch = try Scratch()
    for name in ["glm4-moe", "deepseek-v3"] {
      let folder = try scratch.copy(name) { $0["quantization_config"] = method(spelling) }
      var source = try PlainSafetensors(folder + "/model.safetensors")
      let original = source
      let meant = store(&source, as: spelling)
      try Data(source.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      // What is stored so already stays so, bit for bit, and nobody has to ask for it.
      try Packer.pack(HubFolder(folder), to: scratch["asis.gguf"], options: PackOptions(embedding: .f32, trunk: .f32))
      let packed = try experts(scratch["asis.gguf"])
      var wanted: [[Float]] = []
      for layer in 0..<3 {
        let count = original.entries.keys.count { $0.hasPrefix("model.layers.\(layer).mlp.experts.") } / 3
        for expert in 0..<count { wanted += ["gate", "up", "down"].compactMap { meant["model.layers.\(layer).mlp.experts.\(expert).\($0)_proj.weight"] } }
      }
      #expect(packed.storage == .mxfp4 && packed.values == wanted)
      try Packer.pack(HubFolder(folder), to: scratch["f32.gguf"], options: Self.exact)
      #expect(try experts(scratch["f32.gguf"]).values == wanted)
    }
  }

  @Test func whatIsNoMXFP4IsRefused() throws {
    let changes: [(place: String, change: (inout PlainSafetensors, String) -> Void)] = [
      ("_scale", { $0.entries[$1 + "_scale"] = nil }),
      // NVFP4: a scale for each 16.
      ("_scale", { $0.entries[$1 + "_scale"] = .init(type: "F8_E4M3", shape: [32, 4], bytes: [UInt8](repeating: 0, count: 128)) }),
      // 8-bit integers.
      (".weight", { $0.entries[$1] = .init(type: "I8", shape: [32, 64], bytes: [UInt8](repeating: 0, count: 2048)) }),
      ("_scale", { $0.entries[$1 + "_scale"]?.bytes[3] = 255 }),
    ]
    for (place, change) in changes {
      let scratch = try Scratch()
      let folder = try scratch.copy("glm4-moe") { $0["quantization_config"] = method(.quark) }
      var source = try PlainSafetensors(folder + "/model.safetensors")
      _ = store(&source, as: .quark)
      change(&source, "model.layers.1.mlp.experts.2.up_proj.weight")
      try Data(source.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      let error = failure { try Packer.pack(HubFolder(folder), to: scratch["m.gguf"]) }
      #expect(error?.place?.contains("experts.2.up_proj.weight") == true && error?.place?.hasSuffix(place) == true, "\(String(describing: error))")
    }
  }

  // MARK: - GGUF

  /// Random blocks of a type, of which all are right.
  private func blocks(_ type: GGUFTensorType, values: Int, _ random: inout SplitMix64) -> [UInt8] {
    (0..<values / type.block.elements).flatMap { _ -> [UInt8] in
      var block = (0..<type.block.bytes).map { _ in UInt8.random(in: 0...255, using: &random) }
      func put(_ value: Float, _ at: Int) { block.replaceSubrange(at..<at + 2, with: HandMadeGGUF.int(Float16(value).bitPattern)) }
      let scale = Float.random(in: 0.001...0.01, using: &random)
      switch type {
      case .f32: return HandMadeGGUF.int(MadeSource.normal(&random).bitPattern)
      case .f16: put(MadeSource.normal(&random), 0)
      case .bf16: return HandMadeGGUF.int(UInt16(truncatingIfNeeded: MadeSource.normal(&random).bitPattern >> 16))
      case .q6_K: put(scale, 208)
      case .q4_K, .q5_K:
        put(scale, 0)
        put(scale, 2)
      case .mxfp4: block[0] = UInt8.random(in: 118...124, using: &random)
      case .tq1_0:
        // Bytes of five digits, and of four.
        for i in 0..<52 {
          let number = i < 48 ? Int.random(in: 0..<243, using: &random) : Int.random(in: 0..<81, using: &random) * 3
          block[i] = UInt8((number * 256 + 242) / 243)
        }
        put(scale, 52)
      case .tq2_0:
        for i in 0..<64 { block[i] = (0..<4).reduce(0) { $0 | UInt8.random(in: 0...2, using: &random) << UInt8(2 * $1) } }
        put(scale, 64)
      default: put(scale, 0)
      }
      return block
    }
  }

  @Test(arguments: GGUFBlocks.matrixTypes) func expertsOfEveryType(type: GGUFTensorType) throws {
    let (hidden, size, count, head) = (256, 256, 3, 32)
    var file = TinyTernary.GGUF()
    file.set("general.architecture", "qwen3moe")
    for (key, value) in [
      ("vocab_size", 16), ("context_length", 64), ("embedding_length", hidden), ("block_count", 1), ("feed_forward_length", size), ("attention.head_count", 4),
      ("attention.head_count_kv", 2), ("attention.key_length", head), ("attention.value_length", head), ("expert_count", count), ("expert_used_count", 2), ("expert_feed_forward_length", size),
    ] { file.set("qwen3moe.\(key)", UInt32(value)) }
    file.set("qwen3moe.attention.layer_norm_rms_epsilon", Float(1e-6))
    file.set("tokenizer.ggml.eos_token_id", UInt32(1))
    var random = SplitMix64(seed: 11)
    for (name, shape) in [
      ("token_embd", [hidden, 16]), ("output_norm", [hidden]), ("blk.0.attn_norm", [hidden]), ("blk.0.ffn_norm", [hidden]), ("blk.0.attn_q_norm", [head]), ("blk.0.attn_k_norm", [head]),
      ("blk.0.attn_q", [hidden, 4 * head]), ("blk.0.attn_k", [hidden, 2 * head]), ("blk.0.attn_v", [hidden, 2 * head]), ("blk.0.attn_output", [4 * head, hidden]),
      ("blk.0.ffn_gate_inp", [hidden, count]),
    ] {
      file.tensors.append((name + ".weight", shape.map(UInt64.init), GGUFTensorType.f32.rawValue, blocks(.f32, values: shape.reduce(1, *), &random)))
    }
    var wanted = [[[Float]]](repeating: [], count: count)
    for linear in ["gate", "up", "down"] {
      let all = blocks(type, values: count * size * hidden, &random)
      file.tensors.append(("blk.0.ffn_\(linear)_exps.weight", [hidden, size, count].map(UInt64.init), type.rawValue, all))
      for expert in 0..<count {
        // BlockTests compares these values with those of another program.
        var values = [Float](repeating: .nan, count: size * hidden)
        let part = all[expert * all.count / count..<(expert + 1) * all.count / count]
        part.withUnsafeBytes { GGUFBlocks.floats(type, from: $0.baseAddress!, blocks: values.count / type.block.elements, into: &values) }
        wanted[expert].append(values)
      }
    }
    let scratch = try Scratch()
    let source = try scratch.write(file.bytes, to: "source.gguf")
    try Packer.pack(GGUFSource(source), to: scratch["f32.gguf"], options: Self.exact)
    #expect(try experts(scratch["f32.gguf"]).values == wanted.flatMap { $0 })
    try Packer.pack(GGUFSource(source), to: scratch["asis.gguf"], options: PackOptions(embedding: .f32))
    let asis = try experts(scratch["asis.gguf"])
    let kept: [GGUFTensorType: WeightStorage] = [.q8_0: .q8_0, .q4_0: .q4_0, .mxfp4: .mxfp4, .iq4_nl: .iq4_nl]
    #expect(asis.storage == kept[type] ?? .q4_0)
    // Ternary weights lose nothing in blocks of 4 bits either.
    if kept[type] != nil || TernaryBlocks.types.contains(type) { #expect(asis.values == wanted.flatMap { $0 }) }
    if TernaryBlocks.types.contains(type) {
      try Packer.pack(GGUFSource(source), to: scratch["q8.gguf"], options: PackOptions(embedding: .f32, experts: .q8_0))
      #expect(try experts(scratch["q8.gguf"]).values == wanted.flatMap { $0 })
    }
  }

  /// A code that stands for nothing must not become a weight.
  @Test(arguments: [GGUFTensorType.tq1_0, .tq2_0]) func damagedTernaryBlocksAreNoNumbers(type: GGUFTensorType) {
    var random = SplitMix64(seed: 3)
    var block = blocks(type, values: 256, &random)
    block[7] = type == .tq1_0 ? 1 : 0xC0
    var values = [Float](repeating: 0, count: 256)
    block.withUnsafeBytes { GGUFBlocks.floats(type, from: $0.baseAddress!, blocks: 1, into: &values) }
    #expect(values.allSatisfy { $0.isNaN })
  }
}
