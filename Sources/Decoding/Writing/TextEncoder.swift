import Tokenizer

/// Encodes the forced parts of JSON texts, and remembers them: jobs of one task write the same keys again and again.
public final class TextEncoder {
  private let encodeText: ([UInt8]) -> [TokenID]
  private let tokenLength: (TokenID) -> Int
  private var known: [[UInt8]: [TokenID]] = [:]
  private static let most = 4096

  public convenience init(_ tokenizer: Tokenizer) {
    self.init { tokenizer.encode(String(decoding: $0, as: UTF8.self), atStart: false) } length: { tokenizer.bytes($0).count }
  }

  /// - Parameters:
  ///   - encode: the tokens of a text.
  ///   - length: bytes of a token.
  package init(encode: @escaping ([UInt8]) -> [TokenID], length: @escaping (TokenID) -> Int) {
    encodeText = encode
    tokenLength = length
  }

  func length(_ token: TokenID) -> Int { tokenLength(token) }

  func encode(_ text: [UInt8]) -> [TokenID] {
    if let tokens = known[text] { return tokens }
    let tokens = encodeText(text)
    if known.count >= Self.most { known.removeAll(keepingCapacity: true) }
    known[text] = tokens
    return tokens
  }
}
