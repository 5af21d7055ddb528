/// A model that people know, as a shape: what it costs to run does not depend on what its weights are.
public enum DummyShape: String, CaseIterable, Sendable {
  /// The shape of the model that comes with Sterna.
  case pocket
  /// Microsoft's BitNet b1.58 2B4T.
  case bitnet2B = "bitnet-2b-4t"
  /// TII's Falcon-E 3B.
  case falconE = "falcon-e-3b"
  /// HF1BitLLM's Llama3-8B-1.58.
  case llama3 = "llama3-8b"
  /// PrismML's Ternary-Bonsai 1.7B: Qwen3 1.7B with a scale for each row and 128 columns.
  case bonsai = "bonsai-1.7b"
  /// The dummy behind bitnet.cpp's figure for 100B models: 72 blocks, hidden 8192, feed-forward 45568, 64 heads, none shared.
  case bitnet100B = "bitnet-100b"
  /// Alibaba's Qwen3-30B-A3B: 48 blocks of 128 experts, 8 a token.
  case qwen3MoE = "qwen3-30b-a3b"
  /// Alibaba's Qwen1.5-MoE-A2.7B: 24 blocks of 60 experts, 4 a token, and a shared one.
  case qwen15MoE = "qwen1.5-moe-a2.7b"
  /// Allen AI's OLMoE 1B-7B: 16 blocks of 64 experts, 8 a token.
  case olmoe
  /// DeepSeek-V2-Lite: latent attention, a dense block and 26 of 64 experts, 6 a token, and two shared ones.
  case deepseekV2Lite = "deepseek-v2-lite"

