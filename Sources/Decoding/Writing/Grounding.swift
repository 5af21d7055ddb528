import Basics

/// A constraint and the text that its values are copied from: where each string, number and moment may stand, and which nodes can have a value at all.
struct Grounding {
  let constraint: Constraint
  let source: CopySource
  /// Places of values that are copied, by node.
  private(set) var places: [[CopySource.Occurrence]]
  /// Values that the model writes itself, by node.
  private(set) var free: [Constraint.NodeID: FreeValue] = [:]
  /// How many nodes deep the shallowest value of a node is; nil for a node that the text has no value for.
  private(set) var rank: [Int?]

  /// - Throws: `unsupported` when a free value cannot be written as its rule demands.
  init(_ constraint: Constraint, _ source: CopySource, _ vocabulary: WriterVocabulary) throws(SternaError) {
    self.constraint = constraint
    self.source = source
    places = []
    places = constraint.nodes.map { node in
      switch node {
      case .string(let rule) where rule.source == .copied: Self.places(of: rule, in: source)
      case .number(let rule) where rule.source == .copied:
        source.numbers.filter { if case .number(let number)? = source.number(startingAt: $0.start)?.json { rule.allows(number) } else { false } }
      default: []
      }
    }
    for (index, node) in constraint.nodes.enumerated() { free[index] = try vocabulary.freeValue(node) }
    rank = [Int?](repeating: nil, count: constraint.nodes.count)
    // A node has a value when those below it have; so from the leaves up, until nothing changes.
    var round = 0
    var hasChanged = true
    while hasChanged {
      hasChanged = false
      for node in constraint.nodes.indices where rank[node] == nil && hasValue(node, below: round) {
        rank[node] = round
        hasChanged = true
      }
      round += 1
    }
  }

  func isViable(_ node: Constraint.NodeID) -> Bool { rank[node] != nil }

  private func hasValue(_ node: Constraint.NodeID, below round: Int) -> Bool {
    func has(_ node: Constraint.NodeID) -> Bool { rank[node].map { $0 < round } ?? false }
    switch constraint.nodes[node] {
    case .literals(let values): return !values.isEmpty
    case .string(let rule): return rule.source == .free || !places[node].isEmpty
    case .number(let rule): return rule.source == .free || !places[node].isEmpty
    case .array(let rule):
      guard (0..<rule.minCount).allSatisfy({ index in rule.node(at: index).map(has) ?? false }) else { return false }
      guard rule.isUnique, let items = rule.items, rule.minCount > rule.prefix.count + 1 else { return true }
      return distinctValues(items, atMost: rule.minCount) >= rule.minCount
    case .object(let rule): return rule.properties.allSatisfy { !$0.isRequired || has($0.node) }
    case .anyOf(let nodes): return nodes.contains(where: has)
    }
  }

  /// How many different values a node can have, as far as that is limited.
  private func distinctValues(_ node: Constraint.NodeID, atMost limit: Int) -> Int {
    switch constraint.nodes[node] {
    case .literals(let values): return min(limit, values.count)
    case .string(let rule) where rule.source == .copied && rule.moment == nil: return min(limit, Set(places[node].map { $0.start + $0.lead }).count)
    case .string(let rule) where rule.source == .copied: return min(limit, Set(places[node].compactMap { source.moment($0)?.iso }).count)
    case .number(let rule) where rule.source == .copied:
      return min(limit, Set(places[node].compactMap { source.number(startingAt: $0.start)?.json.compact }).count)
    case .anyOf(let nodes): return min(limit, nodes.reduce(0) { $0 + (isViable($1) ? distinctValues($1, atMost: limit) : 0) })
    default: return limit
    }
  }

  private static func places(of rule: Constraint.StringRule, in source: CopySource) -> [CopySource.Occurrence] {
    if let kind = rule.moment {
      return source.withLeadingSpaces(
        source.moments.filter { place in
          guard let moment = source.moment(place), moment.kind == kind else { return false }
          return rule.allows(moment.iso)
        })
    }
    if rule.automaton == nil, rule.minLength <= 1, rule.maxLength == nil { return source.strings }
    return source.strings.compactMap { source.range(from: $0, rule) }
  }
}

extension SternaError.Code {
  /// The text contains nothing that a schema allows in a place where it demands something.
  public static let noValidOutput: Self = "no_valid_output"
}

extension Constraint.ArrayRule {
  /// The rule of the element at an index; nil when there may be none.
  func node(at index: Int) -> Constraint.NodeID? {
    if let maxCount, index >= maxCount { return nil }
    return index < prefix.count ? prefix[index] : items
  }
}

extension Constraint.StringRule {
  func allows(_ text: String) -> Bool {
    let length = text.unicodeScalars.count
    return length >= minLength && length <= maxLength ?? .max && automaton?.matches(text) ?? true
  }
}
