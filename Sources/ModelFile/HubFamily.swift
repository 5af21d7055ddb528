import Basics

/// What a `model_type` of config.json stands for: which of the parts that a block may have it has, and what its experts are like.
struct HubFamily {
  let architecture: String

  private static let all: [(modelType: String, architecture: String)] = [
    ("bitnet", "bitnet"), ("llama", "llama"), ("qwen3", "qwen3"), ("mixtral", "mixtral"), ("qwen2_moe", "qwen2moe"), ("qwen3_moe", "qwen3moe"),
    ("glm4_moe", "glm4moe"), ("deepseek_v2", "deepseek2"), ("deepseek_v3", "deepseek2"), ("kimi_k2", "deepseek2"),
    ("deepseek_v32", "deepseek2"), ("glm_moe_dsa", "deepseek2"), ("olmoe", "olmoe"),
  ]

  init(_ modelType: JSONReader) throws(SternaError) {
    let found = try modelType.string()
    guard let family = Self.all.first(where: { $0.modelType == found }) else {
      throw SternaError(
        .unsupported, "this kind of model is not supported", at: modelType.path, expected: Self.all.map(\.modelType).joined(separator: ", "), found: found)
    }
    architecture = family.architecture
  }

  /// The longest context in which sparse attention sees everything, where the model has it: its indexer, which is not built, then chooses all that there is.
  func denseContext(_ config: JSONReader) throws(SternaError) -> Int? {
    guard architecture == "deepseek2" else { return nil }
    return try config["index_topk"].optional?.int(in: ModelConfiguration.Limits.context)
  }

  func queryKeyNorms(_ config: JSONReader) throws(SternaError) -> ModelConfiguration.QueryKeyNorms {
    .init(architecture: architecture, areGiven: try config["use_qk_norm"].optional?.bool() ?? false)
  }

  /// A bias behind query, key and value; refused where it would be behind the output too.
  func hasProjectionBias(_ config: JSONReader) throws(SternaError) -> Bool {
    if architecture == "qwen2moe" { return try config["qkv_bias"].optional?.bool() ?? true }
    let bias = try config["attention_bias"].optional?.bool() ?? false
    if architecture == "glm4moe" { return bias }
    guard !bias else { throw SternaError(.unsupported, "linears with a bias are not supported", at: "attention_bias", found: "true") }
    return false
  }

  /// Latent attention, with the number of values of each head that are rotated.
  func latent(_ config: JSONReader) throws(SternaError) -> (latent: ModelConfiguration.LatentAttention, ropeSize: Int)? {
    guard architecture == "deepseek2" else { return nil }
    typealias Limits = ModelConfiguration.Limits
    return (
      ModelConfiguration.LatentAttention(
        queryRank: try config["q_lora_rank"].optional?.int(in: Limits.hidden) ?? 0, rank: try config["kv_lora_rank"].int(in: Limits.headSize.asRank),
        plainSize: try config["qk_nope_head_dim"].int(in: Limits.headSize.asRank), valueSize: try config["v_head_dim"].int(in: Limits.headSize.asRank)),
      try config["qk_rope_head_dim"].int(in: Limits.headSize)
    )
  }

  /// The experts and their router.
  func experts(_ config: JSONReader, blockCount: Int) throws(SternaError) -> ModelConfiguration.Experts? {
    switch architecture {
    case "mixtral": try mixtral(config, blockCount)
    case "qwen2moe", "qwen3moe": try qwen(config, blockCount)
    case "glm4moe", "deepseek2": try deepSeek(config, blockCount)
    case "olmoe": try olmoe(config, blockCount)
    default: nil
    }
  }

  private typealias Limits = ModelConfiguration.Limits

  private func mixtral(_ config: JSONReader, _ blockCount: Int) throws(SternaError) -> ModelConfiguration.Experts {
    ModelConfiguration.Experts(
      router: .init(
        experts: try config["num_local_experts"].int(in: Limits.experts), chosen: try config["num_experts_per_tok"].int(in: 1...Limits.chosen), score: .softmax,
        normalises: true),
      size: try config["intermediate_size"].int(in: Limits.feedForward), routed: [Bool](repeating: true, count: blockCount))
  }

