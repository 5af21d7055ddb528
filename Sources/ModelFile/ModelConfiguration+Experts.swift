import Basics

// What a mixture of experts *is*, as numbers: one router and one block serve every family.

extension ModelConfiguration {
  /// How a token's experts are chosen and weighed.
  public struct Router: Sendable, Equatable {
    /// What the logits of all experts become.
    public enum Score: String, Sendable, CaseIterable {
      /// Over all experts.
      case softmax
      case sigmoid
      /// The logits as they are.
      case identity
    }

    /// What a group of experts is worth.
    public enum GroupScore: String, Sendable, CaseIterable {
      /// Its largest score.
      case largest
      /// The sum of its two largest.
      case twoLargest = "two_largest"
    }

    /// What the chosen experts are weighed by.
    public enum Weights: String, Sendable, CaseIterable {
      /// Their scores, without the bias.
      case scores
      /// The softmax of the chosen logits alone.
      case softmaxOfChosen = "softmax_of_chosen"
      /// The sigmoid of each chosen logit.
      case sigmoidOfChosen = "sigmoid_of_chosen"
    }

    /// What the weights multiply.
    public enum Target: String, Sendable, CaseIterable {
      case output, input
    }

    /// Experts of a routed block.
    public var experts: Int
    /// Experts that a token uses.
    public var chosen: Int
    public var score: Score
    /// A bias on every score, for choosing only: it never enters the weights.
    public var hasBias: Bool
    /// Groups of experts, equally large, numbered one behind the other; 1: none.
    public var groups: Int
    /// Groups whose experts may be chosen.
    public var keptGroups: Int
    public var groupScore: GroupScore
    public var weights: Weights
    /// Weights are divided by their sum.
    public var normalises: Bool
    /// Multiplies the weights in the end.
    public var scale: Float
    public var target: Target

    public init(
      experts: Int, chosen: Int, score: Score, hasBias: Bool = false, groups: Int = 1, keptGroups: Int = 1, groupScore: GroupScore = .twoLargest,
      weights: Weights = .scores, normalises: Bool, scale: Float = 1, target: Target = .output
    ) {
      self.experts = experts
      self.chosen = chosen
      self.score = score
      self.hasBias = hasBias
      self.groups = groups
      self.keptGroups = keptGroups
      self.groupScore = groupScore
      self.weights = weights
      self.normalises = normalises
      self.scale = scale
      self.target = target
    }
  }

  /// The experts of a model.
  public struct Experts: Sendable, Equatable {
    public var router: Router
    /// Neurons of an expert.
    public var size: Int
    /// Neurons of the expert that every token uses; 0: there is none. Several of them are one, side by side.
    public var sharedSize: Int
    /// What the shared expert gives is multiplied by sigmoid(w · input).
    public var gatesShared: Bool
    /// For each block whether its feed-forward part is routed; the others are dense.
    public var routed: [Bool]

    public init(router: Router, size: Int, sharedSize: Int = 0, gatesShared: Bool = false, routed: [Bool]) {
      self.router = router
      self.size = size
      self.sharedSize = sharedSize
      self.gatesShared = gatesShared
      self.routed = routed
    }
  }

  /// Latent attention (DeepSeek V2, arXiv 2405.04434): keys and values of all heads come from one short vector a token, and only that is cached.
  public struct LatentAttention: Sendable, Equatable {
    /// Values of the vector that queries come from; 0: they come from the hidden state.
    public var queryRank: Int
    /// Values of the vector that keys and values come from.
    public var rank: Int
    /// Values of a head that are not rotated; `ropeSize` more are, and have one key for all heads.
    public var plainSize: Int
    /// Values that a head gathers.
    public var valueSize: Int

    public init(queryRank: Int, rank: Int, plainSize: Int, valueSize: Int) {
      self.queryRank = queryRank
      self.rank = rank
      self.plainSize = plainSize
      self.valueSize = valueSize
    }
  }

  /// Whether the feed-forward part of a block is routed.
  public func isRouted(_ block: Int) -> Bool { experts?.routed[block] ?? false }
  /// Whether the matrices must be exactly ternary: those of the dense families.
  public var isTernary: Bool { experts == nil }
}

