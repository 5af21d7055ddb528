import Tokenizer

/// How long tokens can be, by their first two bytes: the longest token of a vocabulary may have 128 bytes (a run of spaces), those that begin with ` P` have
/// a dozen. With this a copy looks up an eighth of the lengths. 64 KiB, made once for a vocabulary.
public struct TokenLengths: Sendable {
  /// [first byte, second byte]; at least 1.
  private var longest = [UInt8](repeating: 1, count: 65_536)

  public init(_ tokenizer: Tokenizer) {
    for id in 0..<TokenID(truncatingIfNeeded: tokenizer.count) {
      let bytes = tokenizer.bytes(id)
      guard bytes.count > 1 else { continue }
      let at = Int(bytes[0]) << 8 | Int(bytes[1])
      longest[at] = max(longest[at], UInt8(clamping: bytes.count))
    }
  }

  /// The most bytes that a token can have that begins like this.
  func longest(_ first: UInt8, _ second: UInt8) -> Int {
    let length = longest[Int(first) << 8 | Int(second)]
    return length == .max ? .max : Int(length)
  }
}
