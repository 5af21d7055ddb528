// What formats call the parts of a model.

extension ModelPart {
  /// The name in GGUF files. Those of one expert are what other engines call the tensor that holds all experts' matrices of that kind.
  package var ggufName: String {
    switch self {
    case .embedding: "token_embd.weight"
    case .head: "output.weight"
    case .finalNorm: "output_norm.weight"
    case .block(let i, let part): "blk.\(i).\(part.ggufName)"
    }
  }

  /// The name in a hub folder of a model of this architecture.
  package func hubName(_ architecture: String) -> String {
    switch self {
    case .embedding: "model.embed_tokens.weight"
    case .head: "lm_head.weight"
    case .finalNorm: "model.norm.weight"
    case .block(let i, let part): "model.layers.\(i).\(part.hubName(architecture))"
    }
  }
}

extension BlockPart {
  fileprivate var ggufName: String {
    switch self {
    case .attentionNorm: "attn_norm.weight"
    case .attentionSubNorm: "attn_sub_norm.weight"
    case .queryNorm: "attn_q_norm.weight"
    case .keyNorm: "attn_k_norm.weight"
    case .queryLatentNorm: "attn_q_a_norm.weight"
    case .latentNorm: "attn_kv_a_norm.weight"
    case .feedForwardNorm: "ffn_norm.weight"
    case .feedForwardSubNorm: "ffn_sub_norm.weight"
    case .linear(let linear): "\(linear.ggufName).weight"
    case .inputNorm(let linear): "\(linear.ggufName).input_norm"
    case .bias(let linear): "\(linear.ggufName).bias"
    case .router: "ffn_gate_inp.weight"
    case .routerBias: "exp_probs_b.bias"
    case .sharedGating: "ffn_gate_inp_shexp.weight"
    case .experts: "ffn_exps"
    case .expert(_, let linear): "\(linear.ggufName)_exps.weight"
    }
  }

  fileprivate func hubName(_ architecture: String) -> String {
    switch self {
    case .attentionNorm: "input_layernorm.weight"
    case .attentionSubNorm: "self_attn.attn_sub_norm.weight"
    case .queryNorm: "self_attn.q_norm.weight"
    case .keyNorm: "self_attn.k_norm.weight"
    case .queryLatentNorm: "self_attn.q_a_layernorm.weight"
    case .latentNorm: "self_attn.kv_a_layernorm.weight"
    case .feedForwardNorm: "post_attention_layernorm.weight"
    case .feedForwardSubNorm: "mlp.ffn_sub_norm.weight"
    case .linear(let linear): "\(linear.hubName(architecture)).weight"
    case .inputNorm(let linear): "\(linear.hubName(architecture)).rms_norm.weight"
    case .bias(let linear): "\(linear.hubName(architecture)).bias"
    case .router: architecture == "mixtral" ? "block_sparse_moe.gate.weight" : "mlp.gate.weight"
    case .routerBias: "mlp.gate.e_score_correction_bias"
    case .sharedGating: "mlp.shared_expert_gate.weight"
    case .experts: "mlp.experts"
    case .expert(let expert, let linear):
      architecture == "mixtral"
        ? "block_sparse_moe.experts.\(expert).\(linear == .gate ? "w1" : linear == .down ? "w2" : "w3").weight"
        : "mlp.experts.\(expert).\(linear.hubName(architecture).dropFirst("mlp.".count)).weight"
    }
  }
}

extension Linear {
  fileprivate var ggufName: String {
    switch self {
    case .query: "attn_q"
    case .key: "attn_k"
    case .value: "attn_v"
    case .output: "attn_output"
    case .gate: "ffn_gate"
    case .up: "ffn_up"
    case .down: "ffn_down"
    case .queryDown: "attn_q_a"
    case .queryUp: "attn_q_b"
    case .latent: "attn_kv_a_mqa"
    case .keyUp: "attn_k_b"
    case .valueUp: "attn_v_b"
    case .sharedGate: "ffn_gate_shexp"
    case .sharedUp: "ffn_up_shexp"
    case .sharedDown: "ffn_down_shexp"
    }
  }

  /// `keyUp` and `valueUp` are one matrix there.
  fileprivate func hubName(_ architecture: String) -> String {
    let shared = architecture == "qwen2moe" ? "mlp.shared_expert" : "mlp.shared_experts"
    return switch self {
    case .query: "self_attn.q_proj"
    case .key: "self_attn.k_proj"
    case .value: "self_attn.v_proj"
    case .output: "self_attn.o_proj"
    case .gate: "mlp.gate_proj"
    case .up: "mlp.up_proj"
    case .down: "mlp.down_proj"
    case .queryDown: "self_attn.q_a_proj"
    case .queryUp: "self_attn.q_b_proj"
    case .latent: "self_attn.kv_a_proj_with_mqa"
    case .keyUp, .valueUp: "self_attn.kv_b_proj"
    case .sharedGate: "\(shared).gate_proj"
    case .sharedUp: "\(shared).up_proj"
    case .sharedDown: "\(shared).down_proj"
    }
  }
}
