import Basics

/// All subschemas that can be reached from the root of a schema, each read once.
struct SchemaDocument {
  private(set) var subschemas: [Subschema] = []
  /// The root, past any `$ref` that is all it has; nil when any value is right.
  private(set) var start: Int?
  private(set) var notes: [String] = []

  private let root: JSON
  private let limits: JSONSchema.Limits
  private let dialect: Dialect
  /// By JSON pointer.
  private var known: [[UInt8]: Int] = [:]
  private var waiting: [(id: Int, schema: JSON, pointer: String)] = []
  private var anchors: [[UInt8]: SchemaPointer.Target]?
  private var automata: [[UInt8]: StringAutomaton] = [:]
  private var states = 0

  /// Drafts differ in few of the keywords that are supported: in draft-07 a `$ref` stands alone, and `prefixItems` came last.
  private enum Dialect {
    case draft2020, draft2019, draft7
  }

  init(_ root: JSON, limits: JSONSchema.Limits) throws(SternaError) {
    self.root = root
    self.limits = limits
    dialect = try Self.dialect(of: root)
    _ = try add(root, pointer: "", path: "")
    var next = 0
    while next < waiting.count {
      let (id, schema, pointer) = waiting[next]
      next += 1
      try read(schema, pointer: pointer, into: id)
    }
    waiting = []
    try checkNesting()
    start = meant(0)
    for id in subschemas.indices {
      subschemas[id].prefixItems = subschemas[id].prefixItems.map { $0.flatMap(meant) }
      subschemas[id].items = subschemas[id].items.flatMap(meant)
      subschemas[id].additionalProperties = subschemas[id].additionalProperties.flatMap(meant)
      for i in subschemas[id].properties.indices {
        let (name, _, schema) = subschemas[id].properties[i]
        subschemas[id].properties[i] = (name, schema.flatMap(description), schema.flatMap(meant))
      }
    }
  }

  /// Past all that only refers to another one; nil when that allows anything.
  private func meant(_ id: Int) -> Int? {
    var id = id
    while let other = subschemas[id].alias { id = other }
    return subschemas[id].allowsAnything ? nil : id
  }

  private func description(_ id: Int) -> String? {
    var id = id
    while subschemas[id].description == nil, subschemas[id].also.count == 1 { id = subschemas[id].also[0] }
    return subschemas[id].description
  }

  private static func dialect(of root: JSON) throws(SternaError) -> Dialect {
    let schema = JSONReader(root)["$schema"]
    guard schema.value != nil else { return .draft2020 }
    switch try schema.string() {
    case "https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2020-12/schema#": return .draft2020
    case "https://json-schema.org/draft/2019-09/schema", "https://json-schema.org/draft/2019-09/schema#": return .draft2019
    case "http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-07/schema", "https://json-schema.org/draft-07/schema#",
      "https://json-schema.org/draft-07/schema":
      return .draft7
    case let other:
      throw SternaError(
        .unsupported, "is another dialect of JSON Schema", at: "$schema", expected: "draft 2020-12, 2019-09 or draft-07", found: other,
        remedy: "rewrite the schema for https://json-schema.org/draft/2020-12/schema")
    }
  }

  /// The index of a subschema, which is read later.
  private mutating func add(_ schema: JSON, pointer: String, path: String) throws(SternaError) -> Int {
    if let id = known[Array(pointer.utf8)] { return id }
    guard subschemas.count < limits.subschemas else {
      throw SternaError(.unsupported, "the schema is too large", at: path, expected: "at most \(limits.subschemas) subschemas")
    }
    let id = subschemas.count
    known[Array(pointer.utf8)] = id
    subschemas.append(Subschema(path: path))
    waiting.append((id, schema, pointer))
    return id
  }

  // MARK: Reading keywords

  private mutating func read(_ schema: JSON, pointer: String, into id: Int) throws(SternaError) {
    var result = Subschema(path: subschemas[id].path)
    switch schema {
    case .bool(let allowed): result.allowsNothing = !allowed
    case .object(let object):
      let reader = JSONReader(schema, path: result.path)
      for (name, value) in object.members {
        let keyword = SchemaKeyword(reader: reader[name], value: value, place: result.place(name), pointer: pointer + "/" + SchemaPointer.escaped(name))
        try read(name, keyword, into: &result)
      }
      if result.source != nil, result.types.isDisjoint(with: [.string, .number]) {
        throw SternaError(.badField, "says where a string or number comes from, and none is allowed here", at: result.place("source"))
      }
      if dialect == .draft7, object["$ref"] != nil, let beside = object.members.first(where: { !SchemaKeywords.areIgnored(besideReference: $0.name) }) {
        throw SternaError(
          .unsupported, "stands beside $ref, where draft-07 ignores it", at: result.place(beside.name),
          remedy: "say \"$schema\": \"https://json-schema.org/draft/2020-12/schema\", where it counts")
      }
    default:
      let place = result.path.isEmpty ? "(the whole schema)" : result.path
      throw SternaError(.badField, "is not a schema", at: place, expected: "an object, true or false", found: schema.kind)
    }
    subschemas[id] = result
  }