extension ModelConfiguration {
  func validateExperts() throws(SternaError) {
    guard let experts else { return }
    let router = experts.router
    func require(_ holds: Bool, _ name: String, _ expected: String, _ found: String) throws(SternaError) {
      guard holds else { throw SternaError(.badField, "is out of range", at: name, expected: expected, found: found) }
    }
    try require(experts.routed.count == blockCount, "blocks with experts", "\(blockCount) elements", "\(experts.routed.count)")
    try require(experts.routed.contains(true), "blocks with experts", "at least one", "none")
    try require(Limits.experts.contains(router.experts), "number of experts", "\(Limits.experts.lowerBound) to \(Limits.experts.upperBound)", "\(router.experts)")
    try require(1...min(router.experts, Limits.chosen) ~= router.chosen, "experts a token", "1 to \(min(router.experts, Limits.chosen))", "\(router.chosen)")
    try require(
      1...router.experts ~= router.groups && router.experts % router.groups == 0, "groups of experts", "a divisor of \(router.experts)", "\(router.groups)")
    try require(1...router.groups ~= router.keptGroups, "groups that are kept", "1 to \(router.groups)", "\(router.keptGroups)")
    try require(
      router.chosen <= router.experts / router.groups * router.keptGroups, "experts a token", "at most those of \(router.keptGroups) groups", "\(router.chosen)")
    try require(
      router.keptGroups == router.groups || router.groupScore == .largest || router.experts / router.groups >= 2, "groups of experts", "two experts in each",
      "\(router.groups) groups of \(router.experts)")
    try require(1e-6...1e6 ~= router.scale, "scale of the experts' weights", "a positive number", "\(router.scale)")
    try require(Limits.feedForward.contains(experts.size), "expert size", "\(Limits.feedForward.lowerBound) to \(Limits.feedForward.upperBound)", "\(experts.size)")
    try require(
      0...Limits.feedForward.upperBound ~= experts.sharedSize, "shared expert size", "0 to \(Limits.feedForward.upperBound)", "\(experts.sharedSize)")
    try require(!experts.gatesShared || experts.sharedSize > 0, "gate of the shared expert", "a shared expert", "none")
    // The records of one block are one tensor.
    try require(!hasSubNorms && linearNormEpsilon == nil && !groupsActivations, "norms in front of linears", "none beside experts", "some")
  }

  func validateAttention() throws(SternaError) {
    func within(_ value: Int, _ range: ClosedRange<Int>, _ name: String) throws(SternaError) {
      guard range.contains(value) else {
        throw SternaError(.badField, "is out of range", at: name, expected: "\(range.lowerBound) to \(range.upperBound)", found: "\(value)")
      }
    }
    try within(ropeSize, 2...headSize, "rotated values of a head")
    guard ropeSize % 2 == 0 else { throw SternaError(.badField, "is odd, but rotary embedding needs pairs", at: "rotated values of a head", found: "\(ropeSize)") }
    guard 1e-3...1e3 ~= scoreFactor else { throw SternaError(.badField, "is out of range", at: "factor on attention scores", expected: "0.001 to 1000", found: "\(scoreFactor)") }
    guard let latent else { return }
    try within(latent.queryRank, 0...Limits.hidden.upperBound, "rank of queries")
    // What the kernels for int8 keys take.
    try within(latent.rank, 1...Limits.headSize.upperBound, "rank of keys and values")
    try within(latent.plainSize, 1...Limits.headSize.upperBound, "values of a head that are not rotated")
    try within(latent.valueSize, 1...Limits.headSize.upperBound, "values that a head gathers")
    guard headSize == latent.plainSize + ropeSize else {
      throw SternaError(
        .badField, "is not the sum of what is rotated and what is not", at: "head size", expected: "\(latent.plainSize) + \(ropeSize)", found: "\(headSize)")
    }
    guard kvHeads == 1, queryKeyNorms == .none, !hasProjectionBias, !hasSubNorms else {
      throw SternaError(.badField, "latent attention has one key for all heads, and neither norms over heads nor biases", at: "attention", found: "\(kvHeads) key heads")
    }
    try within(attentionSize, 1...Limits.feedForward.upperBound, "width of what all heads gather")
    try within(queryHeads * latent.rank, 1...1 << 20, "width of all heads' latent queries")
  }
}
