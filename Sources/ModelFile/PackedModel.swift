import Basics

/// A packed model file (docs/format.md), mapped and checked. Owns the mapping: `weights` are valid as long as this object lives.
public final class PackedModel: Sendable {
  public let path: String
  public let configuration: ModelConfiguration
  public let weights: ModelWeights
  /// 64 hexadecimal digits: SHA-256 of the header, which holds the checksum of every tensor.
  public let fingerprint: String
  /// Size of the file.
  public let fileBytes: Int
  /// Everything else that the file holds.
  public let gguf: GGUFFile

  /// Maps a file and checks its header against the shapes that its architecture must have. The weights are not read:
  /// `verify()` does that.
  public static func open(_ path: String) throws(SternaError) -> PackedModel {
    throw SternaError(.unsupported, "not written yet", at: path)
  }

  init(gguf: GGUFFile, configuration: ModelConfiguration, weights: ModelWeights, fingerprint: String) {
    self.gguf = gguf
    self.configuration = configuration
    self.weights = weights
    self.fingerprint = fingerprint
    path = gguf.file.path
    fileBytes = gguf.file.bytes.count
  }

  /// A text of the metadata, such as `sterna.template`.
  public func metadataString(_ key: String) -> String? { gguf.metadata[key]?.string }

  /// The bytes of a section, such as `sterna.tokenizer`, in the mapped file.
  public func section(_ name: String) -> UnsafeRawBufferPointer? {
    gguf.tensor(name).map { gguf.bytes(of: $0) }
  }

  /// Reads the whole file: every tensor must have the checksum that the header says, and every ternary code must be 0, 1 or 2.
  public func verify() throws(SternaError) {
    throw SternaError(.unsupported, "not written yet", at: path)
  }
}
