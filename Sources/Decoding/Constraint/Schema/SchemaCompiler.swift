import Basics

/// Writes the nodes of a constraint: those that at least one value satisfies, and nothing that leads to others.
struct SchemaCompiler {
  private(set) var notes: [String] = []

  private var expander: SchemaExpander
  private let limits: JSONSchema.Limits
  /// All goals that can be reached from the root, in the order in which they were met.
  private var goals: [SchemaGoal] = []
  private var numbers: [SchemaGoal: Int] = [:]
  /// What is left of each goal. [goals]
  private var left: [SchemaAlternatives] = []
  /// Whether some value satisfies each goal, and for arrays of different elements, which kinds have enough of them. [goals]
  private var hasValue: [Bool] = []
  private var tooFew: Set<Place> = []

  /// A rule of a goal.
  private struct Place: Hashable {
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
      throw SternaError(.unsupported, "no value satisfies this schema: \(reason.message)", at: reason.place, remedy: "loosen one of the keywords that exclude each other")
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
    SternaError(.unsupported, "the schema compiles to too much", expected: "at most \(limits.nodes) nodes", remedy: "use fewer combinations of allOf, anyOf and $ref")
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
    // Who waits for whom: a goal is looked at again when one that it needs has got a value.
    var waiting = [[Int]](repeating: [], count: goals.count)
    for goal in goals.indices { for rule in left[goal].rules { for inner in needed(rule) { waiting[inner].append(goal) } } }
    var pending = Array(goals.indices)
    while let goal = pending.popLast() {
      try expander.step()
      guard !hasValue[goal], !left[goal].literals.isEmpty || left[goal].rules.indices.contains(where: { isLive(goal, $0) }) else { continue }
      hasValue[goal] = true
      pending += waiting[goal]
    }
  }

