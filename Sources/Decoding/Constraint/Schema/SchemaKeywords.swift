import Basics

/// One member of a schema object, while it is read.
struct SchemaKeyword {
  let reader: JSONReader
  let value: JSON
  let place: String
  let pointer: String

  func unsupported(_ message: String, remedy: String? = nil) -> SternaError {
    SternaError(.unsupported, message, at: place, remedy: remedy)
  }

  func number() throws(SternaError) -> ExactDecimal {
    guard case .number(let number) = value else { throw reader.error("has the wrong type", expected: "a number") }
    guard let exact = ExactDecimal(number) else { throw reader.error("the exponent is out of range", expected: "at most nine digits") }
    return exact
  }

  /// A count of at least 0, as it stands.
  private func count() throws(SternaError) -> ExactDecimal {
    let number = try number()
    guard number.isInteger, number >= ExactDecimal(0) else { throw reader.error("is not a count", expected: "an integer of at least 0") }
    return number
  }

  /// A lower bound, which somebody has to reach.
  func least(limit: Int) throws(SternaError) -> Int {
    guard let count = try count().int, count <= limit else {
      throw SternaError(.unsupported, "is more than can be written", at: place, expected: "at most \(limit)")
    }
    return count
  }

  /// An upper bound; nil when it is out of anybody's reach.
  func most() throws(SternaError) -> Int? {
    let count = try count()
    return count > ExactDecimal(Int(Int32.max)) ? nil : count.int
  }

  /// The elements of an array that must not be empty.
  func values(limit: Int) throws(SternaError) -> [JSON] {
    guard case .array(let values) = value else { throw reader.error("has the wrong type", expected: "an array") }
    guard !values.isEmpty else { throw reader.error("is empty: no value could be right") }
    guard values.count <= limit else { throw SternaError(.unsupported, "has too many values", at: place, expected: "at most \(limit)", found: "\(values.count)") }
    return values
  }
}

/// Keywords that are not read.
enum SchemaKeywords {
  /// They say nothing about which values are right.
  static let annotations: Set<String> = [
    "title", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$comment", "contentEncoding", "contentMediaType", "contentSchema",
    "discriminator", "externalDocs", "xml",
  ]

  /// They do, or did in another draft, and are not enforced; with what to do instead.
  static let unsupported: [String: String] = [
    "not": "", "if": "use anyOf with the cases written out", "then": "use anyOf with the cases written out", "else": "use anyOf with the cases written out",
    "patternProperties": "declare the properties by name", "propertyNames": "declare the properties by name",
    "minProperties": "say which properties are required", "maxProperties": "", "dependentRequired": "use anyOf with the cases written out",
    "dependentSchemas": "use anyOf with the cases written out", "dependencies": "use anyOf with the cases written out",
    "contains": "", "minContains": "", "maxContains": "", "unevaluatedItems": "use items: false", "unevaluatedProperties": "use additionalProperties: false",
    "additionalItems": "use prefixItems and items", "$dynamicRef": "use $ref", "$dynamicAnchor": "use $anchor", "$recursiveRef": "use $ref", "$recursiveAnchor": "",
    "$vocabulary": "", "id": "use $id", "nullable": "use a list of types with \"null\"", "divisibleBy": "", "disallow": "", "extends": "use allOf",
  ]

  /// Keywords that would change which values are right.
  private static let assertions = [
    "type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format",
    "minItems", "maxItems", "uniqueItems", "prefixItems", "items", "properties", "required", "additionalProperties", "allOf", "anyOf", "oneOf", "$ref",
    "patternProperties", "propertyNames", "minProperties", "maxProperties", "contains", "minContains", "maxContains", "dependentRequired", "dependentSchemas",
    "unevaluatedItems", "unevaluatedProperties", "source",
  ]

  /// The keyword that an unknown one was probably meant to be: the same but for upper and lower case, `_` and `-`, or one letter.
  static func misspelt(_ name: String) -> String? {
    let plain = simplified(name)
    return assertions.first { keyword in
      let meant = simplified(keyword)
      return plain == meant || (meant.count >= 5 && plain.count <= 24 && isOneEdit(plain, meant))
    }
  }

  private static func simplified(_ name: String) -> [UInt8] {
    name.utf8.filter { $0 != UInt8(ascii: "_") && $0 != UInt8(ascii: "-") && $0 != UInt8(ascii: "$") && $0 != UInt8(ascii: " ") }
      .map { UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0 ? $0 | 0x20 : $0 }
  }

  /// Whether one letter inserted, left out or replaced, or two neighbours swapped, makes one of the other.
  private static func isOneEdit(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    let head = zip(a, b).prefix { $0 == $1 }.count
    let tail = min(zip(a.reversed(), b.reversed()).prefix { $0 == $1 }.count, min(a.count, b.count) - head)
    let (left, right) = (a[head..<(a.count - tail)], b[head..<(b.count - tail)])
    return max(left.count, right.count) <= 1 || (left.count == 2 && left.elementsEqual(right.reversed()))
  }

  /// What may stand beside a `$ref` in draft-07, where it does not count.
  static func areIgnored(besideReference name: String) -> Bool {
    annotations.contains(name) || name.hasPrefix("x-") || ["$ref", "$schema", "$id", "$defs", "definitions", "description"].contains(name)
  }
}

extension SternaError {
  var unsupported: SternaError {
    var error = self
    error.code = .unsupported
    return error
  }
}
