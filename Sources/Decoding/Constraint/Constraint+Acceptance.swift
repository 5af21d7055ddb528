import Basics

extension Constraint {
  /// Whether this value can be written, compared as JSON values: whatever its spacing, the order of its members and the spelling of its
  /// numbers. Strings and numbers may be any here, as if each stood in the input.
  ///
  /// Numbers with an exponent of more than nine digits are never accepted. The time is at most proportional to the nodes times the values inside `value`.
  public func accepts(_ value: JSON) -> Bool {
    var acceptance = Acceptance(constraint: self)
    return acceptance.accepts(acceptance.add(value), root)
  }
}

/// A walk over a value and a constraint at once. What was found out about a part of the value is kept, for recursive alternatives ask for it again and again.
private struct Acceptance {
  let constraint: Constraint
  private var parts: [Part] = []
  private var known: [Question: Bool] = [:]

  private struct Part {
    var value: JSON
    var inside: [Int] = []
  }

  private struct Question: Hashable {
    var part: Int
    var node: Int
  }

  init(constraint: Constraint) { self.constraint = constraint }

  mutating func add(_ value: JSON) -> Int {
    let index = parts.count
    parts.append(Part(value: value))
    let inside: [Int] =
      switch value {
      case .array(let elements): elements.map { add($0) }
      case .object(let object): object.members.map { add($0.value) }
      default: []
      }
    parts[index].inside = inside
    return index
  }

  mutating func accepts(_ part: Int, _ node: Constraint.NodeID) -> Bool {
    guard constraint.nodes.indices.contains(node) else { return false }
    let question = Question(part: part, node: node)
    if let answer = known[question] { return answer }
    known[question] = false  // a circle of alternatives adds nothing
    let answer = judge(part, constraint.nodes[node])
    known[question] = answer
    return answer
  }

  private mutating func judge(_ part: Int, _ node: Constraint.Node) -> Bool {
    let inside = parts[part].inside
    switch (node, parts[part].value) {
    case (.anyOf(let nodes), _):
      for node in nodes where accepts(part, node) { return true }
      return false
    case (.literals(let literals), let value):
      let key = value.valueKey
      return literals.contains { $0.valueKey == key }
    case (.number(let rule), .number(let number)): return rule.allows(number)
    case (.string(let rule), .string(let text)):
      let length = text.unicodeScalars.count
      return length >= rule.minLength && rule.maxLength.map { length <= $0 } != false && rule.automaton?.matches(text) != false
    case (.array(let rule), .array(let elements)):
      guard elements.count >= rule.minCount, rule.maxCount.map({ elements.count <= $0 }) != false, !rule.isUnique || elements.areAllDifferent else { return false }
      for (i, element) in inside.enumerated() {
        guard let node = i < rule.prefix.count ? rule.prefix[i] : rule.items, accepts(element, node) else { return false }
      }
      return true
    case (.object(let rule), .object(let object)):
      var found = 0
      for property in rule.properties {
        guard let at = object.index(of: property.name) else {
          if property.isRequired { return false }
          continue
        }
        found += 1
        guard accepts(inside[at], property.node) else { return false }
      }
      return found == object.count
    default: return false
    }
  }
}

extension Constraint.NumberRule {
  /// Whether a number is one of these, compared without rounding.
  public func allows(_ number: JSON.Number) -> Bool {
    guard let exact = ExactDecimal(number), !isInteger || exact.isInteger else { return false }
    return allows(exact, minimum, asMinimum: true) && allows(exact, maximum, asMinimum: false)
  }

  private func allows(_ number: ExactDecimal, _ bound: Bound?, asMinimum: Bool) -> Bool {
    guard let bound else { return true }
    guard let value = ExactDecimal(bound.value) else { return false }
    return SchemaBound(value: value, isExclusive: bound.isExclusive).allows(number, asMinimum: asMinimum)
  }
}
