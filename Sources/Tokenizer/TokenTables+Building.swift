import Basics

/// Memory that owns a copy of the tables, for vocabularies that do not come packed.
// @unchecked: never written after init.
final class TableMemory: @unchecked Sendable {
  let bytes: UnsafeRawBufferPointer

  init(_ source: [UInt8]) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 64)
    copy.copyBytes(from: source)
    bytes = UnsafeRawBufferPointer(copy)
  }

  deinit { UnsafeMutableRawBufferPointer(mutating: bytes).deallocate() }
}

extension TokenTables {
  /// The tables of a vocabulary, as a packed file holds them.
  static func build(_ vocabulary: Vocabulary) throws(SternaError) -> [UInt8] {
    let count = vocabulary.entries.count
    guard 1...Vocabulary.maxTokens ~= count else {
      throw SternaError(.unsupported, "a vocabulary of this size", at: "the vocabulary", expected: "1 to \(Vocabulary.maxTokens) tokens", found: "\(count)")
    }
    let tokens = vocabulary.entries.map { vocabulary.bytes(of: $0) }
    var flags = vocabulary.entries.map { entry in
      switch entry.kind {
      case .special, .unused: TokenFlags.special
      case .ordinary: TokenFlags.ordinary
      case .byte, .added, .literal: TokenFlags()
      }
    }
    // Two ordinary tokens with the same bytes: text becomes the first.
    let (slots, longestProbe) = index(tokens, &flags)

    var byteTokens = [TokenID](repeating: -1, count: 256)
    for (id, entry) in vocabulary.entries.enumerated() {
      switch entry.kind {
      case .byte(let byte): byteTokens[Int(byte)] = TokenID(id)
      case .ordinary where tokens[id].count == 1 && flags[id].contains(.ordinary):
        let byte = Int(tokens[id][0])
        if vocabulary.rule != .sentencePiece || byteTokens[byte] < 0 { byteTokens[byte] = TokenID(id) }
      default: break
      }
    }
    if vocabulary.rule == .sentencePiece, let missing = byteTokens.firstIndex(of: -1) {
      throw SternaError(
        .unsupported, "a SentencePiece vocabulary without byte fallback", at: "the vocabulary", expected: "a token for each of the 256 bytes",
        found: "none for 0x\(String(missing, radix: 16))")
    }

    let (mergeStarts, merges) = mergeTable(vocabulary.merges, count)

    // Shorter first where one is the beginning of the other; of equal texts the first token.
    var specials: [(text: [UInt8], id: TokenID)] = []
    for (id, entry) in vocabulary.entries.enumerated() where !entry.text.isEmpty {
      switch entry.kind {
      case .special, .added: specials.append((Array(entry.text.utf8), TokenID(id)))
      default: break
      }
    }
    specials.sort { a, b in a.text == b.text ? a.id < b.id : a.text.lexicographicallyPrecedes(b.text) }
    var distinct: [(text: [UInt8], id: TokenID)] = []
    for special in specials where distinct.last?.text != special.text { distinct.append(special) }
    specials = distinct

    var tableFlags: Flags = []
    if vocabulary.spacePrefix { tableFlags.insert(.spacePrefix) }
    if vocabulary.spacePrefixUnlessThere { tableFlags.insert(.spacePrefixUnlessThere) }
    if vocabulary.rule == .sentencePiece, !zip(tokens, flags).contains(where: { $1.contains(.ordinary) && hasSpaceBehindText($0) }) {
      tableFlags.insert(.spacesOnlyInFront)
    }

    let tokenBytes = tokens.reduce(0) { $0 + $1.count }
    let specialBytes = specials.reduce(0) { $0 + $1.text.count }
    guard tokenBytes <= Int(Int32.max), specialBytes <= Int(Int32.max) else {
      throw SternaError(.unsupported, "tokens of more than 2 GB", at: "the vocabulary")
    }

    var out: [UInt8] = []
    func append(_ word: some FixedWidthInteger) { withUnsafeBytes(of: word.littleEndian) { out.append(contentsOf: $0) } }
    func align(_ multiple: Int = 8) { while out.count % multiple != 0 { out.append(0) } }
    out.append(contentsOf: magic)
    append(version)
    append(vocabulary.rule.rawValue)
    append(tableFlags.rawValue)
    append(UInt32(count))
    append(UInt32(tokens.lazy.map(\.count).max() ?? 0))
    append(vocabulary.beginOfText ?? -1)
    append(vocabulary.endOfText ?? -1)
    append(vocabulary.unknown ?? -1)
    append(UInt32(merges.count))
    append(UInt32(slots.count))
    append(UInt32(longestProbe))
    append(UInt32(specials.count))
    append(UInt32(tokenBytes))
    append(UInt32(specialBytes))
    align(headerBytes)

    var at: UInt32 = 0
    for token in tokens { append(at); at += UInt32(token.count) }
    append(at)
    align()
    let flagsAt = out.count
    for flag in flags { append(flag.rawValue) }
    align()
    for token in tokens { out.append(contentsOf: token) }
    align()
    for slot in slots { append(slot) }
    align()
    for start in mergeStarts { append(start) }
    align()
    for merge in merges { append(merge) }
    align()
    for id in byteTokens { append(id) }
    align()
    at = 0
    for special in specials { append(at); at += UInt32(special.text.count) }
    append(at)
    align()
    for special in specials { append(special.id) }
    align()
    for special in specials { out.append(contentsOf: special.text) }
    align()

    // The tables as they are so far tell which tokens their own bytes are merged into.
    let memory = TableMemory(out)
    let tables = try TokenTables(memory.bytes, owner: memory, place: "the vocabulary")
    var merger = PairMerger(tables)
    var ids: [TokenID] = []
    for id in 0..<count where flags[id].contains(.ordinary) {
      if !vocabulary.wholePiecesFirst {
        ids.removeAll(keepingCapacity: true)
        tokens[id].withUnsafeBufferPointer { merger.merge($0, into: &ids) }
        guard ids == [TokenID(id)] else { continue }
      }
      out[flagsAt + id] |= TokenFlags.whole.rawValue
    }
    return out
  }

