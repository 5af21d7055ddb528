import Basics

/// What the metadata of somebody else's GGUF says: the model, and how its file differs from ours.
struct GGUFConfiguration {
  /// An architecture by its name in GGUF files.
  private struct Family {
    /// Ours.
    let architecture: String
    /// Rows of query and key are stored so that rotary pairs lie side by side (`permute` of llama.cpp's converter).
    let interleaves: Bool
    /// Nil where models of the same name differ.
    let activation: ModelConfiguration.Activation?
  }

  private static let families: [(name: String, family: Family)] = [
    ("bitnet", Family(architecture: "bitnet", interleaves: false, activation: nil)),
    // bitnet.cpp's own names; what it computes under them is relu².
    ("bitnet-b1.58", Family(architecture: "bitnet", interleaves: false, activation: .relu2)),
    ("bitnet-25", Family(architecture: "bitnet", interleaves: false, activation: .relu2)),
    ("llama", Family(architecture: "llama", interleaves: true, activation: .silu)),
    ("falcon3", Family(architecture: "llama", interleaves: true, activation: .silu)),
    ("qwen3", Family(architecture: "qwen3", interleaves: false, activation: .silu)),
    ("qwen2moe", Family(architecture: "qwen2moe", interleaves: false, activation: .silu)),
    ("qwen3moe", Family(architecture: "qwen3moe", interleaves: false, activation: .silu)),
    ("glm4moe", Family(architecture: "glm4moe", interleaves: false, activation: .silu)),
    ("deepseek2", Family(architecture: "deepseek2", interleaves: true, activation: .silu)),
    ("olmoe", Family(architecture: "olmoe", interleaves: false, activation: .silu)),
  ]

  /// Shapes of published models called `bitnet`: [hidden, feed-forward, blocks, query heads].
  private static let knownShapes: [(shape: [Int], name: String, activation: ModelConfiguration.Activation)] = [
    ([2560, 6912, 30, 20], "BitNet b1.58 2B4T", .relu2),
    ([1536, 4096, 24, 16], "bitnet_b1_58-large", .silu),
    ([3200, 8640, 26, 32], "bitnet_b1_58-3B", .silu),
  ]

  var model: ModelConfiguration
  /// Rows of query and key lie in interleaved order.
  let interleaves: Bool
  /// What was concluded, for people.
  private(set) var notes: [String] = []

  /// - Parameters:
  ///   - tiedHead: nobody but the tensors says it.
  ///   - hasQueryKeyNorms, hasProjectionBias: whether there are such tensors, for families of which some models have them.
  ///   - frequencyFactors: of `rope_freqs.weight`, where the file has it.
  ///   - activation: for files that do not say.
  /// - Throws: errors whose place is the key.
  init(
    _ metadata: MetadataReader, name: String, tiedHead: Bool, hasQueryKeyNorms: Bool, hasProjectionBias: Bool, frequencyFactors: [Float]?, activation given: ModelConfiguration.Activation?
  ) throws(SternaError) {
    let a = try metadata.string("general.architecture")
    guard let family = Self.families.first(where: { $0.name == a })?.family else {
      throw SternaError(
        .unsupported, "this architecture is not supported", at: "key general.architecture", expected: Self.families.map(\.name).joined(separator: ", "),
        found: a)
    }
    interleaves = family.interleaves
    for key in ["\(a).attention.sliding_window", "\(a).attention.clamp_kqv"] where metadata.has(key) {
      let value = key.hasSuffix("kqv") ? Double(try metadata.float(key)) : Double(try metadata.int(key))
      guard value == 0 else { throw SternaError(.unsupported, "models with this are not supported", at: "key \(key)", expected: "0, or no such key", found: "\(value)") }
    }
    func int(_ key: String, _ range: ClosedRange<Int>, otherwise: Int? = nil) throws(SternaError) -> Int {
      try metadata.int("\(a).\(key)", in: range, otherwise: otherwise)
    }
    typealias Limits = ModelConfiguration.Limits
    let hiddenSize = try int("embedding_length", Limits.hidden)
    let queryHeads = try int("attention.head_count", Limits.heads)
    let latent = try ModelConfiguration.LatentAttention.read(metadata, a)
    let headSize = if let latent { latent.headSize } else { try Self.headSize(metadata, a, hiddenSize: hiddenSize, queryHeads: queryHeads) }
    // Blocks that predict several tokens are counted, and not run.
    let blockCount = try int("block_count", Limits.blocks) - (try int("nextn_predict_layers", 0...Limits.blocks.upperBound, otherwise: 0))
    let feedForwardSize = try int("feed_forward_length", Limits.feedForward)
    let experts = try ModelConfiguration.Experts(metadata, a, blockCount: max(0, blockCount), feedForwardSize: feedForwardSize)
    // With experts, this name means Mixtral.
    let architecture = experts != nil && family.architecture == "llama" ? "mixtral" : family.architecture
    guard (experts == nil) == ["bitnet", "llama", "qwen3"].contains(architecture) else {
      throw SternaError(.unsupported, "this architecture goes with experts, or without", at: "key \(a).expert_count", found: experts == nil ? "none" : "some")
    }
    let contextLength = try int("context_length", Limits.context)
    let theta = metadata.has("\(a).rope.freq_base") ? try metadata.float("\(a).rope.freq_base") : 10_000
    let rope = try GGUFRope(metadata, architecture: a, theta: theta, headSize: headSize, contextLength: contextLength, factors: frequencyFactors)
    let ropeSize = if let latent { latent.ropeSize } else { try int("rope.dimension_count", Limits.headSize, otherwise: headSize) }

    model = ModelConfiguration(
      architecture: architecture, name: metadata.has("general.name") ? try metadata.string("general.name").withoutControls : name,
      // Older converters leave it to the vocabulary.
      vocabularySize: metadata.has("\(a).vocab_size")
        ? try int("vocab_size", Limits.vocabulary) : try metadata.strings("tokenizer.ggml.tokens").count,
      hiddenSize: hiddenSize, blockCount: blockCount, queryHeads: queryHeads,
      kvHeads: latent != nil ? 1 : try int("attention.head_count_kv", Limits.heads, otherwise: queryHeads), headSize: headSize,
      feedForwardSize: feedForwardSize, contextLength: contextLength,
      normEpsilon: try metadata.float("\(a).attention.layer_norm_rms_epsilon"),
      activation: .silu,  // settled below
      ropeTheta: theta, ropeScaling: rope.scaling,
      hasSubNorms: family.architecture == "bitnet", queryKeyNorms: .init(architecture: architecture, areGiven: hasQueryKeyNorms),
      hasProjectionBias: hasProjectionBias && (architecture == "glm4moe" || architecture == "qwen2moe"), ropeSize: ropeSize,
      scoreFactor: latent == nil ? 1 : rope.scoreFactor, latent: latent?.latent, experts: experts, tiedHead: tiedHead,
      beginOfText: try Self.beginOfText(metadata), endOfText: try Self.endOfText(metadata))
    try settleActivation(family, a, given)
    try model.validate()
  }

