import Basics

/// Subschemas that must hold for one value at once, by index, ascending. None: any value is right.
struct SchemaGoal: Hashable {
  private(set) var schemas: [Int]

  init(_ schemas: [Int]) { self.schemas = schemas }

  static let anything = SchemaGoal([])

  func and(_ schema: Int?) -> SchemaGoal { schema.map { and(SchemaGoal([$0])) } ?? self }

  func and(_ other: SchemaGoal) -> SchemaGoal {
    if schemas == other.schemas || other.schemas.isEmpty { return self }
    return SchemaGoal(Set(schemas + other.schemas).sorted())
  }
}

/// A kind of value, one level deep: what is inside are goals.
enum SchemaRule: Equatable {
  case number(Number)
  case string(Text)
  case array(List)
  case object(Record)

  struct Number: Equatable {
    var isInteger = false
    var minimum: SchemaBound?
    var maximum: SchemaBound?
    var source: Constraint.Source?
  }

  struct Text: Equatable {
    var minLength = 0
    var maxLength: Int?
    var automaton: StringAutomaton?
    var moment: Constraint.StringRule.Moment?
    var source: Constraint.Source?
  }

  struct List: Equatable {
    var prefix: [SchemaGoal] = []
    var items = SchemaGoal.anything
    var minCount = 0
    var maxCount: Int?
    var isUnique = false

    func goal(at index: Int) -> SchemaGoal { index < prefix.count ? prefix[index] : items }
  }

  struct Record: Equatable {
    struct Property: Equatable {
      var name: String
      var description: String?
      var goal: SchemaGoal
      var isRequired: Bool

      static func == (a: Property, b: Property) -> Bool { a.name.utf8.elementsEqual(b.name.utf8) && a.goal == b.goal && a.isRequired == b.isRequired }
    }
    /// Those that were declared or are required.
    private(set) var properties: [Property] = []
    /// What all others would have to be.
    var rest = SchemaGoal.anything
    private var index: [[UInt8]: Int] = [:]

    func property(_ name: String) -> Property? { index[Array(name.utf8)].map { properties[$0] } }

    /// The property, appended where there is none.
    subscript(name: String) -> Property {
      get { property(name) ?? Property(name: name, goal: rest, isRequired: false) }
      set {
        if let at = index[Array(name.utf8)] {
          properties[at] = newValue
        } else {
          index[Array(name.utf8)] = properties.count
          properties.append(newValue)
        }
      }
    }

    mutating func addToAll(_ schema: Int, except: (String) -> Bool) {
      for i in properties.indices where !except(properties[i].name) { properties[i].goal = properties[i].goal.and(schema) }
    }
  }

  var type: Subschema.Types {
    switch self {
    case .number: .number
    case .string: .string
    case .array: .array
    case .object: .object
    }
  }
}

/// All values that are left: these, and those of these kinds.
struct SchemaAlternatives {
  private(set) var literals: [JSON] = []
  private(set) var rules: [SchemaRule] = []
  private var keys = Set<JSON.ValueKey>()

  init() {}

  /// Any value.
  static let anything: SchemaAlternatives = {
    var all = SchemaAlternatives()
    for literal: JSON in [.null, .bool(false), .bool(true)] { all.add(literal) }
    all.rules = [.number(.init()), .string(.init()), .array(.init()), .object(.init())]
    return all
  }()

  var isEmpty: Bool { literals.isEmpty && rules.isEmpty }

  func contains(_ literal: JSON) -> Bool { keys.contains(literal.valueKey) }

  mutating func add(_ literal: JSON) {
    if keys.insert(literal.valueKey).inserted { literals.append(literal) }
  }

  mutating func add(_ rule: SchemaRule) {
    if !rules.contains(rule) { rules.append(rule) }
  }

  var onlyObjects: SchemaAlternatives {
    var objects = SchemaAlternatives()
    objects.rules = rules.filter { $0.type == .object }
    return objects
  }

