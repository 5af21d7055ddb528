import Basics

/// A GGUF v3 file whose whole header was checked before anything is used: counts before allocation, sizes with overflow-checked
/// arithmetic, every tensor inside the file and none over another, no name twice.
public struct GGUFFile: Sendable {
  public struct Tensor: Sendable {
    public let name: String
    /// The file that it lies in: a model may be split over several.
    public let file: MappedFile
    public let type: GGUFTensorType
    /// In GGUF's order: the first dimension is the one that lies contiguously (columns first).
    public let shape: [Int]
    /// Of the tensor's data, from the start of the file.
    public let offset: Int
    public let byteCount: Int

    /// For errors.
    var place: String { "\(file.path): tensor \(name)" }
  }

  /// Of a split model, the first of its parts.
  public let file: MappedFile
  /// All files that the model lies in, `file` first.
  public let parts: [MappedFile]
  public let metadata: [String: GGUFValue]
  /// The keys of `metadata` in the order of the file.
  public let keys: [String]
  /// In the order of the file.
  public let tensors: [Tensor]
  /// Every tensor begins at a multiple of this, counted from `dataOffset`.
  public let alignment: Int
  /// Where the data begins: the header's bytes are all those before.
  public let dataOffset: Int
  private let index: [String: Int]

  /// Maps and checks a file.
  /// - Throws: `io` when it cannot be mapped, `badFile` naming key or tensor and the byte where it goes wrong, `unsupported` for
  ///   other versions of GGUF and for tensor types this version does not know.
  public init(_ path: String) throws(SternaError) {
    try self.init(MappedFile(path))
  }

  public init(_ file: MappedFile) throws(SternaError) {
    var cursor = GGUFCursor(file)
    let tensorCount = try Self.preamble(&cursor)
    let keyCount = try cursor.count(of: "metadata keys", atLeast: 13, limit: 1 << 16)

    var metadata: [String: GGUFValue] = [:]
    var keys: [String] = []
    for i in 0..<keyCount {
      cursor.subject = "metadata key \(i)"
      let start = cursor.at
      let key = try cursor.string(atMost: 65_535)
      guard !key.isEmpty else { throw cursor.error("an empty key", at: start) }
      cursor.subject = "key \(key)"
      guard metadata[key] == nil else { throw cursor.error("this key occurs twice", at: start) }
      metadata[key] = try cursor.value()
      keys.append(key)
    }

    let alignment = try Self.alignment(metadata, cursor)
    let (entries, index) = try Self.entries(tensorCount, alignment, &cursor)

    cursor.subject = "header"
    let dataOffset = cursor.at + (alignment - cursor.at % alignment) % alignment
    guard dataOffset <= cursor.input.count || entries.isEmpty else {
      throw cursor.error("this file was cut short", expected: "data from byte \(dataOffset)", found: "\(cursor.input.count) bytes")
    }
    self.file = file
    parts = [file]
    self.metadata = metadata
    self.keys = keys
    self.alignment = alignment
    self.dataOffset = min(dataOffset, cursor.input.count)
    self.index = index
    tensors = try Self.place(entries, in: file, from: dataOffset, cursor)
  }

  /// One of several files: the metadata of the first, the tensors of all.
  /// - Precondition: no name occurs twice.
  init(joining files: [GGUFFile]) {
    let first = files[0]
    (file, metadata, keys, alignment, dataOffset) = (first.file, first.metadata, first.keys, first.alignment, first.dataOffset)
    parts = files.map(\.file)
    tensors = files.flatMap(\.tensors)
    index = Dictionary(uniqueKeysWithValues: tensors.enumerated().map { ($1.name, $0) })
  }

  /// - Parameter name: of a tensor, for example `token_embd.weight`.
  public func tensor(_ name: String) -> Tensor? { index[name].map { tensors[$0] } }

