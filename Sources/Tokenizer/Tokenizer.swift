import Basics
import ModelFile

/// A token's index in the vocabulary.
public typealias TokenID = Int32

/// Text to tokens and back: a view over packed tables (docs/tokenizer-tables.md). Copying is cheap, and any thread may use it.
public struct Tokenizer: Sendable {
  /// Reads the tokenizer of a packed model, a vocabulary GGUF or a hub folder.
  public static func load(_ path: String) throws(SternaError) -> Tokenizer {
    throw SternaError(.unsupported, "not written yet", at: path)
  }

  /// The tokenizer inside a packed model, used where it lies.
  public init(_ model: PackedModel) throws(SternaError) {
    throw SternaError(.unsupported, "not written yet", at: model.path)
  }

  /// The section `sterna.tokenizer` made from `tokenizer.json` of a hub folder.
  public static func pack(hubFolder path: String) throws(SternaError) -> [UInt8] {
    throw SternaError(.unsupported, "not written yet", at: path)
  }

  /// The same from the metadata of a GGUF file.
  public static func pack(gguf: GGUFFile) throws(SternaError) -> [UInt8] {
    throw SternaError(.unsupported, "not written yet", at: gguf.file.path)
  }

  /// How many tokens there are: ids are `0..<count`.
  public var count: Int { 0 }
  /// The tokens of a plain text: never a special one, whatever the text says. Bytes that are not UTF-8 are kept.
  ///
  /// - Parameter atStart: whether this is where a text begins: SentencePiece then puts a space in front. Nothing else depends on it.
  public func encode(_ bytes: some Collection<UInt8>, atStart: Bool = true) -> [TokenID] { [] }
  public func encode(_ text: String, atStart: Bool = true) -> [TokenID] { [] }
  /// The tokens of a literal of a template, in which special tokens are recognised by their exact text (the longest where several fit).
  public func encodeTemplate(_ text: String, atStart: Bool = true) -> [TokenID] { [] }
  /// The bytes that these tokens stand for. Special tokens and ids out of range contribute nothing.
  public func decode(_ ids: some Sequence<TokenID>) -> [UInt8] { [] }
  /// The bytes of one token; empty for a special one. Valid as long as a copy of this tokenizer lives.
  public func bytes(_ id: TokenID) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }
  /// The ordinary token with exactly these bytes.
  public func token(_ bytes: UnsafeRawBufferPointer) -> TokenID? { nil }
  /// Length of the longest token.
  public var maxTokenBytes: Int { 0 }
  public func isSpecial(_ id: TokenID) -> Bool { false }
  /// The special token that is written like this in a template, for example `<|eot_id|>`.
  public func special(_ text: String) -> TokenID? { nil }
  public var beginOfText: TokenID? { nil }
  public var endOfText: TokenID? { nil }
}
