import ModelFile

/// What a pass needs for experts. A *pair* is a token and one of its experts; pairs are numbered by expert, then by token, so that those of an expert
/// lie one behind the other.
final class ExpertWorkspace {
  /// [tokens, experts]
  let scores: Rows
  /// [workers, 2 * experts]
  let scratch: Rows
  /// The experts of each token, ascending. [tokens, chosen]
  var chosen: [Int32]
  /// Their weights. [tokens, chosen]
  var weights: [Float]
  /// The same for the next block, as far as can be told beforehand, of the first `guessedTokens`.
  var guessed: [Int32]
  var guessedWeights: [Float]
  /// The pair of each. [tokens, chosen]
  var pairOf: [Int]
  /// The token of each pair, and the place of its weight. [tokens * chosen]
  var tokenOf: [Int]
  var placeOf: [Int]
  /// The first pair of each expert, and behind the last one all pairs. [experts + 1]
  var firstPair: [Int]
  /// Inputs as floats, where they are needed so. [pairs, hidden]
  let input: Rows
  /// Inputs in int8. [pairs, hidden]
  let bricks: BrickRows
  /// [pairs, size]
  let gate: Rows
  /// [pairs, size]
  let up: Rows
  /// activation(gate) * up in int8. [pairs, size]
  let innerBricks: BrickRows
  /// [pairs, hidden]
  let output: Rows

  /// Tokens that the next block's experts are guessed from: of a prompt these need most of what all need.
  static let guessedTokens = 16

  init(_ c: ModelConfiguration, _ record: ExpertRecord, tokens: Int, workers: Int) {
    let router = c.experts?.router
    let (experts, perToken) = (router?.experts ?? 0, router?.chosen ?? 0)
    let pairs = tokens * perToken
    scores = Rows(tokens: tokens, width: experts)
    scratch = Rows(tokens: workers, width: 2 * experts)
    chosen = [Int32](repeating: 0, count: pairs)
    weights = [Float](repeating: 0, count: pairs)
    guessed = [Int32](repeating: 0, count: min(tokens, Self.guessedTokens) * perToken)
    guessedWeights = [Float](repeating: 0, count: guessed.count)
    pairOf = [Int](repeating: 0, count: pairs)
    tokenOf = pairOf
    placeOf = pairOf
    firstPair = [Int](repeating: 0, count: experts + 1)
    input = Rows(tokens: Self.needsFloats(c, record) ? pairs : 0, width: record.hiddenSize)
    bricks = BrickRows(tokens: record.storage == .f32 ? 0 : pairs, columns: record.hiddenSize)
    gate = Rows(tokens: pairs, width: record.expertSize)
    up = Rows(tokens: pairs, width: record.expertSize)
    innerBricks = BrickRows(tokens: record.storage == .f32 ? 0 : pairs, columns: record.expertSize)
    output = Rows(tokens: pairs, width: record.hiddenSize)
  }

  /// Whether the inputs of pairs are needed as floats.
  static func needsFloats(_ c: ModelConfiguration, _ record: ExpertRecord) -> Bool { record.storage == .f32 || c.experts?.router.target == .input }

  static func bytes(_ c: ModelConfiguration, _ record: ExpertRecord, tokens: Int, workers: Int) -> Int {
    guard let router = c.experts?.router else { return 0 }
    let pairs = tokens * router.chosen
    let floats = record.hiddenSize * (needsFloats(c, record) ? 2 : 1) + 2 * record.expertSize
    let bricks = record.storage == .f32 ? 0 : BrickRows.bytes(tokens: pairs, columns: record.hiddenSize) + BrickRows.bytes(tokens: pairs, columns: record.expertSize)
    return pairs * (floats * 4 + 32) + bricks + (tokens + 2 * workers) * router.experts * 4
  }
}
