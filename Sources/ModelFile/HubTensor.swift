import Basics

/// A tensor of a hub folder, read as float32.
struct HubTensor {
  let file: MappedFile
  let tensor: SafetensorsFile.Tensor

  var place: String { "\(file.path): tensor \(tensor.name)" }
  var start: UnsafeRawPointer? { file.bytes.baseAddress.map { $0 + tensor.bytes.lowerBound } }

  func error(_ message: String, expected: String? = nil, found: String? = nil, code: SternaError.Code = .badFile, remedy: String? = nil) -> SternaError {
    SternaError(code, message, at: place, expected: expected, found: found, remedy: remedy)
  }

  func require(shape: [Int]) throws(SternaError) {
    guard tensor.shape == shape else { throw error("has another shape than config.json says", expected: "\(shape)", found: "\(tensor.shape)") }
  }

  var isFloat: Bool { [.f32, .f16, .bf16].contains(tensor.type) }

  func requireFloat() throws(SternaError) {
    guard isFloat else { throw error("has values of an unexpected type", expected: "F32, F16 or BF16", found: tensor.type.rawValue) }
  }

  /// A scale may also be a power of two alone.
  func requireScale() throws(SternaError) {
    guard isFloat || tensor.type == .f8e8m0 else { throw error("has values of an unexpected type", expected: "F32, F16, BF16 or F8_E8M0", found: tensor.type.rawValue) }
  }

  /// Values from a position on, converted exactly; refused unless all are finite. Their pages are given back.
  /// - Precondition: the tensor is of a float type, and holds so many values.
  func floats(from first: Int, into out: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
    guard let start, let to = out.baseAddress else { return }
    let size = tensor.type.bytes
    let from = start + first * size
    let count = out.count
    switch tensor.type {
    case .f32: to.withMemoryRebound(to: UInt8.self, capacity: count * 4) { $0.update(from: from.assumingMemoryBound(to: UInt8.self), count: count * 4) }
    case .bf16: for i in 0..<count { to[i] = Float(bitPattern: UInt32(UInt16(littleEndian: from.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))) << 16) }
    case .f16: for i in 0..<count { to[i] = Float(Float16(bitPattern: UInt16(littleEndian: from.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)))) }
    case .f8e4m3: for i in 0..<count { to[i] = Self.e4m3[Int(from.load(fromByteOffset: i, as: UInt8.self))] }
    case .f8e8m0: for i in 0..<count { to[i] = Self.e8m0(from.load(fromByteOffset: i, as: UInt8.self)) }
    default: throw error("has values of an unexpected type", expected: "F32, F16 or BF16", found: tensor.type.rawValue)
    }
    // x - x is 0 for finite x only; one sum finds out for all at vector speed.
    var sum: Float = 0
    for i in 0..<count { sum += to[i] - to[i] }
    guard sum == 0 else {
      let at = (0..<count).first { !to[$0].isFinite } ?? 0
      throw error("holds a value that is not a finite number", found: "\(to[at]) as value \(first + at)")
    }
    let begin = tensor.bytes.lowerBound + first * size
    file.release(begin..<begin + count * size)
  }

  private static func e8m0(_ bits: UInt8) -> Float { bits == 255 ? .nan : Float(sign: .plus, exponent: Int(bits) - 127, significand: 1) }

  /// The values of 8-bit floats with 4 bits of exponent (bias 7), 3 of mantissa, no infinities, and NaN where all of those are ones.
  private static let e4m3: [Float] = (0..<256).map { bits in
    let (exponent, mantissa) = (bits >> 3 & 15, Float(bits & 7))
    if bits & 127 == 127 { return .nan }
    let magnitude = exponent == 0 ? mantissa * 0x1p-9 : (8 + mantissa) * Float(sign: .plus, exponent: exponent - 10, significand: 1)
    return bits & 128 == 0 ? magnitude : -magnitude
  }
}
