import Basics

/// Writes the nodes of a constraint: those that at least one value satisfies, and nothing that leads to others.
struct SchemaCompiler {
  private(set) var notes: [String] = []

  var expander: SchemaExpander
  private let limits: JSONSchema.Limits
  /// All goals that can be reached from the root, in the order in which they were met.
  private(set) var goals: [SchemaGoal] = []
  private(set) var numbers: [SchemaGoal: Int] = [:]
  /// What is left of each goal. [goals]
  private(set) var left: [SchemaAlternatives] = []
  /// Whether some value satisfies each goal, and for arrays of different elements, which kinds have enough of them. [goals]
  private(set) var hasValue: [Bool] = []
  var tooFew: Set<Place> = []

  /// A rule of a goal.
  struct Place: Hashable {
    var goal: Int
    var rule: Int
  }

  init(_ document: SchemaDocument, limits: JSONSchema.Limits) {
    expander = SchemaExpander(document, limits: limits)
    self.limits = limits
  }

  mutating func compile() throws(SternaError) -> Constraint {
    try explore()
    repeat { try findValues() } while try dropArraysWithTooFewValues()
    guard hasValue[0] else {
      let reason = reason(for: goals[0])
      throw SternaError(
        .unsupported, "no value satisfies this schema: \(reason.message)", at: reason.place, remedy: "loosen one of the keywords that exclude each other")
    }
    return try write()
  }

  // MARK: Which goals have values

  private mutating func explore() throws(SternaError) {
    number(of: expander.root)
    while left.count < goals.count {
      let alternatives = try expander.alternatives(of: goals[left.count])
      left.append(alternatives)
      for rule in alternatives.rules { for goal in inside(rule) { number(of: goal) } }
      guard goals.count <= limits.nodes else { throw tooLarge }
    }
  }

  private var tooLarge: SternaError {
    SternaError(
      .unsupported, "the schema compiles to too much", expected: "at most \(limits.nodes) nodes",
      remedy: "use fewer combinations of allOf, anyOf and $ref")
  }

  @discardableResult private mutating func number(of goal: SchemaGoal) -> Int {
    if let known = numbers[goal] { return known }
    numbers[goal] = goals.count
    goals.append(goal)
    return goals.count - 1
  }

  private func inside(_ rule: SchemaRule) -> [SchemaGoal] {
    switch rule {
    case .number, .string: []
    case .array(let list): list.maxCount.map { $0 <= list.prefix.count } == true ? list.prefix : list.prefix + [list.items]
    case .object(let record): record.properties.map(\.goal)
    }
  }

  /// A value is made of values: begins with what needs nothing else, and goes on until nothing new is found.
  private mutating func findValues() throws(SternaError) {
    hasValue = [Bool](repeating: false, count: goals.count)
    var waiting = [[Place]](repeating: [], count: goals.count)
    var missing: [Place: Int] = [:]
    var found: [Int] = []
    for goal in goals.indices {
      if !left[goal].literals.isEmpty { found.append(goal) }
      for (i, rule) in left[goal].rules.enumerated() {
        let place = Place(goal: goal, rule: i)
        let needed = needed(rule)
        try expander.step(1 + needed.count)
        if tooFew.contains(place) { continue }
        if needed.isEmpty { found.append(goal) }
        missing[place] = needed.count
        for inner in needed { waiting[inner].append(place) }
      }
    }
    while let goal = found.popLast() {
      if hasValue[goal] { continue }
      hasValue[goal] = true
      for place in waiting[goal] {
        missing[place, default: 0] -= 1
        if missing[place] == 0 { found.append(place.goal) }
      }
    }
  }

  func isLive(_ goal: Int, _ rule: Int) -> Bool {
    !tooFew.contains(Place(goal: goal, rule: rule)) && needed(left[goal].rules[rule]).allSatisfy { hasValue[$0] }
  }

  /// The goals without a value of which there is none of this kind.
  private func needed(_ rule: SchemaRule) -> [Int] {
    switch rule {
    case .number, .string: []
    case .array(let list):
      (list.prefix.prefix(list.minCount) + (list.minCount > list.prefix.count ? [list.items] : [])).compactMap { numbers[$0] }
    case .object(let record): record.properties.filter(\.isRequired).compactMap { numbers[$0.goal] }
    }
  }

  func hasValue(_ goal: SchemaGoal) -> Bool { numbers[goal].map { hasValue[$0] } ?? false }

  /// Why a goal has no value: looks for the innermost place that is to blame.
  private func reason(for goal: SchemaGoal) -> SchemaExpander.Reason {
    var goal = goal
    var seen: Set<SchemaGoal> = []
    var place = expander.reason(for: goal).place
    while seen.insert(goal).inserted, let number = numbers[goal] {
      guard let rule = left[number].rules.first else { return expander.reason(for: goal) }
      let schemas = goal.schemas.map { expander.schemas[$0] }
      guard let inner = needed(rule).first(where: { !hasValue[$0] }) else {
        place = schemas.first { $0.uniqueItems }?.place("uniqueItems") ?? place
        return SchemaExpander.Reason(place: place, message: "there are fewer different elements than minItems asks for")
      }
      place = keyword(for: goals[inner], in: rule, of: schemas) ?? place
      goal = goals[inner]
    }
    return SchemaExpander.Reason(place: place, message: "it needs a value of itself inside, without an end")
  }

