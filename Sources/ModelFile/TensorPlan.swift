/// The tensors that a model *must* have, by its configuration: what the packer writes, in this order, and what a packed file is
/// checked against. No shape of a file is ever believed beyond this.
package struct PlannedTensor: Equatable {
  package enum Kind: Equatable {
    /// Float32 values.
    case vector(Int)
    /// Float32, whatever the other matrices are: rounding it would change which experts are chosen.
    case router(rows: Int, columns: Int)
    case ternary(rows: Int, columns: Int)
    /// In any `WeightStorage`. The rows of each of `heads` equal parts are stored as a matrix of their own, since they have inputs of their own.
    case matrix(rows: Int, columns: Int, heads: Int)
    /// One row a token.
    case table(rows: Int, columns: Int)
    /// One record each.
    case experts(Int)
  }

  package let part: ModelPart
  package let kind: Kind

  /// The name in a GGUF file.
  package var name: String { part.ggufName }
}

/// A place in a model, independent of the names that different formats give it.
package enum ModelPart: Hashable {
  case embedding, head, finalNorm
  case block(Int, BlockPart)
}

package enum BlockPart: Hashable {
  case attentionNorm, attentionSubNorm, feedForwardNorm, feedForwardSubNorm
  /// Over each query head, and each key head, before it is rotated.
  case queryNorm, keyNorm
  /// Over the vectors that queries, and keys and values, come from in latent attention.
  case queryLatentNorm, latentNorm
  case linear(Linear)
  /// The norm in front of a linear.
  case inputNorm(Linear)
  /// Behind a linear.
  case bias(Linear)
  case router, routerBias
  /// The vector whose product with the input is the shared expert's gate.
  case sharedGating
  /// All experts of the block, and one matrix of one of them: `gate`, `up` or `down`.
  case experts
  case expert(Int, Linear)
}

package enum Linear: Hashable {
  case query, key, value, output, gate, up, down
  /// To the vector that queries come from, and from it to the queries, instead of `query`.
  case queryDown, queryUp
  /// To the vector that keys and values come from, and the key that all heads share.
  case latent
  /// Of each head, from that vector to its keys, transposed: it is multiplied with the query instead (absorbed form).
  case keyUp
  /// Of each head, from that vector to its values.
  case valueUp
  case sharedGate, sharedUp, sharedDown

  /// The linears of a dense block.
  package static let dense: [Linear] = [.query, .key, .value, .output, .gate, .up, .down]

  /// (rows, columns) = (outputs, inputs)
  /// - Parameter live: neurons of the feed-forward part that are stored; nil where all are.
  package func shape(_ c: ModelConfiguration, live: Int? = nil) -> (rows: Int, columns: Int) {
    let feedForward = live ?? c.feedForwardSize
    let shared = c.experts?.sharedSize ?? 0
    let latent = c.latent ?? ModelConfiguration.LatentAttention(queryRank: 0, rank: 0, plainSize: 0, valueSize: 0)
    return switch self {
    case .query: (c.querySize, c.hiddenSize)
    case .key, .value: (c.kvSize, c.hiddenSize)
    case .output: (c.hiddenSize, c.attentionSize)
    case .gate, .up: (feedForward, c.hiddenSize)
    case .down: (c.hiddenSize, feedForward)
    case .queryDown: (latent.queryRank, c.hiddenSize)
    case .queryUp: (c.querySize, latent.queryRank)
    case .latent: (latent.rank + c.ropeSize, c.hiddenSize)
    case .keyUp: (c.queryHeads * latent.rank, latent.plainSize)
    case .valueUp: (c.queryHeads * latent.valueSize, latent.rank)
    case .sharedGate, .sharedUp: (shared, c.hiddenSize)
    case .sharedDown: (c.hiddenSize, shared)
    }
  }
}

