import Basics

// Experts and latent attention as the metadata of other engines' GGUF files describes them. What a key leaves open is what those engines compute.

extension ModelConfiguration.Experts {
  /// - Parameters:
  ///   - a: the architecture's name in the file.
  ///   - blockCount: of blocks that run.
  /// - Returns: nil where the model has no experts.
  init?(_ metadata: MetadataReader, _ a: String, blockCount: Int, feedForwardSize: Int) throws(SternaError) {
    typealias Limits = ModelConfiguration.Limits
    func int(_ key: String, _ range: ClosedRange<Int>, otherwise: Int? = nil) throws(SternaError) -> Int {
      try metadata.int("\(a).\(key)", in: range, otherwise: otherwise)
    }
    let count = try int("expert_count", 0...Limits.experts.upperBound, otherwise: 0)
    guard count > 0 else { return nil }
    let isDeepSeek = a == "deepseek2" || a == "glm4moe"
    let size = try int("expert_feed_forward_length", Limits.feedForward, otherwise: feedForwardSize)
    let isSigmoid = try int("expert_gating_func", 1...2, otherwise: a == "glm4moe" ? 2 : 1) == 2
    let groups = try int("expert_group_count", 1...Limits.experts.upperBound, otherwise: 1)
    let dense = try int("leading_dense_block_count", 0...Limits.blocks.upperBound, otherwise: 0)
    let normalises = metadata.has("\(a).expert_weights_norm") ? try metadata.bool("\(a).expert_weights_norm") : !["qwen2moe", "deepseek2", "olmoe"].contains(a)
    let scale = metadata.has("\(a).expert_weights_scale") ? try metadata.float("\(a).expert_weights_scale") : 1
    let shared =
      isDeepSeek
      ? size * (try int("expert_shared_count", 0...64, otherwise: 0)) : a == "qwen2moe" ? try int("expert_shared_feed_forward_length", Limits.feedForward) : 0
    self.init(
      router: .init(
        experts: count, chosen: try int("expert_used_count", 1...Limits.chosen), score: isSigmoid ? .sigmoid : .softmax, hasBias: isSigmoid, groups: groups,
        keptGroups: try int("expert_group_used_count", 1...groups, otherwise: 1), groupScore: isSigmoid || groups == 1 ? .twoLargest : .largest, normalises: normalises,
        scale: scale == 0 ? 1 : scale),
      size: size, sharedSize: shared, gatesShared: a == "qwen2moe", routed: (0..<blockCount).map { $0 >= dense })
  }
}

extension ModelConfiguration.LatentAttention {
  /// With the size of a head.
  static func read(_ metadata: MetadataReader, _ a: String) throws(SternaError) -> (latent: Self, headSize: Int, ropeSize: Int)? {
    typealias Limits = ModelConfiguration.Limits
    guard a == "deepseek2" else { return nil }
    func int(_ key: String, _ range: ClosedRange<Int>, otherwise: Int? = nil) throws(SternaError) -> Int {
      try metadata.int("\(a).attention.\(key)", in: range, otherwise: otherwise)
    }
    // Since engines keep the latent, `key_length` is that of what they keep; the head's own has the suffix.
    let suffix = metadata.has("\(a).attention.key_length_mla") ? "_mla" : ""
    let headSize = try int("key_length" + suffix, 3...Limits.headSize.upperBound)
    let ropeSize = try metadata.int("\(a).rope.dimension_count", in: 2...headSize - 1)
    return (
      Self(
        queryRank: try int("q_lora_rank", 0...Limits.hidden.upperBound, otherwise: 0), rank: try int("kv_lora_rank", 1...Limits.headSize.upperBound),
        plainSize: headSize - ropeSize, valueSize: try int("value_length" + suffix, 1...Limits.headSize.upperBound)),
      headSize, ropeSize
    )
  }
}
