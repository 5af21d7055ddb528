import Basics

/// A model as it is downloaded from a hub: `config.json` and safetensors, in one file or in many with an index.
public struct HubFolder: Sendable {
  public let path: String
  public let configuration: ModelConfiguration

  /// Reads `config.json` and the headers of the weights. Weights themselves are read while packing.
  public init(_ path: String) throws(SternaError) {
    throw SternaError(.unsupported, "not written yet", at: path)
  }
}
