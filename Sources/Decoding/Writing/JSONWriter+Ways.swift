import Basics

// How a JSON text may go on: from what is still to be written to the texts of the alternatives.

extension JSONWriter {
  /// One way to go on, up to the next choice, the inside of a value, or the end.
  struct Way {
    var text: [UInt8]
    var rest: Rest?
    var notes: Notes?
  }

  /// Follows what is forced, and `choices` choices beyond it, each in all its ways.
  func ways(_ rest: Rest?, text: [UInt8], notes: Notes?, choices: Int) -> [Way] {
    var way = Way(text: text, rest: rest, notes: notes)
    while let here = way.rest {
      switch here.item {
      case .text(let bytes):
        way.text += bytes
        way.rest = here.next
      case .note(let note):
        way.notes = Notes(note, behind: way.notes)
        way.rest = here.next
      case .copy, .free: return [way]
      case .value, .members, .elements:
        let alternatives = alternatives(here, way.notes)
        if alternatives.isEmpty {
          return []
        } else if alternatives.count == 1 {
          way.rest = alternatives[0]
        } else if choices == 0 || way.text.count > Self.longestRun {
          return [way]
        } else {
          return alternatives.flatMap { ways($0, text: way.text, notes: way.notes, choices: choices - 1) }
        }
      }
    }
    return [way]
  }

  /// What may stand in place of a value, the members or the elements; nothing when the text has no value left.
  func alternatives(_ rest: Rest, _ notes: Notes?) -> [Rest] {
    switch rest.item {
    case .value(let node, let excluded): values(node, excluded, depth: notes?.depth ?? 0, rest.next)
    case .members(let node, let from, let isFirst): members(node, from, isFirst, notes, rest.next)
    case .elements(let node, let count): elements(node, count, notes, rest.next)
    case .text, .copy, .free, .note: []
    }
  }

  /// Whether a value of a node has a place inside so many arrays and objects.
  private func fits(_ node: Constraint.NodeID, depth: Int) -> Bool { grounding.least[node].map { depth + $0.depth <= Grounding.mostDepth } ?? false }

  /// - Parameter depth: arrays and objects that are open.
  private func values(_ node: Constraint.NodeID, _ excluded: Set<JSON.ValueKey>, isNullable: Bool = false, depth: Int, _ next: Rest?) -> [Rest] {
    guard fits(node, depth: depth) else { return [] }
    switch grounding.constraint.nodes[node] {
    case .literals(let values):
      let allowed = excluded.isEmpty ? values : values.filter { !excluded.contains($0.valueKey) }
      return allowed.map { Rest(.text($0.compactBytes), Rest(.note(.leaf($0, nil)), next)) }
    case .string(let rule) where rule.source == .free:
      let quote = UInt8(ascii: "\"")
      guard let value = grounding.free[node], let state = value.next(value.start, quote) else { return [] }
      return [Rest(.text([quote]), Rest(.free(FreeContent(value: value, state: state, text: [quote], isString: true, excluded: excluded)), next))]
    case .number(let rule) where rule.source == .free:
      guard let value = grounding.free[node] else { return [] }
      return [Rest(.free(FreeContent(value: value, state: value.start, text: [], isString: false, excluded: excluded)), next)]
    case .string(let rule):
      return copy(node, rule.moment == nil ? .string : .moment, isQuoted: true, isNullable, excluded, rule.automaton, next).map { [$0] } ?? []
    case .number:
      // Models that saw only strings put numbers in quotes; others write them bare. Either form means the same.
      return [false, true].compactMap { copy(node, .number, isQuoted: $0, isNullable, excluded, nil, next) }
    case .array(let rule):
      let array = Rest(.text([UInt8(ascii: "[")]), Rest(.note(.open(isArray: true)), Rest(.elements(node, count: 0), next)))
      guard rule.allowsBareElement, rule.minCount <= 1, let element = rule.node(at: 0) else { return [array] }
      return [array] + values(element, [], isNullable: isNullable, depth: depth + 1, Rest(.note(.close), next)).map { Rest(.note(.open(isArray: true)), $0) }
    case .object: return [Rest(.text([UInt8(ascii: "{")]), Rest(.note(.open(isArray: false)), Rest(.members(node, from: 0, isFirst: true), next)))]
    case .anyOf(let nodes):
      let hasNull = nodes.contains { if case .literals(let values) = grounding.constraint.nodes[$0] { values.contains(.null) } else { false } }
      return nodes.flatMap { values($0, excluded, isNullable: isNullable || hasNull, depth: depth, next) }
    }
  }

