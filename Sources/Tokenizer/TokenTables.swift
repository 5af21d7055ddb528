import Basics

/// The packed tables, where they lie (docs/tokenizer-tables.md): nothing is built, and nothing but the header is looked at before it is used.
///
/// The header is checked so that every section lies inside the bytes; what the sections say is checked when it is read, because looking at
/// every entry first would touch megabytes. Whatever the bytes are, reads stay in bounds and every loop ends.
// @unchecked: the memory is immutable and lives as long as `owner`.
struct TokenTables: @unchecked Sendable {
  static let magic: [UInt8] = Array("sternatk".utf8)
  static let version: UInt32 = 1
  static let headerBytes = 128

  struct Flags: OptionSet {
    let rawValue: UInt32
    static let spacePrefix = Flags(rawValue: 1)
    static let spacePrefixUnlessThere = Flags(rawValue: 2)
    /// SentencePiece: no token has a space behind another character, so text may be cut in front of spaces.
    static let spacesOnlyInFront = Flags(rawValue: 4)
  }

  /// What a token is: one byte each.
  struct TokenFlags: OptionSet {
    let rawValue: UInt8
    /// Contributes no text.
    static let special = TokenFlags(rawValue: 1)
    /// A piece with exactly its bytes becomes this token without any merging.
    static let whole = TokenFlags(rawValue: 2)
    /// Found by its bytes.
    static let ordinary = TokenFlags(rawValue: 4)
  }

  /// The sections, in the order of the file.
  enum Section: Int, CaseIterable {
    /// u32 per token and one more: where its bytes start in `tokenBytes`.
    case tokenOffsets
    /// `TokenFlags` per token.
    case tokenFlags
    case tokenBytes
    /// u32 per slot of the hash index: 0, or 12 bits of hash over 20 bits of id + 1.
    case slots
    /// u32 per token and one more: where the merges with this left side start.
    case mergeStarts
    /// u64 per merge, ascending for each left side: right (20 bits), rank (24), result (20).
    case merges
    /// i32 per byte: the token of a single byte, or -1.
    case byteTokens
    /// u32 per text that templates recognise and one more: where it starts in `specialBytes`.
    case specialOffsets
    /// i32 per such text, ascending by the text's bytes.
    case specialIDs
    case specialBytes
  }

  let owner: AnyObject
  let base: UnsafeRawPointer
  let byteCount: Int
  let rule: SplitRule
  let flags: Flags
  let count: Int
  let maxTokenBytes: Int
  let beginOfText: TokenID?
  let endOfText: TokenID?
  let unknown: TokenID?
  let mergeCount: Int
  let slotMask: Int
  let longestProbe: Int
  let specialCount: Int
  private let tokenOffsets: Int
  private let tokenFlags: Int
  private let tokenBytes: Int
  private let tokenByteCount: Int
  private let slots: Int
  private let mergeStarts: Int
  private let merges: Int
  private let byteTokens: Int
  private let specialOffsets: Int
  private let specialIDs: Int
  private let specialBytes: Int
  private let specialByteCount: Int

