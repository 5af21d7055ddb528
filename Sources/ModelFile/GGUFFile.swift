import Basics

/// A GGUF v3 file whose whole header was checked before anything is used.
public struct GGUFFile: Sendable {
  public struct Tensor: Sendable {
    public let name: String
    public let type: GGUFTensorType
    /// In GGUF's order: the first dimension is the one that lies contiguously (columns first).
    public let shape: [Int]
    /// Of the tensor's data, from the start of the file.
    public let offset: Int
    public let byteCount: Int
  }

  public let file: MappedFile
  public let metadata: [String: GGUFValue]
  /// In the order of the file.
  public let tensors: [Tensor]

  /// Maps and checks a file.
  public init(_ path: String) throws(SternaError) {
    throw SternaError(.unsupported, "not written yet", at: path)
  }

  /// - Parameter name: of a tensor, for example `token_embd.weight`.
  public func tensor(_ name: String) -> Tensor? { tensors.first { $0.name == name } }

  /// The data of a tensor, in the mapped file.
  public func bytes(of tensor: Tensor) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: file.bytes[tensor.offset..<tensor.offset + tensor.byteCount])
  }
}
