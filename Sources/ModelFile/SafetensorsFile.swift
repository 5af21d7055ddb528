import Basics

/// One safetensors file: 8 bytes with the length of a JSON header, the header, and the data, which the tensors tile without gap or
/// overlap. All of that is checked before a tensor is read.
struct SafetensorsFile {
  enum Element: String {
    case f64 = "F64", f32 = "F32", f16 = "F16", bf16 = "BF16", f8e4m3 = "F8_E4M3", f8e5m2 = "F8_E5M2", f8e8m0 = "F8_E8M0"
    case i64 = "I64", i32 = "I32", i16 = "I16", i8 = "I8", u64 = "U64", u32 = "U32", u16 = "U16", u8 = "U8", bool = "BOOL"

    /// Of one value.
    var bytes: Int {
      switch self {
      case .f64, .i64, .u64: 8
      case .f32, .i32, .u32: 4
      case .f16, .bf16, .i16, .u16: 2
      case .f8e4m3, .f8e5m2, .f8e8m0, .i8, .u8, .bool: 1
      }
    }
  }

  struct Tensor {
    let name: String
    let type: Element
    /// Rows first, as in Python.
    let shape: [Int]
    /// From the beginning of the file.
    let bytes: Range<Int>
  }

  let file: MappedFile
  let tensors: [String: Tensor]

  init(_ path: String) throws(SternaError) {
    file = try MappedFile(path)
    func wrong(_ message: String, _ place: String, expected: String? = nil, found: String? = nil) -> SternaError {
      SternaError(.badFile, message, at: "\(path): \(place)", expected: expected, found: found)
    }
    let input = file.bytes
    guard input.count >= 8 else { throw wrong("this is not a safetensors file", "header", expected: "8 bytes or more", found: "\(input.count)") }
    let length = UInt64(littleEndian: input.loadUnaligned(as: UInt64.self))
    guard length <= 100_000_000, length <= input.count - 8 else {
      throw wrong("the header is longer than the file, or than 100 MB", "byte 0", expected: "at most \(min(input.count - 8, 100_000_000)) bytes", found: "\(length)")
    }
    let dataOffset = 8 + Int(length)
    var limits = JSON.Limits.file
    limits.depth = 4
    let header: JSON
    do {
      header = try JSON.parse(UnsafeRawBufferPointer(rebasing: input[8..<dataOffset]), limits: limits)
    } catch {
      throw error.within("\(path): header")
    }

    var tensors: [String: Tensor] = [:]
    let members: [(name: String, value: JSONReader)]
    do { members = try JSONReader(header).members() } catch { throw error.within("\(path): header") }
    for (name, entry) in members where name != "__metadata__" {
      do {
        tensors[name] = try Self.tensor(name, entry, dataOffset: dataOffset, dataCount: input.count - dataOffset)
      } catch {
        throw error.within("\(path): tensor")
      }
    }

    var end = dataOffset
    for tensor in tensors.values.sorted(by: { ($0.bytes.lowerBound, $0.bytes.upperBound) < ($1.bytes.lowerBound, $1.bytes.upperBound) }) {
      guard tensor.bytes.lowerBound == end else {
        throw wrong("the tensors do not tile the file", "tensor \(tensor.name)", expected: "data from byte \(end)", found: "byte \(tensor.bytes.lowerBound)")
      }
      end = tensor.bytes.upperBound
    }
    guard end == input.count else {
      throw wrong("the tensors do not end where the file ends", "byte \(end)", expected: "\(end) bytes", found: "\(input.count)")
    }
    self.tensors = tensors
  }

  private static func tensor(_ name: String, _ entry: JSONReader, dataOffset: Int, dataCount: Int) throws(SternaError) -> Tensor {
    let label = try entry["dtype"].string()
    guard let type = Element(rawValue: label) else {
      throw SternaError(.unsupported, "this type of values is not supported", at: entry["dtype"].path, found: label)
    }
    let shape = try entry["shape"].array(count: 0...8).ints(in: 0...1 << 48)
    var bytes = type.bytes
    for size in shape {
      let (product, overflow) = bytes.multipliedReportingOverflow(by: size)
      guard !overflow else { throw entry["shape"].error("is too large") }
      bytes = product
    }
    let offsets = try entry["data_offsets"].array(count: 2...2).ints(in: 0...dataCount)
    guard offsets[0] <= offsets[1], offsets[1] - offsets[0] == bytes else {
      throw SternaError(
        .badFile, "offsets, type and shape do not agree", at: entry["data_offsets"].path, expected: "\(bytes) bytes for \(label) \(shape)",
        found: "\(offsets[0]) to \(offsets[1])")
    }
    return Tensor(name: name, type: type, shape: shape, bytes: dataOffset + offsets[0]..<dataOffset + offsets[1])
  }
}

extension [JSONReader] {
  fileprivate func ints(in range: ClosedRange<Int>) throws(SternaError) -> [Int] {
    var values: [Int] = []
    for element in self { values.append(try element.int(in: range)) }
    return values
  }
}