extension ModelConfiguration {
  /// All tensors of a model of this configuration, in the order of a packed file: first what every token reads, then the tables of which
  /// a token reads a row, so that one range of the file is all that has to stay in memory, and last the experts, of which a token reads a few.
  /// - Parameter live: the neurons that are stored of each block's feed-forward part; nil where none was dropped.
  package func plan(live: [Int]? = nil) -> [PlannedTensor] {
    var plan: [PlannedTensor] = []
    for block in 0..<blockCount {
      var parts = BlockPlan(configuration: self, block: block, live: live?[block])
      parts.addAttention()
      parts.addFeedForward()
      plan += parts.tensors
    }
    plan.append(PlannedTensor(part: .finalNorm, kind: .vector(hiddenSize)))
    plan.append(PlannedTensor(part: .embedding, kind: .table(rows: vocabularySize, columns: hiddenSize)))
    if !tiedHead { plan.append(PlannedTensor(part: .head, kind: .table(rows: vocabularySize, columns: hiddenSize))) }
    if let experts {
      for block in 0..<blockCount where experts.routed[block] { plan.append(PlannedTensor(part: .block(block, .experts), kind: .experts(experts.router.experts))) }
    }
    return plan
  }

  /// One matrix of one expert: what a source is asked for while its record is made.
  package func expert(_ block: Int, _ expert: Int, _ linear: Linear) -> PlannedTensor {
    let size = experts?.size ?? 0
    let (rows, columns) = linear == .down ? (hiddenSize, size) : (size, hiddenSize)
    return PlannedTensor(part: .block(block, .expert(expert, linear)), kind: .matrix(rows: rows, columns: columns, heads: 1))
  }
}

/// The tensors of one block, in the order in which they run.
private struct BlockPlan {
  let configuration: ModelConfiguration
  let block: Int
  let live: Int?
  var tensors: [PlannedTensor] = []

  mutating func add(_ part: BlockPart, _ kind: PlannedTensor.Kind) { tensors.append(PlannedTensor(part: .block(block, part), kind: kind)) }

  mutating func add(_ linear: Linear, heads: Int = 1, bias: Bool = false) {
    let (rows, columns) = linear.shape(configuration, live: live)
    if configuration.linearNormEpsilon != nil { add(.inputNorm(linear), .vector(columns)) }
    add(.linear(linear), configuration.isTernary ? .ternary(rows: rows, columns: columns) : .matrix(rows: rows, columns: columns, heads: heads))
    if bias { add(.bias(linear), .vector(rows)) }
  }

  mutating func addAttention() {
    let c = configuration
    add(.attentionNorm, .vector(c.hiddenSize))
    if let latent = c.latent {
      if latent.queryRank > 0 {
        add(.queryDown)
        add(.queryLatentNorm, .vector(latent.queryRank))
        add(.queryUp)
      } else {
        add(.query)
      }
      add(.latent)
      add(.latentNorm, .vector(latent.rank))
      add(.keyUp, heads: c.queryHeads)
      add(.valueUp, heads: c.queryHeads)
    } else {
      for linear in [Linear.query, .key, .value] { add(linear, bias: c.hasProjectionBias) }
    }
    if c.queryKeyNorms != .none {
      add(.queryNorm, .vector(c.queryKeyNorms == .heads ? c.headSize : c.querySize))
      add(.keyNorm, .vector(c.queryKeyNorms == .heads ? c.headSize : c.kvSize))
    }
    if c.hasSubNorms { add(.attentionSubNorm, .vector(c.querySize)) }
    add(.output)
  }

  mutating func addFeedForward() {
    let c = configuration
    add(.feedForwardNorm, .vector(c.hiddenSize))
    guard let experts = c.experts, c.isRouted(block) else {
      add(.gate)
      add(.up)
      if c.hasSubNorms { add(.feedForwardSubNorm, .vector(live ?? c.feedForwardSize)) }
      add(.down)
      return
    }
    add(.router, .router(rows: experts.router.experts, columns: c.hiddenSize))
    if experts.router.hasBias { add(.routerBias, .vector(experts.router.experts)) }
    guard experts.sharedSize > 0 else { return }
    if experts.gatesShared { add(.sharedGating, .vector(c.hiddenSize)) }
    for linear in [Linear.sharedGate, .sharedUp, .sharedDown] { add(linear) }
  }
}
