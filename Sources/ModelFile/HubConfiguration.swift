import Basics

/// What `config.json` of a hub folder says: the model, and how its ternary weights are stored.
struct HubConfiguration {
  /// How checkpoints of the `bitnet` quantiser mean their weights.
  struct Quantization: Equatable {
    /// `bitlinear`: the product is divided by `weight_scale`. `autobitlinear`: it is multiplied.
    var dividesByScale: Bool
    /// Weights are stored as float masters and made ternary by the reader.
    var online: Bool
  }

  var model: ModelConfiguration
  /// Nil where there is no `quantization_config`: the floats must be ternary as they are.
  var quantization: Quantization?
  /// Matrices of a mixture may be 8-bit floats with a scale for each 128 rows and columns, or 4-bit floats with one for each 32 columns: their tensors say which.
  var isQuantized: Bool
  /// The rotated pairs of latent attention lie side by side.
  var interleavesRope: Bool

  /// - Parameters:
  ///   - config: of `config.json`.
  ///   - generation: of `generation_config.json`, which may name more tokens that end a text.
  ///   - activation: for a `config.json` that does not say.
  init(
    _ config: JSONReader, generation: JSONReader? = nil, name: String, activation: ModelConfiguration.Activation? = nil
  ) throws(SternaError) {
    let family = try HubFamily(config["model_type"])
    let architecture = family.architecture
    try Self.refuseWindows(config)
    let hasProjectionBias = try family.hasProjectionBias(config)
    if let bias = config["mlp_bias"].optional, try bias.bool() { throw SternaError(.unsupported, "linears with a bias are not supported", at: "mlp_bias", found: "true") }
    let hiddenSize = try config["hidden_size"].int(in: ModelConfiguration.Limits.hidden)
    let queryHeads = try config["num_attention_heads"].int(in: ModelConfiguration.Limits.heads)
    let latent = try family.latent(config)
    let headSize: Int
    if let latent {
      headSize = latent.latent.plainSize + latent.ropeSize
    } else if let given = config["head_dim"].optional {
      headSize = try given.int(in: ModelConfiguration.Limits.headSize)
    } else if architecture == "qwen3" {
      headSize = 128  // what this class of transformers takes
    } else {
      guard hiddenSize % queryHeads == 0 else {
        throw SternaError(.badField, "is not a multiple of num_attention_heads, and there is no head_dim", at: "hidden_size", found: "\(hiddenSize) and \(queryHeads)")
      }
      headSize = hiddenSize / queryHeads
    }
    let contextLength = try config["max_position_embeddings"].int(in: ModelConfiguration.Limits.context)
    let denseContext = try family.denseContext(config)
    let rope = try HubRope(config, architecture: architecture, contextLength: contextLength)
    let blockCount = try config["num_hidden_layers"].int(in: ModelConfiguration.Limits.blocks)
    let experts = try family.experts(config, blockCount: blockCount)
    let ropeSize = if let latent { latent.ropeSize } else { try rope.size(headSize) }
    let (quantization, linearNormEpsilon) = experts == nil ? try Self.quantization(config["quantization_config"]) : (nil, nil)
    isQuantized = experts == nil ? false : try Self.isQuantized(config["quantization_config"])
    interleavesRope = latent == nil ? false : try config["rope_interleave"].optional?.bool() ?? true

    model = ModelConfiguration(
      architecture: architecture, name: name,
      vocabularySize: try config["vocab_size"].int(in: ModelConfiguration.Limits.vocabulary),
      hiddenSize: hiddenSize,
      blockCount: blockCount,
      queryHeads: queryHeads,
      kvHeads: latent != nil ? 1 : try config["num_key_value_heads"].optional?.int(in: ModelConfiguration.Limits.heads) ?? queryHeads,
      headSize: headSize,
      feedForwardSize: try config["intermediate_size"].int(in: ModelConfiguration.Limits.feedForward),
      contextLength: denseContext.map { min(contextLength, $0) } ?? contextLength,
      normEpsilon: Float(try config["rms_norm_eps"].double()),
      linearNormEpsilon: linearNormEpsilon,
      activation: try Self.activation(config["hidden_act"], otherwise: activation),
      ropeTheta: rope.theta, ropeScaling: rope.scaling,
      hasSubNorms: architecture == "bitnet",
      queryKeyNorms: try family.queryKeyNorms(config), hasProjectionBias: hasProjectionBias,
      ropeSize: ropeSize, scoreFactor: latent == nil ? 1 : rope.scoreFactor, latent: latent?.latent, experts: experts,
      tiedHead: try config["tie_word_embeddings"].optional?.bool() ?? false,
      beginOfText: try Self.tokens(config["bos_token_id"]).first,
      endOfText: try Self.tokens(config["eos_token_id"]))
    if let more = generation?["eos_token_id"] {
      for id in try Self.tokens(more) where !model.endOfText.contains(id) { model.endOfText.append(id) }
    }
    self.quantization = quantization
    try model.validate()
  }

