import Foundation
import ModelFile

/// A reference mixture as llama.cpp's converter writes it: experts of a block stacked in one tensor of three dimensions, rotated pairs where it leaves them.
struct MixtureGGUF {
  typealias GGUF = TinyTernary.GGUF
  let config: [String: Any]
  let source: PlainSafetensors
  /// Of matrices; vectors are F32.
  let type: GGUFTensorType
  /// Keys and values of latents in one matrix, as files had it before engines kept the latent.
  var isOld = false

  init(_ name: String, _ type: GGUFTensorType = .f32, isOld: Bool = false) throws {
    config = try JSONSerialization.jsonObject(with: Data(contents("\(fixtures)/\(name)/config.json"))) as? [String: Any] ?? [:]
    source = try PlainSafetensors("\(fixtures)/\(name)/model.safetensors")
    self.type = type
    self.isOld = isOld
  }

  private func int(_ key: String) -> Int { config[key] as? Int ?? 0 }

  private func encode(_ values: [Float], _ type: GGUFTensorType) -> [UInt8] {
    switch type {
    case .f32: return values.flatMap { HandMadeGGUF.int($0.bitPattern) }
    case .q8_0:
      return stride(from: 0, to: values.count, by: 32).flatMap { (first: Int) -> [UInt8] in
        let block = values[first..<first + 32]
        let d = Float(Float16((block.map(abs).max() ?? 0) / 100))  // another factor than ours: taking it over is not encoding it again
        return HandMadeGGUF.int(Float16(d).bitPattern) + block.map { UInt8(bitPattern: Int8(max(-127, min(127, (d > 0 ? $0 / d : 0).rounded())))) }
      }
    default: preconditionFailure("not needed")
    }
  }

