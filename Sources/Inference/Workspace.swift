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
  /// What the heads gathered. [tokens, queryHeads * headSize]
  let attention: Rows
  /// [tokens, feedForward]
  let gate: Rows
  /// [tokens, feedForward]
  let up: Rows
  /// Input of a linear behind its own norm (`use_rms_norm`), or what its first int8 part leaves out. [tokens, widest input]
  let normed: Rows
  /// Output of a linear, to be added to the residual stream. [tokens, hidden]
  let delta: Rows
  /// Input of a linear in int8. [tokens, widest input]
  let quantized: QuantizedRows
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

  init(_ c: ModelConfiguration, tokens: Int, contextLength: Int, workers: Int, layout: KVLayout) {
    self.tokens = tokens
    let widest = max(c.hiddenSize, c.querySize, c.feedForwardSize)
    x = Rows(tokens: tokens, width: c.hiddenSize)
    h = Rows(tokens: tokens, width: c.hiddenSize)
    query = Rows(tokens: tokens, width: c.querySize)
    key = Rows(tokens: tokens, width: c.kvSize)
    value = Rows(tokens: tokens, width: c.kvSize)
    attention = Rows(tokens: tokens, width: c.querySize)
    gate = Rows(tokens: tokens, width: c.feedForwardSize)
    up = Rows(tokens: tokens, width: c.feedForwardSize)
    normed = Rows(tokens: c.linearNormEpsilon == nil && !c.groupsActivations ? 0 : tokens, width: widest)
    delta = Rows(tokens: tokens, width: c.hiddenSize)
    groupProducts = Rows(tokens: c.groupsActivations ? workers : 0, width: 2 * tokens * Self.groupedBlocks * 16)
    quantized = QuantizedRows(tokens: c.groupsActivations ? 2 * tokens : tokens, columns: widest, groups: c.groupsActivations ? max(1, widest / 128) : 1)
    attentionScratch = (0..<workers).map { _ in
      AttentionScratch(queries: Self.queriesTogether(c, layout), contextLength: contextLength, layout: layout)
    }
    headInput = FloatBuffer(count: max(c.hiddenSize, ct_head_bytes(c.hiddenSize) / 4))
    batch.reserveCapacity(tokens)
    tiles.reserveCapacity(tokens)
  }

  private static func queriesTogether(_ c: ModelConfiguration, _ layout: KVLayout) -> Int {
    layout.format == .q8 ? max(Model.queriesTogether, c.queryHeads / c.kvHeads) : 1
  }

  /// What a workspace of these sizes takes.
  static func bytes(_ c: ModelConfiguration, tokens: Int, contextLength: Int, workers: Int, layout: KVLayout) -> Int {
    let widest = max(c.hiddenSize, c.querySize, c.feedForwardSize)
    let normed = c.linearNormEpsilon == nil && !c.groupsActivations ? 0 : widest
    let floats = 3 * c.hiddenSize + 2 * c.querySize + 2 * c.kvSize + 2 * c.feedForwardSize + normed
    let scratch = queriesTogether(c, layout) * (contextLength * (layout.format == .q8 ? 6 : 4) + layout.paddedHead * 6) + contextLength * 4
    let grouped = c.groupsActivations ? tokens * (widest * 5 / 4 + workers * groupedBlocks * 128) : 0
    return grouped + tokens * (floats * 4 + widest * 9 / 8) + workers * scratch + contextLength * c.headSize * 4
  }
}