  private mutating func read(_ name: String, _ keyword: SchemaKeyword, into result: inout Subschema) throws(SternaError) {
    let reader = keyword.reader
    switch name {
    case "type": try readType(keyword, into: &result)
    case "enum": result.values = both(result.values, SchemaLiterals(try keyword.values(limit: limits.values)))
    case "const": result.values = both(result.values, SchemaLiterals([keyword.value]))
    case "minimum", "exclusiveMinimum":
      let bound = SchemaBound(value: try keyword.number(), isExclusive: name == "exclusiveMinimum")
      result.minimum = .tighter(result.minimum, bound, asMinimum: true)
    case "maximum", "exclusiveMaximum":
      let bound = SchemaBound(value: try keyword.number(), isExclusive: name == "exclusiveMaximum")
      result.maximum = .tighter(result.maximum, bound, asMinimum: false)
    case "multipleOf":
      guard try keyword.number() == ExactDecimal(1) else { throw keyword.unsupported("only multiples of 1 can be enforced") }
      result.isInteger = true
    case "minLength": result.minLength = try keyword.least(limit: limits.leastCount)
    case "maxLength": result.maxLength = try keyword.most()
    case "pattern":
      if let automaton = try automaton(name, keyword) { result.automata.append(automaton) }
    case "format":
      guard let automaton = try automaton(name, keyword) else {
        throw SternaError(
          .unsupported, "this format cannot be enforced", at: keyword.place, expected: StringAutomaton.formats.joined(separator: ", "),
          found: keyword.value.compact, remedy: "leave it out, or say what it asks for as a pattern")
      }
      result.moment = Constraint.StringRule.Moment(rawValue: try reader.string())
      result.automata.append(automaton)
    case "minItems": result.minItems = try keyword.least(limit: limits.leastCount)
    case "maxItems": result.maxItems = try keyword.most()
    case "uniqueItems": result.uniqueItems = try reader.bool()
    case "prefixItems":
      guard dialect == .draft2020 else { throw keyword.unsupported("means nothing in the dialect that $schema names") }
      result.prefixItems = try subschemas(in: keyword)
    case "items":
      if case .array = keyword.value {
        throw keyword.unsupported("a list of schemas is the form of older drafts", remedy: "call it prefixItems, and additionalItems items")
      }
      result.items = try add(keyword.value, pointer: keyword.pointer, path: keyword.place)
    case "properties":
      for (name, value) in try reader.object().members {
        result.properties.append(
          (name, nil, try add(value, pointer: keyword.pointer + "/" + SchemaPointer.escaped(name), path: keyword.place + "." + name)))
      }
    case "required":
      for name in try reader.array() { result.required.append(try name.string()) }
    case "additionalProperties": result.additionalProperties = try add(keyword.value, pointer: keyword.pointer, path: keyword.place)
    case "allOf": result.also += try subschemas(in: keyword)
    case "anyOf": result.anyOf = try subschemas(in: keyword)
    case "oneOf": result.oneOf = try subschemas(in: keyword)
    case "$ref":
      let target = try self.target(of: reader)
      result.also.append(try add(target.schema, pointer: target.pointer, path: target.path))
    case "source":
      switch try reader.string() {
      case "free": result.source = .free
      case "copied": result.source = .copied
      default: throw reader.error("is not a source", expected: "\"copied\" or \"free\"")
      }
    case "description": result.description = try reader.string()
    case "$schema":
      if !result.path.isEmpty, try Self.dialect(of: .object(["$schema": keyword.value])) != dialect { throw keyword.unsupported("changes the dialect") }
    case "$id":
      _ = try reader.string()
      if !result.path.isEmpty { throw keyword.unsupported("begins a document of its own", remedy: "leave it out and refer to it by \"#/...\"") }
    case "$anchor": _ = try reader.string()
    case "$defs", "definitions": _ = try reader.object()
    default:
      if SchemaKeywords.annotations.contains(name) || name.hasPrefix("x-") { return }
      if let why = SchemaKeywords.unsupported[name] { throw keyword.unsupported("cannot be enforced", remedy: why.isEmpty ? nil : why) }
      if let meant = SchemaKeywords.misspelt(name) {
        throw SternaError(.unsupported, "is no keyword of JSON Schema", at: keyword.place, remedy: "write \(meant), or x-\(name) for a note of your own")
      }
      notes.append("\(keyword.place): not a keyword of JSON Schema, ignored")
    }
  }