  /// The objects that have a property which some object of each of the others lacks.
  func having(morePropertiesThan others: [SchemaAlternatives]) -> SchemaAlternatives {
    var result = SchemaAlternatives()
    result.rules = rules.filter { rule in
      guard case .object(let record) = rule else { return false }
      return others.allSatisfy { other in
        other.rules.contains { rule in
          guard case .object(let less) = rule else { return false }
          return record.properties.contains { less.property($0.name) == nil }
        }
      }
    }
    return result
  }

  mutating func add(_ other: SchemaAlternatives) {
    for literal in other.literals { add(literal) }
    for rule in other.rules { add(rule) }
  }
}

/// Works out what a goal leaves, and whether a given value satisfies a subschema.
struct SchemaExpander {
  /// Why nothing is left somewhere.
  struct Reason {
    var place: String
    var message: String
  }

  let schemas: [Subschema]
  /// What a document must be.
  let root: SchemaGoal
  let limits: JSONSchema.Limits
  private var expanded: [SchemaGoal: SchemaAlternatives] = [:]
  private var reasons: [SchemaGoal: Reason] = [:]
  private var inProgress: Set<SchemaGoal> = []
  private var reason: Reason?
  private var steps = 0
  private var depth = 0

  init(_ document: SchemaDocument, limits: JSONSchema.Limits) {
    schemas = document.subschemas
    root = SchemaGoal.anything.and(document.start)
    self.limits = limits
  }

  mutating func step(_ count: Int = 1) throws(SternaError) {
    steps += count
    guard steps <= limits.steps else {
      throw SternaError(.unsupported, "the schema takes too long to work out", expected: "fewer combinations of anyOf, oneOf, enum and uniqueItems")
    }
  }

  /// The first place where nothing was left of a goal.
  func reason(for goal: SchemaGoal) -> Reason {
    if let reason = reasons[goal] { return reason }
    let path = goal.schemas.first.map { schemas[$0].path } ?? ""
    return Reason(place: path.isEmpty ? "(the whole schema)" : path, message: "no value satisfies this")
  }

  func isNever(_ goal: SchemaGoal) -> Bool { goal.schemas.contains { schemas[$0].allowsNothing } }

  // MARK: Goals

  mutating func alternatives(of goal: SchemaGoal) throws(SternaError) -> SchemaAlternatives {
    if let known = expanded[goal] { return known }
    let (outerReason, wasInProgress) = (reason, inProgress)
    defer {
      reason = outerReason
      inProgress = wasInProgress
    }
    reason = nil
    inProgress.insert(goal)
    var result = SchemaAlternatives.anything
    for schema in goal.schemas { result = try narrow(result, by: schema) }
    if result.isEmpty { reasons[goal] = reason }
    expanded[goal] = result
    return result
  }

  /// What is left of some alternatives when a subschema must hold too.
  private mutating func narrow(_ before: SchemaAlternatives, by id: Int) throws(SternaError) -> SchemaAlternatives {
    let schema = schemas[id]
    try step(1 + before.rules.count + before.literals.count)
    let known = reason?.place
    var result = SchemaAlternatives()
    for literal in before.literals where try satisfies(literal, id) { result.add(literal) }

    if let values = schema.values {
      for value in values where !result.contains(value) {
        if try satisfies(value, id), try fits(value, anyOf: before.rules) { result.add(value) }
      }
      if result.isEmpty, !before.isEmpty { emptied(by: "enum", in: schema, "none of the values satisfies what else is asked for", unlessSince: known) }
      return result
    }

    var narrowed = SchemaAlternatives()
    for rule in before.rules {
      if let left = try narrow(rule, by: schema) { narrowed.add(left) }
    }
    if narrowed.isEmpty, result.isEmpty, !before.isEmpty { emptied(by: "type", in: schema, "no value of this type satisfies what else is asked for", unlessSince: known) }
    for inner in schema.also { narrowed = try narrow(narrowed, by: inner) }
    if !schema.anyOf.isEmpty { narrowed = try narrow(narrowed, toAnyOf: schema) }
    if !schema.oneOf.isEmpty { narrowed = try narrow(narrowed, toOneOf: schema) }
    result.add(narrowed)
    guard result.rules.count <= limits.alternatives else {
      throw SternaError(.unsupported, "allows too many kinds of values", at: schema.path, expected: "at most \(limits.alternatives)")
    }
    return result
  }

