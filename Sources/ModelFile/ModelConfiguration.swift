import Basics

/// What a model *is*: shapes and constants, no weights. Read from `config.json` when a model is packed, and from GGUF metadata when
/// a packed file is opened; both go through `validate()`, so no number here is ever beyond the limits below.
public struct ModelConfiguration: Sendable, Equatable {
  /// The function between gate and up projection.
  public enum Activation: String, Sendable, CaseIterable {
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
    /// YaRN: frequencies are divided by `factor` where fewer than `betaSlow` rotations fit into originalContext, kept where more than
    /// `betaFast` do, blended between; cosines and sines are multiplied by `attentionFactor`. `truncate`: the two bounds are rounded
    /// outward to whole dimensions.
    case yarn(factor: Float, originalContext: Int, betaFast: Float, betaSlow: Float, attentionFactor: Float, truncate: Bool)
  }

  /// RMS norms over queries and keys before they are rotated.
  public enum QueryKeyNorms: String, Sendable, CaseIterable {
    case none
    /// Over each head, all with the same weights [headSize].
    case heads
    /// Over all heads of a token together, with weights for each value.
    case projections

    /// - Parameter areGiven: whether the checkpoint has them, for families in which that is a choice.
    init(architecture: String, areGiven: Bool) {
      self =
        switch architecture {
        case "qwen3", "qwen3moe": .heads
        case "glm4moe" where areGiven: .heads
        case "olmoe": .projections
        default: .none
        }
    }
  }

  /// One of `architectures`; with what is below it decides which tensors there must be.
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
  public var queryKeyNorms: QueryKeyNorms
  /// A bias behind the query, key and value projections.
  public var hasProjectionBias: Bool
  /// Values of each head that are rotated: its first, or its last with latent attention.
  public var ropeSize: Int
  /// Multiplies attention scores, besides 1 / sqrt(headSize).
  public var scoreFactor: Float
  /// Not nil where keys and values of all heads come from one vector a token.
  public var latent: LatentAttention?
  /// Not nil where some blocks have experts.
  public var experts: Experts?
  /// Activations are quantised by groups of 128 values, not by token: for models that were trained with float activations.
  public var groupsActivations: Bool
  /// The head is the embedding.
  public var tiedHead: Bool
  public var beginOfText: Int32?
  public var endOfText: [Int32]

  public init(
    architecture: String, name: String, vocabularySize: Int, hiddenSize: Int, blockCount: Int, queryHeads: Int, kvHeads: Int, headSize: Int,
    feedForwardSize: Int, contextLength: Int, normEpsilon: Float, linearNormEpsilon: Float? = nil, activation: Activation, ropeTheta: Float,
    ropeScaling: RopeScaling = .none, hasSubNorms: Bool, queryKeyNorms: QueryKeyNorms = .none, hasProjectionBias: Bool = false, ropeSize: Int? = nil, scoreFactor: Float = 1,
    latent: LatentAttention? = nil, experts: Experts? = nil, groupsActivations: Bool = false, tiedHead: Bool, beginOfText: Int32? = nil, endOfText: [Int32] = []
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
    self.queryKeyNorms = queryKeyNorms
    self.hasProjectionBias = hasProjectionBias
    self.ropeSize = ropeSize ?? headSize
    self.scoreFactor = scoreFactor
    self.latent = latent
    self.experts = experts
    self.groupsActivations = groupsActivations
    self.tiedHead = tiedHead
    self.beginOfText = beginOfText
    self.endOfText = endOfText
  }

  /// Width of all query heads together: the rows of the query projection.
  public var querySize: Int { queryHeads * headSize }
  /// Width of what all heads gather: the columns of the output projection.
  public var attentionSize: Int { queryHeads * (latent?.valueSize ?? headSize) }
  /// Width of all key (or value) heads together.
  public var kvSize: Int { kvHeads * headSize }
}

extension ModelConfiguration {
  /// What `architecture` may be.
  static let architectures = ["bitnet", "llama", "qwen3", "mixtral", "qwen2moe", "qwen3moe", "glm4moe", "deepseek2", "olmoe"]

