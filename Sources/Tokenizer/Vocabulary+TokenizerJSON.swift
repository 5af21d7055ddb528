import Basics

/// `tokenizer.json` as the `tokenizers` library writes it. Only what this module does exactly is accepted; all else is refused with its path.
extension Vocabulary {
  init(tokenizerJSON root: JSONReader) throws(SternaError) {
    try Vocabulary.knownMembers(root, [
      "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model",
    ])
    let model = root["model"]
    try Vocabulary.knownMembers(model, [
      "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab",
      "merges",
    ])
    if let type = model["type"].optional, try type.string() != "BPE" { throw Vocabulary.unsupported(type, "BPE") }
    if let dropout = model["dropout"].optional, try dropout.double() != 0 { throw Vocabulary.unsupported(dropout, "no dropout") }
    for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let affix = model[name].optional, try !affix.string().isEmpty { throw Vocabulary.unsupported(affix, "none") }
    }
    let byteFallback = try model["byte_fallback"].optional?.bool() ?? false

    // Which of the two families: SentencePiece falls back to byte tokens, byte-level vocabularies have no need to.
    let isSentencePiece = byteFallback
    if isSentencePiece {
      self.init(rule: .sentencePiece)
      try readSpaces(normalizer: root["normalizer"], preTokenizer: root["pre_tokenizer"])
    } else {
      self.init(rule: try Vocabulary.splitRule(root["pre_tokenizer"]))
      try Vocabulary.checkByteLevelNormalizer(root["normalizer"])
    }
    try Vocabulary.checkDecoder(root["decoder"], isSentencePiece)
    wholePiecesFirst = try model["ignore_merges"].optional?.bool() ?? false
    if isSentencePiece, wholePiecesFirst { throw Vocabulary.unsupported(model["ignore_merges"], "false with byte_fallback") }