  private func olmoe(_ config: JSONReader, _ blockCount: Int) throws(SternaError) -> ModelConfiguration.Experts {
    if let clip = config["clip_qkv"].optional {
      throw SternaError(.unsupported, "clipping queries, keys and values is not supported", at: clip.path, expected: "null", found: "\(try clip.double())")
    }
    return ModelConfiguration.Experts(
      router: .init(
        experts: try config["num_experts"].int(in: Limits.experts), chosen: try config["num_experts_per_tok"].int(in: 1...Limits.chosen), score: .softmax,
        normalises: try config["norm_topk_prob"].optional?.bool() ?? false),
      size: try config["intermediate_size"].int(in: Limits.feedForward), routed: [Bool](repeating: true, count: blockCount))
  }

  private func qwen(_ config: JSONReader, _ blockCount: Int) throws(SternaError) -> ModelConfiguration.Experts {
    let count = config["num_experts"].isPresent ? config["num_experts"] : config["num_local_experts"]
    let step = try config["decoder_sparse_step"].optional?.int(in: 1...Limits.blocks.upperBound) ?? 1
    var dense: Set<Int> = []
    for index in try config["mlp_only_layers"].optional?.array() ?? [] { dense.insert(try index.int(in: 0...Limits.blocks.upperBound)) }
    let hasShared = architecture == "qwen2moe"
    return ModelConfiguration.Experts(
      router: .init(
        experts: try count.int(in: Limits.experts), chosen: try config["num_experts_per_tok"].int(in: 1...Limits.chosen), score: .softmax,
        normalises: try config["norm_topk_prob"].optional?.bool() ?? false),
      size: try config["moe_intermediate_size"].int(in: Limits.feedForward),
      sharedSize: hasShared ? try config["shared_expert_intermediate_size"].int(in: Limits.feedForward) : 0, gatesShared: hasShared,
      routed: (0..<blockCount).map { ($0 + 1) % step == 0 && !dense.contains($0) })
  }

  /// DeepSeek V2 and V3, and what followed them.
  private func deepSeek(_ config: JSONReader, _ blockCount: Int) throws(SternaError) -> ModelConfiguration.Experts {
    let isOld = try config["model_type"].string() == "deepseek_v2"
    let method = try config["topk_method"].optional?.string() ?? (isOld ? "greedy" : "noaux_tc")
    guard (isOld ? ["greedy", "group_limited_greedy"] : ["noaux_tc"]).contains(method) else {
      throw SternaError(.unsupported, "this way to choose experts is not supported", at: config["topk_method"].path, found: method)
    }
    let scoring = config["scoring_func"]
    let expected = isOld ? "softmax" : "sigmoid"
    guard try scoring.optional?.string() ?? expected == expected else {
      throw SternaError(.unsupported, "this scoring of experts is not supported", at: scoring.path, expected: expected, found: try scoring.string())
    }
    if let frequency = config["moe_layer_freq"].optional, case .number = frequency.value, try frequency.int() != 1 {
      throw SternaError(.unsupported, "only one kind of block behind the dense ones is supported", at: frequency.path, expected: "1", found: "\(try frequency.int())")
    }
    let groups = method == "greedy" ? 1 : try config["n_group"].optional?.int(in: Limits.experts) ?? 1
    let dense = try config["first_k_dense_replace"].optional?.int(in: 0...Limits.blocks.upperBound) ?? 0
    let size = try config["moe_intermediate_size"].int(in: Limits.feedForward)
    var routed = (0..<blockCount).map { $0 >= dense }
    if let types = config["mlp_layer_types"].optional {
      routed = []
      for type in try types.array(count: blockCount...blockCount) {
        let word = try type.string()
        guard word == "dense" || word == "sparse" else {
          throw SternaError(.unsupported, "this kind of block is not supported", at: type.path, expected: "dense or sparse", found: word)
        }
        routed.append(word == "sparse")
      }
    }
    return ModelConfiguration.Experts(
      router: .init(
        experts: try config["n_routed_experts"].int(in: Limits.experts), chosen: try config["num_experts_per_tok"].int(in: 1...Limits.chosen),
        score: isOld ? .softmax : .sigmoid, hasBias: !isOld, groups: groups,
        keptGroups: groups == 1 ? 1 : try config["topk_group"].int(in: 1...groups), groupScore: isOld && groups > 1 ? .largest : .twoLargest,
        normalises: try config["norm_topk_prob"].optional?.bool() ?? !isOld, scale: Float(try config["routed_scaling_factor"].optional?.double() ?? 1)),
      size: size, sharedSize: size * (try config["n_shared_experts"].optional?.int(in: 0...64) ?? 0), routed: routed)
  }
}

extension ClosedRange<Int> {
  /// Sizes that need not be even.
  fileprivate var asRank: ClosedRange<Int> { 1...upperBound }
}
