import Basics
import TOMLKit

/// A TOML text as a JSON tree, with the line of every key, so that a complaint can say where.
struct TOMLSource {
  let root: JSON
  /// Line (from 1) by path, for example `mqtt.port` or `tasks[1].output`.
  private let lines: [String: Int]
  private let name: String

  /// - Parameter name: what the text is called in messages, usually the path of its file.
  init(_ text: String, name: String) throws(SternaError) {
    self.name = name
    // The parser below works on C strings: what follows a NUL would be ignored silently.
    guard !text.utf8.contains(0), !text.contains("\\u0000"), !text.contains("\\U00000000") else {
      throw SternaError(.badConfiguration, "holds a NUL character", at: name, remedy: "remove it")
    }
    lines = try Self.index(text, name)
    do {
      root = try Self.convert(TOMLTable(string: text), path: "")
    } catch let error as TOMLParseError {
      throw SternaError(
        .badConfiguration, "is not TOML", at: "\(name), line \(error.source.begin.line), column \(error.source.begin.column)",
        cause: error.description)
    } catch let error as SternaError {
      throw error.within(name)
    } catch {
      throw SternaError(.badConfiguration, "is not TOML", at: name, cause: "\(error)")
    }
  }

  /// The error with file and line in front of the key's path. An element inside an array gets the line of the array.
  func located(_ error: SternaError) -> SternaError {
    var error = error
    error.code = .badConfiguration
    guard let path = error.place else { return error.within(name) }
    var known = path[...]
    while !known.isEmpty, lines[String(known)] == nil {
      known = known.lastIndex { $0 == "." || $0 == "[" }.map { known[..<$0] } ?? ""
    }
    return error.within(lines[String(known)].map { "\(name), line \($0)" } ?? name)
  }

  private static func convert(_ table: TOMLTable, path: String) throws(SternaError) -> JSON {
    var object = JSON.Object()
    for key in table.keys {
      guard let value = table[key] else { continue }
      object[key] = try convert(value, path: path.isEmpty ? key : path + "." + key)
    }
    return .object(object)
  }

  private static func convert(_ value: any TOMLValueConvertible, path: String) throws(SternaError) -> JSON {
    if let text = value.string { return .string(text) }
    if let bool = value.bool { return .bool(bool) }
    if let int = value.int { return .number(int) }
    if let double = value.double {
      guard double.isFinite else { throw SternaError(.badConfiguration, "must be finite", at: path, found: "\(double)") }
      return .number(double)
    }
    if let table = value.table { return try convert(table, path: path) }
    if let array = value.array {
      var elements: [JSON] = []
      for index in 0..<array.count { elements.append(try convert(array[index], path: "\(path)[\(index)]")) }
      return .array(elements)
    }
    throw SternaError(.badConfiguration, "dates and times are not used here", at: path, remedy: "put it in quotes if it is a text")
  }
}

// MARK: - Lines

/// The parser keeps no positions of values, so a second, shallow look at the text finds the line of each `key =` and `[table]`.
extension TOMLSource {
  /// - Throws: for a table's name that does not begin as one: the parser takes that as a mistake of its own and ends the process.
  private static func index(_ text: String, _ name: String) throws(SternaError) -> [String: Int] {
    var lines: [String: Int] = [:]
    var prefix = ""
    var tables: [String: Int] = [:]  // arrays of tables: how many so far
    var scanner = ValueScanner()
    // By bytes, as the parser sees it: a combining mark would make another Character of a bracket or a quote.
    for (number, line) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      let mark = number == 0 && line.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
      var rest = Substring(line.dropFirst(mark).drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") })
      if !scanner.isInsideValue {
        if rest.utf8.first == UInt8(ascii: "[") {
          let isArray = rest.utf8.dropFirst().first == UInt8(ascii: "[")
          let inside = rest.utf8.dropFirst(isArray ? 2 : 1)
          guard Self.mayBeginName(inside) else {
            throw SternaError(.badConfiguration, "is not TOML", at: "\(name), line \(number + 1)", expected: "the name of a table behind the bracket")
          }
          let table = resolve(keys(Substring(inside), until: "]"), tables)
          prefix = table
          if isArray {
            tables[table, default: 0] += 1
            prefix = "\(table)[\((tables[table] ?? 1) - 1)]"
            if lines[table] == nil { lines[table] = number + 1 }
          }
          lines[prefix] = number + 1
          continue
        }
        guard let first = rest.first, first != "#", let equals = equalsSign(rest) else { continue }
        var path = prefix
        for key in keys(rest[..<equals], until: "=") {
          path = path.isEmpty ? key : path + "." + key
          if lines[path] == nil { lines[path] = number + 1 }
        }
        rest = rest[rest.index(after: equals)...]
      }
      scanner.feed(rest)
    }
    return lines
  }

