/// Where a value may begin and end in a text: between characters, but not inside a word or a number.
///
/// A cut lies between two characters as people see them (extended grapheme clusters), so never inside a UTF-8 sequence, an
/// emoji or in front of a combining mark. It does not part two letters, unless one of them belongs to a script that writes no
/// spaces between words (there a word is found by reading only), and it does not part two decimal digits.
package enum TextCuts {
  /// One flag a byte offset, and one for the end of the text.
  package static func of(_ text: String) -> [Bool] {
    var cuts = [Bool](repeating: false, count: text.utf8.count + 1)
    var offset = 0
    var before = Kind.other
    for character in text {
      let first = character.unicodeScalars.first.map(Kind.init) ?? .other
      cuts[offset] = !(before == first && first != .other)
      offset += character.utf8.count
      before = first
    }
    cuts[offset] = true
    return cuts
  }

  private enum Kind {
    case letter, digit, other

    init(_ scalar: Unicode.Scalar) {
      switch scalar.properties.generalCategory {
      case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
        self = Kind.writesNoSpaces(scalar) ? .other : .letter
      case .decimalNumber: self = .digit
      default: self = .other
      }
    }

    /// Scripts without spaces between words, by their blocks: Thai, Lao, Tibetan, Myanmar, Khmer, Tai, kana, Bopomofo, Han, Yi.
    private static func writesNoSpaces(_ scalar: Unicode.Scalar) -> Bool {
      switch scalar.value {
      case ..<0x0E00: false
      case 0x0E00...0x0FFF, 0x1000...0x109F, 0x1780...0x17FF, 0x1950...0x19DF, 0x1A20...0x1AAF, 0x2E80...0x312F, 0x31A0...0x31FF,
        0x3400...0x4DBF, 0x4E00...0xA4CF, 0xA9E0...0xA9FF, 0xAA60...0xAADF, 0xF900...0xFAFF, 0xFF66...0xFF9F, 0x16F00...0x18DFF,
        0x1AFF0...0x1B2FF, 0x20000...0x3FFFF: true
      default: false
      }
    }
  }
}
