import Basics

/// What is left of a kind of value when a subschema must hold too.
extension SchemaExpander {
  /// Nil when nothing is left.
  mutating func narrow(_ rule: SchemaRule, by schema: Subschema) throws(SternaError) -> SchemaRule? {
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
        let low = schema.minimum.map { $0.isExclusive ? "exclusiveMinimum" : "minimum" }
        let keyword = low ?? schema.maximum.map { $0.isExclusive ? "exclusiveMaximum" : "maximum" } ?? "type"
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
      try step(1_000 + 10 * (before.stateCount + automaton.stateCount))
      let both: StringAutomaton?
      do { both = try before.intersection(automaton) } catch { throw error.within(schema.path.isEmpty ? "(the whole schema)" : schema.path) }
      guard let both else { return empty(schema, "pattern", "no string has this form and the others that are asked for") }
      text.automaton = both
    }
    if let automaton = text.automaton, text.minLength > 0 || text.maxLength != nil, !schema.automata.isEmpty || schema.minLength > 0 || schema.maxLength != nil {
      try step(automaton.stateCount)
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
      let keyword = schema.minItems > 0 ? "minItems" : schema.maxItems != nil ? "maxItems" : "items"
      return empty(schema, keyword, "no array has at least \(list.minCount) and at most \(most) elements")
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
      let isAskedForHere = schema.required.contains { $0.utf8.elementsEqual(missing.name.utf8) }
      let keyword = isAskedForHere ? "required" : schema.additionalProperties != nil ? "additionalProperties" : "properties"
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
