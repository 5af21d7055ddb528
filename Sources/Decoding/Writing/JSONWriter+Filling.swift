import Basics

// A text that must end without the model: the shortest that the constraint allows.

extension JSONWriter {
  /// Completes a thread. `certain` values stand as the thread has them.
  func filledIn(_ thread: Thread) -> (notes: Notes?, certain: Int) {
    var notes = thread.notes
    var certain = notes?.values ?? 0
    var rest = thread.rest
    while let here = rest {
      switch here.item {
      case .text: rest = here.next
      case .note(let note):
        notes = Notes(note, behind: notes)
        rest = here.next
      case .copy(let value):
        let (found, span) = completed(value)
        notes = Notes(.leaf(found, span), behind: notes)
        rest = here.next
      case .free(let content):
        notes = Notes(.leaf(content.shortest, nil), behind: notes)
        rest = here.next
      case .value(let node, let excluded): rest = shortest(node, excluded, notes, here.next)
      case .members: rest = alternatives(here, notes).last
      case .elements:
        let ways = alternatives(here, notes)
        if let last = ways.last {
          rest = last
        } else if case .elements(let node, let count) = here.item, count > least(node) {
          // Two equal elements where they must differ: without the second.
          notes = Notes.withoutLastElement(notes)
          certain = min(certain, notes?.values ?? 0)
          rest = Rest(.elements(node, count: count - 1), here.next)
        } else {
          // Too few elements that differ: `searched` may know better.
          notes = Notes(.close, behind: notes)
          rest = here.next
        }
      }
    }
    return (notes, certain)
  }

  private func least(_ node: Constraint.NodeID) -> Int {
    guard case .array(let rule) = grounding.constraint.nodes[node] else { return 0 }
    return rule.minCount
  }

  /// Completes by trying one thing after the other, shallow ones first: for lists of objects that must differ, which the shortest values do not do. Nil when there is no way, or too long a one.
  func searched(_ rest: Rest?, _ notes: Notes?) -> Notes? {
    var steps = Self.mostSteps
    func complete(_ rest: Rest?, _ notes: Notes?, _ depth: Int) -> Notes? {
      var (rest, notes) = (rest, notes)
      while let here = rest {
        steps -= 1
        guard steps > 0, depth < Self.mostDepth else { return nil }
        func first(of values: some Swift.Sequence<(JSON, CopiedSpan?)>) -> Notes? {
          for (found, span) in values {
            if let complete = complete(here.next, Notes(.leaf(found, span), behind: notes), depth + 1) { return complete }
          }
          return nil
        }
        switch here.item {
        case .text: rest = here.next
        case .note(let note):
          notes = Notes(note, behind: notes)
          rest = here.next
        case .copy(let value):
          return first(of: value.copy.occurrences.lazy.compactMap { value.first(of: $0, in: grounding.source) })
        case .free(let content):
          notes = Notes(.leaf(content.shortest, nil), behind: notes)
          rest = here.next
        case .value(let node, let excluded):
          if case .anyOf(let nodes) = grounding.constraint.nodes[node] {
            for node in nodes.sorted(by: { (grounding.least[$0]?.rank ?? .max) < (grounding.least[$1]?.rank ?? .max) }) {
              if let complete = complete(Rest(.value(node, excluded: excluded), here.next), notes, depth + 1) { return complete }
            }
            return nil
          }
          fallthrough
        case .members, .elements:
          for way in alternatives(here, notes).reversed() {
            if let complete = complete(way, notes, depth + 1) { return complete }
          }
          return nil
        }
      }
      return notes
    }
    return complete(rest, notes, 0)
  }
  private static let mostSteps = 20_000
  private static let mostDepth = 1_000

  /// A copy under way: its last whole word; null where that may stand here; else the first value that fits.
  private func completed(_ value: CopiedValue) -> (JSON, CopiedSpan?) {
    if value.kind == .string, let (found, span) = value.brokenOff(in: grounding.source) { return (found, span) }
    if value.isNullable, !value.excluded.contains(JSON.null.valueKey) { return (.null, nil) }
    for place in value.copy.occurrences {
      if let found = value.first(of: place, in: grounding.source) { return found }
    }
    return (.null, nil)
  }

  /// The value with the fewest nodes below it; null before all others.
  private func shortest(_ node: Constraint.NodeID, _ excluded: Set<JSON.ValueKey>, _ notes: Notes?, _ next: Rest?) -> Rest? {
    switch grounding.constraint.nodes[node] {
    case .literals(let values):
      let allowed = values.filter { !excluded.contains($0.valueKey) }
      return Rest(.note(.leaf(allowed.contains(.null) ? .null : allowed.first ?? .null, nil)), next)
    case .anyOf(let nodes):
      let hasNull = nodes.first { if case .literals(let values) = grounding.constraint.nodes[$0] { values.contains(.null) && !excluded.contains(JSON.null.valueKey) } else { false } }
      let viable = nodes.filter { !alternatives(Rest(.value($0, excluded: excluded), nil), notes).isEmpty }
      guard let best = hasNull ?? viable.min(by: { (grounding.least[$0]?.rank ?? .max) < (grounding.least[$1]?.rank ?? .max) }) else { return Rest(.note(.leaf(.null, nil)), next) }
      return hasNull == nil ? shortest(best, excluded, notes, next) : Rest(.note(.leaf(.null, nil)), next)
    default:
      return alternatives(Rest(.value(node, excluded: excluded), next), notes).first ?? Rest(.note(.leaf(.null, nil)), next)
    }
  }
}

extension CopiedValue {
  /// The shortest value that begins at a place and is allowed.
  func first(of place: CopySource.Occurrence, in source: CopySource) -> (JSON, CopiedSpan?)? {
    var value = self
    for end in max(place.least, place.start + 1)...max(place.limit, place.start + 1) where source.mayEnd(place, at: end) {
      value.copy = Copy(place, to: end)
      if let (found, span) = value.closed(in: source) { return (found, span) }
    }
    return nil
  }
}

extension Grounding {
  /// The first things that a value needs and the text does not have, as paths.
  var whatIsMissing: String? {
    var missing: [String] = []
    func visit(_ node: Constraint.NodeID, _ path: String, _ depth: Int) {
      guard least[node] == nil, depth < 16, missing.count < 4 else { return }
      switch constraint.nodes[node] {
      case .object(let rule): for property in rule.properties where property.isRequired { visit(property.node, path.isEmpty ? property.name : path + "." + property.name, depth + 1) }
      case .array(let rule):
        for index in 0..<min(rule.minCount, 4) {
          guard let element = rule.node(at: index) else { continue }
          if least[element] != nil { missing.append("\(path): not enough different values") }
          visit(element, path + "[\(index)]", depth + 1)
        }
      case .anyOf(let nodes): for node in nodes { visit(node, path, depth + 1) }
      case .number: missing.append("\(path): no number that fits")
      case .string(let rule): missing.append("\(path): no " + (rule.moment.map { $0.rawValue } ?? "text") + " that fits")
      case .literals: break
      }
    }
    visit(constraint.root, "", 0)
    return missing.isEmpty ? nil : missing.joined(separator: "; ")
  }
}
