import Basics

/// TOML 1.0 without dates and infinities, into a JSON tree, strictly, with the line of every key.
///
/// One of our own because a configuration with a typing mistake must end in a message: the parsers that could be had end the process over `[}`, and lose memory with every reading.
package struct TOMLParser {
  /// What was wrong; `path` where the text is TOML, and what it says cannot be used.
  package struct Failure: Error {
    var message: String
    var line: Int
    var column: Int
    package var path: String?
  }

  private let input: [UInt8]
  private var at = 0
  private var line = 1
  private var lineStart = 0
  private let root = Table()
  /// Line (from 1) by path, for example `mqtt.port` or `tasks[1].output`.
  private(set) var lines: [String: Int] = [:]

  /// Arrays and inline tables inside each other, and parts of a key.
  private static let deepest = 32

  /// A table while it may still grow; `value` is what it comes to.
  private final class Table {
    enum Node {
      case value(JSON)
      case table(Table)
      case tables(Elements)
    }
    enum Origin {
      /// Named only on the way to another: `[a.b]` makes `a`.
      case implied
      case header
      /// By a dotted key: `a.b = 1` makes `a`.
      case dotted
    }

    /// Of `[[name]]`.
    final class Elements { var all: [Table] = [] }

    var names: [String] = []
    var nodes: [String: Node] = [:]
    var origin = Origin.implied

    func add(_ name: String, _ node: Node) {
      if nodes.updateValue(node, forKey: name) == nil { names.append(name) }
    }

    var value: JSON {
      .object(
        JSON.Object(
          names.map { name in
            switch nodes[name] {
            case .value(let value): (name, value)
            case .table(let table): (name, table.value)
            case .tables(let tables): (name, .array(tables.all.map(\.value)))
            case nil: (name, .null)
            }
          }))
    }
  }

  private init(_ text: String) { input = Array(text.utf8) }

  package static func parse(_ text: String) throws(Failure) -> (root: JSON, lines: [String: Int]) {
    var parser = TOMLParser(text)
    try parser.document()
    return (parser.root.value, parser.lines)
  }

  private func failure(_ message: String, path: String? = nil) -> Failure { Failure(message: message, line: line, column: at - lineStart + 1, path: path) }
}

// MARK: - Lines, tables, keys

extension TOMLParser {
  private mutating func document() throws(Failure) {
    if input.starts(with: [0xEF, 0xBB, 0xBF]) { at = 3 }
    var table = root
    var prefix = ""
    while true {
      skipBlanks()
      if next == nil { return }
      if try !endOfLine() {
        if next == UInt8(ascii: "[") { (table, prefix) = try header() } else { try pair(in: table, prefix) }
        skipBlanks()
        guard try endOfLine() || next == nil else { throw failure("there is something behind it") }
      }
    }
  }

  private var next: UInt8? { at < input.count ? input[at] : nil }

  private func begins(with text: StaticString) -> Bool {
    at + text.utf8CodeUnitCount <= input.count && (0..<text.utf8CodeUnitCount).allSatisfy { input[at + $0] == text.utf8Start[$0] }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard next == byte else { return false }
    at += 1
    return true
  }

  private mutating func skipBlanks() {
    while next == UInt8(ascii: " ") || next == UInt8(ascii: "\t") { at += 1 }
  }

  /// A comment and the end of the line, where that is what comes.
  private mutating func endOfLine() throws(Failure) -> Bool {
    if next == UInt8(ascii: "#") {
      while let byte = next, byte != UInt8(ascii: "\n"), !begins(with: "\r\n") {
        guard byte >= 0x20 && byte != 0x7F || byte == UInt8(ascii: "\t") else { throw failure("a control character in a comment") }
        at += 1
      }
      if next == nil { return true }
    }
    return lineBreak()
  }

  private mutating func lineBreak() -> Bool {
    if begins(with: "\r\n") { at += 1 }
    guard take(UInt8(ascii: "\n")) else { return false }
    line += 1
    lineStart = at
    return true
  }