  private func copy(
    _ node: Constraint.NodeID, _ kind: CopiedValue.Kind, isQuoted: Bool, _ isNullable: Bool, _ excluded: Set<JSON.ValueKey>, _ automaton: StringAutomaton?,
    _ next: Rest?
  ) -> Rest? {
    var places = grounding.places[node]
    if kind == .number, isQuoted { places = grounding.source.withLeadingSpaces(places) }
    var value = CopiedValue(copy: Copy(places), kind: kind, isQuoted: isQuoted, isNullable: isNullable, excluded: excluded, automaton: automaton)
    // A copy can always be closed at its end; where that is excluded, it must not begin.
    if !excluded.isEmpty { places = places.filter { value.end(of: $0, in: grounding.source).map { !excluded.contains($0.valueKey) } ?? false } }
    guard !places.isEmpty else { return nil }
    value.copy = Copy(places)
    let inside = Rest(.copy(value), next)
    return isQuoted ? Rest(.text([UInt8(ascii: "\"")]), inside) : inside
  }

  private func members(_ node: Constraint.NodeID, _ from: Int, _ isFirst: Bool, _ notes: Notes?, _ next: Rest?) -> [Rest] {
    guard case .object(let rule) = grounding.constraint.nodes[node] else { return [] }
    var ways: [Rest] = []
    for index in from..<max(from, rule.properties.count) {
      let property = rule.properties[index]
      guard fits(property.node, depth: notes?.depth ?? 0) else { continue }
      let key = Array(((isFirst ? "" : ",") + JSON.string(property.spoken).compact + ":").utf8)
      ways.append(
        Rest(.text(key), Rest(.note(.key(property.name)), Rest(.value(property.node, excluded: []), Rest(.members(node, from: index + 1, isFirst: false), next)))))
      if property.isRequired { return ways }
    }
    ways.append(Rest(.text([UInt8(ascii: "}")]), Rest(.note(.close), next)))
    return ways
  }

  private func elements(_ node: Constraint.NodeID, _ count: Int, _ notes: Notes?, _ next: Rest?) -> [Rest] {
    guard case .array(let rule) = grounding.constraint.nodes[node] else { return [] }
    var excluded: Set<JSON.ValueKey> = []
    if rule.isUnique, count > 0 {
      let elements = Notes.elements(notes).map(\.valueKey)
      excluded = Set(elements)
      // A composite value shows only at its end that it is there already: that way ends here.
      if excluded.count < elements.count { return [] }
    }
    var ways: [Rest] = []
    if let element = rule.node(at: count), !values(element, excluded, depth: notes?.depth ?? 0, nil).isEmpty {
      let value = Rest(.value(element, excluded: excluded), Rest(.elements(node, count: count + 1), next))
      ways.append(count == 0 ? value : Rest(.text([UInt8(ascii: ",")]), value))
    }
    if count >= rule.minCount { ways.append(Rest(.text([UInt8(ascii: "]")]), Rest(.note(.close), next))) }
    return ways
  }
}

extension CopiedValue {
  /// The value of a place copied to its end.
  func end(of place: CopySource.Occurrence, in source: CopySource) -> JSON? {
    var whole = self
    whole.excluded = []
    whole.copy = Copy(place, to: place.limit)
    return whole.closed(in: source)?.0
  }
}