  /// Where the schemas of a goal ask for another one inside.
  private func keyword(for inner: SchemaGoal, in rule: SchemaRule, of schemas: [Subschema]) -> String? {
    guard case .object(let record) = rule else {
      return schemas.first { $0.items != nil || !$0.prefixItems.isEmpty }.map { $0.place($0.items != nil ? "items" : "prefixItems") }
    }
    guard let name = record.properties.first(where: { $0.isRequired && $0.goal == inner })?.name else { return nil }
    return schemas.first { $0.properties.contains { $0.name.utf8.elementsEqual(name.utf8) } }?.place("properties." + name)
  }

  // MARK: Writing

  private mutating func write() throws(SternaError) -> Constraint {
    var nodes: [Constraint.Node] = []
    var ids: [Int: Int] = [:]
    var order: [Int] = []
    /// The node of a goal, which is written later.
    func node(_ goal: SchemaGoal) -> Int {
      let goal = numbers[goal] ?? 0
      if let known = ids[goal] { return known }
      ids[goal] = nodes.count
      nodes.append(.anyOf([]))
      order.append(goal)
      return nodes.count - 1
    }
    _ = node(goals[0])
    var next = 0
    while next < order.count {
      let goal = order[next]
      next += 1
      var written: [Constraint.Node] = left[goal].literals.isEmpty ? [] : [.literals(left[goal].literals)]
      for rule in liveRules(goal) {
        switch rule {
        case .number(let number): written.append(.number(number.constraint))
        case .string(let text): written.append(.string(text.constraint))
        case .array(let list):
          let list = try possible(list)
          var array = Constraint.ArrayRule()
          array.prefix = list.prefix.map(node)
          array.items = list.maxCount.map { $0 > list.prefix.count } ?? true ? node(list.items) : nil
          array.minCount = list.minCount
          array.maxCount = list.maxCount
          array.isUnique = list.isUnique && list.maxCount != 1 && list.maxCount != 0
          written.append(.array(array))
        case .object(let record):
          var object = Constraint.ObjectRule()
          for property in record.properties {
            guard hasValue(property.goal) else {
              note(never: property)
              continue
            }
            object.properties.append(
              .init(name: property.name, description: property.description, node: node(property.goal), isRequired: property.isRequired))
          }
          written.append(.object(object))
        }
      }
      let id = ids[goal] ?? 0
      if written.count == 1 {
        nodes[id] = written[0]
      } else {
        nodes[id] = .anyOf(Array(nodes.count..<(nodes.count + written.count)))
        nodes += written
      }
      guard nodes.count <= limits.nodes else { throw tooLarge }
    }
    return Constraint(nodes: nodes, root: 0)
  }

  /// The kinds that have values, without those whose values another kind writes too.
  private func liveRules(_ goal: Int) -> [SchemaRule] {
    let live = left[goal].rules.indices.filter { isLive(goal, $0) }.map { left[goal].rules[$0] }
    return live.indices.filter { i in
      !live.indices.contains { j in j != i && live[j].writesAll(of: live[i]) && (j < i || !live[i].writesAll(of: live[j])) }
    }.map { live[$0] }
  }

  /// The same arrays, without places that no value can take.
  private mutating func possible(_ list: SchemaRule.List) throws(SternaError) -> SchemaRule.List {
    var list = list
    if let end = list.prefix.firstIndex(where: { !hasValue($0) }) {
      list.maxCount = min(list.maxCount ?? end, end)
    } else if !hasValue(list.items) {
      list.maxCount = min(list.maxCount ?? list.prefix.count, list.prefix.count)
    }
    if let most = list.maxCount { list.prefix = Array(list.prefix.prefix(most)) }
    // Where all elements are different, there are no more than there are values.
    if list.isUnique, list.prefix.isEmpty, list.maxCount != 0, let values = try values(of: list.items, fewerThan: min(list.maxCount ?? 256, 256)) {
      list.maxCount = values.count
    }
    return list
  }

  private mutating func note(never property: SchemaRule.Record.Property) {
    guard !expander.isNever(property.goal) else { return }
    let reason = reason(for: property.goal)
    let text = "\(reason.place): \(reason.message); \"\(property.name.prefix(40))\" is never there"
    if !notes.contains(text) { notes.append(text) }
  }
}

extension SchemaRule.Number {
  var constraint: Constraint.NumberRule {
    var rule = Constraint.NumberRule()
    rule.isInteger = isInteger
    rule.minimum = minimum.map { .init(JSON.Number($0.value), isExclusive: $0.isExclusive) }
    rule.maximum = maximum.map { .init(JSON.Number($0.value), isExclusive: $0.isExclusive) }
    rule.source = source ?? .copied
    return rule
  }
}

extension SchemaRule.Text {
  var constraint: Constraint.StringRule {
    var rule = Constraint.StringRule()
    rule.minLength = minLength
    rule.maxLength = maxLength
    rule.automaton = automaton
    rule.moment = moment
    rule.source = source ?? .copied
    return rule
  }
}