    try readEntries(model["vocab"], added: root["added_tokens"], isSentencePiece)
    if let name = try model["unk_token"].optional?.string() {
      guard let id = entries.firstIndex(where: { $0.text.utf8.elementsEqual(name.utf8) }) else {
        throw model["unk_token"].error("is not in the vocabulary")
      }
      unknown = TokenID(id)
      if case .ordinary = entries[id].kind, isSentencePiece { entries[id].kind = .special }
    }
    if !isSentencePiece { settleByteLevelKinds() }
    try readMerges(model["merges"])
  }

  private static func unsupported(_ at: JSONReader, _ supported: String) -> SternaError {
    var error = at.error("this tokenizer asks for what this version cannot do", expected: supported)
    error.code = .unsupported
    return error
  }

  private static func knownMembers(_ object: JSONReader, _ names: Set<String>) throws(SternaError) {
    for (name, value) in try object.members() where !names.contains(name) {
      throw unsupported(value, "only the members " + names.sorted().joined(separator: ", "))
    }
  }

  // MARK: Vocabulary and merges

  private mutating func readEntries(_ vocab: JSONReader, added: JSONReader, _ isSentencePiece: Bool) throws(SternaError) {
    var byID: [Int: Entry] = [:]
    for (text, value) in try vocab.members() {
      let id = try value.int(in: 0..<Vocabulary.maxTokens)
      guard byID[id] == nil else { throw value.error("another token has this number") }
      let byte = isSentencePiece ? Vocabulary.byteToken(text) : nil
      byID[id] = Entry(text: text, kind: byte.map { .byte($0) } ?? .ordinary)
    }
    if let added = added.optional {
      for token in try added.array() {
        try Vocabulary.knownMembers(token, ["id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"])
        for name in ["single_word", "lstrip", "rstrip"] {
          if try token[name].optional?.bool() ?? false { throw Vocabulary.unsupported(token[name], "false") }
        }
        let id = try token["id"].int(in: 0..<Vocabulary.maxTokens)
        let content = try token["content"].string(bytes: 1...)
        if let other = byID[id], !other.text.utf8.elementsEqual(content.utf8) { throw token["id"].error("another token has this number") }
        let special = try token["special"].optional?.bool() ?? false
        byID[id] = Entry(text: content, kind: special ? .special : .added)
      }
    }
    guard let last = byID.keys.max() else { throw vocab.error("is empty") }
    entries = (0...last).map { byID[$0] ?? Entry(text: "", kind: .unused) }
  }

  private mutating func readMerges(_ reader: JSONReader) throws(SternaError) {
    let elements = try reader.array()
    if case .string? = elements.first?.value {
      try add(merges: elements.map { if case .string(let line)? = $0.value { line } else { nil } }, place: reader.path)
      return
    }
    var pairs: [(left: [UInt8], right: [UInt8])] = []
    pairs.reserveCapacity(elements.count)
    for element in elements {
      let pair = try element.array(count: 2...2)
      pairs.append((Array(try pair[0].string().utf8), Array(try pair[1].string().utf8)))
    }
    try add(merges: pairs, place: reader.path)
  }

  // MARK: Byte-level pipelines

  /// The split rule whose pre-tokenizer this is, to the letter.
  private static func splitRule(_ reader: JSONReader) throws(SternaError) -> SplitRule {
    let supported = "the pre-tokenizers of " + SplitRule.byteLevelNames
    guard reader.isPresent else { throw unsupported(reader, supported) }
    let isSequence = try reader["type"].string() == "Sequence"
    let stages = isSequence ? try reader["pretokenizers"].array(count: 1...16) : [reader]
    let words = try stages.map { stage throws(SternaError) in try describe(stage) }

    let byteLevel = "ByteLevel"
    let splits: [(rule: SplitRule, stages: [String])] = [
      (.llamaBPE, ["Split " + SplitPattern.llamaBPE, byteLevel]),
      (.qwen2, ["Split " + SplitPattern.qwen2, byteLevel]),
      (.falcon, ["Punctuation", "ByteLevel with regex", "Digits", "Split " + SplitPattern.falconDigits]),
      (.deepseekLLM, SplitPattern.deepseekLLM.map { "Split " + written($0) } + ["Digits one by one", byteLevel]),
      (.gpt2, ["ByteLevel with regex"]),
    ]
    if let known = splits.first(where: { $0.stages == words }) { return known.rule }
    // Name the first stage that fits no rule.
    let depth = splits.map { zip($0.stages, words).prefix { $0 == $1 }.count }.max() ?? 0
    let at = depth < stages.count ? stages[depth] : isSequence ? reader["pretokenizers"] : reader
    throw unsupported(at["pattern"]["Regex"].optional ?? at["type"].optional ?? at, supported)
  }

  /// Patterns with line breaks mean the same whether these are written as escapes or as themselves.
  private static func written(_ pattern: String) -> String {
    var out = ""
    for scalar in pattern.unicodeScalars {
      switch scalar {
      case "\r": out += #"\r"#
      case "\n": out += #"\n"#
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  /// A stage in words that say all that matters about it.
  private static func describe(_ stage: JSONReader) throws(SternaError) -> String {
    let type = try stage["type"].string()
    switch type {
    case "Split":
      try knownMembers(stage, ["type", "pattern", "behavior", "invert"])
      let pattern = try stage["pattern"]["Regex"].string()
      guard try stage["behavior"].string() == "Isolated" else { throw unsupported(stage["behavior"], "Isolated") }
      if try stage["invert"].optional?.bool() ?? false { throw unsupported(stage["invert"], "false") }
      return "Split " + written(pattern)
    case "ByteLevel":
      try knownMembers(stage, ["type", "add_prefix_space", "trim_offsets", "use_regex"])
      // Both are true where nothing is said.
      if try stage["add_prefix_space"].optional?.bool() ?? true { throw unsupported(stage["add_prefix_space"], "false") }
      return try stage["use_regex"].optional?.bool() ?? true ? "ByteLevel with regex" : "ByteLevel"
    case "Digits":
      try knownMembers(stage, ["type", "individual_digits"])
      return try stage["individual_digits"].optional?.bool() ?? false ? "Digits one by one" : "Digits"
    case "Punctuation":
      try knownMembers(stage, ["type", "behavior"])
      guard try stage["behavior"].optional?.string() == "Contiguous" else { throw unsupported(stage["behavior"], "Contiguous") }
      return "Punctuation"
    default: return type
    }
  }

  /// Nothing, or NFC (Qwen): texts are taken as they are, because answers must be found again in the text that was sent, byte for byte.
  private static func checkByteLevelNormalizer(_ reader: JSONReader) throws(SternaError) {
    guard reader.isPresent else { return }
    switch try reader["type"].string() {
    case "NFC": return
    case "Sequence": for stage in try reader["normalizers"].array() { try checkByteLevelNormalizer(stage) }
    default: throw unsupported(reader["type"], "none or NFC")
    }
  }

  // MARK: SentencePiece

  /// Where spaces become `▁`: as normalizers (Prepend, Replace) or in a Metaspace pre-tokenizer.
  private mutating func readSpaces(normalizer: JSONReader, preTokenizer: JSONReader) throws(SternaError) {
    let supported = "Prepend ▁ and Replace of spaces by ▁, or Metaspace without splitting"
    var replaced = false
    if normalizer.isPresent {
      let stages = try normalizer["type"].string() == "Sequence" ? try normalizer["normalizers"].array() : [normalizer]
      for stage in stages {
        switch try stage["type"].string() {
        case "Prepend":
          guard try stage["prepend"].string() == "▁", !replaced else { throw Vocabulary.unsupported(stage["prepend"], supported) }
          spacePrefix = true
        case "Replace":
          guard try stage["pattern"]["String"].string() == " ", try stage["content"].string() == "▁" else {
            throw Vocabulary.unsupported(stage, supported)
          }
          replaced = true
        default: throw Vocabulary.unsupported(stage["type"], supported)
        }
      }
    }
    guard preTokenizer.isPresent else {
      if !replaced { throw Vocabulary.unsupported(normalizer, supported) }
      return
    }
    try Vocabulary.knownMembers(preTokenizer, ["type", "replacement", "add_prefix_space", "prepend_scheme", "split"])
    guard try preTokenizer["type"].string() == "Metaspace", !replaced, !spacePrefix else {
      throw Vocabulary.unsupported(preTokenizer["type"], supported)
    }
    guard try preTokenizer["replacement"].string() == "▁" else { throw Vocabulary.unsupported(preTokenizer["replacement"], "▁") }
    // Split in front of every space it would be, or not at all: the merges decide, and both are the same where no token has a space inside.
    if try preTokenizer["split"].optional?.bool() ?? true { throw Vocabulary.unsupported(preTokenizer["split"], "false") }
    switch try preTokenizer["prepend_scheme"].optional?.string() ?? "always" {
    case "first", "always":
      spacePrefix = true
      spacePrefixUnlessThere = true
    case "never": break
    default: throw Vocabulary.unsupported(preTokenizer["prepend_scheme"], "first, always or never")
    }
  }

  // MARK: Decoder

  /// Decoding is settled by the family; this only makes sure that the file means the same.
  private static func checkDecoder(_ reader: JSONReader, _ isSentencePiece: Bool) throws(SternaError) {
    guard reader.isPresent else { return }
    let known: Set<String> = isSentencePiece ? ["Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"] : ["ByteLevel"]
    let stages = try reader["type"].string() == "Sequence" ? try reader["decoders"].array() : [reader]
    for stage in stages where !known.contains(try stage["type"].string()) {
      throw unsupported(stage["type"], known.sorted().joined(separator: ", "))
    }
  }
}