  /// What may stand between the elements of an array.
  private mutating func skipLines() throws(Failure) {
    repeat { skipBlanks() } while try endOfLine() && next != nil
  }

  private static func join(_ prefix: String, _ name: String) -> String { prefix.isEmpty ? name : prefix + "." + name }

  private mutating func note(_ path: String) { if lines[path] == nil { lines[path] = line } }

  /// `[a.b]` or `[[a.b]]`.
  private mutating func header() throws(Failure) -> (Table, prefix: String) {
    at += 1
    let isArray = take(UInt8(ascii: "["))
    let names = try key()
    guard take(UInt8(ascii: "]")), !isArray || take(UInt8(ascii: "]")) else { throw failure("a table's name without its closing bracket") }
    var table = root
    var path = ""
    for name in names.dropLast() {
      path = Self.join(path, name)
      switch table.nodes[name] {
      case nil:
        let new = Table()
        table.add(name, .table(new))
        table = new
      case .table(let known)?: table = known
      case .tables(let tables)?:
        guard let last = tables.all.last else { throw failure("\(path) is a value already") }
        table = last
        path += "[\(tables.all.count - 1)]"
      case .value?: throw failure("\(path) is a value already")
      }
    }
    guard let name = names.last else { throw failure("a table without a name") }
    path = Self.join(path, name)
    note(path)
    switch (table.nodes[name], isArray) {
    case (nil, false):
      let new = Table()
      new.origin = .header
      table.add(name, .table(new))
      return (new, path)
    case (.table(let known)?, false) where known.origin == .implied:
      known.origin = .header
      return (known, path)
    case (nil, true), (.tables?, true):
      var elements = Table.Elements()
      if case .tables(let before)? = table.nodes[name] { elements = before } else { table.add(name, .tables(elements)) }
      let new = Table()
      new.origin = .header
      elements.all.append(new)
      path += "[\(elements.all.count - 1)]"
      note(path)
      return (new, path)
    default: throw failure("\(path) is there already")
    }
  }

  /// `a.b = value`.
  private mutating func pair(in table: Table, _ prefix: String, depth: Int = 0) throws(Failure) {
    let names = try key()
    guard take(UInt8(ascii: "=")) else { throw failure("expected = behind the key") }
    var table = table
    var path = prefix
    for name in names.dropLast() {
      path = Self.join(path, name)
      note(path)
      switch table.nodes[name] {
      case nil:
        let new = Table()
        new.origin = .dotted
        table.add(name, .table(new))
        table = new
      case .table(let known)? where known.origin == .dotted: table = known
      default: throw failure("\(path) is there already")
      }
    }
    guard let name = names.last else { throw failure("a key without a name") }
    path = Self.join(path, name)
    guard table.nodes[name] == nil else { throw failure("\(path) is there already") }
    note(path)
    skipBlanks()
    table.add(name, .value(try value(path, depth)))
  }

  /// The parts of a dotted key, with the blanks around it.
  private mutating func key() throws(Failure) -> [String] {
    var names: [String] = []
    repeat {
      skipBlanks()
      switch next {
      case UInt8(ascii: "\"")?: names.append(try basicString())
      case UInt8(ascii: "'")?: names.append(try literalString())
      default:
        let start = at
        while let byte = next, Self.isBare(byte) { at += 1 }
        guard at > start else { throw failure("expected a key") }
        names.append(String(decoding: input[start..<at], as: UTF8.self))
      }
      skipBlanks()
      guard names.count <= Self.deepest else { throw failure("nested deeper than \(Self.deepest) levels") }
    } while take(UInt8(ascii: "."))
    return names
  }

  private static func isBare(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"): true
    default: false
    }
  }
}

// MARK: - Values

extension TOMLParser {
  private mutating func value(_ path: String, _ depth: Int) throws(Failure) -> JSON {
    guard depth <= Self.deepest else { throw failure("nested deeper than \(Self.deepest) levels") }
    switch next {
    case UInt8(ascii: "\"")?: return .string(begins(with: "\"\"\"") ? try longString(quote: UInt8(ascii: "\"")) : try basicString())
    case UInt8(ascii: "'")?: return .string(begins(with: "'''") ? try longString(quote: UInt8(ascii: "'")) : try literalString())
    case UInt8(ascii: "[")?: return try array(path, depth)
    case UInt8(ascii: "{")?: return try inlineTable(path, depth)
    default: return try word(path)
    }
  }

