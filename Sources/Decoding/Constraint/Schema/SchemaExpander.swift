import Basics

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
  /// Why the last kind of value was dropped.
  var reason: Reason?
  /// Calls of `satisfies` inside each other.
  var depth = 0
  private var steps = 0

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
      try step(values.values.count)
      for value in values.values where !result.contains(value) {
        if try satisfies(value, id), try fits(value, anyOf: before.rules) { result.add(value) }
      }
      if result.isEmpty, !before.isEmpty { emptied(by: "enum", in: schema, "none of the values satisfies what else is asked for", unlessSince: known) }
      return result
    }

    var narrowed = SchemaAlternatives()
    for rule in before.rules {
      if let left = try narrow(rule, by: schema) { narrowed.add(left) }
    }
    if narrowed.isEmpty, result.isEmpty, !before.isEmpty {
      emptied(by: "type", in: schema, "no value of this type satisfies what else is asked for", unlessSince: known)
    }
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
    guard reason == nil || reason?.place == known else { return }
    reason = Reason(place: schema.place(keyword), message: message)
    if schema.allowsNothing { reason = Reason(place: schema.path.isEmpty ? "(the whole schema)" : schema.path, message: "false allows nothing") }
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
    // An object may satisfy several branches at once, and then have the properties of all. Where there are too many such sets of branches,
    // the larger ones are left out.
    var combinations = 0
    var combined = branches.enumerated().map { (last: $0, objects: $1.onlyObjects) }
    while !combined.isEmpty {
      var larger: [(last: Int, objects: SchemaAlternatives)] = []
      for (last, objects) in combined where !objects.isEmpty {
        for next in branches.indices.dropFirst(last + 1) {
          let both = try narrow(objects, by: schema.anyOf[next]).having(morePropertiesThan: [objects, branches[next]])
          if both.isEmpty { continue }
          larger.append((next, both))
          combinations += both.rules.count
        }
      }
      guard combinations <= limits.combinations else { break }
      for (_, objects) in larger { result.add(objects) }
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
    for first in branches.indices where !branches[first].rules.isEmpty {
      for second in branches.indices.dropFirst(first + 1) where !branches[second].rules.isEmpty {
        for rule in try narrow(branches[first].onlyRules, by: schema.oneOf[second]).rules where !(isEmpty(rule, depth: 8)) {
          throw overlapping(schema, "branches \(first) and \(second) are not known to exclude each other")
        }
      }
    }
    var result = SchemaAlternatives()
    for literal in union.literals {
      if try count(schema.oneOf, satisfiedBy: literal, upTo: 2) == 1 {
        result.add(literal)
      } else if try fits(literal, anyOf: union.rules) {
        throw overlapping(schema, "more than one branch takes \(literal.compact.prefix(40))")
      }
    }
    for rule in union.rules { result.add(rule) }
    if result.isEmpty, !before.isEmpty, schema.oneOf.count > 1 { reason = Reason(place: schema.place("oneOf"), message: "no branch leaves a value") }
    return result
  }

  private func overlapping(_ schema: Subschema, _ message: String) -> SternaError {
    SternaError(
      .unsupported, message, at: schema.place("oneOf"),
      remedy: "give each branch a type, a range, a required property with a const of its own, or additionalProperties: false; or use anyOf")
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
}
