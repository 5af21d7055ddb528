import Basics

// The configuration as GGUF metadata: the standard keys where there are such, `sterna.` keys for the rest. docs/format.md lists them.

extension ModelConfiguration {
  /// All keys, in the order of a packed file.
  func metadata() -> [(key: String, value: GGUFValue)] {
    let a = architecture
    func number(_ value: Int) -> GGUFValue { .uint32(UInt32(clamping: value)) }
    var keys: [(key: String, value: GGUFValue)] = [
      ("\(a).vocab_size", number(vocabularySize)),
      ("\(a).context_length", number(contextLength)),
      ("\(a).embedding_length", number(hiddenSize)),
      ("\(a).block_count", number(blockCount)),
      ("\(a).feed_forward_length", number(feedForwardSize)),
      ("\(a).attention.head_count", number(queryHeads)),
      ("\(a).attention.head_count_kv", number(kvHeads)),
      ("\(a).attention.key_length", number(headSize)),
      ("\(a).attention.value_length", number(latent?.valueSize ?? headSize)),
      ("\(a).attention.layer_norm_rms_epsilon", .float32(normEpsilon)),
      ("\(a).rope.dimension_count", number(ropeSize)),
      ("\(a).rope.freq_base", .float32(ropeTheta)),
    ]
    switch ropeScaling {
    case .none: keys.append(("\(a).rope.scaling.type", .string("none")))
    case .llama3(let factor, let low, let high, let context):
      keys += [
        ("\(a).rope.scaling.type", .string("llama3")), ("\(a).rope.scaling.factor", .float32(factor)),
        ("\(a).rope.scaling.original_context_length", number(context)),
        ("sterna.rope.low_frequency_factor", .float32(low)), ("sterna.rope.high_frequency_factor", .float32(high)),
      ]
    case .yarn(let factor, let context, let fast, let slow, let attention, let truncate):
      keys += [
        ("\(a).rope.scaling.type", .string("yarn")), ("\(a).rope.scaling.factor", .float32(factor)),
        ("\(a).rope.scaling.original_context_length", number(context)),
        ("\(a).rope.scaling.yarn_beta_fast", .float32(fast)), ("\(a).rope.scaling.yarn_beta_slow", .float32(slow)),
        ("sterna.rope.attention_factor", .float32(attention)), ("sterna.rope.truncate", .bool(truncate)),
      ]
    }
    keys.append(("sterna.activation", .string(activation.rawValue)))
    keys.append(("sterna.sub_norms", .bool(hasSubNorms)))
    keys.append(("sterna.tied_head", .bool(tiedHead)))
    switch queryKeyNorms {
    case .none: break
    case .heads: keys.append(("sterna.head_norms", .bool(true)))
    case .projections: keys.append(("sterna.projection_norms", .bool(true)))
    }
    if hasProjectionBias { keys.append(("sterna.projection_bias", .bool(true))) }
    if scoreFactor != 1 { keys.append(("sterna.attention.score_factor", .float32(scoreFactor))) }
    if let latent {
      keys.append(("\(a).attention.q_lora_rank", number(latent.queryRank)))
      keys.append(("\(a).attention.kv_lora_rank", number(latent.rank)))
    }
    if let experts { keys += experts.metadata(a) }
    if groupsActivations { keys.append(("sterna.groups_activations", .bool(true))) }
    if let linearNormEpsilon { keys.append(("sterna.linear_norm_epsilon", .float32(linearNormEpsilon))) }
    if let beginOfText { keys.append(("tokenizer.ggml.bos_token_id", .uint32(UInt32(bitPattern: beginOfText)))) }
    if let first = endOfText.first { keys.append(("tokenizer.ggml.eos_token_id", .uint32(UInt32(bitPattern: first)))) }
    keys.append(("sterna.end_of_text", .array(.int32(endOfText))))
    return keys
  }

