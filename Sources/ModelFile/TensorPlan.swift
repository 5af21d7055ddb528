/// The tensors that a model *must* have, by its configuration: what the packer writes, in this order, and what a packed file is
/// checked against. No shape of a file is ever believed beyond this.
package struct PlannedTensor: Equatable {
  package enum Kind: Equatable {
    /// Float32 values.
    case vector(Int)
    case ternary(rows: Int, columns: Int)
    /// One row a token.
    case table(rows: Int, columns: Int)
  }

  package let part: ModelPart
  package let kind: Kind

  /// The name in a GGUF file.
  package var name: String { part.ggufName }
}

/// A place in a model, independent of the names that different formats give it.
package enum ModelPart: Hashable {
  case embedding, head, finalNorm
  case block(Int, BlockPart)
}

package enum BlockPart: Hashable {
  case attentionNorm, attentionSubNorm, feedForwardNorm, feedForwardSubNorm
  /// Over each query head, and each key head, before it is rotated.
  case queryNorm, keyNorm
  case linear(Linear)
  /// The norm in front of a linear.
  case inputNorm(Linear)
}

package enum Linear: CaseIterable, Hashable {
  case query, key, value, output, gate, up, down

  /// (rows, columns) = (outputs, inputs)
  /// - Parameter live: neurons of the feed-forward part that are stored; nil where all are.
  package func shape(_ c: ModelConfiguration, live: Int? = nil) -> (rows: Int, columns: Int) {
    let feedForward = live ?? c.feedForwardSize
    return switch self {
    case .query: (c.querySize, c.hiddenSize)
    case .key, .value: (c.kvSize, c.hiddenSize)
    case .output: (c.hiddenSize, c.querySize)
    case .gate, .up: (feedForward, c.hiddenSize)
    case .down: (c.hiddenSize, feedForward)
    }
  }
}

extension ModelConfiguration {
  /// All tensors of a model of this configuration, in the order of a packed file: first what every token reads, then the tables of which
  /// a token reads a row, so that one range of the file is all that has to stay in memory.
  /// - Parameter live: the neurons that are stored of each block's feed-forward part; nil where none was dropped.
  package func plan(live: [Int]? = nil) -> [PlannedTensor] {
    var plan: [PlannedTensor] = []
    func add(_ block: Int, _ part: BlockPart, _ kind: PlannedTensor.Kind) {
      plan.append(PlannedTensor(part: .block(block, part), kind: kind))
    }
    func linear(_ block: Int, _ linear: Linear) {
      let (rows, columns) = linear.shape(self, live: live?[block])
      if linearNormEpsilon != nil { add(block, .inputNorm(linear), .vector(columns)) }
      add(block, .linear(linear), .ternary(rows: rows, columns: columns))
    }
    for block in 0..<blockCount {
      add(block, .attentionNorm, .vector(hiddenSize))
      linear(block, .query)
      linear(block, .key)
      linear(block, .value)
      if hasHeadNorms {
        add(block, .queryNorm, .vector(headSize))
        add(block, .keyNorm, .vector(headSize))
      }
      if hasSubNorms { add(block, .attentionSubNorm, .vector(querySize)) }
      linear(block, .output)
      add(block, .feedForwardNorm, .vector(hiddenSize))
      linear(block, .gate)
      linear(block, .up)
      if hasSubNorms { add(block, .feedForwardSubNorm, .vector(live?[block] ?? feedForwardSize)) }
      linear(block, .down)
    }
    plan.append(PlannedTensor(part: .finalNorm, kind: .vector(hiddenSize)))
    plan.append(PlannedTensor(part: .embedding, kind: .table(rows: vocabularySize, columns: hiddenSize)))
    if !tiedHead { plan.append(PlannedTensor(part: .head, kind: .table(rows: vocabularySize, columns: hiddenSize))) }
    return plan
  }
}

extension ModelPart {
  package var ggufName: String {
    switch self {
    case .embedding: "token_embd.weight"
    case .head: "output.weight"
    case .finalNorm: "output_norm.weight"
    case .block(let i, .attentionNorm): "blk.\(i).attn_norm.weight"
    case .block(let i, .attentionSubNorm): "blk.\(i).attn_sub_norm.weight"
    case .block(let i, .queryNorm): "blk.\(i).attn_q_norm.weight"
    case .block(let i, .keyNorm): "blk.\(i).attn_k_norm.weight"
    case .block(let i, .feedForwardNorm): "blk.\(i).ffn_norm.weight"
    case .block(let i, .feedForwardSubNorm): "blk.\(i).ffn_sub_norm.weight"
    case .block(let i, .linear(let linear)): "blk.\(i).\(linear.ggufName).weight"
    case .block(let i, .inputNorm(let linear)): "blk.\(i).\(linear.ggufName).input_norm"
    }
  }

  /// The name in a hub folder of the `llama`, `bitnet` and `qwen3` kind.
  package var hubName: String {
    switch self {
    case .embedding: "model.embed_tokens.weight"
    case .head: "lm_head.weight"
    case .finalNorm: "model.norm.weight"
    case .block(let i, .attentionNorm): "model.layers.\(i).input_layernorm.weight"
    case .block(let i, .attentionSubNorm): "model.layers.\(i).self_attn.attn_sub_norm.weight"
    case .block(let i, .queryNorm): "model.layers.\(i).self_attn.q_norm.weight"
    case .block(let i, .keyNorm): "model.layers.\(i).self_attn.k_norm.weight"
    case .block(let i, .feedForwardNorm): "model.layers.\(i).post_attention_layernorm.weight"
    case .block(let i, .feedForwardSubNorm): "model.layers.\(i).mlp.ffn_sub_norm.weight"
    case .block(let i, .linear(let linear)): "model.layers.\(i).\(linear.hubName).weight"
    case .block(let i, .inputNorm(let linear)): "model.layers.\(i).\(linear.hubName).rms_norm.weight"
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
    }
  }

  fileprivate var hubName: String {
    switch self {
    case .query: "self_attn.q_proj"
    case .key: "self_attn.k_proj"
    case .value: "self_attn.v_proj"
    case .output: "self_attn.o_proj"
    case .gate: "mlp.gate_proj"
    case .up: "mlp.up_proj"
    case .down: "mlp.down_proj"
    }
  }
}
