import Basics
import Decoding

/// A constraint as an indented list: what each value must be, properties in the order in which they are written.
struct ConstraintOutline {
  private let constraint: Constraint
  /// Nodes with something inside that occur more than once are numbered, so that they need to be shown once only.
  private var numbers: [Constraint.NodeID: Int] = [:]
  private var shown: Set<Constraint.NodeID> = []
  private(set) var lines: [String] = []

  init(_ constraint: Constraint) {
    self.constraint = constraint
    var references = [Int](repeating: 0, count: constraint.nodes.count)
    references[constraint.root] += 1
    for node in constraint.nodes { for inner in node.inside { references[inner] += 1 } }
    for id in references.indices where references[id] > 1 && !constraint.nodes[id].inside.isEmpty && !isAnything(id) { numbers[id] = numbers.count + 1 }
    show(constraint.root, indent: "", label: "")
  }

  var text: String { lines.joined(separator: "\n") }

  private mutating func show(_ id: Constraint.NodeID, indent: String, label: String) {
    let number = numbers[id].map { " #\($0)" } ?? ""
    if !shown.insert(id).inserted, !number.isEmpty {
      lines.append("\(indent)\(label)as\(number)")
      return
    }
    let node = constraint.nodes[id]
    lines.append(indent + label + (isAnything(id) ? "any value" : phrase(node) + number))
    if isAnything(id) { return }
    let deeper = indent + "  "
    switch node {
    case .literals, .number, .string: break
    case .array(let rule):
      for (i, inner) in rule.prefix.enumerated() { show(inner, indent: deeper, label: "[\(i)]: ") }
      if let items = rule.items { show(items, indent: deeper, label: rule.prefix.isEmpty ? "each: " : "others: ") }
    case .object(let rule):
      for property in rule.properties { show(property.node, indent: deeper, label: name(property.name) + (property.isRequired ? ": " : "?: ")) }
    case .anyOf(let nodes): for inner in nodes { show(inner, indent: deeper, label: "- ") }
    }
  }

  /// In quotes where it is no plain word.
  private func name(_ name: String) -> String {
    let isPlain = !name.isEmpty && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && !"\"?:\\".utf8.contains($0) }
    return isPlain ? name : JSON.string(name).compact
  }

  private func phrase(_ node: Constraint.Node) -> String {
    switch node {
    case .literals(let values): values.map(\.compact).joined(separator: " or ")
    case .number(let rule): (rule.isInteger ? "integer" : "number") + range(rule) + (rule.source == .free ? ", free" : "")
    case .string(let rule):
      (rule.moment?.rawValue ?? "string") + count(rule.minLength, rule.maxLength, "characters")
        + (rule.automaton == nil || rule.moment != nil ? "" : " of a pattern or format (\(rule.automaton?.stateCount ?? 0) states)")
        + (rule.source == .free ? ", free" : "")
    case .array(let rule): "array" + count(rule.minCount, rule.maxCount, "elements") + (rule.isUnique ? ", all different" : "")
    case .object(let rule): rule.properties.isEmpty ? "object without properties" : "object"
    case .anyOf: "one of"
    }
  }

  private func range(_ rule: Constraint.NumberRule) -> String {
    func end(_ bound: Constraint.NumberRule.Bound?, _ inclusive: String, _ exclusive: String) -> String? {
      bound.map { ($0.isExclusive ? exclusive : inclusive) + " " + $0.value.text }
    }
    let ends = [end(rule.minimum, "at least", "above"), end(rule.maximum, "at most", "below")].compactMap { $0 }
    return ends.isEmpty ? "" : " " + ends.joined(separator: " and ")
  }

  private func count(_ least: Int, _ most: Int?, _ what: String) -> String {
    switch (least, most) {
    case (0, nil): ""
    case (0, let most?): " of at most \(most) \(what)"
    case (_, nil): " of at least \(least) \(what)"
    case (let least, let most?): least == most ? " of \(most) \(what)" : " of \(least) to \(most) \(what)"
    }
  }

  /// What an empty schema gives.
  private func isAnything(_ id: Constraint.NodeID) -> Bool {
    guard case .anyOf(let nodes) = constraint.nodes[id], nodes.count == 5 else { return false }
    return nodes.allSatisfy { inner in
      switch constraint.nodes[inner] {
      case .literals(let values): values.count == 3 && values.allSatisfy { [.null, true, false].contains($0) }
      case .number(let rule): rule == .init()
      case .string(let rule): rule == .init()
      case .array(let rule):
        rule.items == id && rule.prefix.isEmpty && rule.minCount == 0 && rule.maxCount == nil && !rule.isUnique
      case .object(let rule): rule.properties.isEmpty
      case .anyOf: false
      }
    }
  }
}

extension Constraint.Node {
  /// The nodes of what is inside.
  var inside: [Constraint.NodeID] {
    switch self {
    case .literals, .number, .string: []
    case .array(let rule): rule.prefix + (rule.items.map { [$0] } ?? [])
    case .object(let rule): rule.properties.map(\.node)
    case .anyOf(let nodes): nodes
    }
  }

  /// For programs.
  var json: JSON {
    var object: JSON.Object
    switch self {
    case .literals(let values): object = ["values": .array(values)]
    case .number(let rule):
      object = ["type": .string(rule.isInteger ? "integer" : "number"), "source": .string(rule.source == .free ? "free" : "copied")]
      if let bound = rule.minimum { object[bound.isExclusive ? "exclusiveMinimum" : "minimum"] = .number(bound.value) }
      if let bound = rule.maximum { object[bound.isExclusive ? "exclusiveMaximum" : "maximum"] = .number(bound.value) }
    case .string(let rule):
      object = ["type": "string", "minLength": .number(rule.minLength), "source": .string(rule.source == .free ? "free" : "copied")]
      if let most = rule.maxLength { object["maxLength"] = .number(most) }
      if let moment = rule.moment { object["format"] = .string(moment.rawValue) }
      if let automaton = rule.automaton { object["states"] = .number(automaton.stateCount) }
    case .array(let rule):
      object = ["type": "array", "prefixItems": .array(rule.prefix.map { .number($0) }), "minItems": .number(rule.minCount), "uniqueItems": .bool(rule.isUnique)]
      if let most = rule.maxCount { object["maxItems"] = .number(most) }
      if let items = rule.items { object["items"] = .number(items) }
    case .object(let rule):
      object = ["type": "object"]
      object["properties"] = .object(JSON.Object(rule.properties.map { ($0.name, .number($0.node)) }))
      object["required"] = .array(rule.properties.filter(\.isRequired).map { .string($0.name) })
    case .anyOf(let nodes): object = ["anyOf": .array(nodes.map { .number($0) })]
    }
    return .object(object)
  }
}