  func file() -> GGUF {
    var file = GGUF()
    func tensor(_ name: String, _ shape: [Int], _ values: [Float]) {
      let type = shape.count > 1 && !name.contains("gate_inp") && !name.hasPrefix("token") && name != "output.weight" ? self.type : .f32
      file.tensors.append((name, shape.map(UInt64.init), type.rawValue, encode(values, type)))
    }
    let names = [
      "mixtral": "llama", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "glm4_moe": "glm4moe", "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2",
      "olmoe": "olmoe",
    ]
    let kind = config["model_type"] as? String ?? ""
    let a = names[kind] ?? ""
    let (hidden, heads) = (int("hidden_size"), int("num_attention_heads"))
    let isMLA = a == "deepseek2"
    let rotation = config["rope_parameters"] as? [String: Any] ?? [:]
    file.set("general.architecture", a)
    let headSize = config["head_dim"] as? Int ?? hidden / heads
    let experts = (config["num_local_experts"] ?? config["num_experts"] ?? config["n_routed_experts"]) as? Int ?? 0
    var numbers = [
      ("vocab_size", int("vocab_size")), ("context_length", int("max_position_embeddings")), ("embedding_length", hidden),
      ("feed_forward_length", int("intermediate_size")), ("attention.head_count", heads), ("expert_count", experts),
      ("expert_used_count", int("num_experts_per_tok")),
    ]
    let extra = a == "glm4moe" ? 1 : 0
    numbers.append(("block_count", int("num_hidden_layers") + extra))
    if extra > 0 { numbers.append(("nextn_predict_layers", extra)) }
    if a != "llama" && a != "olmoe" { numbers.append(("expert_feed_forward_length", int("moe_intermediate_size"))) }
    if a == "qwen2moe" { numbers.append(("expert_shared_feed_forward_length", int("shared_expert_intermediate_size"))) }
    if isMLA || a == "glm4moe" {
      numbers += [
        ("expert_shared_count", int("n_shared_experts")), ("leading_dense_block_count", int("first_k_dense_replace")), ("expert_gating_func", kind == "deepseek_v2" ? 1 : 2),
        ("expert_group_count", int("n_group")), ("expert_group_used_count", int("topk_group")),
      ]
      file.set("\(a).expert_weights_scale", Float(config["routed_scaling_factor"] as? Double ?? 1))
      file.set("\(a).expert_weights_norm", config["norm_topk_prob"] as? Bool ?? false)
    }
    let (nope, rope, rank, value) = (int("qk_nope_head_dim"), int("qk_rope_head_dim"), int("kv_lora_rank"), int("v_head_dim"))
    if isMLA {
      numbers += [("attention.q_lora_rank", int("q_lora_rank")), ("attention.kv_lora_rank", rank), ("rope.dimension_count", rope)]
      numbers += isOld
        ? [("attention.key_length", nope + rope), ("attention.value_length", value), ("attention.head_count_kv", heads)]
        : [
          ("attention.key_length", rank + rope), ("attention.value_length", rank), ("attention.head_count_kv", 1),
          ("attention.key_length_mla", nope + rope), ("attention.value_length_mla", value),
        ]
      file.set("\(a).rope.scaling.type", "yarn")
      file.set("\(a).rope.scaling.factor", Float(4))
      file.set("\(a).rope.scaling.original_context_length", UInt32(64))
      file.set("\(a).rope.scaling.yarn_log_multiplier", Float(0.1 * (rotation["mscale_all_dim"] as? Double ?? 1)))
    } else {
      numbers += [
        ("attention.head_count_kv", int("num_key_value_heads")), ("attention.key_length", headSize), ("attention.value_length", headSize),
        ("rope.dimension_count", a == "glm4moe" ? headSize / 2 : headSize),
      ]
    }
    for (key, value) in numbers { file.set("\(a).\(key)", UInt32(value)) }
    file.set("\(a).attention.layer_norm_rms_epsilon", Float(1e-5))
    file.set("\(a).rope.freq_base", Float(rotation["rope_theta"] as? Double ?? 0))
    file.set("tokenizer.ggml.bos_token_id", UInt32(0))
    file.set("tokenizer.ggml.eos_token_id", UInt32(1))

    tensor("token_embd.weight", [hidden, int("vocab_size")], source.floats("model.embed_tokens.weight"))
    tensor("output.weight", [hidden, int("vocab_size")], source.floats("lm_head.weight"))
    tensor("output_norm.weight", [hidden], source.floats("model.norm.weight"))
    let renamed = [
      ("input_layernorm", "attn_norm"), ("post_attention_layernorm", a == "glm4moe" ? "post_attention_norm" : "ffn_norm"), ("self_attn.q_proj", "attn_q"),
      ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"), ("self_attn.q_norm", "attn_q_norm"),
      ("self_attn.k_norm", "attn_k_norm"), ("self_attn.q_a_proj", "attn_q_a"), ("self_attn.q_b_proj", "attn_q_b"), ("self_attn.q_a_layernorm", "attn_q_a_norm"),
      ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"), ("self_attn.kv_a_layernorm", "attn_kv_a_norm"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
      ("mlp.down_proj", "ffn_down"), ("mlp.gate", "ffn_gate_inp"), ("block_sparse_moe.gate", "ffn_gate_inp"), ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
    ] + ["shared_expert", "shared_experts"].flatMap { shared in ["gate", "up", "down"].map { ("mlp.\(shared).\($0)_proj", "ffn_\($0)_shexp") } }
    for layer in 0..<int("num_hidden_layers") {
      let prefix = "model.layers.\(layer)."
      for (hub, name) in renamed {
        for suffix in ["weight", "bias"] {
          guard let entry = source.entries["\(prefix)\(hub).\(suffix)"] else { continue }
          var values = source.floats("\(prefix)\(hub).\(suffix)")
          if a == "llama", name == "attn_q" || name == "attn_k" { values = dealt(values, headSize: headSize, columns: hidden) }
          tensor("blk.\(layer).\(name).\(suffix)", entry.shape.count == 2 && entry.shape[0] > 1 ? [entry.shape[1], entry.shape[0]] : [entry.shape.reduce(1, *)], values)
        }
      }
      if source.entries[prefix + "mlp.gate.e_score_correction_bias"] != nil {
        tensor("blk.\(layer).exp_probs_b.bias", [experts], source.floats(prefix + "mlp.gate.e_score_correction_bias"))
      }
      if isMLA {
        let both = source.floats(prefix + "self_attn.kv_b_proj.weight")
        if isOld {
          tensor("blk.\(layer).attn_kv_b.weight", [rank, heads * (nope + value)], both)
        } else {
          var (keys, values): ([Float], [Float]) = ([], [])
          for head in 0..<heads {
            let first = head * (nope + value)
            for r in 0..<rank { for n in 0..<nope { keys.append(both[(first + n) * rank + r]) } }
            values += both[(first + nope) * rank..<(first + nope + value) * rank]
          }
          tensor("blk.\(layer).attn_k_b.weight", [nope, rank, heads], keys)
          tensor("blk.\(layer).attn_v_b.weight", [rank, value, heads], values)
        }
      }
      for (linear, w) in [("gate", "w1"), ("up", "w3"), ("down", "w2")] {
        let each = (0..<experts).map { a == "llama" ? "\(prefix)block_sparse_moe.experts.\($0).\(w).weight" : "\(prefix)mlp.experts.\($0).\(linear)_proj.weight" }
        guard let entry = source.entries[each[0]] else { continue }
        tensor("blk.\(layer).ffn_\(linear)_exps.weight", [entry.shape[1], entry.shape[0], experts], each.flatMap { source.floats($0) })
      }
    }
    if extra > 0 { tensor("blk.3.nextn.eh_proj.weight", [2 * hidden, hidden], [Float](repeating: 0, count: 2 * hidden * hidden)) }
    return file
  }

  /// What llama.cpp's converter does to rotated rows of Llamas: the halves of a head are dealt out in turns.
  private func dealt(_ values: [Float], headSize: Int, columns: Int) -> [Float] {
    (0..<values.count / columns).flatMap { row -> ArraySlice<Float> in
      let within = row % headSize
      let from = row - within + (within % 2 == 0 ? within / 2 : headSize / 2 + within / 2)
      return values[from * columns..<(from + 1) * columns]
    }
  }
}
