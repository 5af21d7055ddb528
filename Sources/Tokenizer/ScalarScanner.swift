/// What the split rules ask of a character.
struct CharacterClass: OptionSet {
  let rawValue: UInt8
  /// `\p{L}`
  static let letter = Self(rawValue: 1)
  /// `\p{N}`
  static let number = Self(rawValue: 2)
  /// `\s`: White_Space.
  static let space = Self(rawValue: 4)
  /// CR or LF, which are spaces too.
  static let lineBreak = Self(rawValue: 8)
  /// `\p{P}` or any other printable ASCII that is neither letter nor digit nor space.
  static let punctuation = Self(rawValue: 16)

  /// None of letter, number, space: `[^\s\p{L}\p{N}]`.
  var isOther: Bool { isDisjoint(with: [.letter, .number, .space]) }

  init(rawValue: UInt8) { self.rawValue = rawValue }

  init(ascii byte: UInt8) {
    switch byte {
    case 0x41...0x5A, 0x61...0x7A: self = .letter
    case 0x30...0x39: self = .number
    case 0x0A, 0x0D: self = [.space, .lineBreak]
    case 0x20, 0x09, 0x0B, 0x0C: self = .space
    case 0x21...0x7E: self = .punctuation
    default: self = []
    }
  }

  init(_ scalar: Unicode.Scalar) {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
    case .decimalNumber, .letterNumber, .otherNumber: self = .number
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation,
      .otherPunctuation:
      self = .punctuation
    default: self = scalar.properties.isWhitespace ? .space : []
    }
  }
}

/// Reads a text scalar by scalar. A byte that is not part of well-formed UTF-8 is one scalar of its own, U+FFFD, so that nothing is lost.
struct ScalarScanner {
  let text: UnsafeBufferPointer<UInt8>

  init(_ text: UnsafeBufferPointer<UInt8>) { self.text = text }

  /// The scalar that starts at a byte, and its length.
  func scalar(_ at: Int) -> (value: UInt32, length: Int) {
    let first = text[at]
    if first < 0x80 { return (UInt32(first), 1) }
    // Table 3-7 of the Unicode standard: the second byte's range depends on the first.
    let left = text.count - at
    func continuation(_ i: Int, _ range: ClosedRange<UInt8> = 0x80...0xBF) -> UInt32? {
      guard i < left, range ~= text[at + i] else { return nil }
      return UInt32(text[at + i] & 0x3F)
    }
    switch first {
    case 0xC2...0xDF:
      if let b = continuation(1) { return (UInt32(first & 0x1F) << 6 | b, 2) }
    case 0xE0...0xEF:
      let range: ClosedRange<UInt8> = first == 0xE0 ? 0xA0...0xBF : first == 0xED ? 0x80...0x9F : 0x80...0xBF
      if let b = continuation(1, range), let c = continuation(2) { return (UInt32(first & 0x0F) << 12 | b << 6 | c, 3) }
    case 0xF0...0xF4:
      let range: ClosedRange<UInt8> = first == 0xF0 ? 0x90...0xBF : first == 0xF4 ? 0x80...0x8F : 0x80...0xBF
      if let b = continuation(1, range), let c = continuation(2), let d = continuation(3) {
        return (UInt32(first & 0x07) << 18 | b << 12 | c << 6 | d, 4)
      }
    default: break
    }
    return (0xFFFD, 1)
  }

  /// The class of the character that starts at a byte, and its length.
  func character(_ at: Int) -> (class: CharacterClass, length: Int) {
    let first = text[at]
    if first < 0x80 { return (CharacterClass(ascii: first), 1) }
    let (value, length) = scalar(at)
    return (Unicode.Scalar(value).map { CharacterClass($0) } ?? [], length)
  }

  /// The end of the run of characters from `start` on whose class meets `wanted`.
  func run(_ start: Int, _ end: Int, _ wanted: CharacterClass) -> Int {
    var at = start
    while at < end {
      let (found, length) = character(at)
      if found.isDisjoint(with: wanted) { break }
      at += length
    }
    return at
  }

  /// The same for `[^\s\p{L}\p{N}]`.
  func runOfOthers(_ start: Int, _ end: Int) -> Int {
    var at = start
    while at < end {
      let (found, length) = character(at)
      if !found.isOther { break }
      at += length
    }
    return at
  }
}