  private mutating func emptied(by keyword: String, in schema: Subschema, _ message: String, unlessSince known: String?) {
    if reason == nil || reason?.place == known { reason = Reason(place: schema.allowsNothing ? schema.path : schema.place(keyword), message: message) }
  }

  private mutating func narrow(_ before: SchemaAlternatives, toAnyOf schema: Subschema) throws(SternaError) -> SchemaAlternatives {
    var result = SchemaAlternatives()
    var branches: [SchemaAlternatives] = []
    for branch in schema.anyOf {
      let left = try narrow(before, by: branch)
      branches.append(left)
      result.add(left)
    }
    if result.isEmpty, !before.isEmpty, schema.anyOf.count > 1 { reason = Reason(place: schema.place("anyOf"), message: "no branch leaves a value") }
    // An object may satisfy several branches at once, and then have the properties of all.
    var combined = branches.enumerated().map { (last: $0, objects: $1.onlyObjects) }
    while !combined.isEmpty {
      var larger: [(last: Int, objects: SchemaAlternatives)] = []
      for (last, objects) in combined where !objects.isEmpty {
        for next in branches.indices.dropFirst(last + 1) {
          let both = try narrow(objects, by: schema.anyOf[next]).having(morePropertiesThan: [objects, branches[next]])
          if both.isEmpty { continue }
          larger.append((next, both))
          result.add(both)
        }
      }
      guard result.rules.count <= limits.alternatives else { break }
      combined = larger
    }
    return result
  }

  /// Exactly one branch may hold. Where no value satisfies two, that is the same as any of them.
  private mutating func narrow(_ before: SchemaAlternatives, toOneOf schema: Subschema) throws(SternaError) -> SchemaAlternatives {
    var union = SchemaAlternatives()
    var branches: [SchemaAlternatives] = []
    for branch in schema.oneOf {
      branches.append(try narrow(before, by: branch))
      union.add(branches[branches.count - 1])
    }
    var shared = SchemaAlternatives()
    for first in branches.indices {
      for second in branches.indices.dropFirst(first + 1) {
        let overlap = try narrow(branches[first], by: schema.oneOf[second])
        for rule in overlap.rules where !(isEmpty(rule, depth: 8)) { throw overlapping(schema, first, second) }
        for literal in overlap.literals {
          if try fits(literal, anyOf: union.rules) { throw overlapping(schema, first, second) }
          shared.add(literal)
        }
      }
    }
    var result = SchemaAlternatives()
    for literal in union.literals where !shared.contains(literal) { result.add(literal) }
    for rule in union.rules { result.add(rule) }
    if result.isEmpty, !before.isEmpty, schema.oneOf.count > 1 { reason = Reason(place: schema.place("oneOf"), message: "no branch leaves a value") }
    return result
  }

  private func overlapping(_ schema: Subschema, _ first: Int, _ second: Int) -> SternaError {
    SternaError(
      .unsupported, "branches \(first) and \(second) are not known to exclude each other", at: schema.place("oneOf"),
      remedy: "give each branch a type, a range, or a required property with a const of its own; or use anyOf")
  }

  // MARK: Rules

  /// Nil when nothing is left.
  private mutating func narrow(_ rule: SchemaRule, by schema: Subschema) throws(SternaError) -> SchemaRule? {
    guard !schema.allowsNothing, schema.types.contains(rule.type) else { return nil }
    switch rule {
    case .number(let number): return narrow(number, by: schema).map { .number($0) }
    case .string(let text): return try narrow(text, by: schema).map { .string($0) }
    case .array(let list): return narrow(list, by: schema).map { .array($0) }
    case .object(let record): return narrow(record, by: schema).map { .object($0) }
    }
  }