  private static func mayBeginName(_ inside: Substring.UTF8View) -> Bool {
    switch inside.first(where: { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\t") }) {
    case nil, UInt8(ascii: "]"), UInt8(ascii: "\r"), UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: "-"), UInt8(ascii: "_"): true
    case .some(UInt8(ascii: "0")...UInt8(ascii: "9")), .some(UInt8(ascii: "A")...UInt8(ascii: "Z")), .some(UInt8(ascii: "a")...UInt8(ascii: "z")): true
    default: false
    }
  }

  /// `tasks`, `options` behind `[[tasks]]` means `tasks[last].options`.
  private static func resolve(_ keys: [String], _ tables: [String: Int]) -> String {
    var path = ""
    for (i, key) in keys.enumerated() {
      path = path.isEmpty ? key : path + "." + key
      if i < keys.count - 1, let count = tables[path] { path += "[\(count - 1)]" }
    }
    return path
  }

  private static func equalsSign(_ line: Substring) -> Substring.Index? {
    var quote: Character?
    for index in line.indices {
      let character = line[index]
      if let open = quote {
        if character == open { quote = nil }
      } else if character == "\"" || character == "'" {
        quote = character
      } else if character == "=" {
        return index
      } else if character == "#" {
        return nil
      }
    }
    return nil
  }

  /// The parts of a dotted key, without quotes.
  private static func keys(_ text: Substring, until end: Character) -> [String] {
    var parts: [String] = [""]
    var quote: Character?
    for character in text {
      if let open = quote {
        if character == open { quote = nil } else { parts[parts.count - 1].append(character) }
      } else if character == end {
        break
      } else if character == "\"" || character == "'" {
        quote = character
      } else if character == "." {
        parts.append("")
      } else if character != " ", character != "\t" {
        parts[parts.count - 1].append(character)
      }
    }
    return parts
  }

  /// Knows whether a value that spans lines is still open.
  private struct ValueScanner {
    private var depth = 0
    private var longQuote: String?
    var isInsideValue: Bool { depth > 0 || longQuote != nil }

    mutating func feed(_ line: Substring) {
      var rest = line.utf8[...]
      func begins(with text: String) -> Bool { rest.starts(with: text.utf8) }
      while let byte = rest.first {
        if let quote = longQuote {
          if begins(with: quote) {
            longQuote = nil
            rest = rest.dropFirst(3)
          } else {
            rest = rest.dropFirst(byte == UInt8(ascii: "\\") && quote == "\"\"\"" ? 2 : 1)
          }
        } else if begins(with: "\"\"\"") || begins(with: "'''") {
          longQuote = byte == UInt8(ascii: "'") ? "'''" : "\"\"\""
          rest = rest.dropFirst(3)
        } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
          rest = rest.dropFirst()
          while let inner = rest.first, inner != byte { rest = rest.dropFirst(inner == UInt8(ascii: "\\") && byte == UInt8(ascii: "\"") ? 2 : 1) }
          rest = rest.dropFirst()
        } else if byte == UInt8(ascii: "#") {
          return
        } else {
          if byte == UInt8(ascii: "[") || byte == UInt8(ascii: "{") { depth += 1 }
          if byte == UInt8(ascii: "]") || byte == UInt8(ascii: "}") { depth -= 1 }
          rest = rest.dropFirst()
        }
      }
    }
  }
}
