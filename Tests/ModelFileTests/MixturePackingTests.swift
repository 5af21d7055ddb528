import Basics
import CTernary
import Foundation
import ModelFile
import TestSupport
import Testing

/// Mixtures from hub folders: what is read, what is left out, what is refused.
@Suite struct MixturePackingTests {
  static let exact = PackOptions(embedding: .f32, trunk: .f32, experts: .f32)

  /// The bytes of all tensors but the sections, by name.
  private func tensors(_ path: String) throws -> [String: [UInt8]] {
    let gguf = try GGUFFile(path)
    return Dictionary(uniqueKeysWithValues: gguf.tensors.map { ($0.name, Array(gguf.bytes(of: $0))) })
  }

  private func floats(_ matrix: WeightMatrix) -> [Float] {
    Array(UnsafeBufferPointer(start: matrix.base.assumingMemoryBound(to: Float.self), count: matrix.rows * matrix.columns))
  }

  @Test func everyExpertIsThatOfTheSource() throws {
    for (name, architecture) in [("mixtral", "mixtral"), ("qwen2-moe", "qwen2moe"), ("glm4-moe", "glm4moe")] {
      let scratch = try Scratch()
      let model = try PackedModel.open(scratch.pack(name, options: Self.exact))
      defer { withExtendedLifetime(model) {} }
      try model.verify()
      #expect(model.configuration.architecture == architecture)
      let source = try PlainSafetensors("\(fixtures)/\(name)/model.safetensors")
      var routed = 0
      for (i, block) in model.weights.blocks.enumerated() {
        guard case .routed(let weights) = block.feedForward else { continue }
        routed += 1
        #expect(weights.experts.fileOffset % 4096 == 0 && weights.experts.record.bytes % 4096 == 0)
        let isMixtral = name == "mixtral"
        let prefix = "model.layers.\(i)." + (isMixtral ? "block_sparse_moe" : "mlp")
        #expect(weights.router.array == source.floats(prefix + ".gate.weight"))
        for expert in 0..<weights.experts.count {
          let record = weights.experts.base + expert * weights.experts.record.bytes
          let layout = weights.experts.record
          for (matrix, linear) in zip([layout.gate(record), layout.up(record), layout.down(record)], isMixtral ? ["w1", "w3", "w2"] : ["gate_proj", "up_proj", "down_proj"]) {
            #expect(floats(matrix) == source.floats("\(prefix).experts.\(expert).\(linear).weight"))
          }
        }
      }
      #expect(routed == (name == "glm4-moe" ? 2 : 3))
      // Experts come last: what every token reads is one range without them.
      let body = model.bodyRange
      for block in model.weights.blocks {
        guard case .routed(let weights) = block.feedForward else { continue }
        #expect(weights.experts.fileOffset >= body.upperBound)
      }
    }
  }

  @Test(arguments: ["mixtral", "qwen2-moe", "qwen3-moe", "glm4-moe", "deepseek-v3", "deepseek-v3, old", "deepseek-v2", "deepseek-v2-lite", "olmoe"]) func filesOfOtherEnginesAreTheHubFolders(name: String) throws {
    let scratch = try Scratch()
    let hub = String(name.split(separator: ",")[0])
    try scratch.write(MixtureGGUF(hub, isOld: name.hasSuffix("old")).file().bytes, to: "other.gguf")
    let source = try GGUFSource(scratch["other.gguf"])
    try Packer.pack(source, to: scratch["packed.gguf"], options: Self.exact)
    var expected = try HubFolder("\(fixtures)/\(hub)").configuration
    expected.name = source.configuration.name
    #expect(source.configuration == expected)
    #expect(try tensors(scratch["packed.gguf"]) == tensors(scratch.pack(hub, options: Self.exact)))
  }