  private mutating func empty<Rule>(_ schema: Subschema, _ keyword: String, _ message: String) -> Rule? {
    reason = Reason(place: schema.place(keyword), message: message)
    return nil
  }

  private mutating func narrow(_ number: SchemaRule.Number, by schema: Subschema) -> SchemaRule.Number? {
    var number = number
    number.isInteger = number.isInteger || schema.isInteger
    number.minimum = .tighter(number.minimum, schema.minimum, asMinimum: true)
    number.maximum = .tighter(number.maximum, schema.maximum, asMinimum: false)
    number.source = narrower(number.source, schema.source)
    if number.isInteger {
      number.minimum = number.minimum.map { $0.atInteger(asMinimum: true) }
      number.maximum = number.maximum.map { $0.atInteger(asMinimum: false) }
    }
    if let minimum = number.minimum, let maximum = number.maximum {
      guard minimum.allows(maximum.value, asMinimum: true), maximum.allows(minimum.value, asMinimum: false) else {
        let keyword = schema.minimum != nil ? (schema.minimum?.isExclusive == true ? "exclusiveMinimum" : "minimum") : schema.maximum != nil ? (schema.maximum?.isExclusive == true ? "exclusiveMaximum" : "maximum") : "type"
        return empty(schema, keyword, number.isInteger ? "no integer lies in this range" : "no number lies in this range")
      }
    }
    return number
  }

  private mutating func narrow(_ text: SchemaRule.Text, by schema: Subschema) throws(SternaError) -> SchemaRule.Text? {
    var text = text
    text.minLength = max(text.minLength, schema.minLength)
    text.maxLength = least(text.maxLength, schema.maxLength)
    text.moment = text.moment ?? schema.moment
    text.source = narrower(text.source, schema.source)
    if let most = text.maxLength, most < text.minLength {
      return empty(schema, schema.minLength > 0 ? "minLength" : "maxLength", "no string has at least \(text.minLength) and at most \(most) characters")
    }
    for automaton in schema.automata {
      guard let before = text.automaton, before != automaton else {
        text.automaton = automaton
        continue
      }
      try step(1_000)
      let both: StringAutomaton?
      do { both = try before.intersection(automaton) } catch { throw error.within(schema.path.isEmpty ? "(the whole schema)" : schema.path) }
      guard let both else { return empty(schema, "pattern", "no string has this form and the others that are asked for") }
      text.automaton = both
    }
    if let automaton = text.automaton, text.minLength > 0 || text.maxLength != nil, !schema.automata.isEmpty || schema.minLength > 0 || schema.maxLength != nil {
      try step(1_000)
      guard automaton.allows(minLength: text.minLength, maxLength: text.maxLength) else {
        return empty(schema, schema.minLength > 0 ? "minLength" : schema.maxLength != nil ? "maxLength" : "pattern", "no string of this form has such a length")
      }
    }
    return text
  }

  private mutating func narrow(_ list: SchemaRule.List, by schema: Subschema) -> SchemaRule.List? {
    var list = list
    list.minCount = max(list.minCount, schema.minItems)
    list.maxCount = least(list.maxCount, schema.maxItems)
    list.isUnique = list.isUnique || schema.uniqueItems
    if !schema.prefixItems.isEmpty || schema.items != nil {
      list.prefix = (0..<max(list.prefix.count, schema.prefixItems.count)).map { i in
        list.goal(at: i).and(i < schema.prefixItems.count ? schema.prefixItems[i] : schema.items)
      }
      list.items = list.items.and(schema.items)
      if let end = list.prefix.firstIndex(where: isNever) {
        list.prefix = Array(list.prefix[..<end])
        list.maxCount = least(list.maxCount, end)
      } else if isNever(list.items) {
        list.maxCount = least(list.maxCount, list.prefix.count)
      }
    }
    if let most = list.maxCount, most < list.minCount {
      return empty(schema, schema.minItems > 0 ? "minItems" : schema.maxItems != nil ? "maxItems" : "items", "no array has at least \(list.minCount) and at most \(most) elements")
    }
    return list
  }

