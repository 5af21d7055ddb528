import Basics
import Decoding
import Foundation
import Testing

/// What compiles, and what the constraint then accepts. The verdicts are those of draft 2020-12, checked with the jsonschema package (Tests/schema-oracle.py).
@Suite struct SchemaTests {
  /// `valid` must be accepted, `invalid` must not be; `open` is valid and has properties that nothing declares.
  private struct Row {
    var about: String
    var schema: JSON
    var cases: [(value: JSON, verdict: String)]
  }

  private static func rows(_ name: String) throws -> [Row] {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures/schemas/\(name).jsonl")
    return try String(contentsOf: file, encoding: .utf8).utf8.split(separator: UInt8(ascii: "\n")).map { line in
      let row = JSONReader(try JSON.parse(line, limits: .file))
      let cases = try row["cases"].array().map { try $0.array(count: 2...2) }
      return Row(
        about: try row["about"].optional?.string() ?? "generated", schema: try #require(row["schema"].value),
        cases: try cases.map { (try #require($0[0].value), try $0[1].string()) })
    }
  }

  @Test func writtenCasesGetTheirVerdicts() throws {
    let rows = try Self.rows("written")
    #expect(rows.count > 80)
    for row in rows {
      let constraint = try JSONSchema(row.schema).constraint
      for (value, verdict) in row.cases where verdict != "open" {
        #expect(constraint.accepts(value) == (verdict == "valid"), "\(row.about): \(value.compact) is \(verdict)")
      }
    }
  }

  @Test func generatedCasesGetTheirVerdicts() throws {
    let rows = try Self.rows("generated")
    var accepted = 0
    var refused = 0
    for row in rows {
      let constraint: Constraint
      do { constraint = try JSONSchema(row.schema).constraint } catch {
        refused += 1
        // Only a oneOf that overlaps, and what nothing satisfies.
        #expect(error.code == .unsupported)
        if error.place?.hasSuffix("oneOf") == true, error.remedy?.contains("anyOf") == true { continue }
        #expect(error.message.hasPrefix("no value satisfies this schema") && row.cases.allSatisfy { $0.verdict == "invalid" }, "\(error) \(row.schema.compact)")
        continue
      }
      for (value, verdict) in row.cases {
        let accepts = constraint.accepts(value)
        if accepts { accepted += 1 }
        #expect(!(accepts && verdict == "invalid") && !(!accepts && verdict == "valid"), "\(value.compact) is \(verdict): \(row.schema.compact)")
      }
    }
    #expect(rows.count == 500 && accepted > 1_500 && refused < 50)
  }

  /// The decoder relies on it: wherever it begins, it can finish.
  @Test func everyNodeHasAValue() throws {
    for row in try Self.rows("written") + Self.rows("generated") {
      guard let constraint = try? JSONSchema(row.schema).constraint else { continue }
      var smallest = SmallestValues(constraint)
      for node in constraint.nodes.indices {
        guard let value = smallest.value(of: node) else { continue }
        #expect(Constraint(nodes: constraint.nodes, root: node).accepts(value), "node \(node) of \(row.schema.compact): \(value.compact)")
      }
      #expect(smallest.withoutValue.isEmpty, "\(row.schema.compact)")
    }
  }

  // MARK: What the nodes say

  private func compile(_ text: String) throws -> Constraint { try JSONSchema(try JSON.parse(text)).constraint }

  private func properties(_ text: String) throws -> [Constraint.ObjectRule.Property] {
    let constraint = try compile(text)
    guard case .object(let rule) = constraint.nodes[constraint.root] else { return [] }
    return rule.properties
  }

  @Test func propertiesKeepTheirOrderAndDescriptions() throws {
    let found = try properties(
      ##"""
      {"type":"object","properties":{"z":{"type":"string","description":"last"},"a":{"$ref":"#/$defs/a"},"m":{"type":"null"},"n":{"$ref":"#/$defs/a","description":"nearer"}},
       "required":["late","m"],"$defs":{"a":{"type":"integer","description":"of a"}}}
      """##)
    #expect(found.map(\.name) == ["z", "a", "m", "n", "late"])
    #expect(found.map(\.description) == ["last", "of a", nil, "nearer", nil])
    #expect(found.map(\.isRequired) == [false, false, true, false, true])
  }

  @Test func sourcesAndFormsReachTheNodes() throws {
    let constraint = try compile(
      #"{"prefixItems":[{"type":"string"},{"type":"string","source":"free","maxLength":9},{"type":"number","source":"free"},{"format":"date-time","type":"string"},{"allOf":[{"source":"free"},{"source":"copied"}],"type":"string"}],"type":"array"}"#)
    guard case .array(let rule) = constraint.nodes[constraint.root] else { Issue.record("no array"); return }
    let found = rule.prefix.map { constraint.nodes[$0] }
    guard case .string(let copied) = found[0], case .string(let free) = found[1], case .number(let number) = found[2], case .string(let moment) = found[3], case .string(let both) = found[4] else {
      Issue.record("\(found)")
      return
    }
    #expect(copied.source == .copied && free.source == .free && free.maxLength == 9 && number.source == .free && both.source == .copied)
    #expect(moment.moment == .dateTime && moment.automaton?.matches("2026-11-25T09:16:21Z") == true)
  }

  @Test func integersGetIntegerBounds() throws {
    let constraint = try compile(#"{"type":"integer","exclusiveMinimum":0.5,"exclusiveMaximum":1e1}"#)
    guard case .number(let rule) = constraint.nodes[constraint.root] else { Issue.record("no number"); return }
    #expect(rule.minimum == .init(JSON.Number(1), isExclusive: false) && rule.maximum == .init(JSON.Number(9), isExclusive: false))
  }

  @Test func whatCannotBeIsLeftOut() throws {
    let constraint = try compile(#"{"type":"array","prefixItems":[{"type":"integer"},{"type":"string","pattern":"^a{3}$","maxLength":2}],"items":true,"maxItems":7}"#)
    guard case .array(let rule) = constraint.nodes[constraint.root] else { Issue.record("no array"); return }
    #expect(rule.prefix.count == 1 && rule.items == nil && rule.maxCount == 1)
    let notes = try JSONSchema(["properties": ["a": ["type": "string", "minLength": 3, "maxLength": 2], "b": false, "c": ["vendor": 1]]]).notes
    #expect(notes.count == 2 && notes.contains { $0.hasPrefix("properties.a.minLength: ") } && notes.contains { $0.hasPrefix("properties.c.vendor: ") }, "\(notes)")
  }

  @Test func arraysOfDifferentElementsEndWithTheirValues() throws {
    for (items, count) in [(#"{"enum":[1,2,1.0]}"#, 2), (#"{"type":"boolean"}"#, 2), (#"{"type":"integer","minimum":1,"maximum":5}"#, 5), (#"{"type":"string","pattern":"^[ab]c?$"}"#, 4),
      (#"{"type":"array","items":{"type":"null"},"maxItems":2}"#, 3), (#"{"type":"object","properties":{"a":{"type":"boolean"}},"additionalProperties":false}"#, 3),
      (#"{"anyOf":[{"const":3},{"type":"integer","minimum":1,"maximum":3},{"type":"null"}]}"#, 4)]
    {
      let constraint = try compile(#"{"type":"array","uniqueItems":true,"items":\#(items)}"#)
      guard case .array(let rule) = constraint.nodes[constraint.root] else { Issue.record("no array"); continue }
      #expect(rule.maxCount == count && rule.isUnique, "\(items)")
      #expect(throws: SternaError.self) { try compile(#"{"type":"array","uniqueItems":true,"minItems":\#(count + 1),"items":\#(items)}"#) }
      #expect(throws: Never.self) { try compile(#"{"type":"array","uniqueItems":true,"minItems":\#(count),"items":\#(items)}"#) }
    }
  }

  @Test func kindsThatAreContainedInOthersAreNotWrittenTwice() throws {
    for schema in [#"{"anyOf":[{"type":"integer"},{"type":"number"}]}"#, #"{"anyOf":[{"type":"string","minLength":2},{"type":"string"}]}"#,
      #"{"type":"object","anyOf":[{"properties":{"a":{"type":"null"}}},{"properties":{"b":{"type":"null"}}}]}"#]
    {
      let constraint = try compile(schema)
      if case .anyOf(let nodes) = constraint.nodes[constraint.root] { Issue.record("\(schema): \(nodes.count) kinds") }
    }
  }
}

/// One value for each node, as small as it is easily found.
private struct SmallestValues {
  private let constraint: Constraint
  private var values: [JSON?]
  private(set) var withoutValue: [Int] = []

  init(_ constraint: Constraint) {
    self.constraint = constraint
    values = [JSON?](repeating: nil, count: constraint.nodes.count)
    var found = true
    while found {
      found = false
      for node in constraint.nodes.indices where values[node] == nil {
        values[node] = make(constraint.nodes[node])
        found = found || values[node] != nil
      }
    }
    withoutValue = values.indices.filter { values[$0] == nil }
  }

  mutating func value(of node: Int) -> JSON? { values[node] }

  private func make(_ node: Constraint.Node) -> JSON? {
    switch node {
    case .literals(let literals): return literals.first
    case .number(let rule):
      let ends = [rule.minimum, rule.maximum].compactMap { $0 }
      var tried = ends.map { JSON.number($0.value) } + [0]
      if ends.count == 2, let a = ends[0].value.double, let b = ends[1].value.double { tried.append(.number((a + b) / 2)) }
      for end in ends { if let value = end.value.double { tried += [.number(value + 1), .number(value - 1)] } }
      tried += ["9e999", "-9e999"].compactMap { try? JSON.parse($0) }
      return tried.first { Constraint(nodes: [node], root: 0).accepts($0) }
    case .string(let rule): return string(rule)
    case .array(let rule):
      var elements: [JSON] = []
      for i in 0..<rule.minCount {
        guard let node = i < rule.prefix.count ? rule.prefix[i] : rule.items, let value = values[node] else { return nil }
        elements.append(value)
      }
      guard rule.isUnique, !elements.areAllDifferent else { return .array(elements) }
      // Any instance will do: integers and words are always different.
      let choices = (0..<rule.minCount).map { i -> [JSON] in
        guard let node = i < rule.prefix.count ? rule.prefix[i] : rule.items else { return [] }
        var tried: [JSON] = [.null, true, false] + literals(node)
        if let value = values[node] { tried.append(value) }
        for count in 0..<8 {
          tried.append(.number(count))
          tried.append(.string(String(repeating: "a", count: count)))
        }
        return tried.filter { Constraint(nodes: constraint.nodes, root: node).accepts($0) }
      }
      return different(choices).map { .array($0) } ?? .string("not looked for")
    case .object(let rule):
      var object = JSON.Object()
      for property in rule.properties where property.isRequired {
        guard let value = values[property.node] else { return nil }
        object[property.name] = value
      }
      return .object(object)
    case .anyOf(let nodes): return nodes.lazy.compactMap { values[$0] }.first
    }
  }

  private func literals(_ node: Int) -> [JSON] {
    switch constraint.nodes[node] {
    case .literals(let values): values
    case .anyOf(let nodes): nodes.flatMap(literals)
    default: []
    }
  }

  private func different(_ choices: [[JSON]]) -> [JSON]? {
    guard let first = choices.first else { return [] }
    for value in first {
      let others = choices.dropFirst().map { $0.filter { $0.valueKey != value.valueKey } }
      if let rest = different(others) { return [value] + rest }
    }
    return nil
  }

  /// The shortest string, byte by byte.
  private func string(_ rule: Constraint.StringRule) -> JSON? {
    guard let automaton = rule.automaton else { return .string(String(repeating: "a", count: rule.minLength)) }
    var reached: [StringAutomaton.State: [UInt8]] = [automaton.start: []]
    for _ in 0...(rule.maxLength ?? rule.minLength + 100) * 4 {
      if let state = reached.keys.sorted().first(where: { automaton.isAccepting($0) && String(decoding: reached[$0] ?? [], as: UTF8.self).unicodeScalars.count >= rule.minLength }) {
        return .string(String(decoding: reached[state] ?? [], as: UTF8.self))
      }
      var next: [StringAutomaton.State: [UInt8]] = [:]
      for state in reached.keys.sorted() {
        for byte in UInt8.min...UInt8.max { if let target = automaton.next(state, byte), next[target] == nil { next[target] = (reached[state] ?? []) + [byte] } }
      }
      reached = next
    }
    return nil
  }
}
