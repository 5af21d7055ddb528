import Basics
import Decoding
import TestSupport
import Testing

/// A model that likes tokens by chance, the same for the same text before: what is chosen depends on what was fed, as with a real one.
private struct ChanceModel {
  var seed: UInt64
  var fed: [Int32] = []

  func logits(_ prefix: ArraySlice<Int32>, _ candidates: [Int32]) -> [Float] {
    var hash = seed
    for token in prefix { hash = (hash ^ UInt64(UInt32(bitPattern: token))) &* 0x100_0000_01B3 }
    return candidates.map { token in
      var random = SplitMix64(seed: hash ^ UInt64(UInt32(bitPattern: token)) &* 0x9E37_79B9)
      return Float(random.next() % 10_000) / 1000
    }
  }
}

/// A vocabulary of all bytes and some pieces, encoded longest first: enough of a tokenizer for forced texts.
private final class ToyTokenizer: Sendable {
  let vocabulary: TestVocabulary
  let ids: [[UInt8]: Int32]
  let longest: Int
  static let end: Int32 = 100_000

  init(_ pieces: [String]) {
    vocabulary = TestVocabulary(allBytesAnd: pieces.map { Array($0.utf8) })
    ids = Dictionary(vocabulary.tokens.enumerated().map { ($1, Int32($0)) }, uniquingKeysWith: { first, _ in first })
    longest = vocabulary.tokens.map(\.count).max() ?? 1
  }

  func encode(_ text: [UInt8]) -> [Int32] {
    var tokens: [Int32] = []
    var at = 0
    while at < text.count {
      for length in stride(from: min(longest, text.count - at), to: 0, by: -1) {
        if let id = ids[Array(text[at..<(at + length)])] {
          tokens.append(id)
          at += length
          break
        }
      }
    }
    return tokens
  }

  /// Masks by trying every token.
  var writing: WriterVocabulary {
    WriterVocabulary(
      encode: { self.encode($0) }, bytes: { self.bytes([$0]) }, length: { self.bytes([$0]).count },
      permitted: { value, state in self.vocabulary.tokens.indices.filter { value.next(state, self.vocabulary.tokens[$0]) != nil }.map { Int32($0) } })
  }
  func bytes(_ tokens: some Swift.Sequence<Int32>) -> [UInt8] { tokens.flatMap { $0 == Self.end ? [] : vocabulary.tokens[Int($0)] } }
}

@Suite struct JSONWriterTests {
  private static let tokenizer = ToyTokenizer([
    "{\"", "\":", "\":\"", "\",\"", "\",", "\"}", "null", "true", "false", ",\"", "pump", " pump", "pu", ".\"", ".\",\"", "12", "3.", "],", "[\"", "\"]", "],\"", "\"],\"", "open", "closed", "Ventil", "ab", "name", "a\"",
  ])

