import CTernary
import ModelFile

/// What a pass over the blocks needs besides weights and cache. `tokens` is the most that a pass may have.
final class Workspace {
  let tokens: Int
  /// The residual stream. [tokens, hidden]
  let x: Rows
  /// Behind a norm. [tokens, hidden]
  let h: Rows
  /// [tokens, queryHeads * headSize]
  let query: Rows
  /// [tokens, kvHeads * headSize]
  let key: Rows
  /// [tokens, kvHeads * headSize]
  let value: Rows
  /// What the heads gathered. [tokens, attentionSize]
  let attention: Rows
  /// What latent attention needs besides; nothing where there is none.
  let latent: LatentWorkspace
  /// What experts need; nil where there are none.
  let experts: ExpertWorkspace?
  /// [tokens, feedForward]
  let gate: Rows
  /// [tokens, feedForward]
  let up: Rows
  /// Input of a linear behind its own norm (`use_rms_norm`), or what its first int8 part leaves out. [tokens, widest input]
  let normed: Rows
  /// Output of a linear, to be added to the residual stream. [tokens, hidden]
  let delta: Rows
  /// Input of a ternary linear in int8. [tokens, widest input]
  let quantized: QuantizedRows
  /// Input of another linear in int8. [tokens, widest input]
  let bricks: BrickRows
  /// Products of both parts of the tokens where activations are quantised by groups. [workers, 2 * tokens * groupedBlocks * 16]
  let groupProducts: Rows
  /// Row blocks that are multiplied at a time there.
  static let groupedBlocks = 4
  /// [workers]
  let attentionScratch: [AttentionScratch]
  /// A hidden state as the head's kernels take it.
  let headInput: FloatBuffer
  /// The rows of the batch: which sequence, which position, which token.
  var batch: [Row] = []
  /// The batch again, in runs of rows that are attended to together.
  var tiles: [Model.Tile] = []
  /// Pairs of a row and a position that it sees, over the batch: what attention costs.
  var visiblePairs = 0

  struct Row {
    // Unowned: the steps of the running `forward` hold every sequence.
    unowned(unsafe) let sequence: Sequence
    let position: Int
    let token: Int
  }

  init(_ c: ModelConfiguration, _ record: ExpertRecord?, tokens: Int, contextLength: Int, workers: Int, layout: KVLayout) {
    self.tokens = tokens
    let widest = Self.widest(c)
    let neurons = max(c.feedForwardSize, c.experts?.sharedSize ?? 0)
    x = Rows(tokens: tokens, width: c.hiddenSize)
    h = Rows(tokens: tokens, width: c.hiddenSize)
    query = Rows(tokens: tokens, width: c.querySize)
    key = Rows(tokens: c.latent == nil ? tokens : 0, width: c.kvSize)
    value = Rows(tokens: c.latent == nil ? tokens : 0, width: c.kvSize)
    attention = Rows(tokens: tokens, width: c.attentionSize)
    latent = LatentWorkspace(c, tokens: tokens, workers: workers)
    experts = record.map { ExpertWorkspace(c, $0, tokens: tokens, workers: workers) }
    gate = Rows(tokens: tokens, width: neurons)
    up = Rows(tokens: tokens, width: neurons)
    normed = Rows(tokens: c.linearNormEpsilon == nil && !c.groupsActivations ? 0 : tokens, width: widest)
    delta = Rows(tokens: tokens, width: c.hiddenSize)
    groupProducts = Rows(tokens: c.groupsActivations ? workers : 0, width: 2 * tokens * Self.groupedBlocks * 16)
    bricks = BrickRows(tokens: c.isTernary ? 0 : tokens, columns: widest)
    quantized = QuantizedRows(tokens: !c.isTernary ? 0 : c.groupsActivations ? 2 * tokens : tokens, columns: widest, groups: c.groupsActivations ? max(1, widest / 128) : 1)
    attentionScratch = (0..<workers).map { _ in
      AttentionScratch(queries: Self.queriesTogether(c, layout), contextLength: contextLength, layout: layout)
    }
    headInput = FloatBuffer(count: max(c.hiddenSize, ct_head_bytes(c.hiddenSize) / 4))
    batch.reserveCapacity(tokens)
    tiles.reserveCapacity(tokens)
  }

