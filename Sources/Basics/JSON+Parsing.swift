extension JSON {
  /// What a text may cost before it is refused. The defaults suit messages from strangers.
  public struct Limits: Sendable {
    public var bytes = 1 << 20
    public var depth = 32
    /// Values of all kinds, nested ones too.
    public var values = 100_000

    public init() {}
    /// For files that an operator chose, such as a tokenizer.json with 300,000 merges.
    public static var file: Limits {
      var limits = Limits()
      limits.bytes = 1 << 28
      limits.values = 8_000_000
      limits.depth = 64
      return limits
    }
  }

  /// Parses one JSON text (RFC 8259), strictly: UTF-8 only, no duplicate names, nothing behind the value.
  ///
  /// - Throws: `SternaError` with code `badJSON`; `place` is `byte N`.
  public static func parse(_ bytes: some Collection<UInt8>, limits: Limits = Limits()) throws(SternaError) -> JSON {
    // One contiguous copy at most: the parser runs over a buffer pointer.
    let result: Result<JSON, SternaError>? = bytes.withContiguousStorageIfAvailable { parseBuffer($0, limits) }
    let parsed = result ?? Array(bytes).withUnsafeBufferPointer { parseBuffer($0, limits) }
    return try parsed.get()
  }

  public static func parse(_ text: String, limits: Limits = Limits()) throws(SternaError) -> JSON {
    try parse(Array(text.utf8), limits: limits)
  }

  private static func parseBuffer(_ buffer: UnsafeBufferPointer<UInt8>, _ limits: Limits) -> Result<JSON, SternaError> {
    Result { () throws(SternaError) -> JSON in
      guard buffer.count <= limits.bytes else {
        throw SternaError(.badJSON, "the text is too long", expected: "at most \(limits.bytes) bytes", found: "\(buffer.count) bytes")
      }
      var parser = Parser(input: buffer, limits: limits)
      return try parser.document()
    }
  }
}

/// A recursive-descent parser over bytes. Its depth is bounded by `limits.depth`, so hostile nesting cannot exhaust the stack.
private struct Parser {
  let input: UnsafeBufferPointer<UInt8>
  let limits: JSON.Limits
  var at = 0
  var depth = 0
  var values = 0

  init(input: UnsafeBufferPointer<UInt8>, limits: JSON.Limits) {
    self.input = input
    self.limits = limits
  }

  mutating func document() throws(SternaError) -> JSON {
    skipSpace()
    let value = try self.value()
    skipSpace()
    guard at == input.count else { throw error("there is something behind the JSON value") }
    return value
  }

  func error(_ message: String, at position: Int? = nil) -> SternaError {
    let position = position ?? at
    let found = position < input.count ? (0x21...0x7E ~= input[position] ? "'\(Character(Unicode.Scalar(input[position])))'" : "byte 0x" + String(input[position], radix: 16)) : "the end"
    return SternaError(.badJSON, message, at: "byte \(position)", found: found)
  }

  var next: UInt8? { at < input.count ? input[at] : nil }

  mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { at += 1 }
  }

  mutating func expect(_ word: StaticString, _ value: JSON) throws(SternaError) -> JSON {
    let end = at + word.utf8CodeUnitCount
    guard end <= input.count else { throw error("expected \(word)") }
    for i in 0..<word.utf8CodeUnitCount where input[at + i] != word.utf8Start[i] { throw error("expected \(word)") }
    at = end
    return value
  }

  mutating func value() throws(SternaError) -> JSON {
    values += 1
    guard values <= limits.values else { throw error("there are more than \(limits.values) values") }
    switch next {
    case UInt8(ascii: "{"): return try object()
    case UInt8(ascii: "["): return try array()
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try expect("true", .bool(true))
    case UInt8(ascii: "f"): return try expect("false", .bool(false))
    case UInt8(ascii: "n"): return try expect("null", .null)
    case .some(UInt8(ascii: "-")), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return .number(try number())
    default: throw error("expected a JSON value")
    }
  }

  mutating func enter() throws(SternaError) {
    depth += 1
    guard depth <= limits.depth else { throw error("nested deeper than \(limits.depth) levels") }
    at += 1
    skipSpace()
  }

  mutating func object() throws(SternaError) -> JSON {
    try enter()
    var object = JSON.Object()
    if next == UInt8(ascii: "}") { at += 1; depth -= 1; return .object(object) }
    while true {
      guard next == UInt8(ascii: "\"") else { throw error("expected a name in quotes") }
      let nameAt = at
      let name = try string()
      guard object[name] == nil else { throw error("the name \"\(name)\" occurs twice", at: nameAt) }
      skipSpace()
      guard next == UInt8(ascii: ":") else { throw error("expected ':' after the name \"\(name)\"") }
      at += 1
      skipSpace()
      object[name] = try value()
      skipSpace()
      if next == UInt8(ascii: ",") { at += 1; skipSpace(); continue }
      guard next == UInt8(ascii: "}") else { throw error("expected ',' or '}'") }
      at += 1
      depth -= 1
      return .object(object)
    }
  }

  mutating func array() throws(SternaError) -> JSON {
    try enter()
    var elements: [JSON] = []
    if next == UInt8(ascii: "]") { at += 1; depth -= 1; return .array(elements) }
    while true {
      elements.append(try value())
      skipSpace()
      if next == UInt8(ascii: ",") { at += 1; skipSpace(); continue }
      guard next == UInt8(ascii: "]") else { throw error("expected ',' or ']'") }
      at += 1
      depth -= 1
      return .array(elements)
    }
  }

  mutating func number() throws(SternaError) -> JSON.Number {
    let start = at
    func isDigit(_ byte: UInt8?) -> Bool { byte.map { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 } ?? false }
    if next == UInt8(ascii: "-") { at += 1 }
    guard isDigit(next) else { throw error("expected a digit") }
    if next == UInt8(ascii: "0") { at += 1 } else { while isDigit(next) { at += 1 } }
    if next == UInt8(ascii: ".") {
      at += 1
      guard isDigit(next) else { throw error("expected a digit behind the decimal point") }
      while isDigit(next) { at += 1 }
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      at += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { at += 1 }
      guard isDigit(next) else { throw error("expected a digit in the exponent") }
      while isDigit(next) { at += 1 }
    }
    guard at - start <= 64 else { throw error("a number of more than 64 characters", at: start) }
    return JSON.Number(text: String(decoding: input[start..<at], as: UTF8.self))
  }

  /// A string in quotes; `at` is on the opening quote.
  mutating func string() throws(SternaError) -> String {
    let start = at
    at += 1
    var end = at
    while end < input.count, input[end] != UInt8(ascii: "\""), input[end] != UInt8(ascii: "\\"), input[end] >= 0x20 { end += 1 }
    if end < input.count, input[end] == UInt8(ascii: "\"") {  // nothing escaped: take it as it is
      let text = String(validating: input[at..<end], as: UTF8.self)
      at = end + 1
      guard let text else { throw error("a string that is not UTF-8", at: start) }
      return text
    }
    var bytes = Array(input[at..<end])
    at = end
    while true {
      guard let byte = next else { throw error("a string without an end", at: start) }
      switch byte {
      case UInt8(ascii: "\""):
        at += 1
        guard let text = String(validating: bytes, as: UTF8.self) else { throw error("a string that is not UTF-8", at: start) }
        return text
      case UInt8(ascii: "\\"): try escape(&bytes)
      case 0..<0x20: throw error("a control character inside a string")
      default:
        bytes.append(byte)
        at += 1
      }
    }
  }

  mutating func escape(_ bytes: inout [UInt8]) throws(SternaError) {
    let start = at
    at += 1
    guard let kind = next else { throw error("a string without an end", at: start) }
    at += 1
    switch kind {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): bytes.append(kind)
    case UInt8(ascii: "b"): bytes.append(0x08)
    case UInt8(ascii: "f"): bytes.append(0x0C)
    case UInt8(ascii: "n"): bytes.append(0x0A)
    case UInt8(ascii: "r"): bytes.append(0x0D)
    case UInt8(ascii: "t"): bytes.append(0x09)
    case UInt8(ascii: "u"):
      var code = UInt32(try hex())
      if 0xD800..<0xDC00 ~= code {
        guard next == UInt8(ascii: "\\"), at + 1 < input.count, input[at + 1] == UInt8(ascii: "u") else {
          throw error("half of a surrogate pair", at: start)
        }
        at += 2
        let low = UInt32(try hex())
        guard 0xDC00..<0xE000 ~= low else { throw error("half of a surrogate pair", at: start) }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw error("half of a surrogate pair", at: start) }
      bytes.append(contentsOf: UTF8.encode(scalar).map { Array($0) } ?? [])
    default: throw error("an unknown escape", at: start)
    }
  }

  mutating func hex() throws(SternaError) -> UInt16 {
    let start = at
    var value: UInt16 = 0
    for _ in 0..<4 {
      switch next {
      case .some(let digit) where 0x30...0x39 ~= digit: value = value << 4 | UInt16(digit - 0x30)
      case .some(let digit) where 0x41...0x46 ~= digit: value = value << 4 | UInt16(digit - 0x41 + 10)
      case .some(let digit) where 0x61...0x66 ~= digit: value = value << 4 | UInt16(digit - 0x61 + 10)
      default: throw error("expected four hexadecimal digits", at: start)
      }
      at += 1
    }
    return value
  }
}
