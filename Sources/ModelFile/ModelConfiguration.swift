/// What a model *is*: shapes and constants, no weights. Read from `config.json` when a model is packed, and from GGUF metadata when
/// a packed file is opened; both go through `validate()`, so no number here is ever beyond the limits below.
public struct ModelConfiguration: Sendable, Equatable {
  /// The function between gate and up projection.
  public enum Activation: String, Sendable {
    /// x * sigmoid(x)
    case silu
    /// max(x, 0)²
    case relu2
  }

  /// How the rotation frequencies are stretched beyond the context the model was first trained with.
  public enum RopeScaling: Sendable, Equatable {
    case none
    /// Llama 3.1: frequencies are divided by `factor` where the wavelength is longer than originalContext / lowFrequency, kept where it
    /// is shorter than originalContext / highFrequency, and blended between.
    case llama3(factor: Float, lowFrequency: Float, highFrequency: Float, originalContext: Int)
    /// YaRN. A nil `attentionFactor` means that it follows from `factor`, `mscale` and `mscaleAllDimensions` as `transformers` computes it.
    /// `truncate`: the two correction bounds are rounded to whole dimensions (the default everywhere but in a few models).
    case yarn(
      factor: Float, originalContext: Int, betaFast: Float, betaSlow: Float, attentionFactor: Float?, mscale: Float?,
      mscaleAllDimensions: Float?, truncate: Bool)
  }

  /// "bitnet" or "llama"; what decides which tensors there must be.
  public var architecture: String
  /// For people: the folder's name or what the file says.
  public var name: String
  public var vocabularySize: Int
  public var hiddenSize: Int
  public var blockCount: Int
  public var queryHeads: Int
  public var kvHeads: Int
  /// Values a head.
  public var headSize: Int
  public var feedForwardSize: Int
  /// The longest text that the model was made for, in tokens.
  public var contextLength: Int
  /// Of every RMS norm but those in front of linears.
  public var normEpsilon: Float
  /// Not nil when there is an RMS norm in front of each linear (`use_rms_norm`); then its epsilon.
  public var linearNormEpsilon: Float?
  public var activation: Activation
  public var ropeTheta: Float
  public var ropeScaling: RopeScaling
  /// Norms in front of the output projection of attention and the down projection of the feed-forward part.
  public var hasSubNorms: Bool
  /// The head is the embedding.
  public var tiedHead: Bool
  public var beginOfText: Int32?
  public var endOfText: [Int32]

  public init(
    architecture: String, name: String, vocabularySize: Int, hiddenSize: Int, blockCount: Int, queryHeads: Int, kvHeads: Int, headSize: Int,
    feedForwardSize: Int, contextLength: Int, normEpsilon: Float, linearNormEpsilon: Float? = nil, activation: Activation, ropeTheta: Float,
    ropeScaling: RopeScaling = .none, hasSubNorms: Bool, tiedHead: Bool, beginOfText: Int32? = nil, endOfText: [Int32] = []
  ) {
    self.architecture = architecture
    self.name = name
    self.vocabularySize = vocabularySize
    self.hiddenSize = hiddenSize
    self.blockCount = blockCount
    self.queryHeads = queryHeads
    self.kvHeads = kvHeads
    self.headSize = headSize
    self.feedForwardSize = feedForwardSize
    self.contextLength = contextLength
    self.normEpsilon = normEpsilon
    self.linearNormEpsilon = linearNormEpsilon
    self.activation = activation
    self.ropeTheta = ropeTheta
    self.ropeScaling = ropeScaling
    self.hasSubNorms = hasSubNorms
    self.tiedHead = tiedHead
    self.beginOfText = beginOfText
    self.endOfText = endOfText
  }

  /// Width of all query heads together: the rows of the query projection, the columns of the output projection.
  public var querySize: Int { queryHeads * headSize }
  /// Width of all key (or value) heads together.
  public var kvSize: Int { kvHeads * headSize }
}
