import Basics

/// JSON pointers (RFC 6901) and anchors of a schema.
enum SchemaPointer {
  struct Target {
    var schema: JSON
    /// In one spelling for each place.
    var pointer: String
    var path: String
  }

  static func escaped(_ name: String) -> String {
    var out: [UInt8] = []
    for byte in name.utf8 {
      switch byte {
      case UInt8(ascii: "~"): out += "~0".utf8
      case UInt8(ascii: "/"): out += "~1".utf8
      default: out.append(byte)
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// Nil when a `~` is followed by neither 0 nor 1.
  private static func unescaped(_ token: some Sequence<UInt8>) -> String? {
    var out: [UInt8] = []
    var bytes = token.makeIterator()
    while let byte = bytes.next() {
      guard byte == UInt8(ascii: "~") else {
        out.append(byte)
        continue
      }
      switch bytes.next() {
      case UInt8(ascii: "0"): out.append(UInt8(ascii: "~"))
      case UInt8(ascii: "1"): out.append(UInt8(ascii: "/"))
      default: return nil
      }
    }
    return String(validating: out, as: UTF8.self)
  }

  /// Nil when it is not what percent-encoding gives.
  static func percentDecoded(_ text: some Sequence<UInt8>) -> String? {
    var out: [UInt8] = []
    var rest = Array(text)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        out.append(byte)
        continue
      }
      let digits = rest.prefix(2)
      guard digits.count == 2, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
        let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
      else {
        return nil
      }
      out.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: out, as: UTF8.self)
  }

  /// The place that a pointer such as `/$defs/a~1b/items` names.
  static func target(_ pointer: String, in root: JSON, from reader: JSONReader) throws(SternaError) -> Target {
    var place = Target(schema: root, pointer: "", path: "")
    for token in pointer.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropFirst() {
      guard let name = unescaped(token) else { throw reader.error("is not a JSON pointer: ~ must be followed by 0 or 1") }
      switch place.schema {
      case .object(let object):
        if !place.pointer.isEmpty, case .string? = object["$id"] {
          throw reader.error("leads through a part with an $id, which is a document of its own").unsupported
        }
        guard let member = object[name] else { throw reader.error("refers to a place that is not there") }
        place.schema = member
        place.path += (place.path.isEmpty ? "" : ".") + name
      case .array(let elements):
        guard let index = Int(name), String(index) == name, elements.indices.contains(index) else { throw reader.error("refers to a place that is not there") }
        place.schema = elements[index]
        place.path += "[\(index)]"
      default: throw reader.error("refers to a place that is not there")
      }
      place.pointer += "/" + escaped(name)
    }
    return place
  }

  /// Keywords whose values are schemas, lists of schemas, or schemas by name.
  private static let single = [
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties",
  ]
  private static let lists = ["allOf", "anyOf", "oneOf", "prefixItems"]
  private static let named = ["$defs", "definitions", "properties", "patternProperties", "dependentSchemas"]

  /// All places with an `$anchor`.
  static func anchors(in root: JSON) throws(SternaError) -> [[UInt8]: Target] {
    var found: [[UInt8]: Target] = [:]
    var waiting = [Target(schema: root, pointer: "", path: "")]
    while let place = waiting.popLast() {
      guard case .object(let object) = place.schema else { continue }
      if !place.pointer.isEmpty, case .string? = object["$id"] { continue }
      func inside(_ name: String) -> String { place.path.isEmpty ? name : place.path + "." + name }
      if case .string(let anchor)? = object["$anchor"], found.updateValue(place, forKey: Array(anchor.utf8)) != nil {
        throw SternaError(.badField, "two places have this anchor", at: inside("$anchor"), found: anchor)
      }
      for name in single {
        if let schema = object[name] { waiting.append(Target(schema: schema, pointer: place.pointer + "/" + name, path: inside(name))) }
      }
      for name in lists {
        guard case .array(let elements)? = object[name] else { continue }
        for (i, schema) in elements.enumerated() {
          waiting.append(Target(schema: schema, pointer: "\(place.pointer)/\(name)/\(i)", path: inside(name) + "[\(i)]"))
        }
      }
      for name in named {
        guard case .object(let members)? = object[name] else { continue }
        for member in members.members {
          waiting.append(Target(schema: member.value, pointer: "\(place.pointer)/\(name)/\(escaped(member.name))", path: inside(name) + "." + member.name))
        }
      }
    }
    return found
  }
}
