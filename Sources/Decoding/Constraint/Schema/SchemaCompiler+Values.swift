import Basics

/// Where elements must be different, there must be enough values. So they are counted, as far as they matter.
extension SchemaCompiler {
  /// Whether some were dropped.
  mutating func dropArraysWithTooFewValues() throws(SternaError) -> Bool {
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

  /// Whether the first `minCount` elements can all be different: a matching of places and values (Kuhn's algorithm). Places with at least
  /// `minCount` values never run out.
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
  private mutating func settle(
    _ place: Int, _ choices: [[JSON.ValueKey]], _ holder: inout [JSON.ValueKey: Int], _ tried: inout Set<JSON.ValueKey>
  ) throws(SternaError) -> Bool {
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
  mutating func values(of goal: SchemaGoal, fewerThan limit: Int) throws(SternaError) -> [JSON]? {
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
          if list.isUnique, !array.areAllDifferent { continue }
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