  private mutating func narrow(_ record: SchemaRule.Record, by schema: Subschema) -> SchemaRule.Record? {
    var record = record
    if !schema.properties.isEmpty || schema.additionalProperties != nil {
      let declared = Set(schema.properties.map { Array($0.name.utf8) })
      if let others = schema.additionalProperties { record.addToAll(others) { declared.contains(Array($0.utf8)) } }
      for (name, description, inner) in schema.properties {
        var property = record[name]
        property.description = property.description ?? description
        property.goal = property.goal.and(inner)
        record[name] = property
      }
      record.rest = record.rest.and(schema.additionalProperties)
    }
    for name in schema.required { record[name].isRequired = true }
    if let missing = record.properties.first(where: { $0.isRequired && isNever($0.goal) }) {
      let keyword = schema.required.contains { $0.utf8.elementsEqual(missing.name.utf8) } ? "required" : schema.additionalProperties != nil ? "additionalProperties" : "properties"
      return empty(schema, keyword, "\"\(missing.name.prefix(40))\" is required and may not be there")
    }
    return record
  }

  private func least(_ a: Int?, _ b: Int?) -> Int? {
    guard let a, let b else { return a ?? b }
    return min(a, b)
  }

  /// Copying allows less than writing freely.
  private func narrower(_ a: Constraint.Source?, _ b: Constraint.Source?) -> Constraint.Source? {
    a == .copied || b == .copied ? .copied : a ?? b
  }

  // MARK: Emptiness

  /// Whether no value has this kind, as far as can be seen `depth` levels deep. Wherever that is left open, the answer is no.
  private mutating func isEmpty(_ rule: SchemaRule, depth: Int) -> Bool {
    switch rule {
    case .number, .string: return false  // empty ones are never made
    case .array(let list):
      var goals = Array(list.prefix.prefix(list.minCount))
      if list.minCount > list.prefix.count { goals.append(list.items) }
      for goal in goals where isEmpty(goal, depth: depth) { return true }
      return false
    case .object(let record):
      for property in record.properties where property.isRequired && isEmpty(property.goal, depth: depth) { return true }
      return false
    }
  }

  private mutating func isEmpty(_ goal: SchemaGoal, depth: Int) -> Bool {
    if isNever(goal) { return true }
    guard depth > 0, inProgress.count < 16, !inProgress.contains(goal), let left = try? alternatives(of: goal) else { return false }
    guard left.literals.isEmpty else { return false }
    for rule in left.rules where !isEmpty(rule, depth: depth - 1) { return false }
    return true
  }

  // MARK: Values

