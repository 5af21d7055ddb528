/// Two lower-case digits a byte.
public func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789abcdef".utf8)
  return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

/// The bytes that `hexadecimal` wrote; nil where the text is anything else than `count` of them.
public func bytes(hexadecimal text: some StringProtocol, count: Int) -> [UInt8]? {
  let digits = Array(text.utf8)
  guard digits.count == 2 * count, digits.allSatisfy({ 48...57 ~= $0 || 97...102 ~= $0 }) else { return nil }
  func value(_ digit: UInt8) -> UInt8 { digit < 58 ? digit - 48 : digit - 87 }
  return (0..<count).map { value(digits[2 * $0]) << 4 | value(digits[2 * $0 + 1]) }
}
