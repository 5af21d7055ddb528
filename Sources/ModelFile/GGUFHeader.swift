import Basics

/// The header of a GGUF file as values: what a writer is given and what a reader has checked.
struct GGUFHeader {
  struct TensorEntry {
    var name: String
    var type: GGUFTensorType
    /// Contiguous dimension first.
    var shape: [Int]
    /// Relative to the beginning of the data.
    var offset: Int
  }

  static let magic: [UInt8] = Array("GGUF".utf8)
  static let version: UInt32 = 3
  static let defaultAlignment = 32

  var metadata: [(key: String, value: GGUFValue)]
  var tensors: [TensorEntry]

  /// The header's bytes without the padding behind it. Values of the same kinds and lengths always take the same number of bytes.
  func serialised() -> [UInt8] {
    var out = Self.magic
    out.put(Self.version)
    out.put(UInt64(tensors.count))
    out.put(UInt64(metadata.count))
    for (key, value) in metadata {
      out.put(key)
      out.put(value.typeNumber)
      out.put(value)
    }
    for tensor in tensors {
      out.put(tensor.name)
      out.put(UInt32(tensor.shape.count))
      for dimension in tensor.shape { out.put(UInt64(dimension)) }
      out.put(tensor.type.rawValue)
      out.put(UInt64(tensor.offset))
    }
    return out
  }
}

extension GGUFValue {
  /// GGUF's number for the type of this value.
  var typeNumber: UInt32 {
    switch self {
    case .uint8: 0
    case .int8: 1
    case .uint16: 2
    case .int16: 3
    case .uint32: 4
    case .int32: 5
    case .float32: 6
    case .bool: 7
    case .string: 8
    case .array: 9
    case .uint64: 10
    case .int64: 11
    case .float64: 12
    }
  }
}

extension GGUFArray {
  /// GGUF's number for the type of the elements.
  var elementTypeNumber: UInt32 {
    switch self {
    case .uint8: 0
    case .int8: 1
    case .uint16: 2
    case .int16: 3
    case .uint32: 4
    case .int32: 5
    case .float32: 6
    case .bool: 7
    case .string: 8
    case .array: 9
    case .uint64: 10
    case .int64: 11
    case .float64: 12
    }
  }
}

extension [UInt8] {
  fileprivate mutating func put(_ value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  fileprivate mutating func put(_ text: String) {
    put(UInt64(text.utf8.count))
    append(contentsOf: text.utf8)
  }

  fileprivate mutating func put(_ value: GGUFValue) {
    switch value {
    case .uint8(let v): put(v)
    case .int8(let v): put(v)
    case .uint16(let v): put(v)
    case .int16(let v): put(v)
    case .uint32(let v): put(v)
    case .int32(let v): put(v)
    case .uint64(let v): put(v)
    case .int64(let v): put(v)
    case .float32(let v): put(v.bitPattern)
    case .float64(let v): put(v.bitPattern)
    case .bool(let v): append(v ? 1 : 0)
    case .string(let v): put(v)
    case .array(let v): put(v)
    }
  }

  private mutating func put(_ array: GGUFArray) {
    put(array.elementTypeNumber)
    put(UInt64(array.count))
    switch array {
    case .uint8(let a): append(contentsOf: a)
    case .int8(let a): for v in a { put(v) }
    case .uint16(let a): for v in a { put(v) }
    case .int16(let a): for v in a { put(v) }
    case .uint32(let a): for v in a { put(v) }
    case .int32(let a): for v in a { put(v) }
    case .uint64(let a): for v in a { put(v) }
    case .int64(let a): for v in a { put(v) }
    case .float32(let a): for v in a { put(v.bitPattern) }
    case .float64(let a): for v in a { put(v.bitPattern) }
    case .bool(let a): for v in a { append(v ? 1 : 0) }
    case .string(let a): for v in a { put(v) }
    case .array(let a): for v in a { put(v) }
    }
  }
}
