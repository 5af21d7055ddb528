import Basics

/// Reads the pieces of a GGUF header from hostile bytes. Every read is checked against what is left, every count against the
/// smallest number of bytes that so many things would take, before anything is allocated.
struct GGUFCursor {
  let input: UnsafeRawBufferPointer
  let path: String
  private(set) var at = 0
  /// What is being read, for errors: `key general.name`.
  var subject = "header"

  init(_ file: MappedFile) {
    input = file.bytes
    path = file.path
  }

  var left: Int { input.count - at }

  func error(
    _ message: String, at offset: Int? = nil, expected: String? = nil, found: String? = nil, code: SternaError.Code = .badFile
  ) -> SternaError {
    SternaError(code, message, at: "\(path): \(subject) (byte \(offset ?? at))", expected: expected, found: found)
  }

  mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(SternaError) -> T {
    let size = MemoryLayout<T>.size
    guard left >= size else { throw error("this file was cut short", expected: "\(size) more bytes", found: "\(left)") }
    let value = T(littleEndian: input.loadUnaligned(fromByteOffset: at, as: T.self))
    at += size
    return value
  }

  /// A count of things that take at least `bytes` bytes each.
  mutating func count(of things: String, atLeast bytes: Int, limit: Int = .max) throws(SternaError) -> Int {
    let start = at
    let raw = try integer(UInt64.self)
    guard let count = Int(exactly: raw), count <= limit else {
      throw error("there are too many \(things)", at: start, expected: limit == .max ? nil : "at most \(limit)", found: "\(raw)")
    }
    guard count <= left / bytes else {
      throw error("there are more \(things) than the rest of the file can hold", at: start, expected: "at most \(left / bytes)", found: "\(count)")
    }
    return count
  }

  mutating func string(atMost limit: Int = .max) throws(SternaError) -> String {
    let start = at
    let count = try count(of: "bytes in a text", atLeast: 1, limit: limit)
    guard let text = String(validating: UnsafeRawBufferPointer(rebasing: input[at..<at + count]), as: UTF8.self) else {
      throw error("this text is not UTF-8", at: start)
    }
    at += count
    return text
  }

  mutating func bool() throws(SternaError) -> Bool {
    let start = at
    switch try integer(UInt8.self) {
    case 0: return false
    case 1: return true
    case let byte: throw error("a boolean that is neither 0 nor 1", at: start, found: "\(byte)")
    }
  }

  mutating func value() throws(SternaError) -> GGUFValue {
    let start = at
    switch try integer(UInt32.self) {
    case 0: return .uint8(try integer())
    case 1: return .int8(try integer())
    case 2: return .uint16(try integer())
    case 3: return .int16(try integer())
    case 4: return .uint32(try integer())
    case 5: return .int32(try integer())
    case 6: return .float32(Float(bitPattern: try integer()))
    case 7: return .bool(try bool())
    case 8: return .string(try string())
    case 9: return .array(try array(depth: 1))
    case 10: return .uint64(try integer())
    case 11: return .int64(try integer())
    case 12: return .float64(Double(bitPattern: try integer()))
    case let type: throw error("a value of a type that GGUF does not have", at: start, expected: "0 to 12", found: "\(type)")
    }
  }

  private mutating func array(depth: Int) throws(SternaError) -> GGUFArray {
    let start = at
    guard depth <= 4 else { throw error("arrays are nested too deeply", at: start, expected: "at most 4 levels") }
    switch try integer(UInt32.self) {
    case 0: return .uint8(try integers())
    case 1: return .int8(try integers())
    case 2: return .uint16(try integers())
    case 3: return .int16(try integers())
    case 4: return .uint32(try integers())
    case 5: return .int32(try integers())
    case 6: return .float32(try integers(UInt32.self).map(Float.init(bitPattern:)))
    case 7:
      let count = try count(of: "elements", atLeast: 1)
      var values: [Bool] = []
      values.reserveCapacity(count)
      for _ in 0..<count { values.append(try bool()) }
      return .bool(values)
    case 8:
      let count = try count(of: "elements", atLeast: 8)
      var values: [String] = []
      values.reserveCapacity(count)
      for _ in 0..<count { values.append(try string()) }
      return .string(values)
    case 9:
      let count = try count(of: "elements", atLeast: 12)
      var values: [GGUFArray] = []
      for _ in 0..<count { values.append(try array(depth: depth + 1)) }
      return .array(values)
    case 10: return .uint64(try integers())
    case 11: return .int64(try integers())
    case 12: return .float64(try integers(UInt64.self).map(Double.init(bitPattern:)))
    case let type: throw error("array elements of a type that GGUF does not have", at: start, expected: "0 to 12", found: "\(type)")
    }
  }

  private mutating func integers<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(SternaError) -> [T] {
    let size = MemoryLayout<T>.size
    let count = try count(of: "elements", atLeast: size)
    let start = at
    at += count * size
    return (0..<count).map { T(littleEndian: input.loadUnaligned(fromByteOffset: start + $0 * size, as: T.self)) }
  }
}