  private static func widest(_ c: ModelConfiguration) -> Int {
    max(c.hiddenSize, c.querySize, c.attentionSize, c.feedForwardSize, c.experts?.sharedSize ?? 0, c.latent?.queryRank ?? 0)
  }

  /// Queries of an attention task.
  private static func queriesTogether(_ c: ModelConfiguration, _ layout: KVLayout) -> Int {
    guard layout.format == .q8 else { return 1 }
    return c.latent == nil ? max(Model.queriesTogether, c.queryHeads / c.kvHeads) : Model.queriesTogether
  }

  /// What a workspace of these sizes takes.
  static func bytes(_ c: ModelConfiguration, _ record: ExpertRecord?, tokens: Int, contextLength: Int, workers: Int, layout: KVLayout) -> Int {
    let widest = widest(c)
    let normed = c.linearNormEpsilon == nil && !c.groupsActivations ? 0 : widest
    let neurons = max(c.feedForwardSize, c.experts?.sharedSize ?? 0)
    let floats = 3 * c.hiddenSize + c.querySize + c.attentionSize + (c.latent == nil ? 2 * c.kvSize : 0) + 2 * neurons + normed
    let queries = queriesTogether(c, layout)
    let scores = layout.format == .q8 ? 4 * layout.keyParts + 2 : 4
    let scratch = queries * (contextLength * scores + layout.widestPart * 6) + contextLength * 4
    let grouped = c.groupsActivations ? tokens * (widest * 5 / 4 + workers * groupedBlocks * 128) : 0
    let latent = LatentWorkspace.bytes(c, tokens: tokens, workers: workers)
    let experts = record.map { ExpertWorkspace.bytes(c, $0, tokens: tokens, workers: workers) } ?? 0
    return grouped + latent + experts + tokens * (floats * 4 + (c.isTernary ? widest * 9 / 8 : widest * 5 / 4)) + workers * scratch + contextLength * c.ropeSize * 4
  }
}

/// What latent attention needs.
struct LatentWorkspace {
  /// [tokens, queryRank]
  let query: Rows
  /// The latent and the key that all heads share. [tokens, rank + ropeSize]
  let vector: Rows
  /// Queries against latents, and then what each head gathered. [tokens, queryHeads * rank]
  let heads: Rows
  /// The input of one head in int8. [workers * tokens, widest]
  let bricks: BrickRows
  /// The output of one head. [workers, tokens * whole blocks]
  let output: Rows

  init(_ c: ModelConfiguration, tokens: Int, workers: Int) {
    let latent = c.latent ?? .init(queryRank: 0, rank: 0, plainSize: 0, valueSize: 0)
    let count = c.latent == nil ? 0 : tokens
    query = Rows(tokens: count, width: latent.queryRank)
    vector = Rows(tokens: count, width: latent.rank + c.ropeSize)
    heads = Rows(tokens: count, width: c.queryHeads * latent.rank)
    bricks = BrickRows(tokens: workers * count, columns: max(latent.plainSize, latent.rank))
    output = Rows(tokens: workers, width: count * ((max(latent.rank, latent.valueSize) + 15) / 16 * 16))
  }

  static func bytes(_ c: ModelConfiguration, tokens: Int, workers: Int) -> Int {
    guard let latent = c.latent else { return 0 }
    let floats = latent.queryRank + latent.rank + c.ropeSize + c.queryHeads * latent.rank + workers * (max(latent.rank, latent.valueSize) + 16)
    return tokens * floats * 4 + BrickRows.bytes(tokens: workers * tokens, columns: max(latent.plainSize, latent.rank))
  }
}
