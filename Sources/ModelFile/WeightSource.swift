import Basics

/// Where the packer takes a model from. Nothing is held in memory but what is asked for.
protocol WeightSource {
  var configuration: ModelConfiguration { get }

  /// Checks, before anything is written, that every planned tensor is there with its shape.
  func check(_ plan: [PlannedTensor]) throws(SternaError)

  /// Some rows of a vector (one row) or a table, as float32, all finite. `into` holds rows.count * columns values.
  func floats(_ tensor: PlannedTensor, rows: Range<Int>, into: UnsafeMutableBufferPointer<Float>) throws(SternaError)

  /// A ternary matrix, ready to be read row by row.
  func ternary(_ tensor: PlannedTensor) throws(SternaError) -> TernaryRows
}

/// The rows of a ternary matrix at its source.
struct TernaryRows {
  /// What the integer product is multiplied by.
  let scale: Float
  /// Writes the weights (-1, 0, 1) of some rows, contiguously.
  let read: (Range<Int>, UnsafeMutablePointer<Int8>) throws(SternaError) -> Void
}
