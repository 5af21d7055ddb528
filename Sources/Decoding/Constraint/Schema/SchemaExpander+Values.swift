import Basics

/// Judging given values, those of `enum` and `const`.
extension SchemaExpander {
  /// Whether a value satisfies a subschema, as draft 2020-12 says; undeclared properties are judged too.
  mutating func satisfies(_ value: JSON, _ id: Int) throws(SternaError) -> Bool {
    try step()
    depth += 1
    defer { depth -= 1 }
    guard depth <= 1_000 else { throw SternaError(.unsupported, "a value in the schema is nested too deep", at: schemas[id].path) }
    let schema = schemas[id]
    if schema.allowsNothing || !schema.types.contains(value.schemaType) { return false }
    if let values = schema.values, !values.contains(value) { return false }
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
      guard isLength(elements.count, schema.minItems, schema.maxItems), !schema.uniqueItems || elements.areAllDifferent else { return false }
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

  mutating func count(_ branches: [Int], satisfiedBy value: JSON, upTo most: Int) throws(SternaError) -> Int {
    var count = 0
    for branch in branches where count < most {
      if try satisfies(value, branch) { count += 1 }
    }
    return count
  }

  mutating func fits(_ value: JSON, anyOf rules: [SchemaRule]) throws(SternaError) -> Bool {
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
      guard isLength(elements.count, rule.minCount, rule.maxCount), !rule.isUnique || elements.areAllDifferent else { return false }
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