  /// What a file may claim. Far above every known model, far below what would make a product of sizes overflow.
  public enum Limits {
    public static let vocabulary = 1...1 << 20
    public static let hidden = 1...65_536
    public static let blocks = 1...1024
    public static let heads = 1...4096
    /// Rotary embedding turns pairs, so head sizes are even as well.
    public static let headSize = 2...1024
    public static let feedForward = 1...1 << 18
    public static let context = 1...10_000_000
    public static let experts = 1...4096
    /// Experts a token.
    public static let chosen = 64
  }

  /// Checks every number against the limits and against each other.
  /// - Throws: `badField` naming the property.
  public func validate() throws(SternaError) {
    func within(_ value: Int, _ range: ClosedRange<Int>, _ name: String) throws(SternaError) {
      guard range.contains(value) else {
        throw SternaError(.badField, "is out of range", at: name, expected: "\(range.lowerBound) to \(range.upperBound)", found: "\(value)")
      }
    }
    func within(_ value: Float, _ range: ClosedRange<Float>, _ name: String) throws(SternaError) {
      guard range.contains(value) else {  // false for NaN
        throw SternaError(.badField, "is out of range", at: name, expected: "\(range.lowerBound) to \(range.upperBound)", found: "\(value)")
      }
    }
    try within(vocabularySize, Limits.vocabulary, "vocabulary size")
    try within(hiddenSize, Limits.hidden, "hidden size")
    try within(blockCount, Limits.blocks, "number of blocks")
    try within(queryHeads, Limits.heads, "number of query heads")
    try within(kvHeads, Limits.heads, "number of key-value heads")
    try within(headSize, Limits.headSize, "head size")
    try within(feedForwardSize, Limits.feedForward, "feed-forward size")
    try within(contextLength, Limits.context, "context length")
    try within(querySize, 1...Limits.feedForward.upperBound, "width of all query heads")
    guard headSize % 2 == 0 else { throw SternaError(.badField, "is odd, but rotary embedding needs pairs", at: "head size", found: "\(headSize)") }
    guard queryHeads % kvHeads == 0 else {
      throw SternaError(
        .badField, "is not a multiple of the number of key-value heads", at: "number of query heads", found: "\(queryHeads) and \(kvHeads)")
    }
    try within(normEpsilon, 1e-20...1, "norm epsilon")
    if let linearNormEpsilon { try within(linearNormEpsilon, 1e-20...1, "epsilon of the norms in front of linears") }
    try within(ropeTheta, 1.5...1e12, "rope theta")
    switch ropeScaling {
    case .none: break
    case .llama3(let factor, let low, let high, let context):
      try within(factor, 1...1e6, "rope factor")
      try within(low, 1e-3...1e6, "rope low frequency factor")
      try within(high, 1e-3...1e6, "rope high frequency factor")
      guard low < high else {
        throw SternaError(.badField, "is not below the high frequency factor", at: "rope low frequency factor", found: "\(low) and \(high)")
      }
      try within(context, Limits.context, "rope original context")
    case .yarn(let factor, let context, let fast, let slow, let attention, _):
      try within(factor, 1...1e6, "rope factor")
      try within(context, Limits.context, "rope original context")
      try within(fast, 1e-3...1e6, "rope beta fast")
      try within(slow, 1e-3...1e6, "rope beta slow")
      try within(attention, 1e-3...1e3, "rope attention factor")
    }
    try validateAttention()
    try validateExperts()
    for id in endOfText + [beginOfText].compactMap({ $0 }) where id < 0 || Int(id) >= vocabularySize {
      throw SternaError(.badField, "is not a token of the vocabulary", at: "begin or end of text", expected: "0 to \(vocabularySize - 1)", found: "\(id)")
    }
    guard endOfText.count <= 64 else {
      throw SternaError(.badField, "there are too many end-of-text tokens", at: "end of text", expected: "at most 64", found: "\(endOfText.count)")
    }
  }
}