  /// Published checkpoints of one family differ in this, and some engines guess: a wrong guess gives fluent nonsense.
  private static func activation(
    _ field: JSONReader, otherwise given: ModelConfiguration.Activation?
  ) throws(SternaError) -> ModelConfiguration.Activation {
    guard field.isPresent else {
      if let given { return given }
      throw SternaError(
        .badField, "the model does not say which activation function it was trained with", at: "hidden_act", expected: "silu or relu2", found: "nothing",
        remedy: "say it as the model's authors do, in config.json or with --activation (relu2 for BitNet b1.58 2B4T, silu for Llama and Falcon)")
    }
    let name = try field.string()
    guard let activation = ModelConfiguration.Activation(rawValue: name) else {
      throw SternaError(.unsupported, "this activation function is not supported", at: "hidden_act", expected: "silu or relu2", found: name)
    }
    if let given, given != activation {
      throw SternaError(.badField, "the model says another activation function than was asked for", at: "hidden_act", expected: given.rawValue, found: name)
    }
    return activation
  }

  /// Null, a token, or several.
  private static func tokens(_ field: JSONReader) throws(SternaError) -> [Int32] {
    guard field.isPresent else { return [] }
    let range = 0...Int(Int32.max)
    guard case .array? = field.value else { return [Int32(try field.int(in: range))] }
    var ids: [Int32] = []
    for element in try field.array(count: 0...64) {
      let id = Int32(try element.int(in: range))
      if !ids.contains(id) { ids.append(id) }
    }
    return ids
  }

  /// Attention over a part of the context is not built.
  private static func refuseWindows(_ config: JSONReader) throws(SternaError) {
    func refused(_ field: JSONReader, _ found: String) -> SternaError {
      SternaError(.unsupported, "attention over a sliding window is not supported", at: field.path, expected: "full attention", found: found)
    }
    if let uses = config["use_sliding_window"].optional {
      if try uses.bool() { throw refused(uses, "true") }
    } else if let window = config["sliding_window"].optional {
      throw refused(window, "\(try window.int())")
    }
    if let types = config["layer_types"].optional {
      for type in try types.array() where try !["full_attention", "indexed_attention"].contains(type.string()) { throw refused(type, try type.string()) }
    }
  }

  /// Whether matrices are floats of 8 or 4 bits. Those who make 4-bit floats give their format several names, under which they have others too: what the tensors are is checked
  /// with each of them.
  private static func isQuantized(_ field: JSONReader) throws(SternaError) -> Bool {
    guard field.isPresent else { return false }
    let method = try field["quant_method"].string()
    if ["mxfp4", "quark", "compressed-tensors"].contains(method) { return true }
    guard method == "fp8" else {
      throw SternaError(
        .unsupported, "is not supported", at: field["quant_method"].path, expected: "fp8, mxfp4, quark, compressed-tensors, or no quantization_config", found: method)
    }
    let block = try field["weight_block_size"].array(count: 2...2)
    for size in block where try size.int() != HubFolder.scaleBlock {
      throw SternaError(.unsupported, "only blocks of one size are supported", at: size.path, expected: "\(HubFolder.scaleBlock)", found: "\(try size.int())")
    }
    return true
  }

  /// How the weights are stored, and the epsilon of the norms in front of linears where there are such.
  private static func quantization(_ field: JSONReader) throws(SternaError) -> (Quantization?, linearNormEpsilon: Float?) {
    guard field.isPresent else { return (nil, nil) }
    func choice(_ name: String, _ allowed: [String], otherwise: String?) throws(SternaError) -> String {
      guard field[name].isPresent || otherwise == nil else { return otherwise ?? "" }
      let found = try field[name].string()
      guard allowed.contains(found) else {
        throw SternaError(.unsupported, "is not supported", at: field[name].path, expected: allowed.joined(separator: " or "), found: found)
      }
      return found
    }
    _ = try choice("quant_method", ["bitnet"], otherwise: nil)
    let linear = try choice("linear_class", ["bitlinear", "autobitlinear"], otherwise: "bitlinear")
    let mode = try choice("quantization_mode", ["offline", "online"], otherwise: "offline")
    guard linear == "autobitlinear" || mode == "offline" else {
      throw SternaError(
        .unsupported, "online quantisation exists for autobitlinear only", at: field["quantization_mode"].path, found: "online with linear_class bitlinear")
    }
    if let kept = field["modules_to_not_convert"].optional {
      for module in try kept.array() where try module.string() != "lm_head" {
        throw SternaError(.unsupported, "only the head may be kept out of the ternary linears", at: module.path, expected: "lm_head", found: try module.string())
      }
    }
    var epsilon: Float?
    if let uses = field["use_rms_norm"].optional, try uses.bool() {
      epsilon = Float(try field["rms_norm_eps"].optional?.double() ?? 1e-6)
    }
    return (Quantization(dividesByScale: linear == "bitlinear", online: mode == "online"), epsilon)
  }
}