  /// The strings that a `pattern` or `format` allows, made once for each text; nil for an unknown format.
  private mutating func automaton(_ name: String, _ keyword: SchemaKeyword) throws(SternaError) -> StringAutomaton? {
    let text = try keyword.reader.string()
    let key = Array((name + " " + text).utf8)
    if let known = automata[key] { return known }
    let made: StringAutomaton?
    do { made = name == "format" ? try StringAutomaton.format(text) : try StringAutomaton.pattern(text) } catch { throw error.within(keyword.place) }
    guard let made else { return nil }
    automata[key] = made
    states += made.stateCount
    guard states <= limits.states, automata.count <= limits.patterns else {
      throw SternaError(
        .unsupported, "the patterns are too large together", at: keyword.place, expected: "at most \(limits.patterns) patterns with \(limits.states) states")
    }
    return made
  }

  private func readType(_ keyword: SchemaKeyword, into result: inout Subschema) throws(SternaError) {
    let names: [JSONReader]
    if case .array = keyword.value { names = try keyword.reader.array(count: 1...) } else { names = [keyword.reader] }
    result.types = []
    var integer = false
    for name in names {
      switch try name.string() {
      case "null": result.types.insert(.null)
      case "boolean": result.types.insert(.boolean)
      case "integer": integer = true
      case "number": result.types.insert(.number)
      case "string": result.types.insert(.string)
      case "array": result.types.insert(.array)
      case "object": result.types.insert(.object)
      default: throw name.error("is not a type", expected: "null, boolean, integer, number, string, array or object")
      }
    }
    if integer, result.types.insert(.number).inserted { result.isInteger = true }
  }

  /// `enum` and `const` side by side.
  private func both(_ a: SchemaLiterals?, _ b: SchemaLiterals) -> SchemaLiterals {
    a.map { SchemaLiterals($0.values.filter(b.contains)) } ?? b
  }

  private mutating func subschemas(in keyword: SchemaKeyword) throws(SternaError) -> [Int] {
    var ids: [Int] = []
    for (i, element) in try keyword.reader.array(count: 1...).enumerated() {
      ids.append(try add(element.value ?? .null, pointer: "\(keyword.pointer)/\(i)", path: element.path))
    }
    return ids
  }

  // MARK: References

  private mutating func target(of reader: JSONReader) throws(SternaError) -> SchemaPointer.Target {
    let reference = try reader.string()
    let halves = reference.utf8.split(separator: UInt8(ascii: "#"), maxSplits: 1, omittingEmptySubsequences: false)
    if let document = halves.first, !document.isEmpty {
      guard case .object(let object) = root, case .string(let id)? = object["$id"],
        document.elementsEqual(id.utf8.last == UInt8(ascii: "#") ? id.utf8.dropLast() : id.utf8[...])
      else {
        throw reader.error("refers to another document", expected: "a reference within the schema, such as \"#/$defs/name\"").unsupported
      }
    }
    guard let decoded = SchemaPointer.percentDecoded(halves.dropFirst().joined()) else { throw reader.error("is not a reference: bad percent-encoding") }
    if decoded.isEmpty { return SchemaPointer.Target(schema: root, pointer: "", path: "") }
    if decoded.utf8.first == UInt8(ascii: "/") { return try SchemaPointer.target(decoded, in: root, from: reader) }
    if anchors == nil { anchors = try SchemaPointer.anchors(in: root) }
    guard let target = anchors?[Array(decoded.utf8)] else { throw reader.error("refers to an anchor that is not there") }
    return target
  }

  // MARK: Nesting

  /// Follows the keywords that hold for the same value. They must neither come back to where they began nor nest too deep.
  private func checkNesting() throws(SternaError) {
    var heights = [Int?](repeating: nil, count: subschemas.count)
    for id in subschemas.indices { _ = try height(id, depth: 0, path: [], &heights) }
  }

  private func height(_ id: Int, depth: Int, path: [Int], _ heights: inout [Int?]) throws(SternaError) -> Int {
    let schema = subschemas[id]
    if path.contains(id) {
      throw SternaError(
        .badField, "refers to itself without going into a property or an element", at: schema.path.isEmpty ? "(the whole schema)" : schema.path,
        remedy: "break the circle of $ref, allOf, anyOf and oneOf")
    }
    guard depth + (heights[id] ?? 0) <= limits.nesting else {
      throw SternaError(
        .unsupported, "$ref, allOf, anyOf and oneOf are nested too deep", at: schema.path, expected: "at most \(limits.nesting) inside each other")
    }
    if let height = heights[id] { return height }
    var height = 0
    for inner in schema.also + schema.anyOf + schema.oneOf {
      height = max(height, 1 + (try self.height(inner, depth: depth + 1, path: path + [id], &heights)))
    }
    heights[id] = height
    return height
  }
}