  private func isLive(_ goal: Int, _ rule: Int) -> Bool {
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

  private func hasValue(_ goal: SchemaGoal) -> Bool { numbers[goal].map { hasValue[$0] } ?? false }

  /// Why a goal has no value: looks for the innermost place that is to blame.
  private func reason(for goal: SchemaGoal) -> SchemaExpander.Reason {
    var goal = goal
    var seen: Set<SchemaGoal> = []
    while seen.insert(goal).inserted, let number = numbers[goal] {
      guard let rule = left[number].rules.first else { return expander.reason(for: goal) }
      guard let inner = needed(rule).first(where: { !hasValue[$0] }) else {
        let blamed = goal.schemas.map { expander.schemas[$0] }.first { $0.uniqueItems }
        return SchemaExpander.Reason(
          place: blamed?.place("uniqueItems") ?? expander.reason(for: goal).place, message: "there are fewer different elements than minItems asks for")
      }
      goal = goals[inner]
    }
    return SchemaExpander.Reason(place: expander.reason(for: goal).place, message: "it needs a value of itself inside, without an end")
  }

  // MARK: Different elements

  /// Whether some were dropped.
  private mutating func dropArraysWithTooFewValues() throws(SternaError) -> Bool {
    var dropped = false
    for goal in goals.indices {
      for (i, rule) in left[goal].rules.enumerated() {
        guard case .array(let list) = rule, list.isUnique, list.minCount > 1, isLive(goal, i), try !hasEnoughDifferent(list) else { continue }
        tooFew.insert(Place(goal: goal, rule: i))
        dropped = true
      }
    }
    return dropped
  }

  /// Whether the first `minCount` elements can all be different: a matching of places and values (Kuhn's algorithm). Places with at least `minCount` values never run out.
  private mutating func hasEnoughDifferent(_ list: SchemaRule.List) throws(SternaError) -> Bool {
    var choices: [[JSON.ValueKey]] = []
    for goal in list.prefix.prefix(list.minCount) {
      if let values = try values(of: goal, fewerThan: list.minCount) { choices.append(values.map(\.valueKey)) }
    }
    if list.minCount > list.prefix.count, let values = try values(of: list.items, fewerThan: list.minCount) {
      let places = list.minCount - list.prefix.count
      guard places <= values.count else { return false }
      choices += Array(repeating: values.map(\.valueKey), count: places)
    }
    var holder: [JSON.ValueKey: Int] = [:]
    for place in choices.indices {
      var tried = Set<JSON.ValueKey>()
      guard try settle(place, choices, &holder, &tried) else { return false }
    }
    return true
  }

  /// Breadth first, so that many elements do not mean deep recursion.
  private mutating func settle(_ place: Int, _ choices: [[JSON.ValueKey]], _ holder: inout [JSON.ValueKey: Int], _ tried: inout Set<JSON.ValueKey>) throws(SternaError) -> Bool {
    var cameFrom: [JSON.ValueKey: Int] = [:]
    var held: [Int: JSON.ValueKey] = [:]
    var queue = [place]
    var at = 0
    while at < queue.count {
      let current = queue[at]
      at += 1
      for value in choices[current] where tried.insert(value).inserted {
        try expander.step()
        cameFrom[value] = current
        if let other = holder[value] {
          held[other] = value
          queue.append(other)
          continue
        }
        // Each place on the way takes the value that it reached, and leaves the one it held.
        var free: JSON.ValueKey? = value
        while let taken = free, let taker = cameFrom[taken] {
          holder[taken] = taker
          free = held[taker]
        }
        return true
      }
    }
    return false
  }

  /// All values of a goal; nil when there are `limit` or more.
  private mutating func values(of goal: SchemaGoal, fewerThan limit: Int) throws(SternaError) -> [JSON]? {
    var counter = SchemaValues(limit: limit)
    return try values(of: goal, &counter)
  }

  private mutating func values(of goal: SchemaGoal, _ counter: inout SchemaValues) throws(SternaError) -> [JSON]? {
    guard let number = numbers[goal], hasValue[number] else { return [] }
    // What contains itself has values of any depth.
    guard counter.enter(number) else { return nil }
    defer { counter.leave(number) }
    var found = SchemaAlternatives()
    for literal in left[number].literals { found.add(literal) }
    for (i, rule) in left[number].rules.enumerated() where isLive(number, i) {
      try expander.step(counter.limit)
      let more: [JSON]?
      switch rule {
      case .number(let number): more = counter.values(of: number)
      case .string(let text): more = try counter.values(of: text)
      case .array(let list): more = try values(of: list, &counter)
      case .object(let record): more = try values(of: record, &counter)
      }
      guard let more else { return nil }
      for value in more { found.add(value) }
      guard found.literals.count < counter.limit else { return nil }
    }
    return found.literals.count < counter.limit ? found.literals : nil
  }

  private mutating func values(of list: SchemaRule.List, _ counter: inout SchemaValues) throws(SternaError) -> [JSON]? {
    var found: [JSON] = list.minCount == 0 ? [[]] : []
    var longest: [[JSON]] = [[]]
    while list.maxCount.map({ longest[0].count < $0 }) ?? true {
      let goal = list.goal(at: longest[0].count)
      guard hasValue(goal) else { break }
      guard let elements = try values(of: goal, &counter) else { return nil }
      var longer: [[JSON]] = []
      for head in longest {
        for element in elements {
          let array = head + [element]
          if list.isUnique, !areDistinct(array) { continue }
          longer.append(array)
        }
        try expander.step(elements.count * (1 + head.count))
      }
      guard let first = longer.first else { break }
      // Without `uniqueItems` each of them begins at least one array.
      if longer.count >= counter.limit * (list.isUnique ? 16 : 1) { return nil }
      longest = longer
      if first.count >= list.minCount { found += longer.map { .array($0) } }
      guard found.count < counter.limit else { return nil }
    }
    return found
  }

  private mutating func values(of record: SchemaRule.Record, _ counter: inout SchemaValues) throws(SternaError) -> [JSON]? {
    var found: [JSON.Object] = [[:]]
    for property in record.properties where hasValue(property.goal) {
      guard let values = try values(of: property.goal, &counter) else { return nil }
      guard found.count * (values.count + (property.isRequired ? 0 : 1)) < counter.limit else { return nil }
      var longer = property.isRequired ? [] : found
      for object in found {
        for value in values {
          var object = object
          object[property.name] = value
          longer.append(object)
        }
      }
      found = longer
    }
    return found.map { .object($0) }
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
      for (i, rule) in left[goal].rules.enumerated() where isLive(goal, i) {
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

/// Lists all values of rules that have few.
struct SchemaValues {
  let limit: Int
  private var entered: Set<Int> = []

  init(limit: Int) { self.limit = limit }

  /// Whether a goal is not being listed already, nor too many around it.
  mutating func enter(_ goal: Int) -> Bool { entered.count < 64 && entered.insert(goal).inserted }
  mutating func leave(_ goal: Int) { entered.remove(goal) }

  /// Nil when there are `limit` or more.
  func values(of number: SchemaRule.Number) -> [JSON]? {
    guard let minimum = number.minimum, let maximum = number.maximum else { return nil }
    guard number.isInteger else { return minimum.value == maximum.value ? [.number(JSON.Number(minimum.value))] : nil }
    var found: [JSON] = []
    var value = minimum.value
    while maximum.allows(value, asMinimum: false) {
      found.append(.number(JSON.Number(value)))
      guard found.count < limit, value.next != value else { return nil }
      value = value.next
    }
    return found
  }

  /// Nil when there are `limit` or more, and where lengths are bounded in the thousands.
  func values(of text: SchemaRule.Text) throws(SternaError) -> [JSON]? {
    if text.maxLength == 0 { return [""] }
    guard var automaton = text.automaton else { return nil }
    if text.minLength > 0 || text.maxLength != nil {
      let lengths = "^[\\s\\S]{\(text.minLength),\(text.maxLength.map(String.init) ?? "")}$"
      guard let limited = try? automaton.intersection(StringAutomaton.pattern(lengths)) else { return nil }
      automaton = limited
    }
    // Each beginning leads to at least one string, so as many beginnings are as many strings.
    var found: [JSON] = []
    var beginnings: [(state: StringAutomaton.State, bytes: [UInt8])] = [(automaton.start, [])]
    while !beginnings.isEmpty {
      guard found.count + beginnings.count < limit else { return nil }
      var longer: [(state: StringAutomaton.State, bytes: [UInt8])] = []
      for (state, bytes) in beginnings {
        if automaton.isAccepting(state) { found.append(.string(String(decoding: bytes, as: UTF8.self))) }
        for byte in UInt8.min...UInt8.max {
          if let next = automaton.next(state, byte) { longer.append((next, bytes + [byte])) }
        }
        guard longer.count < limit * 2 else { return nil }
      }
      beginnings = longer
    }
    return found.count < limit ? found : nil
  }
}