  /// Runs a writer to its end. Returns all tokens that were fed and kept.
  private func run(_ writer: inout JSONWriter, _ model: ChanceModel) -> (fed: [Int32], passes: Int) {
    var fed: [Int32] = []
    var passes = 0
    while let request = writer.request {
      let logits = request.asks.map { model.logits((fed + request.feed[..<($0.position + 1)])[...], $0.candidates) }
      for ask in request.asks { #expect(ask.candidates.count > 1 && ask.candidates == Set(ask.candidates).sorted()) }
      let kept = writer.choose(logits)
      #expect(kept >= (fed.isEmpty ? 0 : 1) && kept <= request.feed.count)
      fed += request.feed[..<kept]
      passes += 1
    }
    return (fed, passes)
  }

  private func field(_ node: Constraint.Node, _ name: String, in constraint: inout Constraint, nullable: Bool = true, required: Bool = true) -> Constraint.ObjectRule.Property {
    constraint.nodes.append(node)
    var id = constraint.nodes.count - 1
    if nullable {
      constraint.nodes.append(.anyOf([id, 0]))
      id += 1
    }
    return .init(name: name, node: id, isRequired: required)
  }

  /// A constraint by chance: objects, lists, choices, all kinds of values.
  ///
  /// - Parameter hasFree: whether a half of its strings and numbers are the model's own.
  private func constraint(_ random: inout SplitMix64, hasFree: Bool = false) -> Constraint {
    var constraint = Constraint(nodes: [.literals([.null])], root: 0)
    func add(_ node: Constraint.Node) -> Int {
      constraint.nodes.append(node)
      return constraint.nodes.count - 1
    }
    func node(_ depth: Int) -> Int {
      switch Int.random(in: 0..<(depth > 2 ? 5 : 9), using: &random) {
      case 0:
        var rule = Constraint.StringRule()
        if Bool.random(using: &random) { (rule.minLength, rule.maxLength) = (Int.random(in: 0...3, using: &random), Int.random(in: 3...20, using: &random)) }
        if hasFree, Bool.random(using: &random) {
          rule.source = .free
          rule.maxLength = rule.maxLength ?? 12
          if Bool.random(using: &random) { rule.automaton = try? .pattern(["^[a-z\" ]*$", "^(?:ab|pump)*$", "^.\\d?$", "é"].randomElement(using: &random) ?? "") }
        }
        return add(.string(rule))
      case 1: return add(.string(Constraint.StringRule()))
      case 2:
        var rule = Constraint.NumberRule()
        rule.isInteger = Bool.random(using: &random)
        if hasFree, Bool.random(using: &random) {
          rule.source = .free
          if Bool.random(using: &random) { rule.minimum = .init(JSON.Number(-3), isExclusive: Bool.random(using: &random)) }
          if Bool.random(using: &random) { rule.maximum = .init(JSON.Number(120), isExclusive: Bool.random(using: &random)) }
        }
        return add(.number(rule))
      case 3: return add(.literals([.string("open"), .string("closed"), .bool(true), 12].shuffled(using: &random).dropLast(Int.random(in: 0...3, using: &random))))
      case 4: return add(.anyOf([add(.string(Constraint.StringRule())), 0]))
      case 5, 6:
        var rule = Constraint.ArrayRule()
        rule.items = node(depth + 1)
        if Bool.random(using: &random) { rule.prefix = [node(depth + 1)] }
        rule.minCount = Int.random(in: 0...2, using: &random)
        rule.maxCount = Bool.random(using: &random) ? rule.minCount + 2 : 4
        rule.isUnique = Bool.random(using: &random)
        return add(.array(rule))
      case 7: return add(.anyOf((0..<3).map { _ in node(depth + 1) }))
      default:
        var rule = Constraint.ObjectRule()
        for name in ["name", "a\"b", "ab", "ü"].prefix(Int.random(in: 0...4, using: &random)) {
          rule.properties.append(.init(name: name, node: node(depth + 1), isRequired: Bool.random(using: &random)))
        }
        return add(.object(rule))
      }
    }
    constraint.root = node(0)
    return constraint
  }

  /// Whether a value fulfils a constraint and all of its strings and numbers stand in the text: written without looking at how the writer does it.
  private func fits(_ value: JSON, _ node: Int, _ constraint: Constraint, _ text: String) -> Bool {
    switch (constraint.nodes[node], value) {
    case (.literals(let values), _): return values.contains(value)
    case (.string(let rule), .string(let string)):
      return Array(text.utf8).firstRange(of: Array(string.utf8)) != nil && string.unicodeScalars.count >= rule.minLength && string.unicodeScalars.count <= rule.maxLength ?? .max
    case (.number(let rule), .number(let number)):
      return Array(text.utf8).firstRange(of: Array(number.text.utf8)) != nil && (!rule.isInteger || number.int != nil)
    case (.array(let rule), .array(let elements)):
      guard elements.count >= rule.minCount, elements.count <= rule.maxCount ?? .max else { return false }
      if rule.isUnique { for i in elements.indices where elements[..<i].contains(elements[i]) { return false } }
      return elements.enumerated().allSatisfy { index, element in
        let next = index < rule.prefix.count ? rule.prefix[index] : rule.items
        return next.map { fits(element, $0, constraint, text) } ?? false
      }
    case (.object(let rule), .object(let object)):
      var at = 0
      for (name, member) in object.members {
        while at < rule.properties.count, rule.properties[at].name != name {
          if rule.properties[at].isRequired { return false }
          at += 1
        }
        guard at < rule.properties.count, fits(member, rule.properties[at].node, constraint, text) else { return false }
        at += 1
      }
      return !rule.properties[at...].contains(where: \.isRequired)
    case (.anyOf(let nodes), _): return nodes.contains { fits(value, $0, constraint, text) }
    default: return false
    }
  }

  @Test func whateverIsChosenIsValidAndStandsInTheText() throws {
    var random = SplitMix64(seed: 31)
    var (written, failed) = (0, 0)
    for round in 0..<3000 {
      let text = HardTexts.random(&random, atoms: Int.random(in: 1...12, using: &random)) + (Bool.random(using: &random) ? " pump 12. 3.5" : "")
      let constraint = constraint(&random)
      let source = Self.tokenizer.vocabulary.source(text)
      let model = ChanceModel(seed: random.next())
      var writer: JSONWriter
      do { writer = try JSONWriter(constraint, source: source, vocabulary: Self.tokenizer.writing, end: ToyTokenizer.end) } catch {
        #expect(error.code == .noValidOutput)
        continue
      }
      let budget = round % 4 == 0 ? Int.random(in: 0...30, using: &random) : 400
      writer.limit(to: budget)
      let (fed, _) = run(&writer, model)
      #expect(writer.tokensFed == fed.count && fed.count <= budget)
      let document = writer.document
      if writer.hasFailed {
        failed += 1
        continue
      }
      #expect(fits(document.value, constraint.root, constraint, text), "\(document.value.compact), truncated \(writer.truncated), of \(JSON.string(text).compact)")
      #expect(constraint.accepts(document.value))
      #expect(try JSON.parse(document.value.compactBytes) == document.value)
      for leaf in document.leaves {
        #expect(leaf.confidence >= 0 && leaf.confidence <= 1)
        guard let span = leaf.span else { continue }
        if case .string(let string) = leaf.value { #expect(Array(Array(text.utf8)[span.bytes]) == Array(string.utf8)) }
      }
      if !writer.truncated { written += 1 }
    }
    // Only elements that must differ, and of which the text has not enough that do.
    #expect(written > 1200 && failed < 30)
  }

  @Test func freeValuesAreValidBesideCopiedOnes() throws {
    var random = SplitMix64(seed: 34)
    var (written, truncated, failed) = (0, 0, 0)
    for round in 0..<600 {
      let text = HardTexts.random(&random, atoms: Int.random(in: 1...8, using: &random)) + " pump 12. 3.5"
      let constraint = constraint(&random, hasFree: true)
      guard constraint.nodes.contains(where: { node in
        switch node {
        case .string(let rule): rule.source == .free
        case .number(let rule): rule.source == .free
        default: false
        }
      }) else { continue }
      let source = Self.tokenizer.vocabulary.source(text)
      let model = ChanceModel(seed: random.next())
      let budget = round % 3 == 0 ? Int.random(in: 0...30, using: &random) : 200
      var expected: (WrittenDocument, Bool, Int, [Int32])?
      let vocabulary = Self.tokenizer.writing
      for draft in [0, 2, 6] {
        var writer: JSONWriter
        do { writer = try JSONWriter(constraint, source: source, vocabulary: vocabulary, end: ToyTokenizer.end, draftLength: draft) } catch {
          #expect(error.code == .noValidOutput || error.code == .unsupported)
          continue
        }
        writer.limit(to: budget)
        let (fed, _) = run(&writer, model)
        #expect(writer.tokensFed == fed.count && fed.count <= budget)
        let found = (writer.document, writer.truncated, writer.tokensFed, fed)
        if let expected { #expect(expected == found) } else { expected = found }
      }
      guard let (document, wasTruncated, _, _) = expected else { continue }
      if document.leaves.isEmpty {
        failed += 1
        continue
      }
      #expect(constraint.accepts(document.value), "\(document.value.compact), truncated \(wasTruncated), of \(JSON.string(text).compact)")
      #expect(try JSON.parse(document.value.compactBytes) == document.value)
      if wasTruncated { truncated += 1 } else { written += 1 }
    }
    #expect(written > 100 && truncated > 50 && failed < 10, "\(written) written, \(truncated) truncated, \(failed) failed")
  }

  @Test func draftsChangeNothingButTheNumberOfPasses() throws {
    var random = SplitMix64(seed: 32)
    var passes = (with: 0, without: 0)
    for _ in 0..<2000 {
      let text = HardTexts.random(&random, atoms: Int.random(in: 1...12, using: &random)) + " pump 12. 3.5"
      let constraint = constraint(&random)
      let source = Self.tokenizer.vocabulary.source(text)
      let model = ChanceModel(seed: random.next())
      let budget = Int.random(in: 5...80, using: &random)
      var expected: (WrittenDocument, Bool, Int, [Int32])?
      for draft in [0, 1, 3, 6, 40] {
        guard var writer = try? JSONWriter(constraint, source: source, vocabulary: Self.tokenizer.writing, end: ToyTokenizer.end, draftLength: draft) else { continue }
        writer.limit(to: budget)
        let (fed, count) = run(&writer, model)
        let found = (writer.document, writer.truncated, writer.tokensFed, fed)
        if let expected { #expect(expected == found) } else { expected = found }
        if draft == 0 { passes.without += count }
        if draft == 6 { passes.with += count }
      }
    }
    #expect(passes.with < passes.without)
  }

  @Test func forcedTextHasTheTokensOfTheWholeText() throws {
    var constraint = Constraint(nodes: [.literals([.null])], root: 0)
    var object = Constraint.ObjectRule()
    for name in ["name", "ab", "x"] { object.properties.append(field(.string(Constraint.StringRule()), name, in: &constraint)) }
    object.properties.append(field(.literals(["open", "closed"]), "state", in: &constraint))
    object.properties.append(field(.literals([true, false]), "on", in: &constraint, required: false))
    constraint.nodes.append(.object(object))
    constraint.root = constraint.nodes.count - 1
    var random = SplitMix64(seed: 33)
    for _ in 0..<500 {
      let source = Self.tokenizer.vocabulary.source("Ventil ab pump. open")
      var writer = try JSONWriter(constraint, source: source, vocabulary: Self.tokenizer.writing, end: ToyTokenizer.end, draftLength: 0)
      var fed: [Int32] = []
      // Where the model always takes the longest token, as an encoder does, the whole text is that of the encoder.
      while let request = writer.request {
        fed += request.feed
        let candidates = request.asks[0].candidates
        // Among tokens with the same beginning the longest; which beginning is left to chance.
        let start = candidates.indices.randomElement(using: &random) ?? 0
        var best = start
        for other in candidates.indices where Self.tokenizer.vocabulary.tokens[Int(candidates[other])].starts(with: Self.tokenizer.vocabulary.tokens[Int(candidates[best])]) { best = other }
        let logits = candidates.indices.map { $0 == best ? Float(1) : 0 }
        _ = writer.choose([logits])
      }
      // Where a value begins its own tokens begin: one that is no longer than a token with its end is the exception.
      if writer.document.leaves.contains(where: { $0.value == "." }) { continue }
      // The space in front of a value may be written, so it is the written text that counts and not the document.
      #expect(Self.tokenizer.encode(Self.tokenizer.bytes(fed)) == fed, "\(writer.document.value.compact)")
    }
  }

  @Test func aRequiredValueThatTheTextDoesNotHaveIsAnErrorWithItsPath() throws {
    var constraint = Constraint(nodes: [.literals([.null])], root: 0)
    var object = Constraint.ObjectRule()
    object.properties.append(field(.number(Constraint.NumberRule()), "pressure", in: &constraint, nullable: false))
    constraint.nodes.append(.object(object))
    constraint.root = constraint.nodes.count - 1
    let source = Self.tokenizer.vocabulary.source("no numbers")
    do {
      _ = try JSONWriter(constraint, source: source, vocabulary: Self.tokenizer.writing, end: ToyTokenizer.end)
      Issue.record("written")
    } catch {
      #expect(error.code == .noValidOutput && error.found == "pressure: no number that fits")
    }
  }

  /// Text that a schema forces is taken at once, however long it is: a job would otherwise keep the inference thread until the watchdog ends the agent.
  @Test func aLongForcedTextIsWritten() throws {
    let (count, depth) = (4000, 20)
    let item = String(repeating: #"{"type":"array","minItems":1,"maxItems":1,"items":"#, count: depth) + #"{"const":true}"# + String(repeating: "}", count: depth)
    let constraint = try JSONSchema(JSON.parse(Array(#"{"type":"array","minItems":\#(count),"items":\#(item)}"#.utf8))).constraint
    var writer = try JSONWriter(constraint, source: Self.tokenizer.vocabulary.source("pump"), vocabulary: Self.tokenizer.writing, end: ToyTokenizer.end)
    writer.limit(to: 1000)
    let (fed, _) = run(&writer, ChanceModel(seed: 35))
    let value = writer.document.value
    #expect(fed.count <= 1000 && writer.truncated && !writer.hasFailed)
    guard case .array(let elements) = value else {
      Issue.record("no array")
      return
    }
    #expect(elements.count >= count && constraint.accepts(value))
  }

  /// A model that always goes deeper gets no deeper than a reader of results does.
  @Test func recursiveSchemasNestNoDeeperThanJobsMay() throws {
    for schema in [
      ##"{"$ref":"#/$defs/a","$defs":{"a":{"type":"array","items":{"$ref":"#/$defs/a"}}}}"##,
      ##"{"$ref":"#/$defs/o","$defs":{"o":{"type":"object","properties":{"x":{"$ref":"#/$defs/o"}}}}}"##,
      ##"{"$ref":"#/$defs/o","$defs":{"o":{"type":"object","properties":{"x":{"anyOf":[{"type":"null"},{"type":"array","items":{"$ref":"#/$defs/o"},"minItems":1}]}},"required":["x"]}}}"##,
    ] {
      let constraint = try JSONSchema(JSON.parse(Array(schema.utf8))).constraint
      var writer = try JSONWriter(constraint, source: Self.tokenizer.vocabulary.source("pump"), vocabulary: Self.tokenizer.writing, end: ToyTokenizer.end)
      writer.limit(to: 4096)
      while let request = writer.request {
        // Whatever opens something before what closes, and the longest of it: a brace with the quote of a key before a brace that an empty object begins with.
        _ = writer.choose(request.asks.map { ask in
          ask.candidates.map { token in
            let bytes = Self.tokenizer.bytes([token])
            return bytes.contains(UInt8(ascii: "]")) || bytes.contains(UInt8(ascii: "}")) || bytes.starts(with: Array("n".utf8)) ? 0 : Float(bytes.count)
          }
        })
        if writer.tokensFed > 1000 { writer.limit(to: 0) }
      }
      var (depth, deepest) = (0, 0)
      for byte in writer.document.value.compactBytes {
        if byte == UInt8(ascii: "[") || byte == UInt8(ascii: "{") { depth += 1 }
        if byte == UInt8(ascii: "]") || byte == UInt8(ascii: "}") { depth -= 1 }
        deepest = max(deepest, depth)
      }
      #expect((30...32).contains(deepest), "\(schema)")
      #expect(constraint.accepts(writer.document.value))
    }
  }

  @Test(arguments: [
    #"{"type":"array","items":{"enum":[1]},"minItems":65536}"#,
    #"{"type":"array","minItems":90,"items":{"type":"array","minItems":90,"items":{"type":"boolean"}}}"#,
    #"{"type":"array","minItems":60000,"items":{"type":"array","minItems":60000,"items":{"type":"array","minItems":60000,"items":{"type":"boolean"}}}}"#,
  ])
  func anAnswerThatCannotBeSmallIsRefused(schema: String) throws {
    let constraint = try JSONSchema(JSON.parse(Array(schema.utf8))).constraint
    do {
      _ = try JSONWriter(constraint, source: Self.tokenizer.vocabulary.source("pump"), vocabulary: Self.tokenizer.writing, end: ToyTokenizer.end)
      Issue.record("written")
    } catch { #expect(error.code == .unsupported && error.expected?.contains("4096 values") == true) }
  }

  @Test func confidenceIsTheProductOfTheOpenDecisions() throws {
    var constraint = Constraint(nodes: [.literals([.null])], root: 0)
    var object = Constraint.ObjectRule()
    object.properties.append(field(.literals([true, false]), "on", in: &constraint, nullable: false))
    object.properties.append(field(.literals(["x"]), "ab", in: &constraint, nullable: false))
    constraint.nodes.append(.object(object))
    constraint.root = constraint.nodes.count - 1
    var writer = try JSONWriter(constraint, source: Self.tokenizer.vocabulary.source("text"), vocabulary: Self.tokenizer.writing, end: ToyTokenizer.end)
    #expect(writer.request?.asks.count == 1)
    _ = writer.choose([[0, 0]])
    #expect(writer.request == nil)
    #expect(writer.document.leaves.map(\.confidence) == [0.5, 1])
    #expect(writer.document.leaves.map(\.path) == ["on", "ab"])
  }
}
