/// How a byte-level vocabulary cuts text into pieces before it merges. Merges never cross a cut.
///
/// The numbers are stored in packed files: never reuse one.
package enum SplitRule: UInt32, CaseIterable, Sendable {
  /// Llama 3's pattern: words with one character in front, numbers of up to three digits.
  case llamaBPE = 1
  /// The same with numbers digit by digit.
  case qwen2 = 2
  /// Runs of punctuation, then GPT-2's pattern, then digits in threes.
  case falcon = 3
  /// Line breaks, letters of scripts with cases, punctuation, trailing space, CJK, digits, one after the other.
  case deepseekLLM = 4
  /// No cuts by pattern: SentencePiece.
  case sentencePiece = 5
  /// GPT-2's pattern: words, numbers and other characters with one space in front.
  case gpt2 = 6

  /// What GGUF files call it in `tokenizer.ggml.pre`.
  package var name: String {
    switch self {
    case .llamaBPE: "llama-bpe"
    case .qwen2: "qwen2"
    case .falcon: "falcon"
    case .deepseekLLM: "deepseek-llm"
    case .sentencePiece: "sentencepiece"
    case .gpt2: "gpt-2"
    }
  }

  /// The rule of a byte-level GGUF vocabulary. Falcon 3 and Falcon-E are Llama 3's rule under other names, OLMo GPT-2's.
  init?(ggufName: String) {
    switch ggufName {
    case "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon_e", "falcon-e": self = .llamaBPE
    case "qwen2": self = .qwen2
    case "falcon": self = .falcon
    case "deepseek-llm": self = .deepseekLLM
    case "gpt-2", "olmo": self = .gpt2
    default: return nil
    }
  }

  static let byteLevelNames = "llama-bpe, qwen2, falcon, deepseek-llm, gpt-2"
}

/// The exact patterns by which the rules are recognised in `tokenizer.json`.
package enum SplitPattern {
  package static let llamaBPE =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  package static let qwen2 =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  /// What `ByteLevel` cuts by itself.
  package static let gpt2 = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
  static let falconDigits = "[0-9][0-9][0-9]"
  /// DeepSeek's five, in order.
  package static let deepseekLLM = [
    "[\r\n]", #"\s?"# + CharacterRanges.pattern(CharacterRanges.deepseekLetters) + "+",
    #"\s?"# + CharacterRanges.pattern(CharacterRanges.deepseekPunctuation) + "+", #"\s+$"#,
    // This one's ranges overlap as they are written.
    "[\u{4E00}-\u{9FA5}\u{0800}-\u{4E00}\u{AC00}-\u{D7FF}]+",
  ]
}

/// Sets of characters that DeepSeek's patterns list one by one, in ascending order.
enum CharacterRanges {
  typealias Ranges = [ClosedRange<UInt32>]

  static let deepseekLetters: Ranges = [
    0x41...0x5A, 0x61...0x7A, 0xB5...0xB5, 0xC0...0xD6, 0xD8...0xF6, 0xF8...0x1BA, 0x1BC...0x1BF, 0x1C4...0x293, 0x295...0x2AF,
    0x370...0x373, 0x376...0x376, 0x377...0x377, 0x37B...0x37D, 0x37F...0x37F, 0x386...0x386, 0x388...0x38A, 0x38C...0x38C,
    0x38E...0x3A1, 0x3A3...0x3F5, 0x3F7...0x481, 0x48A...0x52F, 0x531...0x556, 0x10A0...0x10C5, 0x13A0...0x13F5, 0x13F8...0x13FD,
    0x1C90...0x1CBA, 0x1CBD...0x1CBF, 0x1D00...0x1D2B, 0x1D6B...0x1D77, 0x1D79...0x1D9A, 0x1E00...0x1F15, 0x1F18...0x1F1D,
    0x1F20...0x1F45, 0x1F48...0x1F4D, 0x1F50...0x1F57, 0x1F59...0x1F59, 0x1F5B...0x1F5B, 0x1F5D...0x1F5D, 0x1F5F...0x1F7D,
    0x1F80...0x1FB4, 0x1FB6...0x1FBC, 0x1FBE...0x1FBE, 0x1FC2...0x1FC4, 0x1FC6...0x1FCC, 0x1FD0...0x1FD3, 0x1FD6...0x1FDB,
    0x1FE0...0x1FEC, 0x1FF2...0x1FF4, 0x1FF6...0x1FFC, 0x2102...0x2102, 0x2107...0x2107, 0x210A...0x2113, 0x2115...0x2115,
    0x2119...0x211D, 0x2124...0x2124, 0x2126...0x2126, 0x2128...0x2128, 0x212A...0x212D, 0x212F...0x2134, 0x2139...0x2139,
    0x213C...0x213F, 0x2145...0x2149, 0x214E...0x214E, 0x2183...0x2183, 0x2184...0x2184, 0x2C00...0x2C7B, 0x2C7E...0x2CE4,
    0x2CEB...0x2CEE, 0x2CF2...0x2CF2, 0x2CF3...0x2CF3, 0xA640...0xA66D, 0xA680...0xA69B, 0xA722...0xA76F, 0xA771...0xA787,
    0xA78B...0xA78E, 0xAB70...0xABBF, 0xFB00...0xFB06, 0xFB13...0xFB17, 0xFF21...0xFF3A, 0xFF41...0xFF5A, 0x10400...0x1044F,
    0x104B0...0x104D3, 0x104D8...0x104FB, 0x10C80...0x10CB2, 0x10CC0...0x10CF2, 0x118A0...0x118DF, 0x1E900...0x1E943,
  ]
  static let deepseekPunctuation: Ranges = [
    0x21...0x2F, 0x3A...0x7E, 0xFF01...0xFF0F, 0xFF1A...0xFF5E, 0x2018...0x201F, 0x3000...0x3002,
  ]

  /// The set as a pattern writes it.
  static func pattern(_ ranges: Ranges) -> String {
    func character(_ value: UInt32) -> String { Unicode.Scalar(value).map { String(Character($0)) } ?? "" }
    return "[" + ranges.map { $0.count == 1 ? character($0.lowerBound) : character($0.lowerBound) + "-" + character($0.upperBound) }.joined() + "]"
  }

  static func isDeepseekLetter(_ value: UInt32) -> Bool {
    if value < 0x80 { return 0x41...0x5A ~= value || 0x61...0x7A ~= value }
    var low = 0
    var high = deepseekLetters.count
    while low < high {
      let middle = (low + high) / 2
      if deepseekLetters[middle].upperBound < value { low = middle + 1 } else { high = middle }
    }
    return low < deepseekLetters.count && deepseekLetters[low].contains(value)
  }

  static func isDeepseekPunctuation(_ value: UInt32) -> Bool {
    switch value {
    case 0x21...0x2F, 0x3A...0x7E, 0xFF01...0xFF0F, 0xFF1A...0xFF5E, 0x2018...0x201F, 0x3000...0x3002: true
    default: false
    }
  }

  static func isDeepseekCJK(_ value: UInt32) -> Bool { 0x800...0x9FA5 ~= value || 0xAC00...0xD7FF ~= value }
}
