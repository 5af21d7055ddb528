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
        hasHeadNorms: true, groupsActivations: true, tiedHead: true)
    case .bitnet100B:
      ModelConfiguration(
        architecture: "bitnet", name: "dummy bitnet-100b", vocabularySize: 128_256, hiddenSize: 8192, blockCount: 72, queryHeads: 64, kvHeads: 64,
        headSize: 128, feedForwardSize: 45_568, contextLength: 4096, normEpsilon: 1e-5, activation: .relu2, ropeTheta: 500_000, hasSubNorms: true,
        tiedHead: true)
    }
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
