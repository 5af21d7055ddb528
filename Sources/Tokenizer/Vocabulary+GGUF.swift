import Basics
import ModelFile

extension Vocabulary {
  /// Reads `tokenizer.ggml.*`.
  ///
  /// - Throws: `badFile` for what contradicts itself, `unsupported` for models and split rules that this version does not know.
  init(_ gguf: GGUFFile) throws(SternaError) {
    let metadata = gguf.metadata
    let path = gguf.file.path
    func place(_ key: String) -> String { "\(path): tokenizer.ggml.\(key)" }
    func value(_ key: String) -> GGUFValue? { metadata["tokenizer.ggml.\(key)"] }

    guard let model = value("model")?.string else {
      throw SternaError(
        .badFile, "this file has no tokenizer", at: place("model"), expected: "a string", found: value("model")?.kind ?? "nothing",
        remedy: "pack the model again from its hub folder")
    }
    guard let texts = value("tokens")?.strings, !texts.isEmpty else {
      throw SternaError(.badFile, "the vocabulary is missing", at: place("tokens"), expected: "an array of strings", found: value("tokens")?.kind ?? "nothing")
    }
    guard texts.count <= Vocabulary.maxTokens else {
      throw SternaError(.unsupported, "the vocabulary is too large", at: place("tokens"), expected: "at most \(Vocabulary.maxTokens)", found: "\(texts.count)")
    }
    var types: [Int]?
    if let found = value("token_type") {
      guard let ints = found.ints, ints.count == texts.count else {
        throw SternaError(.badFile, "does not fit the vocabulary", at: place("token_type"), expected: "\(texts.count) integers", found: found.kind)
      }
      types = ints
    }

    switch model {
    case "gpt2":
      let name = value("pre")?.string
      guard let name, let rule = SplitRule(ggufName: name) else {
        throw SternaError(
          .unsupported, "an unknown split rule", at: place("pre"), expected: SplitRule.byteLevelNames, found: name.map { "\"\($0)\"" } ?? "nothing")
      }
      self.init(rule: rule)
      // The metadata does not say it; it belongs to Llama 3's rule.
      wholePiecesFirst = rule == .llamaBPE
    case "llama": self.init(rule: .sentencePiece)
    default:
      throw SternaError(.unsupported, "an unknown kind of tokenizer", at: place("model"), expected: "gpt2 or llama", found: "\"\(model)\"")
    }

    entries.reserveCapacity(texts.count)
    for (i, text) in texts.enumerated() {
      let kind: Kind
      switch types?[i] ?? 1 {
      case 1: kind = .ordinary
      case 4: kind = .added
      case 5: kind = .unused
      case 6:
        guard let byte = Vocabulary.byteToken(text) else {
          throw SternaError(.badFile, "a byte token that names no byte", at: place("tokens[\(i)]"), expected: "<0xNN>", found: "\"\(text)\"")
        }
        kind = .byte(byte)
      case 2, 3: kind = .special
      case let type:
        throw SternaError(.unsupported, "an unknown type of token", at: place("token_type[\(i)]"), expected: "1 to 6", found: "\(type)")
      }
      entries.append(Entry(text: text, kind: kind))
    }

    func id(_ key: String) throws(SternaError) -> TokenID? {
      guard let found = value(key) else { return nil }
      guard let id = found.int, texts.indices.contains(id) else {
        throw SternaError(.badFile, "not a token of the vocabulary", at: place(key), expected: "0..<\(texts.count)", found: found.int.map(String.init) ?? found.kind)
      }
      return TokenID(id)
    }
    beginOfText = value("add_bos_token")?.bool == false ? nil : try id("bos_token_id")
    endOfText = try id("eos_token_id")
    unknown = try id("unknown_token_id")

    if rule == .sentencePiece {
      spacePrefix = value("add_space_prefix")?.bool ?? true
      guard let scores = value("scores")?.floats, scores.count == texts.count, !scores.contains(where: \.isNaN) else {
        throw SternaError(.badFile, "does not fit the vocabulary", at: place("scores"), expected: "\(texts.count) floats", found: value("scores")?.kind ?? "nothing")
      }
      makeMerges(scores: scores)
    } else {
      settleByteLevelKinds()
      guard let lines = value("merges")?.strings else {
        throw SternaError(.badFile, "the merges are missing", at: place("merges"), expected: "an array of strings", found: value("merges")?.kind ?? "nothing")
      }
      try add(merges: lines.lazy.map { $0 as String? }, place: place("merges"))
    }
  }
}

extension Vocabulary {
  /// Adds merges written as `left right`, in the order of their ranks.
  mutating func add(merges lines: some Sequence<String?>, place: String) throws(SternaError) {
    var parsed: [(left: [UInt8], right: [UInt8])] = []
    for (i, line) in lines.enumerated() {
      let utf8 = Array((line ?? "").utf8)
      guard let cut = utf8.firstIndex(of: 0x20), cut > 0, cut + 1 < utf8.count, !utf8[(cut + 1)...].contains(0x20) else {
        throw SternaError(.badFile, "not a merge", at: "\(place)[\(i)]", expected: "two tokens with a space between them", found: line.map { "\"\($0)\"" } ?? "nothing")
      }
      parsed.append((Array(utf8[..<cut]), Array(utf8[(cut + 1)...])))
    }
    try add(merges: parsed, place: place)
  }

  mutating func add(merges pairs: [(left: [UInt8], right: [UInt8])], place: String) throws(SternaError) {
    guard pairs.count <= Vocabulary.maxMerges else {
      throw SternaError(.unsupported, "too many merges", at: place, expected: "at most \(Vocabulary.maxMerges)", found: "\(pairs.count)")
    }
    // Keyed by bytes: two strings that differ only in Unicode normalisation are two tokens.
    var ids: [[UInt8]: TokenID] = [:]
    ids.reserveCapacity(entries.count)
    for (id, entry) in entries.enumerated() {
      if case .ordinary = entry.kind { ids[Array(entry.text.utf8)] = TokenID(id) }
    }
    merges.reserveCapacity(merges.count + pairs.count)
    for (rank, pair) in pairs.enumerated() {
      guard let left = ids[pair.left], let right = ids[pair.right], let result = ids[pair.left + pair.right] else {
        throw SternaError(
          .badFile, "a merge of tokens that the vocabulary lacks", at: "\(place)[\(rank)]",
          found: "\"\(String(decoding: pair.left, as: UTF8.self))\" and \"\(String(decoding: pair.right, as: UTF8.self))\"")
      }
      merges.append(Merge(left: left, right: right, result: result, rank: rank))
    }
  }
}
