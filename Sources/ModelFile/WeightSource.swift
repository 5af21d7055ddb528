import Basics

/// Where the packer takes a model from. Nothing is held in memory but what is asked for.
package protocol WeightSource {
  var configuration: ModelConfiguration { get }

  /// What tells this source from others; nil where packing cannot be resumed.
  var identity: SourceIdentity? { get }

  /// Checks, before anything is written, that every planned tensor is there with its shape.
  func check(_ plan: [PlannedTensor]) throws(SternaError)

  /// Some rows of a vector (one row) or a table, as float32, all finite. `into` holds rows.count * columns values.
  func floats(_ tensor: PlannedTensor, rows: Range<Int>, into: UnsafeMutableBufferPointer<Float>) throws(SternaError)

  /// A ternary matrix, ready to be read row by row, more than once. The packer asks for all matrices before it writes and keeps them, so
  /// they must not hold data.
  func ternary(_ tensor: PlannedTensor) throws(SternaError) -> TernaryRows

  /// How a matrix that is not ternary is stored already, where its blocks can be taken over bit for bit; nil where there are only floats.
  func storage(_ tensor: PlannedTensor) throws(SternaError) -> WeightStorage?

  /// Some rows of such a matrix, as GGUF blocks. `into` holds as many.
  func blocks(_ tensor: PlannedTensor, rows: Range<Int>, into: UnsafeMutableRawBufferPointer) throws(SternaError)
}

extension WeightSource {
  package var identity: SourceIdentity? { nil }

  package func storage(_ tensor: PlannedTensor) throws(SternaError) -> WeightStorage? { nil }

  package func blocks(_ tensor: PlannedTensor, rows: Range<Int>, into: UnsafeMutableRawBufferPointer) throws(SternaError) {
    throw SternaError(.badFile, "is not stored in blocks", at: tensor.name)
  }
}
