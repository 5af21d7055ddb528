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
  /// Input of a linear behind its own norm (`use_rms_norm`). [tokens, widest input]
  let normed: Rows
  /// Output of a linear, to be added to the residual stream. [tokens, hidden]
  let delta: Rows
  /// Input of a linear in int8. [tokens, widest input]
  let quantized: QuantizedRows
  /// Attention scores of one head. [workers, context]
  let scores: Rows
  /// The rows of the batch: which sequence, which position, which token.
  var batch: [Row] = []

  struct Row {
    // Unowned: the steps of the running `forward` hold every sequence.
    unowned(unsafe) let sequence: Sequence
    let position: Int
    let token: Int
  }

  init(_ c: ModelConfiguration, tokens: Int, contextLength: Int, workers: Int) {
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
    normed = Rows(tokens: c.linearNormEpsilon == nil ? 0 : tokens, width: widest)
    delta = Rows(tokens: tokens, width: c.hiddenSize)
    quantized = QuantizedRows(tokens: tokens, columns: widest)
    scores = Rows(tokens: workers, width: contextLength)
    batch.reserveCapacity(tokens)
  }

  var bytes: Int {
    [x, h, query, key, value, attention, gate, up, normed, delta, scores].reduce(quantized.bytes) { $0 + $1.buffer.bytes }
  }
}