  /// Queries and keys of one size, all of it rotated.
  private static func headSize(_ metadata: MetadataReader, _ a: String, hiddenSize: Int, queryHeads: Int) throws(SternaError) -> Int {
    let size: Int
    if metadata.has("\(a).attention.key_length") {
      size = try metadata.int("\(a).attention.key_length")
    } else {
      guard hiddenSize % queryHeads == 0 else {
        throw SternaError(.badField, "is no multiple of the number of heads, and the length of a key is not given", at: "key \(a).embedding_length", found: "\(hiddenSize)")
      }
      size = hiddenSize / queryHeads
    }
    for key in ["\(a).attention.value_length", "\(a).rope.dimension_count"] where metadata.has(key) {
      let other = try metadata.int(key)
      if key.hasSuffix("dimension_count"), a == "glm4moe" { continue }
      guard other == size else { throw SternaError(.unsupported, "differs from the length of a key", at: "key \(key)", expected: "\(size)", found: "\(other)") }
    }
    guard ModelConfiguration.Limits.headSize.contains(size) else {
      throw SternaError(.badField, "is out of range", at: "key \(a).attention.key_length", found: "\(size)")
    }
    return size
  }

  /// GGUF has no key for the activation function. 2B4T has relu², its elders SiLU, and both are `bitnet` in llama.cpp.
  private mutating func settleActivation(_ family: Family, _ a: String, _ given: ModelConfiguration.Activation?) throws(SternaError) {
    let shape = [model.hiddenSize, model.feedForwardSize, model.blockCount, model.queryHeads]
    let known = family.architecture == "bitnet" ? Self.knownShapes.first { $0.shape == shape } : nil
    if let activation = given {
      if let named = known?.activation ?? family.activation, named != activation {
        // BitNets of other makers do call themselves bitnet-b1.58; nobody can know better than the person who asks.
        guard family.architecture == "bitnet", known == nil else {
          throw SternaError(
            .badField, "\(known?.name ?? a) has another activation function than was asked for", at: "--activation", expected: named.rawValue,
            found: activation.rawValue)
        }
      }
      model.activation = activation
    } else if let known {
      model.activation = known.activation
      notes.append("activation \(known.activation.rawValue), because this has the shape of \(known.name)")
    } else if let activation = family.activation {
      model.activation = activation
      if family.architecture == "bitnet" {
        notes.append("activation \(activation.rawValue), because the architecture is \(a); if its authors say otherwise, give --activation")
      }
    } else {
      throw SternaError(
        .badField, "the file does not say which activation function the model was trained with", at: "key general.architecture",
        expected: "the shape of a known model, or --activation", found: a,
        remedy: "give --activation relu2 or --activation silu, as the model's authors say (relu2 for models made like BitNet b1.58 2B4T)")
    }
  }

  private static func beginOfText(_ metadata: MetadataReader) throws(SternaError) -> Int32? {
    if metadata.has("tokenizer.ggml.add_bos_token"), try !metadata.bool("tokenizer.ggml.add_bos_token") { return nil }
    return metadata.has("tokenizer.ggml.bos_token_id") ? try metadata.token("tokenizer.ggml.bos_token_id") : nil
  }

  /// The tokens that end a text: those with a key, and those whose names say so, as engines for GGUF do it; converters often write `eos` alone.
  private static func endOfText(_ metadata: MetadataReader) throws(SternaError) -> [Int32] {
    var ids: [Int32] = []
    for name in ["eos", "eot", "eom"] where metadata.has("tokenizer.ggml.\(name)_token_id") {
      ids.append(try metadata.token("tokenizer.ggml.\(name)_token_id"))
    }
    let names: Set<String> = ["<|eot_id|>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>"]
    let tokens = metadata.has("tokenizer.ggml.tokens") ? try metadata.strings("tokenizer.ggml.tokens") : []
    let kinds = metadata.has("tokenizer.ggml.token_type") ? try metadata.ints("tokenizer.ggml.token_type") : []
    // 3: control tokens, which no text is made into.
    for (id, token) in tokens.enumerated() where id < kinds.count && kinds[id] == 3 && names.contains(token) { ids.append(Int32(clamping: id)) }
    var seen: Set<Int32> = []
    return ids.filter { seen.insert($0).inserted }
  }
}
