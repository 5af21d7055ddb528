/// A metadata value of a GGUF file.
public enum GGUFValue: Sendable, Equatable {
  case uint8(UInt8), int8(Int8), uint16(UInt16), int16(Int16), uint32(UInt32), int32(Int32), uint64(UInt64), int64(Int64)
  case float32(Float), float64(Double)
  case bool(Bool)
  case string(String)
  case array(GGUFArray)
}

/// An array in GGUF metadata: all elements are of one type.
public enum GGUFArray: Sendable, Equatable {
  case uint8([UInt8]), int8([Int8]), uint16([UInt16]), int16([Int16]), uint32([UInt32]), int32([Int32]), uint64([UInt64]), int64([Int64])
  case float32([Float]), float64([Double])
  case bool([Bool])
  case string([String])
  case array([GGUFArray])

  public var count: Int {
    switch self {
    case .uint8(let a): a.count
    case .int8(let a): a.count
    case .uint16(let a): a.count
    case .int16(let a): a.count
    case .uint32(let a): a.count
    case .int32(let a): a.count
    case .uint64(let a): a.count
    case .int64(let a): a.count
    case .float32(let a): a.count
    case .float64(let a): a.count
    case .bool(let a): a.count
    case .string(let a): a.count
    case .array(let a): a.count
    }
  }
}

extension GGUFValue {
  /// The text, where the value is one.
  public var string: String? { if case .string(let text) = self { text } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The value of any integer type, where it fits.
  public var int: Int? {
    switch self {
    case .uint8(let v): Int(v)
    case .int8(let v): Int(v)
    case .uint16(let v): Int(v)
    case .int16(let v): Int(v)
    case .uint32(let v): Int(v)
    case .int32(let v): Int(v)
    case .uint64(let v): Int(exactly: v)
    case .int64(let v): Int(v)
    default: nil
    }
  }
  /// The value of a floating-point type.
  public var float: Float? {
    switch self {
    case .float32(let v): v
    case .float64(let v): Float(v)
    default: nil
    }
  }
  public var strings: [String]? { if case .array(.string(let a)) = self { a } else { nil } }
  public var floats: [Float]? { if case .array(.float32(let a)) = self { a } else { nil } }
  /// The elements of an array of any integer type, where all fit.
  public var ints: [Int]? {
    guard case .array(let array) = self else { return nil }
    switch array {
    case .uint8(let a): return a.map(Int.init)
    case .int8(let a): return a.map(Int.init)
    case .uint16(let a): return a.map(Int.init)
    case .int16(let a): return a.map(Int.init)
    case .uint32(let a): return a.map(Int.init)
    case .int32(let a): return a.map(Int.init)
    case .int64(let a): return a.map(Int.init)
    case .uint64(let a):
      let all = a.compactMap { Int(exactly: $0) }
      return all.count == a.count ? all : nil
    default: return nil
    }
  }

  /// What kind of value this is, in the words of error messages.
  public var kind: String {
    switch self {
    case .uint8: "uint8"
    case .int8: "int8"
    case .uint16: "uint16"
    case .int16: "int16"
    case .uint32: "uint32"
    case .int32: "int32"
    case .uint64: "uint64"
    case .int64: "int64"
    case .float32: "float32"
    case .float64: "float64"
    case .bool: "bool"
    case .string: "string"
    case .array(let array): "array of \(array.count)"
    }
  }
}
