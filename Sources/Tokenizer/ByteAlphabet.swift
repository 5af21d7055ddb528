/// How byte-level vocabularies write bytes as visible characters (GPT-2's alphabet): printable bytes of Latin-1 stand for themselves,
/// the other 68 are the characters from U+0100 on, in the order of the bytes. A space is `Ġ`, a line feed `Ċ`.
enum ByteAlphabet {
  /// The bytes that a token's text stands for, or nil where a character is not in the alphabet.
  static func bytes(of text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      guard scalar.value < byteOf.count else { return nil }
      let byte = byteOf[Int(scalar.value)]
      guard byte >= 0 else { return nil }
      bytes.append(UInt8(byte))
    }
    return bytes
  }

  /// The character of each byte.
  static let scalars: [Unicode.Scalar] = {
    var scalars: [Unicode.Scalar] = []
    var shifted: UInt32 = 0x100
    for byte in 0..<UInt32(256) {
      let printable = 0x21...0x7E ~= byte || 0xA1...0xAC ~= byte || 0xAE...0xFF ~= byte
      scalars.append(Unicode.Scalar(printable ? byte : shifted) ?? " ")
      if !printable { shifted += 1 }
    }
    return scalars
  }()

  /// The byte of each character below U+0144, or -1.
  private static let byteOf: [Int16] = {
    var table = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { table[Int(scalar.value)] = Int16(byte) }
    return table
  }()
}