  private mutating func array(_ path: String, _ depth: Int) throws(Failure) -> JSON {
    at += 1
    var elements: [JSON] = []
    while true {
      try skipLines()
      if take(UInt8(ascii: "]")) { return .array(elements) }
      elements.append(try value("\(path)[\(elements.count)]", depth + 1))
      try skipLines()
      if take(UInt8(ascii: "]")) { return .array(elements) }
      guard take(UInt8(ascii: ",")) else { throw failure("expected , or ] in an array") }
    }
  }

  private mutating func inlineTable(_ path: String, _ depth: Int) throws(Failure) -> JSON {
    at += 1
    let table = Table()
    skipBlanks()
    if take(UInt8(ascii: "}")) { return table.value }
    while true {
      try pair(in: table, path, depth: depth + 1)
      skipBlanks()
      if take(UInt8(ascii: "}")) { return table.value }
      guard take(UInt8(ascii: ",")) else { throw failure("expected , or } in a table of one line") }
    }
  }

  /// true, false, or a number.
  private mutating func word(_ path: String) throws(Failure) -> JSON {
    let start = at
    while let byte = next, Self.isBare(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: ":") { at += 1 }
    let word = String(decoding: input[start..<at], as: UTF8.self)
    switch word {
    case "": throw failure("expected a value")
    case "true": return .bool(true)
    case "false": return .bool(false)
    case "inf", "+inf", "-inf", "nan", "+nan", "-nan": throw failure("must be finite", path: path)
    default: break
    }
    if let number = Self.number(word) { return number }
    if Self.isDate(word) { throw failure("dates and times are not used here", path: path) }
    throw failure("\(word.prefix(40)) is no value; texts stand in quotes")
  }

  private static func isDate(_ word: String) -> Bool {
    let bytes = Array(word.utf8)
    func isDigit(_ index: Int) -> Bool { index < bytes.count && (0x30...0x39).contains(bytes[index]) }
    return bytes.count >= 8 && (0..<2).allSatisfy(isDigit) && (bytes[2] == UInt8(ascii: ":") || (2..<4).allSatisfy(isDigit) && bytes[4] == UInt8(ascii: "-"))
  }

  private static func number(_ word: String) -> JSON? {
    // Underscores stand between digits and nowhere else.
    let bytes = Array(word.utf8)
    func isDigit(_ byte: UInt8, _ radix: Int) -> Bool { Int(String(Unicode.Scalar(byte)), radix: radix) != nil }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] where word.hasPrefix(prefix) {
      guard let digits = plain(bytes.dropFirst(2), radix), !digits.isEmpty else { return nil }
      return Int(digits, radix: radix).map { .number($0) }
    }
    guard let digits = plain(bytes[...], 10) else { return nil }
    var rest = digits.utf8[...]
    func takeDigits() -> Int {
      let count = rest.prefix { isDigit($0, 10) }.count
      rest = rest.dropFirst(count)
      return count
    }
    if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
    let hasLeadingZero = rest.first == UInt8(ascii: "0")
    let whole = takeDigits()
    guard whole > 0, !hasLeadingZero || whole == 1 else { return nil }
    if rest.isEmpty { return Int(digits).map { .number($0) } }
    if rest.first == UInt8(ascii: ".") {
      rest = rest.dropFirst()
      guard takeDigits() > 0 else { return nil }
    }
    if let letter = rest.first, letter | 0x20 == UInt8(ascii: "e") {
      rest = rest.dropFirst()
      if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
      guard takeDigits() > 0 else { return nil }
    }
    guard rest.isEmpty, let double = Double(digits), double.isFinite else { return nil }
    return .number(double)
  }

  /// Without underscores; nil where one is not between digits.
  private static func plain(_ bytes: ArraySlice<UInt8>, _ radix: Int) -> String? {
    func isDigit(_ index: Int) -> Bool { bytes.indices.contains(index) && Int(String(Unicode.Scalar(bytes[index])), radix: radix) != nil }
    for index in bytes.indices where bytes[index] == UInt8(ascii: "_") {
      guard isDigit(index - 1), isDigit(index + 1) else { return nil }
    }
    let digits = bytes.filter { $0 != UInt8(ascii: "_") }
    guard radix == 10 || digits.allSatisfy({ Int(String(Unicode.Scalar($0)), radix: radix) != nil }) else { return nil }
    return String(decoding: digits, as: UTF8.self)
  }
}