  /// - Parameters:
  ///   - bytes: a section `sterna.tokenizer`, valid as long as `owner` lives.
  ///   - place: what to call it in errors.
  init(_ bytes: UnsafeRawBufferPointer, owner: AnyObject, place: String) throws(SternaError) {
    func damaged(_ what: String) -> SternaError {
      SternaError(.badFile, "the tokenizer is damaged: \(what)", at: place, remedy: "pack the model again")
    }
    guard let base = bytes.baseAddress, bytes.count >= TokenTables.headerBytes, bytes.prefix(8).elementsEqual(TokenTables.magic) else {
      throw SternaError(.badFile, "there are no tokenizer tables here", at: place, remedy: "pack the model again")
    }
    func word(_ i: Int) -> UInt32 { UInt32(littleEndian: base.loadUnaligned(fromByteOffset: 8 + 4 * i, as: UInt32.self)) }
    guard word(0) == TokenTables.version else {
      throw SternaError(
        .unsupported, "tokenizer tables of another version", at: place, expected: "\(TokenTables.version)", found: "\(word(0))",
        remedy: "pack the model again with this version of sterna")
    }
    guard let rule = SplitRule(rawValue: word(1)) else { throw damaged("split rule \(word(1))") }
    count = Int(word(3))
    guard 1...Vocabulary.maxTokens ~= count else { throw damaged("\(count) tokens") }
    maxTokenBytes = Int(word(4))
    guard maxTokenBytes <= bytes.count else { throw damaged("a token of \(maxTokenBytes) bytes") }
    let size = count
    func id(_ i: Int) throws(SternaError) -> TokenID? {
      let value = Int32(bitPattern: word(i))
      if value == -1 { return nil }
      guard 0..<size ~= Int(value) else { throw damaged("token \(value) of \(size)") }
      return value
    }
    beginOfText = try id(5)
    endOfText = try id(6)
    unknown = try id(7)
    mergeCount = Int(word(8))
    guard mergeCount <= Vocabulary.maxMerges else { throw damaged("\(mergeCount) merges") }
    let slotCount = Int(word(9))
    guard slotCount > 0, slotCount & (slotCount - 1) == 0 else { throw damaged("\(slotCount) slots") }
    longestProbe = min(Int(word(10)), slotCount)
    specialCount = Int(word(11))
    tokenByteCount = Int(word(12))
    specialByteCount = Int(word(13))

    // Sections follow each other, each at a multiple of 8. Counts have 32 bits, so no sum here can overflow.
    var at = TokenTables.headerBytes
    var starts: [Int] = []
    for section in Section.allCases {
      let length =
        switch section {
        case .tokenOffsets, .mergeStarts: 4 * (size + 1)
        case .tokenFlags: size
        case .tokenBytes: tokenByteCount
        case .slots: 4 * slotCount
        case .merges: 8 * mergeCount
        case .byteTokens: 4 * 256
        case .specialOffsets: 4 * (specialCount + 1)
        case .specialIDs: 4 * specialCount
        case .specialBytes: specialByteCount
        }
      starts.append(at)
      at = (at + length + 7) / 8 * 8
    }
    guard at == bytes.count else { throw damaged("\(bytes.count) bytes where the header says \(at)") }
    tokenOffsets = starts[0]
    tokenFlags = starts[1]
    tokenBytes = starts[2]
    slots = starts[3]
    mergeStarts = starts[4]
    merges = starts[5]
    byteTokens = starts[6]
    specialOffsets = starts[7]
    specialIDs = starts[8]
    specialBytes = starts[9]

    self.owner = owner
    self.base = base
    byteCount = bytes.count
    self.rule = rule
    flags = Flags(rawValue: word(2))
    slotMask = slotCount - 1
  }

  @inline(__always) private func u32(_ at: Int) -> UInt32 { UInt32(littleEndian: base.loadUnaligned(fromByteOffset: at, as: UInt32.self)) }

  /// - Parameter id: in `0..<count`.
  func flags(_ id: TokenID) -> TokenFlags { TokenFlags(rawValue: base.load(fromByteOffset: tokenFlags + Int(id), as: UInt8.self)) }

  /// - Parameter id: in `0..<count`.
  func bytes(_ id: TokenID) -> UnsafeRawBufferPointer {
    let start = Int(u32(tokenOffsets + 4 * Int(id)))
    let end = Int(u32(tokenOffsets + 4 * Int(id) + 4))
    guard start <= end, end <= tokenByteCount else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return UnsafeRawBufferPointer(start: base + tokenBytes + start, count: end - start)
  }

  /// The token of a byte that stands alone, where there is one.
  func token(byte: UInt8) -> TokenID? {
    let id = Int32(bitPattern: u32(byteTokens + 4 * Int(byte)))
    return 0..<count ~= Int(id) ? id : nil
  }

  /// The ordinary token with these bytes.
  func token(_ text: UnsafeRawBufferPointer) -> TokenID? {
    guard !text.isEmpty, text.count <= maxTokenBytes, let start = text.baseAddress else { return nil }
    let hash = TokenTables.hash(text)
    var slot = Int(hash) & slotMask
    for _ in 0..<longestProbe {
      let entry = u32(slots + 4 * slot)
      if entry == 0 { return nil }
      if entry >> 20 == hash >> 20 {
        let id = Int(entry & 0xF_FFFF) - 1
        if 0..<count ~= id {
          let candidate = bytes(TokenID(id))
          if candidate.count == text.count, let other = candidate.baseAddress, equal(start, other, text.count) { return TokenID(id) }
        }
      }
      slot = (slot + 1) & slotMask
    }
    return nil
  }