  /// Reads what `metadata()` wrote, and validates it.
  /// - Throws: `badFile` or `badField` naming the key.
  init(_ metadata: MetadataReader) throws(SternaError) {
    let a = try metadata.string("general.architecture")
    guard Self.architectures.contains(a) else {
      throw SternaError(
        .unsupported, "this architecture is not supported", at: "key general.architecture", expected: Self.architectures.joined(separator: ", "), found: a)
    }
    let scaling: RopeScaling
    switch try metadata.string("\(a).rope.scaling.type") {
    case "none": scaling = .none
    case "llama3":
      scaling = .llama3(
        factor: try metadata.float("\(a).rope.scaling.factor"), lowFrequency: try metadata.float("sterna.rope.low_frequency_factor"),
        highFrequency: try metadata.float("sterna.rope.high_frequency_factor"),
        originalContext: try metadata.int("\(a).rope.scaling.original_context_length"))
    case "yarn":
      scaling = .yarn(
        factor: try metadata.float("\(a).rope.scaling.factor"),
        originalContext: try metadata.int("\(a).rope.scaling.original_context_length"),
        betaFast: try metadata.float("\(a).rope.scaling.yarn_beta_fast"), betaSlow: try metadata.float("\(a).rope.scaling.yarn_beta_slow"),
        attentionFactor: try metadata.float("sterna.rope.attention_factor"), truncate: try metadata.bool("sterna.rope.truncate"))
    case let other:
      throw SternaError(
        .unsupported, "this scaling of rotary embedding is not supported", at: "key \(a).rope.scaling.type", expected: "none, llama3 or yarn", found: other)
    }
    let activationName = try metadata.string("sterna.activation")
    guard let activation = Activation(rawValue: activationName) else {
      throw SternaError(.unsupported, "this activation function is not supported", at: "key sterna.activation", expected: "silu or relu2", found: activationName)
    }
    let headSize = try metadata.int("\(a).attention.key_length")
    let valueSize = try metadata.int("\(a).attention.value_length")
    let ropeSize = try metadata.int("\(a).rope.dimension_count")
    var latent: LatentAttention?
    if metadata.has("\(a).attention.kv_lora_rank") {
      guard 0...Limits.headSize.upperBound ~= headSize, 0...headSize ~= ropeSize else {
        throw SternaError(.badField, "is more than a head has", at: "key \(a).rope.dimension_count", expected: "at most \(headSize)", found: "\(ropeSize)")
      }
      latent = LatentAttention(
        queryRank: try metadata.int("\(a).attention.q_lora_rank"), rank: try metadata.int("\(a).attention.kv_lora_rank"), plainSize: headSize - ropeSize,
        valueSize: valueSize)
    } else if valueSize != headSize {
      throw SternaError(
        .unsupported, "differs from the key length", at: "key \(a).attention.value_length", expected: "\(headSize)", found: "\(valueSize)")
    }
    func flag(_ key: String) throws(SternaError) -> Bool { metadata.has(key) ? try metadata.bool(key) : false }
    self.init(
      architecture: a, name: try metadata.string("general.name").withoutControls,
      vocabularySize: try metadata.int("\(a).vocab_size"), hiddenSize: try metadata.int("\(a).embedding_length"),
      blockCount: try metadata.int("\(a).block_count"), queryHeads: try metadata.int("\(a).attention.head_count"),
      kvHeads: try metadata.int("\(a).attention.head_count_kv"), headSize: headSize,
      feedForwardSize: try metadata.int("\(a).feed_forward_length"), contextLength: try metadata.int("\(a).context_length"),
      normEpsilon: try metadata.float("\(a).attention.layer_norm_rms_epsilon"),
      linearNormEpsilon: metadata.has("sterna.linear_norm_epsilon") ? try metadata.float("sterna.linear_norm_epsilon") : nil,
      activation: activation, ropeTheta: try metadata.float("\(a).rope.freq_base"), ropeScaling: scaling,
      hasSubNorms: try metadata.bool("sterna.sub_norms"),
      queryKeyNorms: try flag("sterna.head_norms") ? .heads : try flag("sterna.projection_norms") ? .projections : .none,
      hasProjectionBias: try flag("sterna.projection_bias"),
      ropeSize: ropeSize,
      scoreFactor: metadata.has("sterna.attention.score_factor") ? try metadata.float("sterna.attention.score_factor") : 1,
      latent: latent, experts: metadata.has("\(a).expert_count") ? try Experts(metadata, a) : nil,
      groupsActivations: try flag("sterna.groups_activations"),
      tiedHead: try metadata.bool("sterna.tied_head"),
      beginOfText: metadata.has("tokenizer.ggml.bos_token_id") ? try metadata.token("tokenizer.ggml.bos_token_id") : nil,
      endOfText: try metadata.tokens("sterna.end_of_text"))
    try validate()
  }
}

extension ModelConfiguration.Experts {
  fileprivate func metadata(_ a: String) -> [(key: String, value: GGUFValue)] {
    func number(_ value: Int) -> GGUFValue { .uint32(UInt32(clamping: value)) }
    return [
      ("\(a).expert_count", number(router.experts)), ("\(a).expert_used_count", number(router.chosen)),
      ("\(a).expert_feed_forward_length", number(size)), ("\(a).expert_shared_feed_forward_length", number(sharedSize)),
      ("\(a).expert_group_count", number(router.groups)), ("\(a).expert_group_used_count", number(router.keptGroups)),
      ("\(a).expert_weights_norm", .bool(router.normalises)), ("\(a).expert_weights_scale", .float32(router.scale)),
      ("sterna.experts.routed", .array(.bool(routed))), ("sterna.experts.score", .string(router.score.rawValue)),
      ("sterna.experts.bias", .bool(router.hasBias)), ("sterna.experts.group_score", .string(router.groupScore.rawValue)),
      ("sterna.experts.weights", .string(router.weights.rawValue)), ("sterna.experts.weights_multiply", .string(router.target.rawValue)),
      ("sterna.experts.shared_gate", .bool(gatesShared)),
    ]
  }

  fileprivate init(_ metadata: MetadataReader, _ a: String) throws(SternaError) {
    typealias Router = ModelConfiguration.Router
    func word<Word: RawRepresentable<String> & CaseIterable>(_ key: String) throws(SternaError) -> Word {
      let text = try metadata.string(key)
      guard let word = Word(rawValue: text) else {
        throw SternaError(
          .unsupported, "is not supported", at: "key \(key)", expected: Word.allCases.map(\.rawValue).joined(separator: ", "), found: text)
      }
      return word
    }
    self.init(
      router: Router(
        experts: try metadata.int("\(a).expert_count"), chosen: try metadata.int("\(a).expert_used_count"), score: try word("sterna.experts.score"),
        hasBias: try metadata.bool("sterna.experts.bias"), groups: try metadata.int("\(a).expert_group_count"),
        keptGroups: try metadata.int("\(a).expert_group_used_count"), groupScore: try word("sterna.experts.group_score"),
        weights: try word("sterna.experts.weights"), normalises: try metadata.bool("\(a).expert_weights_norm"),
        scale: try metadata.float("\(a).expert_weights_scale"), target: try word("sterna.experts.weights_multiply")),
      size: try metadata.int("\(a).expert_feed_forward_length"), sharedSize: try metadata.int("\(a).expert_shared_feed_forward_length"),
      gatesShared: try metadata.bool("sterna.experts.shared_gate"), routed: try metadata.bools("sterna.experts.routed"))
  }
}
