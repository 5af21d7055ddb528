import Basics
import Tokenizer

/// What a writer needs of a vocabulary. It remembers what jobs of one task ask for again and again: the tokens of forced texts, and the free values of rules with their masks.
///
/// Used from one thread at a time.
public final class WriterVocabulary {
  private let encodeText: ([UInt8]) -> [TokenID]
  private let tokenBytes: (TokenID) -> [UInt8]
  private let tokenLength: (TokenID) -> Int
  private let permittedTokens: (FreeValue, FreeValue.State) -> [TokenID]
  private var known: [[UInt8]: [TokenID]] = [:]
  private var freeValues: [(rule: Constraint.Node, value: FreeValue)] = []
  private static let mostTexts = 4096
  private static let mostRules = 256
  /// Unicode scalars of a free string whose rule has no `maxLength`.
  public static let usualMaxLength = 256

  public convenience init(_ tokenizer: Tokenizer) {
    let masks = TokenMasks(tokenizer)
    self.init(
      encode: { tokenizer.encode(String(decoding: $0, as: UTF8.self), atStart: false) }, bytes: { Array(tokenizer.bytes($0)) },
      length: { tokenizer.bytes($0).count }, permitted: { masks.permitted(in: $0, from: $1).tokens })
  }

  /// - Parameters:
  ///   - encode: the tokens of a text.
  ///   - bytes: of a token.
  ///   - permitted: the tokens whose bytes continue a free value, ascending.
  package init(
    encode: @escaping ([UInt8]) -> [TokenID], bytes: @escaping (TokenID) -> [UInt8], length: @escaping (TokenID) -> Int,
    permitted: @escaping (FreeValue, FreeValue.State) -> [TokenID]
  ) {
    encodeText = encode
    tokenBytes = bytes
    tokenLength = length
    permittedTokens = permitted
  }

  func length(_ token: TokenID) -> Int { tokenLength(token) }
  func bytes(_ token: TokenID) -> [UInt8] { tokenBytes(token) }
  func permitted(_ content: FreeContent) -> [TokenID] { permittedTokens(content.value, content.state) }

  func encode(_ text: [UInt8]) -> [TokenID] {
    if let tokens = known[text] { return tokens }
    let tokens = encodeText(text)
    if known.count >= Self.mostTexts { known.removeAll(keepingCapacity: true) }
    known[text] = tokens
    return tokens
  }

  /// Nil for nodes whose values are copied or composed.
  func freeValue(_ node: Constraint.Node) throws(SternaError) -> FreeValue? {
    switch node {
    case .string(let rule) where rule.source == .free: return try freeValue(node) { () throws(SternaError) in try FreeValue(rule, defaultMaxLength: Self.usualMaxLength) }
    case .number(let rule) where rule.source == .free: return try freeValue(node) { () throws(SternaError) in try FreeValue(rule) }
    default: return nil
    }
  }

  private func freeValue(_ rule: Constraint.Node, make: () throws(SternaError) -> FreeValue) throws(SternaError) -> FreeValue {
    if let found = freeValues.first(where: { $0.rule == rule }) { return found.value }
    let value = try make()
    if freeValues.count >= Self.mostRules { freeValues.removeFirst() }
    freeValues.append((rule, value))
    return value
  }
}
