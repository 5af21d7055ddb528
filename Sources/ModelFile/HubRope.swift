import Basics
import Glibc

/// Rotary embedding as `config.json` describes it: `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` before.
struct HubRope {
  var theta: Float
  var scaling: ModelConfiguration.RopeScaling = .none
  /// The part of a head that is rotated.
  private var part = 1.0
  private let partPath: String
  /// What DeepSeek's models multiply attention scores by, besides 1 / sqrt(head size): with YaRN (0.1 * mscale_all_dim * ln(factor) + 1)².
  private(set) var scoreFactor: Float = 1

  init(_ config: JSONReader, architecture: String, contextLength: Int) throws(SternaError) {
    let parameters = config["rope_parameters"].isPresent ? config["rope_parameters"] : config["rope_scaling"]
    if parameters.isPresent { _ = try parameters.object() }
    // The defaults of the two classes of transformers.
    let fallback = architecture == "bitnet" ? 500_000.0 : 10_000.0
    theta = Float(try (parameters["rope_theta"].optional ?? config["rope_theta"].optional)?.double() ?? fallback)

    let partField = parameters["partial_rotary_factor"].isPresent ? parameters["partial_rotary_factor"] : config["partial_rotary_factor"]
    partPath = partField.path
    if let given = partField.optional {
      part = try given.double(in: 0...1)
      guard part == 1 || architecture == "glm4moe" else {
        throw SternaError(.unsupported, "rotating a part of a head is not supported", at: partPath, expected: "1", found: "\(part)")
      }
    }
    // Before rope_type it was called type.
    let typeField = parameters["rope_type"].isPresent ? parameters["rope_type"] : parameters["type"]
    guard let type = try typeField.optional?.string() else {
      if try parameters.optional?.object().members.contains(where: { $0.name != "rope_theta" && $0.name != "partial_rotary_factor" }) ?? false {
        throw SternaError(.badField, "does not say which kind of scaling it is", at: parameters["rope_type"].path, expected: "default, llama3 or yarn", found: "nothing")
      }
      return
    }
    func float(_ name: String) throws(SternaError) -> Float { Float(try parameters[name].double()) }
    let originalContext =
      try (parameters["original_max_position_embeddings"].optional ?? config["original_max_position_embeddings"].optional)?
      .int(in: ModelConfiguration.Limits.context) ?? contextLength
    switch type {
    case "default": break
    case "llama3":
      scaling = .llama3(
        factor: try float("factor"), lowFrequency: try float("low_freq_factor"), highFrequency: try float("high_freq_factor"), originalContext: originalContext)
    case "yarn":
      let factor = try parameters["factor"].optional?.double() ?? Double(contextLength) / Double(originalContext)
      scaling = .yarn(
        factor: Float(factor), originalContext: originalContext,
        betaFast: Float(try parameters["beta_fast"].optional?.double() ?? 32), betaSlow: Float(try parameters["beta_slow"].optional?.double() ?? 1),
        attentionFactor: Float(try Self.attentionFactor(parameters, factor: factor)),
        truncate: try parameters["truncate"].optional?.bool() ?? true)
      let all = try parameters["mscale_all_dim"].optional?.double() ?? 0
      let root = all == 0 ? 1 : Self.magnitude(all, factor)
      scoreFactor = Float(root * root)
    default:
      throw SternaError(.unsupported, "this scaling of rotary embedding is not supported", at: typeField.path, expected: "default, llama3 or yarn", found: type)
    }
  }

  /// YaRN's factor on cosines and sines: given, or 0.1 * mscale * ln(factor) + 1, divided by the same with mscale_all_dim where both
  /// are given (YaRN paper, section 3.4, and DeepSeek's extension of it).
  private static func attentionFactor(_ parameters: JSONReader, factor: Double) throws(SternaError) -> Double {
    if let given = parameters["attention_factor"].optional { return try given.double() }
    let mscale = try parameters["mscale"].optional?.double() ?? 0
    let all = try parameters["mscale_all_dim"].optional?.double() ?? 0
    return mscale != 0 && all != 0 ? magnitude(mscale, factor) / magnitude(all, factor) : magnitude(1, factor)
  }

  private static func magnitude(_ mscale: Double, _ factor: Double) -> Double { factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1 }

  /// Values of a head that are rotated.
  func size(_ headSize: Int) throws(SternaError) -> Int {
    let size = Int(Double(headSize) * part)
    guard size >= 2 else { throw SternaError(.badField, "leaves nothing of a head to be rotated", at: partPath, found: "\(part) of \(headSize)") }
    return size
  }
}