  /// Whether a value satisfies a subschema, as draft 2020-12 says; undeclared properties are judged too.
  mutating func satisfies(_ value: JSON, _ id: Int) throws(SternaError) -> Bool {
    try step()
    depth += 1
    defer { depth -= 1 }
    guard depth <= 1_000 else { throw SternaError(.unsupported, "a value in the schema is nested too deep", at: schemas[id].path) }
    let schema = schemas[id]
    if schema.allowsNothing || !schema.types.contains(value.schemaType) { return false }
    if let values = schema.values {
      let key = value.valueKey
      try step(values.count)
      guard values.contains(where: { $0.valueKey == key }) else { return false }
    }
    switch value {
    case .null, .bool: break
    case .number(let number):
      guard let exact = ExactDecimal(number) else { return false }
      if schema.isInteger, !exact.isInteger { return false }
      if let minimum = schema.minimum, !minimum.allows(exact, asMinimum: true) { return false }
      if let maximum = schema.maximum, !maximum.allows(exact, asMinimum: false) { return false }
    case .string(let text):
      guard isLength(text.unicodeScalars.count, schema.minLength, schema.maxLength), schema.automata.allSatisfy({ $0.matches(text) }) else { return false }
    case .array(let elements):
      guard isLength(elements.count, schema.minItems, schema.maxItems), !schema.uniqueItems || areDistinct(elements) else { return false }
      for (i, element) in elements.enumerated() {
        if let inner = i < schema.prefixItems.count ? schema.prefixItems[i] : schema.items, try !satisfies(element, inner) { return false }
      }
    case .object(let object):
      for name in schema.required where object[name] == nil { return false }
      var declared = Set<[UInt8]>()
      for (name, _, inner) in schema.properties {
        declared.insert(Array(name.utf8))
        if let member = object[name], let inner, try !satisfies(member, inner) { return false }
      }
      if let others = schema.additionalProperties {
        for (name, member) in object.members where !declared.contains(Array(name.utf8)) {
          if try !satisfies(member, others) { return false }
        }
      }
    }
    for inner in schema.also { if try !satisfies(value, inner) { return false } }
    if !schema.anyOf.isEmpty, try count(schema.anyOf, satisfiedBy: value, upTo: 1) == 0 { return false }
    if !schema.oneOf.isEmpty, try count(schema.oneOf, satisfiedBy: value, upTo: 2) != 1 { return false }
    return true
  }

  private mutating func count(_ branches: [Int], satisfiedBy value: JSON, upTo most: Int) throws(SternaError) -> Int {
    var count = 0
    for branch in branches where count < most {
      if try satisfies(value, branch) { count += 1 }
    }
    return count
  }

  private mutating func fits(_ value: JSON, anyOf rules: [SchemaRule]) throws(SternaError) -> Bool {
    for rule in rules { if try fits(value, rule) { return true } }
    return false
  }

  /// Whether a value is of a kind.
  private mutating func fits(_ value: JSON, _ rule: SchemaRule) throws(SternaError) -> Bool {
    try step()
    switch (value, rule) {
    case (.number(let number), .number(let rule)):
      guard let exact = ExactDecimal(number), !rule.isInteger || exact.isInteger else { return false }
      return rule.minimum?.allows(exact, asMinimum: true) != false && rule.maximum?.allows(exact, asMinimum: false) != false
    case (.string(let text), .string(let rule)):
      return isLength(text.unicodeScalars.count, rule.minLength, rule.maxLength) && rule.automaton?.matches(text) != false
    case (.array(let elements), .array(let rule)):
      guard isLength(elements.count, rule.minCount, rule.maxCount), !rule.isUnique || areDistinct(elements) else { return false }
      for (i, element) in elements.enumerated() {
        if try !satisfies(element, rule.goal(at: i)) { return false }
      }
      return true
    case (.object(let object), .object(let rule)):
      for property in rule.properties where property.isRequired && object[property.name] == nil { return false }
      for (name, member) in object.members {
        if try !satisfies(member, rule.property(name)?.goal ?? rule.rest) { return false }
      }
      return true
    default: return false
    }
  }

  private mutating func satisfies(_ value: JSON, _ goal: SchemaGoal) throws(SternaError) -> Bool {
    for schema in goal.schemas { if try !satisfies(value, schema) { return false } }
    return true
  }
}

private func isLength(_ count: Int, _ least: Int, _ most: Int?) -> Bool { count >= least && most.map { count <= $0 } != false }

func areDistinct(_ elements: [JSON]) -> Bool {
  var seen = Set<JSON.ValueKey>()
  return elements.allSatisfy { seen.insert($0.valueKey).inserted }
}

extension SchemaBound {
  /// The same end for integers: inclusive, at an integer.
  func atInteger(asMinimum: Bool) -> SchemaBound {
    let integer = value.rounded(up: asMinimum)
    guard isExclusive, integer == value else { return SchemaBound(value: integer, isExclusive: false) }
    let inside = asMinimum ? integer.next : integer.previous
    return SchemaBound(value: inside, isExclusive: inside == integer)
  }
}
