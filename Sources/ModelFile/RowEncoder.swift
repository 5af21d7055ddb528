import Basics
import CTernary

/// Turns float32 rows into the stored form of an embedding, and measures what that loses.
struct RowEncoder {
  let storage: EmbeddingTable.Storage
  let columns: Int
  private(set) var loss = TableLoss()

  init(storage: EmbeddingTable.Storage, columns: Int) {
    self.storage = storage
    self.columns = columns
  }

  /// - Parameters:
  ///   - values: whole rows, all finite.
  ///   - out: as many rows as they take.
  /// - Throws: `unsupported` when a value does not fit into half precision.
  mutating func encode(_ values: UnsafeBufferPointer<Float>, into out: UnsafeMutableRawBufferPointer, at place: String) throws(SternaError) {
    guard let from = values.baseAddress, let to = out.baseAddress else { return }
    let fits: Bool
    switch storage {
    case .f32:
      out.copyMemory(from: UnsafeRawBufferPointer(values))
      return
    case .f16:
      fits = values.indices.allSatisfy { i in
        let half = Float16(from[i])
        to.storeBytes(of: half.bitPattern.littleEndian, toByteOffset: 2 * i, as: UInt16.self)
        return half.isFinite
      }
    case .q8: fits = Self.blocks(32, 34, values.count) { block, offset in Self.q8(from + block, to + offset) }
    case .q6: fits = Self.blocks(256, 210, values.count) { block, offset in Self.q6(from + block, to + offset) }
    case .q4: fits = Self.blocks(32, 18, values.count) { block, offset in Self.q4(from + block, to + offset) }
    }
    guard fits else {
      throw SternaError(
        .unsupported, "a value does not fit into half precision", at: place, found: "\(values.max { abs($0) < abs($1) } ?? 0)",
        remedy: "store the embedding as f32")
    }
    measure(values, to)
  }

  private static func blocks(_ size: Int, _ bytes: Int, _ count: Int, _ encode: (_ value: Int, _ offset: Int) -> Bool) -> Bool {
    (0..<count / size).allSatisfy { encode($0 * size, $0 * bytes) }
  }

  private mutating func measure(_ values: UnsafeBufferPointer<Float>, _ encoded: UnsafeRawPointer) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: columns) { stored in
      guard let out = stored.baseAddress, let source = values.baseAddress else { return }
      for row in 0..<values.count / columns {
        let bytes = encoded + row * storage.rowBytes(columns: columns)
        switch storage {
        case .f32: return
        case .f16: for i in 0..<columns { out[i] = Float(Float16(bitPattern: bytes.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))) }
        case .q8: ct_unpack_q8_0(bytes, out, columns)
        case .q6: ct_unpack_q6_k(bytes, out, columns)
        case .q4: ct_unpack_iq4_nl(bytes, out, columns)
        }
        loss.add(UnsafeBufferPointer(start: source + row * columns, count: columns), UnsafeBufferPointer(stored))
      }
    }
  }

  /// Stores a half-precision number; false where the value is too large for one.
  static func put(_ value: Float, _ to: UnsafeMutableRawPointer) -> Bool {
    let half = Float16(value)
    to.storeBytes(of: half.bitPattern.littleEndian, as: UInt16.self)
    return half.isFinite
  }

  /// Q8_0 as ggml does it: d = absmax / 127, q = value * (1 / d) rounded half away from zero, d kept in half precision.
  static func q8(_ values: UnsafePointer<Float>, _ out: UnsafeMutableRawPointer) -> Bool {
    var largest: Float = 0
    for i in 0..<32 { largest = max(largest, abs(values[i])) }
    let d = largest / 127
    let inverse = d > 0 ? 1 / d : 0
    // A d so small that its inverse is infinite counts as zero: the half-precision d is zero then anyway.
    let factor = inverse.isFinite ? inverse : 0
    for i in 0..<32 {
      let q = Int8(min(max((values[i] * factor).rounded(.toNearestOrAwayFromZero), -127), 127))
      out.storeBytes(of: q, toByteOffset: 2 + i, as: Int8.self)
    }
    return put(d, out)
  }
}

/// What storing a table costs, against its source.
public struct TableLoss: Sendable, Equatable {
  private var squaredError = 0.0
  private var squares = 0.0
  private var cosines = 0.0
  private var rows = 0

  public init() {}

  /// For a journal: `words` of another.
  init(words: [UInt64]) {
    guard words.count == 4 else { return }
    (squaredError, squares, cosines) = (Double(bitPattern: words[0]), Double(bitPattern: words[1]), Double(bitPattern: words[2]))
    rows = Int(truncatingIfNeeded: words[3])
  }

  var words: [UInt64] { [squaredError.bitPattern, squares.bitPattern, cosines.bitPattern, UInt64(rows)] }

  /// Root of the squared error over the squared values, of all rows together.
  public var relativeError: Double { squares > 0 ? (squaredError / squares).squareRoot() : 0 }
  /// The mean over rows of the cosine between a row and what is stored of it. Rows of zeros count as 1.
  public var meanCosine: Double { rows > 0 ? cosines / Double(rows) : 1 }

  mutating func add(_ row: UnsafeBufferPointer<Float>, _ stored: UnsafeBufferPointer<Float>) {
    // Sums of 16 lanes: a row is long enough for speed to matter and short enough for float32.
    var error = SIMD16<Float>.zero, source = error, result = error, product = error
    func add(_ x: SIMD16<Float>, _ y: SIMD16<Float>) {
      error += (x - y) * (x - y)
      source += x * x
      result += y * y
      product += x * y
    }
    guard let from = row.baseAddress.map(UnsafeRawPointer.init), let to = stored.baseAddress.map(UnsafeRawPointer.init) else { return }
    for at in stride(from: 0, to: row.count / 16 * 64, by: 64) {
      add(from.loadUnaligned(fromByteOffset: at, as: SIMD16<Float>.self), to.loadUnaligned(fromByteOffset: at, as: SIMD16<Float>.self))
    }
    for i in row.count / 16 * 16..<row.count { add(SIMD16(lane: row[i]), SIMD16(lane: stored[i])) }
    let (e, s, r, p) = (Double(error.sum()), Double(source.sum()), Double(result.sum()), Double(product.sum()))
    squaredError += e
    squares += s
    cosines += s > 0 && r > 0 ? p / (s * r).squareRoot() : s == r ? 1 : 0
    rows += 1
  }
}

extension SIMD16<Float> {
  fileprivate init(lane value: Float) {
    self = .zero
    self[0] = value
  }
}