  /// Tokens that begin and end a text are the vocabulary's business and missing here.
  public var configuration: ModelConfiguration {
    switch self {
    case .pocket:
      ModelConfiguration(
        architecture: "bitnet", name: "dummy pocket", vocabularySize: 4096, hiddenSize: 256, blockCount: 5, queryHeads: 8, kvHeads: 4, headSize: 32,
        feedForwardSize: 640, contextLength: 2048, normEpsilon: 1e-5, activation: .relu2, ropeTheta: 10_000, hasSubNorms: true, tiedHead: true)
    case .bitnet2B:
      ModelConfiguration(
        architecture: "bitnet", name: "dummy bitnet-2b-4t", vocabularySize: 128_256, hiddenSize: 2560, blockCount: 30, queryHeads: 20, kvHeads: 5,
        headSize: 128, feedForwardSize: 6912, contextLength: 4096, normEpsilon: 1e-5, activation: .relu2, ropeTheta: 500_000, hasSubNorms: true,
        tiedHead: true)
    case .falconE:
      ModelConfiguration(
        architecture: "llama", name: "dummy falcon-e-3b", vocabularySize: 32_768, hiddenSize: 2048, blockCount: 32, queryHeads: 16, kvHeads: 2,
        headSize: 128, feedForwardSize: 13_312, contextLength: 32_768, normEpsilon: 1e-5, activation: .silu, ropeTheta: 1_000_042, hasSubNorms: false,
        tiedHead: false)
    case .llama3:
      ModelConfiguration(
        architecture: "llama", name: "dummy llama3-8b", vocabularySize: 128_256, hiddenSize: 4096, blockCount: 32, queryHeads: 32, kvHeads: 8,
        headSize: 128, feedForwardSize: 14_336, contextLength: 8192, normEpsilon: 1e-5, activation: .silu, ropeTheta: 500_000, hasSubNorms: false,
        tiedHead: false)
    case .bonsai:
      ModelConfiguration(
        architecture: "qwen3", name: "dummy bonsai-1.7b", vocabularySize: 151_936, hiddenSize: 2048, blockCount: 28, queryHeads: 16, kvHeads: 8,
        headSize: 128, feedForwardSize: 6144, contextLength: 32_768, normEpsilon: 1e-6, activation: .silu, ropeTheta: 1_000_000, hasSubNorms: false,
        queryKeyNorms: .heads, groupsActivations: true, tiedHead: true)
    case .qwen3MoE:
      ModelConfiguration(
        architecture: "qwen3moe", name: "dummy qwen3-30b-a3b", vocabularySize: 151_936, hiddenSize: 2048, blockCount: 48, queryHeads: 32, kvHeads: 4,
        headSize: 128, feedForwardSize: 6144, contextLength: 40_960, normEpsilon: 1e-6, activation: .silu, ropeTheta: 1_000_000, hasSubNorms: false,
        queryKeyNorms: .heads,
        experts: .init(router: .init(experts: 128, chosen: 8, score: .softmax, normalises: true), size: 768, routed: .init(repeating: true, count: 48)),
        tiedHead: false)
    case .qwen15MoE:
      ModelConfiguration(
        architecture: "qwen2moe", name: "dummy qwen1.5-moe-a2.7b", vocabularySize: 151_936, hiddenSize: 2048, blockCount: 24, queryHeads: 16, kvHeads: 16,
        headSize: 128, feedForwardSize: 5632, contextLength: 8192, normEpsilon: 1e-6, activation: .silu, ropeTheta: 1_000_000, hasSubNorms: false,
        hasProjectionBias: true,
        experts: .init(
          router: .init(experts: 60, chosen: 4, score: .softmax, normalises: false), size: 1408, sharedSize: 5632, gatesShared: true,
          routed: .init(repeating: true, count: 24)),
        tiedHead: false)
    case .olmoe:
      ModelConfiguration(
        architecture: "olmoe", name: "dummy olmoe", vocabularySize: 50_304, hiddenSize: 2048, blockCount: 16, queryHeads: 16, kvHeads: 16,
        headSize: 128, feedForwardSize: 1024, contextLength: 4096, normEpsilon: 1e-5, activation: .silu, ropeTheta: 10_000, hasSubNorms: false,
        queryKeyNorms: .projections,
        experts: .init(router: .init(experts: 64, chosen: 8, score: .softmax, normalises: false), size: 1024, routed: .init(repeating: true, count: 16)),
        tiedHead: false)
    case .deepseekV2Lite:
      ModelConfiguration(
        architecture: "deepseek2", name: "dummy deepseek-v2-lite", vocabularySize: 102_400, hiddenSize: 2048, blockCount: 27, queryHeads: 16, kvHeads: 1,
        headSize: 192, feedForwardSize: 10_944, contextLength: 32_768, normEpsilon: 1e-6, activation: .silu, ropeTheta: 10_000, hasSubNorms: false,
        ropeSize: 64, latent: .init(queryRank: 0, rank: 512, plainSize: 128, valueSize: 128),
        experts: .init(
          router: .init(experts: 64, chosen: 6, score: .softmax, normalises: false), size: 1408, sharedSize: 2816,
          routed: (0..<27).map { $0 > 0 }),
        tiedHead: false)
    case .bitnet100B:
      ModelConfiguration(
        architecture: "bitnet", name: "dummy bitnet-100b", vocabularySize: 128_256, hiddenSize: 8192, blockCount: 72, queryHeads: 64, kvHeads: 64,
        headSize: 128, feedForwardSize: 45_568, contextLength: 4096, normEpsilon: 1e-5, activation: .relu2, ropeTheta: 500_000, hasSubNorms: true,
        tiedHead: true)
    }
  }

  /// The same with fewer blocks, the first ones.
  public func configuration(blocks: Int?) -> ModelConfiguration {
    var c = configuration
    guard let blocks, blocks < c.blockCount else { return c }
    c.blockCount = max(1, blocks)
    if let routed = c.experts?.routed { c.experts?.routed = Array(routed.prefix(c.blockCount)) }
    return c
  }

  /// Whether each row and 128 columns have a scale of their own.
  var groupsScales: Bool { self == .bonsai }

  /// Neurons of a block's feed-forward part whose gate and up rows are entirely zero, distributed as in BitNet b1.58 2B4T: of its 6912
  /// neurons a block, these in the first six blocks and 2,677 in all others together.
  func deadNeurons(block: Int) -> Int {
    let c = configuration
    guard c.architecture == "bitnet" else { return 0 }
    let first = [330, 3013, 1906, 1021, 616, 307]
    let measured = block < first.count ? Double(first[block]) : 2677.0 / 24
    return Int((measured / 6912 * Double(c.feedForwardSize)).rounded())
  }
}
