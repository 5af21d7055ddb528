import Basics
import Foundation
import ModelFile
import TestSupport
import Testing

/// Damaged and wrong files: always an error that names the place, never a crash.
@Suite struct HostileFileTests {
  @Test func everyTruncationIsRefused() throws {
    let scratch = try Scratch()
    let whole = try contents(scratch.pack("bitnet-offline"))
    let header = try GGUFFile(scratch["model.gguf"]).dataOffset
    var lengths = [header - 1, header + 1, whole.count - 1]
    lengths += stride(from: 0, to: header, by: 7)
    lengths += stride(from: header, to: whole.count, by: 4096)
    for length in lengths {
      try scratch.write(whole[..<length], to: "short.gguf")
      let error = failure { _ = try PackedModel.open(scratch["short.gguf"]) }
      #expect(error?.place?.contains("short.gguf") == true, "\(length) bytes")
    }
    try scratch.write(whole + [0], to: "long.gguf")
    #expect(failure { _ = try PackedModel.open(scratch["long.gguf"]) }?.message.contains("appended") == true)
  }

  /// Whatever the header says: it is refused, or everything that is read lies inside the file.
  @Test func damagedHeadersNeverCrash() throws {
    let scratch = try Scratch()
    let whole = try contents(scratch.pack("llama-rmsnorm-bitlinear", options: PackOptions(embedding: .q8)))
    let header = try GGUFFile(scratch["model.gguf"]).dataOffset
    var random = SplitMix64(seed: 1)
    var refused = 0
    for round in 0..<1500 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let at = Int.random(in: 0..<header, using: &random)
        switch round % 3 {
        case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[at] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
        default: for i in at..<min(at + 8, header) { bytes[i] = round % 2 == 0 ? 0xFF : 0 }
        }
      }
      try scratch.write(bytes, to: "bad.gguf")
      do {
        let model = try PackedModel.open(scratch["bad.gguf"])
        for tensor in model.gguf.tensors { #expect(tensor.offset >= 0 && tensor.offset + tensor.byteCount <= bytes.count) }
        #expect(model.weights.blocks.count == 3)
        try? model.verify()
      } catch {
        refused += 1
      }
    }
    #expect(refused > 300)
  }

  /// The same for a file with all that the pocket model does not have: both kinds of scales, dropped neurons, blocks of 6 bits.
  @Test(arguments: [MadeSource.Scales.rows, .groups]) func damagedHeadersOfOtherFormsNeverCrash(kind: MadeSource.Scales) throws {
    let scratch = try Scratch()
    let whole = try contents(otherForms(kind, in: scratch))
    let header = try GGUFFile(scratch["other.gguf"]).dataOffset
    var random = SplitMix64(seed: 2)
    var refused = 0
    for _ in 0..<500 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        bytes[Int.random(in: 0..<header, using: &random)] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
      }
      try scratch.write(bytes, to: "bad.gguf")
      do {
        let model = try PackedModel.open(scratch["bad.gguf"])
        for tensor in model.gguf.tensors { #expect(tensor.offset >= 0 && tensor.offset + tensor.byteCount <= bytes.count) }
        for block in model.weights.blocks {
          for (_, matrix) in block.linears(0) { #expect(matrix.bytes <= bytes.count) }
        }
        try? model.verify()
      } catch {
        refused += 1
      }
    }
    #expect(refused > 100)
  }

  private func otherForms(_ kind: MadeSource.Scales, in scratch: Scratch) throws -> String {
    let source = MadeSource(.made(hidden: 256, feedForward: 384), kind)
    if kind != .groups { for neuron in 100..<120 { source.clear("blk.1.ffn_up.weight", row: neuron, columns: 256) } }
    try Packer.pack(source, to: scratch["other.gguf"], options: PackOptions(embedding: .q6, layout: .small))
    return scratch["other.gguf"]
  }

  /// What the header says about layouts, scales and live neurons is compared with what must be there.
  @Test func keysThatContradictEachOtherAreRefused() throws {
    let scratch = try Scratch()
    func refusal(_ kind: MadeSource.Scales, _ old: [UInt8], _ new: [UInt8], nth: Int = 0) throws -> SternaError? {
      var bytes = try contents(otherForms(kind, in: scratch))
      #expect(old.count == new.count)
      let header = try GGUFFile(scratch["other.gguf"]).dataOffset
      let places = (0..<header - old.count).filter { bytes[$0..<$0 + old.count].elementsEqual(old) }
      bytes.replaceSubrange(try #require(places.dropFirst(nth).first)..<(try #require(places.dropFirst(nth).first) + old.count), with: new)
      return failure { _ = try PackedModel.open(scratch.write(bytes, to: "bad.gguf")) }
    }
    func text(_ s: String) -> [UInt8] { HandMadeGGUF.int(UInt64(s.utf8.count)) + Array(s.utf8) }
    func live(_ a: UInt32, _ b: UInt32) -> [UInt8] { HandMadeGGUF.int(a) + HandMadeGGUF.int(b) }

    let layout = try refusal(.rows, text("small"), text("smell"), nth: 2)
    #expect(layout?.code == .unsupported && layout?.place?.contains("sterna.ternary.layout[2], of tensor blk.0.attn_v.weight") == true && layout?.found == "smell")
    let scale = try refusal(.groups, text("groups"), text("grouqs"), nth: 1)
    #expect(scale?.code == .unsupported && scale?.place?.contains("sterna.ternary.scale_kind[1]") == true)
    // Scales of another kind than there are tensors for.
    #expect(try refusal(.groups, Array("sterna.ternary.scale_kind".utf8), Array("sterna.ternary.scale_kinx".utf8))?.place?.contains("tensor blk.0.attn_q.weight") == true)
    #expect(try refusal(.rows, text("blk.1.ffn_up.weight.scale"), text("blk.1.ffn_up.weight.scalf"))?.place?.hasSuffix("tensor blk.1.ffn_up.weight.scale") == true)
    // 384 and 364 neurons.
    #expect(try refusal(.rows, live(384, 364), live(384, 0))?.place?.hasSuffix("key sterna.feed_forward.live[1]") == true)
    #expect(try refusal(.rows, live(384, 364), live(385, 364))?.place?.hasSuffix("key sterna.feed_forward.live[0]") == true)
    #expect(try refusal(.rows, live(384, 364), live(384, .max))?.place?.hasSuffix("key sterna.feed_forward.live[1]") == true)
    #expect(try refusal(.rows, live(384, 364), live(384, 363))?.place?.contains("sterna.ternary.rows[11]") == true)
    #expect(try refusal(.rows, Array("sterna.feed_forward.live".utf8), Array("sterna.feed_forward.livf".utf8))?.place?.contains("sterna.ternary.rows") == true)
  }

  /// A table among what every token reads would be mapped with it.
  @Test func tablesBetweenBlocksAreRefused() throws {
    let scratch = try Scratch()
    var bytes = try contents(MadeSource(.made(hidden: 256, feedForward: 384)).packed(in: scratch, PackOptions(embedding: .q8)).path)
    let file = try GGUFFile(scratch["made.gguf"])
    let (norm, table) = (try #require(file.tensor("output_norm.weight")), try #require(file.tensor("token_embd.weight")))
    #expect(table.offset == norm.offset + 4096 && table.byteCount == 19 * 272)
    // They change places: two pages of embedding, one of the norm.
    func swap(_ name: String, _ to: Int) throws {
      let entry = HandMadeGGUF.int(UInt64(name.utf8.count)) + Array(name.utf8)
      let at = try #require((0..<file.dataOffset).last { bytes[$0..<min($0 + entry.count, bytes.count)].elementsEqual(entry) })
      let tensor = try #require(file.tensor(name))
      let offset = at + entry.count + 4 + 8 * tensor.shape.count + 4
      bytes.replaceSubrange(offset..<offset + 8, with: HandMadeGGUF.int(UInt64(to - file.dataOffset)))
    }
    try swap("output_norm.weight", norm.offset + 8192)
    try swap("token_embd.weight", norm.offset)
    let error = failure { _ = try PackedModel.open(scratch.write(bytes, to: "bad.gguf")) }
    #expect(error?.place?.hasSuffix("tensor token_embd.weight") == true && error?.message.contains("between") == true)
  }

  @Test func wrongValuesOfOtherFormsAreFoundByVerify() throws {
    let scratch = try Scratch()
    func found(_ kind: MadeSource.Scales, _ tensor: String, at offset: Int, _ new: [UInt8]) throws -> SternaError? {
      var bytes = try contents(otherForms(kind, in: scratch))
      let begin = try #require(try GGUFFile(scratch["other.gguf"]).tensor(tensor)).offset + offset
      bytes.replaceSubrange(begin..<begin + new.count, with: new)
      let model = try PackedModel.open(scratch.write(bytes, to: "bad.gguf"))
      let error = failure { try model.verify() }
      #expect(error?.place?.contains("tensor \(tensor) (byte \(begin))") == true, "\(String(describing: error))")
      return error
    }
    #expect(try found(.rows, "blk.1.ffn_down.weight", at: 77, [243])?.found == "243")
    #expect(try found(.rows, "blk.0.attn_q.weight.scale", at: 12, HandMadeGGUF.int(Float.nan.bitPattern))?.message.contains("finite") == true)
    #expect(try found(.rows, "blk.0.attn_q.weight.scale", at: 12, HandMadeGGUF.int(Float(-1).bitPattern))?.message.contains("negative") == true)
    #expect(try found(.groups, "blk.0.attn_q.weight.scale", at: 12, HandMadeGGUF.int(Float16.infinity.bitPattern))?.message.contains("finite") == true)
    #expect(try found(.groups, "blk.0.attn_q.weight.scale", at: 12, HandMadeGGUF.int(Float16(-1).bitPattern))?.message.contains("negative") == true)
    #expect(try found(.groups, "token_embd.weight", at: 210 + 208, HandMadeGGUF.int(Float16.nan.bitPattern))?.message.contains("finite") == true)
  }

  @Test func damagedDataIsFoundByVerify() throws {
    let scratch = try Scratch()
    let whole = try contents(scratch.pack("bitnet-offline"))
    for tensor in try GGUFFile(scratch["model.gguf"]).tensors {
      var bytes = whole
      bytes[tensor.offset + tensor.byteCount / 2] ^= 1
      try scratch.write(bytes, to: "bad.gguf")
      let model = try PackedModel.open(scratch["bad.gguf"])
      #expect(failure { try model.verify() }?.place?.contains("tensor \(tensor.name)") == true)
    }
    var bytes = whole
    let codes = try #require(try GGUFFile(scratch["model.gguf"]).tensor("blk.1.ffn_up.weight"))
    bytes[codes.offset + 5] = 0xFF
    let model = try PackedModel.open(scratch.write(bytes, to: "bad.gguf"))
    #expect(failure { try model.verify() }?.place?.hasSuffix("tensor blk.1.ffn_up.weight (byte \(codes.offset + 5))") == true)
  }

  @Test func otherFilesAreRefusedWithAdvice() throws {
    let scratch = try Scratch()
    let error = failure { _ = try PackedModel.open(scratch.write(HandMadeGGUF().bytes, to: "other.gguf")) }
    #expect(error?.code == .unsupported && error?.remedy?.contains("sterna pack") == true)
    #expect(failure { _ = try PackedModel.open(scratch.path) }?.code == .io)
  }

  // MARK: Hub folders

  private func refusal(_ model: String = "llama-bitlinear", changing change: (inout [String: Any]) -> Void) throws -> SternaError {
    let scratch = try Scratch()
    let folder = try scratch.copy(model, changing: change)
    return try #require(failure { try Packer.pack(HubFolder(folder), to: scratch["m.gguf"]) }, "was accepted")
  }

  private func quantization(_ change: [String: Any]) -> (inout [String: Any]) -> Void {
    { config in config["quantization_config"] = (config["quantization_config"] as? [String: Any] ?? [:]).merging(change) { $1 } }
  }

  @Test func configurationsThatWouldBeGuessedAreRefused() throws {
    let missing = try refusal(changing: { $0["hidden_act"] = nil })
    #expect(missing.place?.hasSuffix("config.json: hidden_act") == true && missing.remedy?.contains("relu2") == true)
    #expect(try refusal(changing: { $0["hidden_act"] = "gelu" }).code == .unsupported)
    #expect(try refusal(changing: { $0["model_type"] = "gemma" }).place?.hasSuffix("config.json: model_type") == true)
    #expect(try refusal(changing: { $0["model_type"] = nil }).code == .badField)
    #expect(try refusal(changing: { $0["quantization_config"] = nil }).expected?.contains("quantization_config") == true)
    #expect(try refusal(changing: quantization(["quant_method": "gptq"])).place?.hasSuffix("quantization_config.quant_method") == true)
    #expect(try refusal(changing: quantization(["linear_class": "autoautolinear"])).found == "autoautolinear")
    #expect(try refusal(changing: quantization(["quantization_mode": "sideways"])).place?.hasSuffix("quantization_config.quantization_mode") == true)
    #expect(try refusal(changing: quantization(["quantization_mode": "online"])).code == .unsupported)
    #expect(try refusal(changing: quantization(["modules_to_not_convert": ["lm_head", "model.layers.0"]])).place?.hasSuffix("modules_to_not_convert[1]") == true)
    #expect(try refusal(changing: { $0["attention_bias"] = true }).place?.hasSuffix("attention_bias") == true)
    #expect(try refusal(changing: { $0["rope_parameters"] = ["rope_type": "linear", "factor": 2] }).place?.hasSuffix("rope_parameters.rope_type") == true)
    #expect(try refusal(changing: { $0["rope_parameters"] = ["factor": 2] }).code == .badField)
    #expect(try refusal(changing: { $0["rope_parameters"] = ["rope_type": "default", "partial_rotary_factor": 0.5] }).code == .unsupported)
    #expect(try refusal(changing: { $0["rms_norm_eps"] = nil }).place?.hasSuffix("rms_norm_eps") == true)
  }

  @Test func numbersOutOfRangeAreRefused() throws {
    let cases: [(String, Int)] = [
      ("hidden_size", 0), ("hidden_size", 1 << 40), ("num_hidden_layers", 100_000), ("num_attention_heads", 0), ("num_key_value_heads", 3),
      ("vocab_size", -1), ("intermediate_size", 0), ("head_dim", 15), ("max_position_embeddings", 1 << 40), ("bos_token_id", 320), ("eos_token_id", -1),
    ]
    for (key, value) in cases {
      #expect(try refusal(changing: { $0[key] = value }).code == .badField, "\(key) = \(value)")
    }
  }

  @Test func shapesThatContradictTheConfigurationAreRefused() throws {
    #expect(try refusal(changing: { $0["intermediate_size"] = 192 }).place?.contains("mlp.gate_proj.weight") == true)
    #expect(try refusal(changing: { $0["vocab_size"] = 321 }).place?.hasSuffix("tensor model.embed_tokens.weight") == true)
    #expect(try refusal(changing: { $0["num_hidden_layers"] = 4 }).message == "this tensor is missing")
    #expect(try refusal("bitnet-offline", changing: { $0["tie_word_embeddings"] = false }).remedy?.contains("tie_word_embeddings") == true)
    // Packed weights under online, masters under offline.
    #expect(try refusal("bitnet-offline", changing: quantization(["quantization_mode": "online"])).remedy?.contains("offline") == true)
    #expect(try refusal("bitnet-online", changing: quantization(["quantization_mode": "offline"])).remedy?.contains("online") == true)
    #expect(try refusal(changing: quantization(["use_rms_norm": true])).message == "this tensor is missing")
  }

  @Test func floatsThatAreTernaryAlreadyNeedAScale() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("llama-autobitlinear")
    var source = try PlainSafetensors(folder + "/model.safetensors")
    let whole = try scratch.pack("llama-autobitlinear")
    for (name, entry) in source.entries where entry.type == "U8" {
      let values = (0..<4).flatMap { quarter in entry.bytes.map { Float($0 >> UInt8(2 * quarter) & 3) - 1 } }
      source.entries[name] = .init(type: "F32", shape: [entry.shape[0] * 4, entry.shape[1]], bytes: values.flatMap { HandMadeGGUF.int($0.bitPattern) })
    }
    let file = URL(fileURLWithPath: folder + "/model.safetensors")
    try Data(source.serialised()).write(to: file)
    try Packer.pack(HubFolder(folder), to: scratch["plain.gguf"], options: PackOptions(embedding: .f32, name: "llama-autobitlinear"))
    #expect(try contents(scratch["plain.gguf"]) == contents(whole))

    let name = "model.layers.1.mlp.up_proj.weight"
    source.entries[name]?.bytes.replaceSubrange(64..<68, with: HandMadeGGUF.int(Float(0.5).bitPattern))
    try Data(source.serialised()).write(to: file)
    #expect(failure { try Packer.pack(HubFolder(folder), to: scratch["m"]) }?.found == "0.5 in row 0")
    source.entries[name + "_scale"] = nil
    try Data(source.serialised()).write(to: file)
    #expect(failure { try Packer.pack(HubFolder(folder), to: scratch["m"]) }?.place?.hasSuffix(name) == true)
  }

  @Test func badScalesAndCodesAreRefused() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("llama-bitlinear")
    let original = try PlainSafetensors(folder + "/model.safetensors")
    func refusal(changing change: (inout PlainSafetensors) -> Void) throws -> String? {
      var source = original
      change(&source)
      try Data(source.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      return failure { try Packer.pack(HubFolder(folder), to: scratch["m"]) }?.place
    }
    let name = "model.layers.2.self_attn.q_proj.weight"
    for bad in [Float.nan, 0, -1, .infinity] {
      #expect(try refusal(changing: { $0.entries[name + "_scale"]?.bytes = HandMadeGGUF.int(bad.bitPattern) })?.hasSuffix(name + "_scale") == true)
    }
    #expect(try refusal(changing: { $0.entries[name + "_scale"] = nil })?.hasSuffix(name + "_scale") == true)
    #expect(try refusal(changing: { $0.entries[name]?.bytes[100] = 0x30 })?.hasSuffix(name) == true)
    #expect(try refusal(changing: { $0.entries["model.layers.0.self_attn.q_proj.bias"] = .init(type: "F32", shape: [1], bytes: [0, 0, 0, 0]) })?.hasSuffix(".bias") == true)
  }

  @Test func badSafetensorsAreRefused() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("bitnet-offline")
    let path = folder + "/model.safetensors"
    func refusal(_ header: String, data: Int = 16, length: UInt64? = nil) throws -> SternaError? {
      var bytes = HandMadeGGUF.int(length ?? UInt64(header.utf8.count))
      bytes += Array(header.utf8)
      bytes += [UInt8](repeating: 0, count: data)
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      return failure { _ = try HubFolder(folder) }
    }
    func tensor(_ name: String, _ offsets: String) -> String { tensor(name, "F32", "[4]", offsets) }
    func tensor(_ name: String, _ type: String, _ shape: String, _ offsets: String) -> String {
      #""\#(name)":{"dtype":"\#(type)","shape":\#(shape),"data_offsets":\#(offsets)}"#
    }
    let cases: [(String, String)] = [
      ("{", "header"), ("[]", "header"), ("{}", "byte"), ("{\(tensor("a", "[0,16]")),\(tensor("a", "[0,16]"))}", "header"),
      ("{\(tensor("a", "[0,12]"))}", "a.data_offsets"), ("{\(tensor("a", "[16,0]"))}", "a.data_offsets"), ("{\(tensor("a", "[0,32]"))}", "a.data_offsets[1]"),
      ("{\(tensor("a", "[-16,0]"))}", "a.data_offsets[0]"), ("{\(tensor("a", "F32", "[2]", "[0,8]"))}", "byte"),
      ("{\(tensor("a", "F32", "[2]", "[8,16]"))}", "tensor a"), ("{\(tensor("a", "F32", "[3]", "[0,12]")),\(tensor("b", "F32", "[2]", "[8,16]"))}", "tensor b"),
      ("{\(tensor("a", "F31", "[4]", "[0,16]"))}", "a.dtype"), ("{\(tensor("a", "F32", "[4294967296,4294967296]", "[0,16]"))}", "a.shape"),
      ("{\(tensor("a", "F32", "[2.5]", "[0,16]"))}", "a.shape[0]"), ("{\(tensor("a", "F32", "4", "[0,16]"))}", "a.shape"), (#"{"a":1}"#, "a.dtype"),
    ]
    for (header, place) in cases {
      let error = try refusal(header)
      #expect(error?.place?.contains(place) == true, "\(header): \(String(describing: error))")
    }
    #expect(try refusal("{}", length: .max)?.place?.hasSuffix("byte 0") == true)
    #expect(try refusal("{}", data: 0, length: 3)?.place?.hasSuffix("byte 0") == true)
    try Data([1, 2, 3]).write(to: URL(fileURLWithPath: path))
    #expect(failure { _ = try HubFolder(folder) }?.code == .badFile)
    try FileManager.default.removeItem(atPath: path)
    #expect(failure { _ = try HubFolder(folder) }?.message == "there are no weights in this folder")
    try FileManager.default.removeItem(atPath: folder + "/config.json")
    #expect(failure { _ = try HubFolder(folder) }?.place?.hasSuffix("config.json") == true)
  }
}