  @inline(__always) private func equal(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ count: Int) -> Bool {
    for i in 0..<count where a.load(fromByteOffset: i, as: UInt8.self) != b.load(fromByteOffset: i, as: UInt8.self) { return false }
    return true
  }

  /// What two neighbours become, and how early: lower ranks go first. `Merge.none` where they stay apart.
  @inline(__always) func merge(_ left: TokenID, _ right: TokenID) -> Merge {
    guard 0..<count ~= Int(left) else { return .none }
    var low = Int(u32(mergeStarts + 4 * Int(left)))
    let end = Int(u32(mergeStarts + 4 * Int(left) + 4))
    guard low < end, end <= mergeCount else { return .none }
    var high = end
    let wanted = UInt64(UInt32(bitPattern: right)) << 44
    while low < high {
      let middle = (low + high) / 2
      if entry(middle) < wanted { low = middle + 1 } else { high = middle }
    }
    guard low < end else { return .none }
    let found = entry(low)
    guard found >> 44 == wanted >> 44, Int(found & 0xF_FFFF) < count else { return .none }
    return Merge(bits: found & 0xFFF_FFFF_FFFF)
  }

  @inline(__always) private func entry(_ i: Int) -> UInt64 {
    UInt64(littleEndian: base.loadUnaligned(fromByteOffset: merges + 8 * i, as: UInt64.self))
  }

  /// A merge as the table holds it, without its right side: rank (24 bits), result (20).
  struct Merge: Equatable {
    let bits: UInt64
    static let none = Merge(bits: .max)
    var rank: UInt64 { bits >> 20 }
    var result: TokenID { TokenID(truncatingIfNeeded: bits & 0xF_FFFF) }
  }

  // MARK: Texts that templates recognise

  /// The i-th such text, in the order of their bytes.
  private func specialText(_ i: Int) -> UnsafeRawBufferPointer {
    let start = Int(u32(specialOffsets + 4 * i))
    let end = Int(u32(specialOffsets + 4 * i + 4))
    guard start <= end, end <= specialByteCount else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return UnsafeRawBufferPointer(start: base + specialBytes + start, count: end - start)
  }

  /// The longest such text with which `text` begins: its token and length.
  ///
  /// Narrows the sorted list byte by byte, so it reads a few entries, whatever the number of special tokens.
  func special(at text: UnsafeBufferPointer<UInt8>.SubSequence) -> (id: TokenID, length: Int)? {
    var low = 0
    var high = specialCount
    var found: (id: TokenID, length: Int)?
    var depth = 0
    while low < high {
      let first = specialText(low)
      if depth > 0, first.count == depth {
        let id = Int32(bitPattern: u32(specialIDs + 4 * low))
        if 0..<count ~= Int(id) { found = (id, depth) }
        low += 1
        continue
      }
      guard depth < text.count else { break }
      let byte = text[text.startIndex + depth]
      low = firstIndex(low, high, depth, notBelow: Int(byte))
      high = firstIndex(low, high, depth, notBelow: Int(byte) + 1)
      depth += 1
    }
    return found
  }

  /// Where byte `depth` of the texts reaches `byte`; a text that is too short counts as lower.
  private func firstIndex(_ low: Int, _ high: Int, _ depth: Int, notBelow byte: Int) -> Int {
    var low = low
    var high = high
    while low < high {
      let middle = (low + high) / 2
      let text = specialText(middle)
      if (depth < text.count ? Int(text[depth]) : -1) < byte { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// FNV-1a, 32 bits, with the bits mixed once more at the end (the low ones choose the slot, the high ones are compared first).
  static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var hash: UInt32 = 2_166_136_261
    for byte in bytes { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    hash ^= hash >> 15
    hash = hash &* 0x85EB_CA6B
    return hash ^ hash >> 13
  }
}
