import Basics
import Glibc

/// Rotary embedding as `config.json` describes it: `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` before.
struct HubRope {
  var theta: Float
  var scaling: ModelConfiguration.RopeScaling = .none

  init(_ config: JSONReader, architecture: String, contextLength: Int) throws(SternaError) {
    let parameters = config["rope_parameters"].isPresent ? config["rope_parameters"] : config["rope_scaling"]
    if parameters.isPresent { _ = try parameters.object() }
    // The defaults of the two classes of transformers.
    let fallback = architecture == "bitnet" ? 500_000.0 : 10_000.0
    theta = Float(try (parameters["rope_theta"].optional ?? config["rope_theta"].optional)?.double() ?? fallback)

    for place in [parameters["partial_rotary_factor"], config["partial_rotary_factor"]] {
      if let partial = place.optional, try partial.double() != 1 {
        throw SternaError(.unsupported, "rotating a part of a head is not supported", at: place.path, expected: "1", found: "\(try partial.double())")
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
    default:
      throw SternaError(.unsupported, "this scaling of rotary embedding is not supported", at: typeField.path, expected: "default, llama3 or yarn", found: type)
    }
  }

  /// YaRN's factor on cosines and sines: given, or 0.1 * mscale * ln(factor) + 1, divided by the same with mscale_all_dim where both
  /// are given (YaRN paper, section 3.4, and DeepSeek's extension of it).
  private static func attentionFactor(_ parameters: JSONReader, factor: Double) throws(SternaError) -> Double {
    if let given = parameters["attention_factor"].optional { return try given.double() }
    func magnitude(_ mscale: Double) -> Double { factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1 }
    let mscale = try parameters["mscale"].optional?.double() ?? 0
    let all = try parameters["mscale_all_dim"].optional?.double() ?? 0
    return mscale != 0 && all != 0 ? magnitude(mscale) / magnitude(all) : magnitude(1)
  }
}