  /// Blocks for which there are kernels are taken over bit for bit; what is rounded twice would not be.
  @Test func blocksOfOtherEnginesStayAsTheyAre() throws {
    let scratch = try Scratch()
    try scratch.write(MixtureGGUF("glm4-moe", .q8_0).file().bytes, to: "other.gguf")
    try Packer.pack(GGUFSource(scratch["other.gguf"]), to: scratch["exact.gguf"], options: Self.exact)
    try Packer.pack(GGUFSource(scratch["other.gguf"]), to: scratch["same.gguf"], options: PackOptions(embedding: .f32, trunk: nil, experts: nil))
    let (exact, same) = (try PackedModel.open(scratch["exact.gguf"]), try PackedModel.open(scratch["same.gguf"]))
    defer { withExtendedLifetime((exact, same)) {} }
    for (wanted, found) in zip(exact.weights.blocks, same.weights.blocks) {
      for case (.weights(let wanted), .weights(let found)) in zip(wanted.matrices, found.matrices) {
        #expect(found.storage == .q8_0 && floats(wanted) == unpacked(found))
      }
      guard case .routed(let wanted) = wanted.feedForward, case .routed(let found) = found.feedForward else { continue }
      #expect(found.experts.record.storage == .q8_0)
      for expert in 0..<found.experts.count {
        let (a, b) = (wanted.experts.record, found.experts.record)
        let (start, other) = (wanted.experts.base + expert * a.bytes, found.experts.base + expert * b.bytes)
        for (x, y) in [(a.gate(start), b.gate(other)), (a.up(start), b.up(other)), (a.down(start), b.down(other))] { #expect(floats(x) == unpacked(y)) }
      }
    }
  }

  /// What each way to store weights may lose of nearly normal values.
  @Test(arguments: [(WeightStorage.q8_0, Float(0.007)), (.q4_0, 0.1), (.iq4_nl, 0.09), (.mxfp4, 0.16)]) func storedWeightsAreCloseToTheSources(storage: WeightStorage, limit: Float) throws {
    let scratch = try Scratch()
    for name in ["qwen2-moe", "deepseek-v3"] {
      let exact = try PackedModel.open(scratch.pack(name, options: Self.exact))
      let model = try PackedModel.open(scratch.pack(name, options: PackOptions(embedding: .f32, trunk: storage, experts: storage), to: "stored.gguf"))
      defer { withExtendedLifetime((exact, model)) {} }
      for (wanted, found) in zip(exact.weights.blocks, model.weights.blocks) {
        for case (.weights(let wanted), .weights(let found)) in zip(wanted.matrices, found.matrices) {
          let (x, y) = (floats(wanted), unpacked(found))
          let error = zip(x, y).reduce(Float(0)) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / x.reduce(0) { $0 + $1 * $1 }
          #expect(found.storage == storage && error.squareRoot() < limit)
        }
      }
    }
  }

  private func unpacked(_ matrix: WeightMatrix) -> [Float] {
    guard let kind = matrix.storage.brickKind else { return floats(matrix) }
    let padded = matrix.storage.paddedColumns(matrix.columns)
    var row = [Float](repeating: .nan, count: padded)
    return (0..<matrix.heads).flatMap { head in
      (0..<matrix.rows / matrix.heads).flatMap { r -> ArraySlice<Float> in
        ct_brick_unpack(kind, matrix.head(head).base.assumingMemoryBound(to: UInt8.self), padded, r, &row)
        return row[..<matrix.columns]
      }
    }
  }

  /// 8-bit floats with a scale for each block of 128 by 128: the same as what they stand for, as floats.
  @Test func blocksOf8BitFloatsAreWhatTheyStandFor() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("deepseek-v3") { $0["quantization_config"] = ["quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]] }
    let plain = scratch["plain"]
    try FileManager.default.copyItem(atPath: "\(fixtures)/deepseek-v3", toPath: plain)
    var (coded, decoded) = (try PlainSafetensors(folder + "/model.safetensors"), PlainSafetensors())
    var random = SplitMix64(seed: 8)
    for (name, entry) in coded.entries {
      decoded.entries[name] = entry
      guard entry.shape.count == 2, name.contains("_proj") else { continue }
      let (rows, columns) = (entry.shape[0], entry.shape[1])
      let across = (columns + 127) / 128
      let scales = (0..<(rows + 127) / 128 * across).map { _ in Float.random(in: 0.01...0.1, using: &random) }
      let codes = (0..<rows * columns).map { _ in UInt8.random(in: 0...255, using: &random) }.map { $0 & 127 == 127 ? 0 : $0 }
      let values = codes.enumerated().map { i, code -> Float in
        let magnitude: Float = code >> 3 & 15 == 0 ? Float(code & 7) / 512 : (1 + Float(code & 7) / 8) * Float(sign: .plus, exponent: Int(code >> 3 & 15) - 7, significand: 1)
        return (code & 128 == 0 ? magnitude : -magnitude) * scales[i / columns / 128 * across + i % columns / 128]
      }
      coded.entries[name] = .init(type: "F8_E4M3", shape: entry.shape, bytes: codes)
      coded.entries[name + "_scale_inv"] = .init(type: "F32", shape: [(rows + 127) / 128, across], bytes: scales.withUnsafeBytes(Array.init))
      decoded.entries[name] = .init(type: "F32", shape: entry.shape, bytes: values.withUnsafeBytes(Array.init))
    }
    try Data(coded.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    try Data(decoded.serialised()).write(to: URL(fileURLWithPath: plain + "/model.safetensors"))
    try Packer.pack(HubFolder(folder), to: scratch["coded.gguf"], options: Self.exact)
    try Packer.pack(HubFolder(plain), to: scratch["plain.gguf"], options: Self.exact)
    #expect(try tensors(scratch["coded.gguf"]) == tensors(scratch["plain.gguf"]))
  }

  @Test func headsForSeveralTokensAndTowersForPicturesAreLeftOut() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("glm4-moe")
    var source = try PlainSafetensors(folder + "/model.safetensors")
    for (name, entry) in source.entries where name.hasPrefix("model.layers.2.") {
      source.entries[name.replacingOccurrences(of: "layers.2", with: "layers.3")] = entry
    }
    source.entries["model.layers.3.eh_proj.bias"] = .init(type: "F32", shape: [1], bytes: [0, 0, 0, 0])
    source.entries["visual.blocks.0.attn.qkv.bias"] = .init(type: "F32", shape: [1], bytes: [0, 0, 0, 0])
    try Data(source.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    try Packer.pack(HubFolder(folder), to: scratch["more.gguf"], options: Self.exact)
    #expect(try tensors(scratch["more.gguf"]) == tensors(scratch.pack("glm4-moe", options: Self.exact)))
    // One in a block that is run belongs to something that would be missing.
    source.entries["model.layers.2.mlp.gate.bias"] = .init(type: "F32", shape: [1], bytes: [0, 0, 0, 0])
    try Data(source.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    #expect(failure { try Packer.pack(HubFolder(folder), to: scratch["more.gguf"], options: Self.exact) }?.code == .unsupported)
  }

  @Test func whatIsNotBuiltIsRefused() throws {
    let changes: [(model: String, key: String, value: Any, place: String)] = [
      ("deepseek-v3", "scoring_func", "softmax", "scoring_func"), ("deepseek-v3", "topk_method", "greedy", "topk_method"),
      ("deepseek-v3", "attention_bias", true, "attention_bias"), ("deepseek-v3", "topk_group", 5, "topk_group"),
      ("deepseek-v3", "num_experts_per_tok", 9, "experts a token"), ("mixtral", "sliding_window", 4096, "sliding_window"),
      ("mixtral", "num_local_experts", 1 << 20, "num_local_experts"), ("mixtral", "quantization_config", ["quant_method": "awq"], "quant_method"),
      ("qwen2-moe", "shared_expert_intermediate_size", 0, "shared_expert_intermediate_size"), ("qwen3-moe", "mlp_only_layers", [0, 1, 2], "blocks with experts"),
      ("glm4-moe", "partial_rotary_factor", 0.01, "partial_rotary_factor"), ("glm4-moe", "model_type", "glm5_next", "model_type"), ("olmoe", "clip_qkv", 8.0, "clip_qkv"), ("olmoe", "attention_bias", true, "attention_bias"),
    ]
    for change in changes {
      let scratch = try Scratch()
      let folder = try scratch.copy(change.model) {
        $0[change.key] = change.value
        if change.key == "partial_rotary_factor" { $0["rope_parameters"] = ["rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": change.value] }
      }
      let error = failure { _ = try HubFolder(folder) }
      #expect(error?.place?.contains(change.place) == true, "\(change.key): \(String(describing: error))")
    }
  }

  /// A head has some values that are rotated and some that are not: sizes that leave no room for both, or are negative, which only a file made by hand has.
  @Test func headsThatCannotBeAreRefused() throws {
    let scratch = try Scratch()
    for size in [UInt32(0), 1, 2, UInt32.max] {
      var source = try MixtureGGUF("deepseek-v3", isOld: true).file()
      source.set("deepseek2.attention.key_length", size)
      let error = failure { _ = try GGUFSource(scratch.write(source.bytes, to: "source.gguf")) }
      #expect(error?.place?.hasSuffix("key deepseek2.attention.key_length") == true, "\(size): \(String(describing: error))")
    }
    let whole = try contents(scratch.pack("deepseek-v3"))
    let key = HandMadeGGUF.text("deepseek2.attention.key_length")
    let at = try #require((0..<whole.count - key.count).first { whole[$0..<$0 + key.count].elementsEqual(key) }) + key.count
    for size in [Int32(-1), .min, .max, 0, 2] {
      var bytes = whole
      bytes.replaceSubrange(at..<at + 8, with: HandMadeGGUF.int(UInt32(5)) + HandMadeGGUF.int(size))
      #expect(failure { _ = try PackedModel.open(scratch.write(bytes, to: "bad.gguf")) }?.place?.contains("bad.gguf") == true, "\(size)")
    }
  }

  /// Whatever the header says: it is refused, or everything that is read lies inside the file.
  @Test(arguments: ["qwen2-moe", "deepseek-v3"]) func damagedHeadersNeverCrash(name: String) throws {
    let scratch = try Scratch()
    let whole = try contents(scratch.pack(name, options: PackOptions(embedding: .q8, trunk: .q8_0, experts: .q4_0)))
    let header = try GGUFFile(scratch["model.gguf"]).dataOffset
    var random = SplitMix64(seed: 6)
    var refused = 0
    for _ in 0..<400 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        bytes[Int.random(in: 0..<header, using: &random)] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
      }
      try scratch.write(bytes, to: "bad.gguf")
      do {
        let model = try PackedModel.open(scratch["bad.gguf"])
        #expect(model.weights.blocks.count == 3 && model.weights.expertBytes <= bytes.count)
      } catch {
        refused += 1
      }
    }
    #expect(refused > 100)
  }
}
