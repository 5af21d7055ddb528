import Basics
import Glibc

/// Rotary embedding as GGUF metadata describes it.
struct GGUFRope {
  var scaling: ModelConfiguration.RopeScaling = .none
  /// What DeepSeek's models multiply attention scores by: with YaRN (1 + multiplier * ln(factor))².
  private(set) var scoreFactor: Float = 1

  init(
    _ metadata: MetadataReader, architecture a: String, theta: Float, headSize: Int, contextLength: Int, factors: [Float]?
  ) throws(SternaError) {
    let key = "\(a).rope.scaling"
    let type = metadata.has("\(key).type") ? try metadata.string("\(key).type") : "none"
    let factor = metadata.has("\(key).factor") ? try metadata.float("\(key).factor") : 1
    let context = metadata.has("\(key).original_context_length") ? try metadata.int("\(key).original_context_length") : nil
    switch type {
    case "none": break
    case "linear":
      guard factor == 1 else {
        throw SternaError(.unsupported, "linear scaling of rotary embedding is not supported", at: "key \(key).factor", expected: "1", found: "\(factor)")
      }
    case "yarn":
      guard factors == nil else { throw SternaError(.unsupported, "comes on top of YaRN", at: "tensor rope_freqs.weight") }
      guard factor >= 1 else { throw SternaError(.badField, "is out of range", at: "key \(key).factor", expected: "1 or more", found: "\(factor)") }
      let isDeepSeek = a == "deepseek2"
      if isDeepSeek, metadata.has("\(key).yarn_log_multiplier") {
        let root = 1 + Double(try metadata.float("\(key).yarn_log_multiplier")) * log(Double(factor))
        scoreFactor = Float(root * root)
      }
      for (name, value) in [("yarn_ext_factor", Float(1)), ("yarn_log_multiplier", 0)] where !(isDeepSeek && name == "yarn_log_multiplier") && metadata.has("\(key).\(name)") {
        let found = try metadata.float("\(key).\(name)")
        guard found == value else { throw SternaError(.unsupported, "is not supported", at: "key \(key).\(name)", expected: "\(value)", found: "\(found)") }
      }
      var attention: Float = 1
      for name in ["attn_factor", "yarn_attn_factor"] where metadata.has("\(key).\(name)") { attention *= try metadata.float("\(key).\(name)") }
      scaling = .yarn(
        factor: factor, originalContext: context ?? contextLength,
        betaFast: metadata.has("\(key).yarn_beta_fast") ? try metadata.float("\(key).yarn_beta_fast") : 32,
        betaSlow: metadata.has("\(key).yarn_beta_slow") ? try metadata.float("\(key).yarn_beta_slow") : 1,
        // DeepSeek's factors on cosines and sines cancel each other.
        attentionFactor: isDeepSeek ? 1 : attention * Float(0.1 * log(Double(factor)) + 1), truncate: true)
    default:
      throw SternaError(.unsupported, "this scaling of rotary embedding is not supported", at: "key \(key).type", expected: "none, linear by 1 or yarn", found: type)
    }
    if let factors { try readLlama3(factors, theta: theta, headSize: headSize, context: context) }
  }

  /// Converters write Llama 3's scaling as the factor of every frequency. Its numbers are found again: the factor is the largest, and of
  /// the wavelengths at which it begins and ends, context / 1 and context / 4 in every published model, context is a power of two.
  private mutating func readLlama3(_ factors: [Float], theta: Float, headSize: Int, context: Int?) throws(SternaError) {
    let place = "tensor rope_freqs.weight"
    guard factors.count == headSize / 2 else {
      throw SternaError(.badFile, "does not have a factor for each pair of a head", at: place, expected: "\(headSize / 2)", found: "\(factors.count)")
    }
    if factors.allSatisfy({ $0 == 1 }) { return }
    let factor = factors.max() ?? 1
    guard factor.isFinite, factor > 1, factors.allSatisfy({ $0 >= 1 }) else {
      throw SternaError(.badFile, "holds what is no factor", at: place, expected: "1 or more", found: "\(factors.min() ?? 0) to \(factor)")
    }
    let candidates = context.map { [$0] } ?? (5...20).map { 1 << $0 }
    // The context that the published models have is tried first, for heads that have no frequency between.
    for candidate in [8192].filter(candidates.contains) + candidates {
      let fits = factors.indices.allSatisfy { i in
        let wavelength = 2 * Double.pi * pow(Double(theta), Double(2 * i) / Double(headSize))
        let rotations = Double(candidate) / wavelength
        let smooth = min(max((rotations - 1) / (4 - 1), 0), 1)
        let expected = 1 / ((1 - smooth) / Double(factor) + smooth)
        return abs(Double(factors[i]) - expected) <= 1e-4 * expected
      }
      if fits {
        scaling = .llama3(factor: factor, lowFrequency: 1, highFrequency: 4, originalContext: candidate)
        return
      }
    }
    throw SternaError(
      .unsupported, "these factors of the rotary frequencies are not supported", at: place, expected: "those of Llama 3's scaling",
      remedy: "pack the hub folder that this file was made from")
  }
}