  private static func hasSpaceBehindText(_ token: [UInt8]) -> Bool {
    guard let text = token.firstIndex(where: { $0 != 0x20 }) else { return false }
    return token[text...].contains(0x20)
  }

  /// A hash index with open addressing, at most two thirds full. Takes `ordinary` from tokens whose bytes an earlier one has.
  private static func index(_ tokens: [[UInt8]], _ flags: inout [TokenFlags]) -> (slots: [UInt32], longestProbe: Int) {
    var size = 16
    while size * 2 < tokens.count * 3 { size *= 2 }
    var slots = [UInt32](repeating: 0, count: size)
    var longest = 1
    next: for (id, token) in tokens.enumerated() where flags[id].contains(.ordinary) {
      guard !token.isEmpty else {
        flags[id].remove(.ordinary)
        continue
      }
      let hash = token.withUnsafeBytes { TokenTables.hash($0) }
      var slot = Int(hash) & (size - 1)
      var probe = 1
      while slots[slot] != 0 {
        if slots[slot] >> 20 == hash >> 20, tokens[Int(slots[slot] & 0xF_FFFF) - 1] == token {
          flags[id].remove(.ordinary)
          continue next
        }
        slot = (slot + 1) & (size - 1)
        probe += 1
      }
      slots[slot] = hash & 0xFFF0_0000 | UInt32(id + 1)
      longest = max(longest, probe)
    }
    // One more than the longest chain, so that a search for what is not there meets its empty slot.
    return (slots, min(longest + 1, size))
  }

  private static func mergeTable(_ merges: [Vocabulary.Merge], _ count: Int) -> (starts: [UInt32], entries: [UInt64]) {
    var sorted = merges
    sorted.sort { ($0.left, $0.right, $0.rank) < ($1.left, $1.right, $1.rank) }
    var starts = [UInt32](repeating: 0, count: count + 1)
    var entries: [UInt64] = []
    entries.reserveCapacity(sorted.count)
    var last: Vocabulary.Merge?
    for merge in sorted {
      if let last, last.left == merge.left, last.right == merge.right { continue }  // the earlier one stands
      last = merge
      entries.append(UInt64(merge.right) << 44 | UInt64(merge.rank) << 20 | UInt64(merge.result))
      starts[Int(merge.left) + 1] += 1
    }
    for i in 1...count { starts[i] += starts[i - 1] }
    return (starts, entries)
  }
}
