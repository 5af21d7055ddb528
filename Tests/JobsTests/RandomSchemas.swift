import Basics
import Jobs
import TestSupport

/// JSON Schemas by chance, as documents: everything that a client may send, in all combinations.
struct RandomSchemas {
  var random: SplitMix64

  /// Strings of `enum` and `const`: none of them stands in a text of the tests, so a value without evidence is one of these or free.
  static let words = ["~open", "~closed", "~it's \"so\"", "~größer", "~a/b"]
  private static let names = ["name", "serialNumber", "the \"place\"", "größe", "a b", "x", "温度"]
  private static let patterns = ["^[A-Z]{2}-\\d+$", "pu", "^\\S+$", "^[^\"\\\\]*$", "^[a-zé]{1,6}$", "\\d", "^(?:pump|Ventil)(?: .*)?$", "x?$"]
  private static let formats = ["date", "time", "date-time", "uuid", "ipv4", "email"]

  private mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
  private mutating func one(in count: Int) -> Bool { Int.random(in: 0..<count, using: &random) == 0 }
  private mutating func any<T>(_ elements: [T]) -> T { elements[Int.random(in: 0..<elements.count, using: &random)] }

  /// - Parameter allowsFree: whether values may be the model's own.
  mutating func document(allowsFree: Bool) -> JSON {
    guard case .object(var root) = one(in: 6) ? schema(0, allowsFree) : object(0, allowsFree) else { return true }
    root["$defs"] = [
      "part": ["type": "object", "properties": ["name": ["type": "string"], "parts": ["type": "array", "items": ["$ref": "#/$defs/part"], "maxItems": 2]], "required": ["name"]],
      "chain": ["anyOf": [["type": "null"], ["type": "object", "properties": ["next": ["$ref": "#/$defs/chain"], "n": ["type": "number"]], "required": ["next"]]]],
      "leaf": leaf(allowsFree),
    ]
    return .object(root)
  }

  private mutating func schema(_ depth: Int, _ allowsFree: Bool) -> JSON {
    switch number(0...(depth > 2 ? 3 : 9)) {
    case 0, 1, 2: return leaf(allowsFree)
    case 3: return ["$ref": .string("#/$defs/" + any(["part", "chain", "leaf"]))]
    case 4, 5, 6: return array(depth, allowsFree)
    case 7: return ["anyOf": .array((0..<number(1...3)).map { _ in schema(depth + 1, allowsFree) })]
    default: return object(depth, allowsFree)
    }
  }

  private mutating func object(_ depth: Int, _ allowsFree: Bool) -> JSON {
    var properties = JSON.Object()
    for name in Self.names.shuffled(using: &random).prefix(number(0...4)) { properties[name] = schema(depth + 1, allowsFree) }
    let required = properties.members.map(\.name).filter { _ in one(in: 2) }.shuffled(using: &random)
    var object: JSON.Object = ["type": one(in: 5) ? ["object", "null"] : "object", "properties": .object(properties)]
    if !required.isEmpty { object["required"] = .array(required.map { .string($0) }) }
    if one(in: 2) { object["additionalProperties"] = false }
    return .object(object)
  }

  private mutating func array(_ depth: Int, _ allowsFree: Bool) -> JSON {
    var array: JSON.Object = ["type": one(in: 5) ? ["array", "null"] : "array"]
    if one(in: 3) { array["prefixItems"] = .array((0..<number(1...2)).map { _ in schema(depth + 1, allowsFree) }) }
    if !one(in: 6) { array["items"] = one(in: 12) ? false : schema(depth + 1, allowsFree) }
    let least = number(0...2)
    if least > 0 { array["minItems"] = .number(least) }
    array["maxItems"] = .number(least + number(0...2))
    if one(in: 2) { array["uniqueItems"] = true }
    return .object(array)
  }

  private mutating func leaf(_ allowsFree: Bool) -> JSON {
    let isFree = allowsFree && one(in: 3)
    var leaf = JSON.Object()
    func nullable(_ type: String, _ isNullable: Bool) -> JSON { isNullable ? [.string(type), "null"] : .string(type) }
    let isNullable = one(in: 2)
    switch number(0...8) {
    case 0: return ["enum": .array(([.bool(true), .null, 12, .number(0.5)] + Self.words.map { .string($0) }).shuffled(using: &random).prefix(number(1...5)).map { $0 })]
    case 1: return ["const": .string(any(Self.words))]
    case 2: return ["type": nullable("boolean", isNullable)]
    case 3, 4:
      leaf["type"] = nullable(any(["integer", "number"]), isNullable)
      if one(in: 3) { leaf[any(["minimum", "exclusiveMinimum"])] = .number(number(-10...5)) }
      if one(in: 3) { leaf[any(["maximum", "exclusiveMaximum"])] = .number(number(6...30)) }
    default:
      leaf["type"] = nullable("string", isNullable)
      if one(in: 3) { leaf["minLength"] = .number(number(0...3)) }
      if isFree || one(in: 3) { leaf["maxLength"] = .number(number(3...12)) }
      if one(in: 4) { leaf["pattern"] = .string(any(Self.patterns)) }
      if one(in: 4) {
        leaf["format"] = .string(any(Self.formats))
        (leaf["minLength"], leaf["maxLength"]) = (nil, nil)
      }
    }
    if isFree { leaf["source"] = "free" }
    return .object(leaf)
  }
}

/// Texts with everything that makes copying hard, and with numbers, dates and what formats describe.
func richText(_ random: inout SplitMix64) -> String {
  let atoms = [
    "24.11.2026", "2026-11-24", "14:30", "at 2 PM", "2026-11-24T14:30:05Z", "November 24, 2026", "SN-12", "AB-7", "-7", "1,234.5", "12", "12.0", "007", "−3", "1e3", "10.0.0.1", "ops@example.org",
    "8d3f1c60-9a4e-4f4e-9a7f-0123456789ab", "pump 7", "pump pump", "Ventil.", "\"ab\"", "a", "a",
  ]
  let pieces = (0..<Int.random(in: 0...4, using: &random)).map { _ in Bool.random(using: &random) ? hardText(&random) : atoms.randomElement(using: &random) ?? "a" }
  return pieces.isEmpty ? "a" : pieces.joined(separator: " ")
}