  /// The data of a tensor, in the mapped file.
  public func bytes(of tensor: Tensor) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: tensor.file.bytes[tensor.offset..<tensor.offset + tensor.byteCount])
  }

  /// Magic, version and the number of tensors.
  private static func preamble(_ cursor: inout GGUFCursor) throws(SternaError) -> Int {
    guard cursor.left >= 4, cursor.input[0..<4].elementsEqual(GGUFHeader.magic) else {
      throw SternaError(
        .badFile, "this is not a GGUF file", at: cursor.path, expected: "the letters GGUF at its beginning",
        remedy: "for a folder of safetensors, give the folder")
    }
    _ = try cursor.integer(UInt32.self)
    let version = try cursor.integer(UInt32.self)
    guard version == GGUFHeader.version else {
      let isBigEndian = version.byteSwapped == GGUFHeader.version
      throw cursor.error(
        isBigEndian ? "this file is for big-endian machines" : "this version of GGUF is not supported", at: 4, expected: "version 3",
        found: isBigEndian ? nil : "version \(version)", code: version == 0 ? .badFile : .unsupported)
    }
    // A tensor takes 8 bytes for the length of its name, 4 for the number of dimensions, 8 for one, 4 for the type, 8 for the offset.
    return try cursor.count(of: "tensors", atLeast: 33, limit: 1 << 17)
  }

  private static func alignment(_ metadata: [String: GGUFValue], _ cursor: GGUFCursor) throws(SternaError) -> Int {
    guard let value = metadata["general.alignment"] else { return GGUFHeader.defaultAlignment }
    guard case .uint32(let alignment) = value, alignment.nonzeroBitCount == 1, alignment <= 1 << 24 else {
      let found = value.int.map { "\($0)" } ?? "a value"
      throw SternaError(
        .badFile, "the alignment is not one", at: "\(cursor.path): key general.alignment", expected: "a power of two, as uint32",
        found: "\(found) (\(value.kind))")
    }
    return Int(alignment)
  }

  private typealias Entry = (name: String, type: GGUFTensorType, shape: [Int], bytes: Int, offset: Int)

  private static func entries(
    _ count: Int, _ alignment: Int, _ cursor: inout GGUFCursor
  ) throws(SternaError) -> ([Entry], [String: Int]) {
    var entries: [Entry] = []
    var index: [String: Int] = [:]
    guard count <= cursor.left / 33 else {
      throw cursor.error("there are more tensors than the rest of the file can hold", expected: "at most \(cursor.left / 33)", found: "\(count)")
    }
    entries.reserveCapacity(count)
    for i in 0..<count {
      cursor.subject = "tensor \(i)"
      let start = cursor.at
      let name = try cursor.string(atMost: 255)
      guard !name.isEmpty else { throw cursor.error("a tensor without a name", at: start) }
      cursor.subject = "tensor \(name)"
      guard index.updateValue(i, forKey: name) == nil else { throw cursor.error("this name occurs twice", at: start) }

      let shapeStart = cursor.at
      let dimensions = try cursor.integer(UInt32.self)
      guard 1...4 ~= dimensions else {
        throw cursor.error("a wrong number of dimensions", at: shapeStart, expected: "1 to 4", found: "\(dimensions)")
      }
      var shape: [Int] = []
      for _ in 0..<dimensions {
        let at = cursor.at
        let size = try cursor.integer(UInt64.self)
        guard size > 0, let size = Int(exactly: size) else {
          throw cursor.error("a dimension that cannot be", at: at, expected: "1 or more", found: "\(size)")
        }
        shape.append(size)
      }
      let typeStart = cursor.at
      let number = try cursor.integer(UInt32.self)
      guard let type = GGUFTensorType(rawValue: number) else {
        throw cursor.error("a tensor type that this version does not know", at: typeStart, found: "type \(number)", code: .unsupported)
      }
      guard let bytes = type.bytes(shape: shape) else {
        throw cursor.error(
          "the shape does not fit the type, or is too large", at: shapeStart,
          expected: type.block.elements > 1 ? "rows of a multiple of \(type.block.elements) values" : nil, found: "\(type.label) \(shape)")
      }
      let offsetStart = cursor.at
      let offset = try cursor.integer(UInt64.self)
      guard let offset = Int(exactly: offset), offset % alignment == 0 else {
        throw cursor.error("the data does not begin at a multiple of the alignment", at: offsetStart, expected: "a multiple of \(alignment)", found: "\(offset)")
      }
      entries.append((name, type, shape, bytes, offset))
    }
    return (entries, index)
  }

  /// Tensors with absolute offsets, after checking that each lies inside the file and none over another.
  private static func place(_ entries: [Entry], in file: MappedFile, from dataOffset: Int, _ cursor: GGUFCursor) throws(SternaError) -> [Tensor] {
    let size = cursor.input.count
    var tensors: [Tensor] = []
    tensors.reserveCapacity(entries.count)
    for entry in entries {
      let (begin, overflowsAtBegin) = dataOffset.addingReportingOverflow(entry.offset)
      let (end, overflowsAtEnd) = begin.addingReportingOverflow(entry.bytes)
      guard !overflowsAtBegin, !overflowsAtEnd, end <= size else {
        throw SternaError(
          .badFile, "the data lies beyond the end of the file", at: "\(cursor.path): tensor \(entry.name)",
          expected: "\(entry.bytes) bytes from byte \(dataOffset) + \(entry.offset)", found: "a file of \(size) bytes",
          remedy: "the file was cut short or damaged: copy it again")
      }
      tensors.append(Tensor(name: entry.name, file: file, type: entry.type, shape: entry.shape, offset: begin, byteCount: entry.bytes))
    }
    var previous: Tensor?
    for tensor in tensors.sorted(by: { $0.offset < $1.offset }) {
      if let previous, previous.offset + previous.byteCount > tensor.offset {
        throw SternaError(
          .badFile, "the data lies over that of tensor \(previous.name)", at: "\(cursor.path): tensor \(tensor.name)",
          expected: "byte \(previous.offset + previous.byteCount) or later", found: "byte \(tensor.offset)")
      }
      previous = tensor
    }
    return tensors
  }
}