// MARK: - Texts

extension TOMLParser {
  private mutating func basicString() throws(Failure) -> String {
    at += 1
    var bytes: [UInt8] = []
    while let byte = next {
      if take(UInt8(ascii: "\"")) { return String(decoding: bytes, as: UTF8.self) }
      if byte == UInt8(ascii: "\\") { try escape(&bytes) } else { try character(byte, &bytes) }
    }
    throw failure("a text without an end")
  }

  private mutating func literalString() throws(Failure) -> String {
    at += 1
    var bytes: [UInt8] = []
    while let byte = next {
      if take(UInt8(ascii: "'")) { return String(decoding: bytes, as: UTF8.self) }
      try character(byte, &bytes)
    }
    throw failure("a text without an end")
  }

  /// In three quotes, over several lines.
  private mutating func longString(quote: UInt8) throws(Failure) -> String {
    at += 3
    _ = lineBreak()
    var bytes: [UInt8] = []
    while let byte = next {
      if byte == quote {
        var count = 0
        while count < 5, take(quote) { count += 1 }
        // Up to two quotes may stand in front of the closing three.
        bytes += [UInt8](repeating: quote, count: count >= 3 ? count - 3 : count)
        if count >= 3 { return String(decoding: bytes, as: UTF8.self) }
      } else if lineBreak() {
        bytes.append(UInt8(ascii: "\n"))
      } else if byte == UInt8(ascii: "\\"), quote == UInt8(ascii: "\"") {
        if !skipToNextLine() { try escape(&bytes) }
      } else {
        try character(byte, &bytes)
      }
    }
    throw failure("a text without an end")
  }

  /// A backslash at the end of a line leaves out everything up to the next word.
  private mutating func skipToNextLine() -> Bool {
    let start = at
    at += 1
    skipBlanks()
    guard lineBreak() else {
      at = start
      return false
    }
    repeat { skipBlanks() } while lineBreak()
    return true
  }

  private mutating func character(_ byte: UInt8, _ bytes: inout [UInt8]) throws(Failure) {
    guard byte >= 0x20 && byte != 0x7F || byte == UInt8(ascii: "\t") else { throw failure("a text with a control character, or without an end") }
    bytes.append(byte)
    at += 1
  }

  private mutating func escape(_ bytes: inout [UInt8]) throws(Failure) {
    at += 1
    let kind = next
    at += 1
    switch kind {
    case UInt8(ascii: "b")?: bytes.append(0x08)
    case UInt8(ascii: "t")?: bytes.append(0x09)
    case UInt8(ascii: "n")?: bytes.append(0x0A)
    case UInt8(ascii: "f")?: bytes.append(0x0C)
    case UInt8(ascii: "r")?: bytes.append(0x0D)
    case UInt8(ascii: "\"")?, UInt8(ascii: "\\")?: bytes.append(kind ?? 0)
    case UInt8(ascii: "u")?, UInt8(ascii: "U")?:
      let count = kind == UInt8(ascii: "u") ? 4 : 8
      let digits = input[min(at, input.count)..<min(at + count, input.count)]
      guard digits.count == count, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }), let code = UInt32(String(decoding: digits, as: UTF8.self), radix: 16),
        let scalar = Unicode.Scalar(code)
      else { throw failure("an escape that is no character") }
      guard code != 0 else { throw failure("a NUL character") }
      at += count
      bytes += Array(String(Character(scalar)).utf8)
    default: throw failure("an unknown escape")
    }
  }
}
