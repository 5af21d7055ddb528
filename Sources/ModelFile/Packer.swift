import Basics

/// What `Packer` may choose.
public struct PackOptions: Sendable {
  /// How the embedding, and a head of its own, are stored.
  public var embedding: EmbeddingTable.Storage
  /// For people; nil takes the source's name.
  public var name: String?

  public init(embedding: EmbeddingTable.Storage = .q8, name: String? = nil) {
    self.embedding = embedding
    self.name = name
  }
}

/// Writes packed model files (docs/format.md).
public enum Packer {
  /// Streams a model into a packed file, which appears under its name only when it is complete and on stable storage.
  /// - Parameters:
  ///   - sections: named byte strings that travel in the file, such as `sterna.tokenizer`.
  ///   - metadata: additional keys, such as `sterna.template`.
  ///   - progress: told what is being done, one line at a time.
  public static func pack(
    _ source: HubFolder, to path: String, options: PackOptions = PackOptions(), sections: [(name: String, bytes: [UInt8])] = [],
    metadata: [(String, GGUFValue)] = [], progress: ((String) -> Void)? = nil
  ) throws(SternaError) {
    throw SternaError(.unsupported, "not written yet", at: path)
  }
}
