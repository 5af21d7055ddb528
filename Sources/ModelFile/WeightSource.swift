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

/// The rows of a ternary matrix at its source.
package struct TernaryRows {
  /// What the integer product is multiplied by.
  package enum Scale: Sendable, Equatable {
    case tensor(Float)
    /// `read` writes one for each row.
    case rows
    /// `read` writes one for each row and 128 columns; columns are a multiple of 128.
    case groups
  }

  package let scale: Scale
  var scaleKind: ScaleKind {
    switch scale {
    case .tensor: .tensor
    case .rows: .rows
    case .groups: .groups
    }
  }
  /// Writes the weights (-1, 0, 1) of some rows, contiguously [rows, columns], and their scales [rows] or [rows, groups] where the matrix has
  /// such, all positive.
  package let read: (_ rows: Range<Int>, _ weights: UnsafeMutablePointer<Int8>, _ scales: UnsafeMutablePointer<Float>) throws(SternaError) -> Void

  package init(scale: Scale, read: @escaping (_ rows: Range<Int>, _ weights: UnsafeMutablePointer<Int8>, _ scales: UnsafeMutablePointer<Float>) throws(SternaError) -> Void) {
    self.scale = scale
    self.read = read
  }
}
