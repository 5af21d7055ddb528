import Basics

/// A constraint and the text that its values are copied from: where each string, number and moment may stand, and which nodes can have a value at all.
struct Grounding {
  let constraint: Constraint
  let source: CopySource
  /// Places of values that are copied, by node.
  private(set) var places: [[CopySource.Occurrence]]
  /// Values that the model writes itself, by node.
  private(set) var free: [Constraint.NodeID: FreeValue] = [:]
  /// What the shallowest value of a node takes; nil for a node that the text has no value for.
  private(set) var least: [Least?]

  struct Least {
    /// Nodes inside each other.
    var rank: Int
    /// Arrays and objects inside each other, the value's own among them.
    var depth: Int
    /// Single values, and empty arrays and objects.
    var values: Int
  }

  /// Arrays and objects that may stand inside each other, as in the payload of a job.
  static let mostDepth = 32
  /// Single values that the shortest answer may have.
  static let mostValues = 4_096

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
    least = [Least?](repeating: nil, count: constraint.nodes.count)
    // A node has a value when those below it have; so from the leaves up, until nothing changes.
    var round = 0
    var hasChanged = true
    while hasChanged {
      var found: [(node: Constraint.NodeID, least: Least)] = []
      for node in constraint.nodes.indices where least[node] == nil {
        if let (depth, values) = least(of: node) { found.append((node, Least(rank: round, depth: depth, values: values))) }
      }
      for (node, least) in found { self.least[node] = least }
      hasChanged = !found.isEmpty
      round += 1
    }
  }

  func isViable(_ node: Constraint.NodeID) -> Bool { least[node] != nil }

  /// From those of the nodes below that are known; nil when too few are.
  private func least(of node: Constraint.NodeID) -> (depth: Int, values: Int)? {
    /// Of values beside each other; the number stops growing where nobody writes so many.
    func together(_ parts: some Swift.Sequence<(node: Constraint.NodeID, times: Int)>) -> (depth: Int, values: Int)? {
      var (depth, values) = (0, 0)
      for (node, times) in parts where times > 0 {
        guard let part = least[node] else { return nil }
        depth = max(depth, part.depth)
        values = min(values + part.values * min(times, Self.mostValues + 1), Self.mostValues + 1)
      }
      return (depth + 1, max(1, values))
    }
    switch constraint.nodes[node] {
    case .literals(let values): return values.isEmpty ? nil : (0, 1)
    case .string(let rule): return rule.source == .free || !places[node].isEmpty ? (0, 1) : nil
    case .number(let rule): return rule.source == .free || !places[node].isEmpty ? (0, 1) : nil
    case .array(let rule):
      let count = min(rule.minCount, rule.maxCount ?? .max)
      var parts = rule.prefix.prefix(count).map { (node: $0, times: 1) }
      if count > rule.prefix.count {
        guard let items = rule.items else { return nil }
        parts.append((items, count - rule.prefix.count))
        if rule.isUnique, count > rule.prefix.count + 1, least[items] != nil, distinctValues(items, atMost: count) < count { return nil }
      }
      return rule.minCount > count ? nil : together(parts)
    case .object(let rule): return together(rule.properties.lazy.filter(\.isRequired).map { ($0.node, 1) })
    case .anyOf(let nodes):
      return nodes.compactMap { least[$0] }.min { ($0.depth, $0.values) < ($1.depth, $1.values) }.map { ($0.depth, $0.values) }
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
