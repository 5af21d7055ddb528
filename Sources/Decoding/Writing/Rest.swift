import Basics

/// What is still to be written of a JSON text, the next thing first. Immutable, so that alternatives share what they have in common.
final class Rest: Sendable {
  enum Item: Sendable {
    /// Bytes that can only be these.
    case text([UInt8])
    /// A value of a node, other than these.
    case value(Constraint.NodeID, excluded: Set<JSON.ValueKey>)
    /// The members of an object from a property on.
    case members(Constraint.NodeID, from: Int, isFirst: Bool)
    /// The elements of an array behind those that there are.
    case elements(Constraint.NodeID, count: Int)
    /// The inside of a copied value.
    case copy(CopiedValue)
    /// The inside of a value that the model writes itself.
    case free(FreeContent)
    /// Nothing to write, something to remember.
    case note(Notes.Note)
  }

  let item: Item
  let next: Rest?

  init(_ item: Item, _ next: Rest?) {
    self.item = item
    self.next = next
  }

  /// Adds what decides how it goes on: two rests that hash alike go on alike.
  func hash(into hasher: inout Hasher) {
    var here: Rest? = self
    while let rest = here {
      switch rest.item {
      case .text(let bytes): hasher.combine(bytes)
      case .value(let node, let excluded):
        hasher.combine(node)
        hasher.combine(excluded)
      case .members(let node, let from, let isFirst):
        hasher.combine(node)
        hasher.combine(from)
        hasher.combine(isFirst)
      case .elements(let node, let count):
        hasher.combine(node)
        hasher.combine(count)
      case .copy(let value):
        for occurrence in value.copy.occurrences {
          hasher.combine(occurrence.start)
          hasher.combine(occurrence.limit)
          hasher.combine(occurrence.least)
        }
        hasher.combine(value.copy.length)
        hasher.combine(value.isQuoted)
        hasher.combine(value.kind)
        hasher.combine(value.excluded)
        hasher.combine(value.automaton?.stateCount)
      case .free(let content): hasher.combine(content.state)
      case .note: break
      }
      here = rest.next
    }
  }
}

/// A value while it is copied.
struct CopiedValue: Sendable {
  enum Kind: Sendable { case string, number, moment }

  var copy: Copy
  var kind: Kind
  /// Whether it stands in quotes.
  var isQuoted: Bool
  /// Whether null could have stood here.
  var isNullable: Bool
  /// What it may not become.
  var excluded: Set<JSON.ValueKey>
  /// What a string must be.
  var automaton: StringAutomaton?

  /// The value and its place, when it may end here.
  func closed(in source: CopySource) -> (JSON, CopiedSpan)? {
    copy.closed(in: source) { occurrence, span in isAllowed(value(occurrence, span, source)) }.flatMap { occurrence, span in
      value(occurrence, span, source).map { ($0, span) }
    }
  }

  /// The longest beginning of what was written that is a value of its own; numbers and moments are whole or wrong.
  func brokenOff(in source: CopySource) -> (JSON, CopiedSpan)? {
    copy.brokenOff(in: source) { occurrence, span in isAllowed(value(occurrence, span, source)) }.flatMap { occurrence, span in
      value(occurrence, span, source).map { ($0, span) }
    }
  }

  private func isAllowed(_ value: JSON?) -> Bool {
    guard let value else { return false }
    if kind == .string, let automaton, case .string(let text) = value, !automaton.matches(text) { return false }
    return excluded.isEmpty || !excluded.contains(value.valueKey)
  }

  private func value(_ occurrence: CopySource.Occurrence, _ span: CopiedSpan, _ source: CopySource) -> JSON? {
    switch kind {
    case .string: .string(source.string(span))
    case .number: source.number(startingAt: occurrence.start + occurrence.lead)?.json
    case .moment: source.moment(occurrence).map { .string($0.iso) }
    }
  }
}

/// A value while the model writes it itself.
struct FreeContent: Sendable {
  let value: FreeValue
  var state: FreeValue.State
  /// JSON, the opening quote included.
  var text: [UInt8]
  let isString: Bool
  /// What it may not become.
  let excluded: Set<JSON.ValueKey>

  /// The same behind a token; nil when no value goes on like this.
  func appending(_ bytes: [UInt8]) -> FreeContent? {
    guard let state = value.next(state, bytes) else { return nil }
    var next = self
    next.state = state
    next.text += bytes
    return next
  }

  /// Whether a permitted token leads to more than an excluded string: such a one must not get its last quote.
  func mayGoOn(_ bytes: [UInt8]) -> Bool {
    guard isString, bytes.contains(UInt8(ascii: "\"")), let next = appending(bytes), next.value.isComplete(next.state) else { return true }
    return next.closed != nil
  }

  /// The value, when it may end here.
  var closed: JSON? {
    guard value.isComplete(state), let found = try? JSON.parse(text), excluded.isEmpty || !excluded.contains(found.valueKey) else { return nil }
    return found
  }

  /// The shortest value that begins like this.
  var shortest: JSON {
    var content = self
    while !content.value.isComplete(content.state) {
      let left = content.value.bytesToFinish(content.state)
      let next = (0...255 as ClosedRange<UInt8>).lazy.compactMap { content.appending([$0]) }.first { $0.value.bytesToFinish($0.state) < left }
      guard let next else { return .null }
      content = next
    }
    return content.closed ?? .null
  }
}

/// What was written so far, as values; the last thing first.
final class Notes: Sendable {
  enum Note: Sendable {
    case open(isArray: Bool)
    case key(String)
    case leaf(JSON, CopiedSpan?)
    case close
  }

  let note: Note
  let before: Notes?
  /// Values that are complete, this one included; an empty array or object counts.
  let values: Int

  init(_ note: Note, behind before: Notes?) {
    self.note = note
    self.before = before
    var isValue = false
    switch note {
    case .leaf: isValue = true
    case .close: if case .open? = before?.note { isValue = true }
    case .open, .key: break
    }
    values = (before?.values ?? 0) + (isValue ? 1 : 0)
  }

  /// First thing first.
  private var inOrder: [Note] {
    var notes: [Note] = []
    var at: Notes? = self
    while let here = at {
      notes.append(here.note)
      at = here.before
    }
    return notes.reversed()
  }

  /// Without the element that was written last.
  static func withoutLastElement(_ notes: Notes?) -> Notes? {
    var depth = 0
    var at = notes
    while let here = at {
      at = here.before
      switch here.note {
      case .close: depth += 1
      case .open: depth -= 1
      case .key, .leaf: break
      }
      if depth == 0 { return at }
    }
    return nil
  }

  /// The elements of the array that is open, as far as they are complete.
  static func elements(_ notes: Notes?) -> [JSON] {
    var depth = 0
    var inner: [Note] = []
    var at = notes
    search: while let here = at {
      switch here.note {
      case .close: depth += 1
      case .open:
        if depth == 0 { break search }
        depth -= 1
      case .key, .leaf: break
      }
      inner.append(here.note)
      at = here.before
    }
    var builder = Builder()
    builder.add(.open(isArray: true))
    for note in inner.reversed() { builder.add(note) }
    builder.add(.close)
    guard case .array(let elements)? = builder.root else { return [] }
    return elements
  }

  /// The whole document.
  var document: WrittenDocument {
    var builder = Builder()
    for note in inOrder { builder.add(note) }
    return WrittenDocument(value: builder.root ?? .null, leaves: builder.leaves)
  }

  private struct Builder {
    private enum Open {
      case array([JSON])
      case object(JSON.Object, key: String)
    }
    private var open: [Open] = []
    private var path: [String] = []
    var root: JSON?
    var leaves: [WrittenDocument.Leaf] = []

    mutating func add(_ note: Note) {
      switch note {
      case .open(let isArray): open.append(isArray ? .array([]) : .object(JSON.Object(), key: ""))
      case .key(let name): if case .object(let object, _)? = open.popLast() { open.append(.object(object, key: name)) }
      case .leaf(let value, let span):
        leaves.append(.init(path: place, value: value, span: span, confidence: 1))
        put(value)
      case .close:
        switch open.popLast() {
        case .array(let elements)?:
          if elements.isEmpty { leaves.append(.init(path: place, value: .array([]), span: nil, confidence: 1)) }
          put(.array(elements))
        case .object(let object, _)?:
          if object.count == 0 { leaves.append(.init(path: place, value: .object(object), span: nil, confidence: 1)) }
          put(.object(object))
        case nil: break
        }
      }
    }

    private mutating func put(_ value: JSON) {
      switch open.popLast() {
      case .array(let elements)?: open.append(.array(elements + [value]))
      case .object(var object, let key)?:
        object[key] = value
        open.append(.object(object, key: key))
      case nil: root = value
      }
    }

    /// `address.lines[2]`
    private var place: String {
      var text = ""
      for level in open {
        switch level {
        case .array(let elements): text += "[\(elements.count)]"
        case .object(_, let key): text += text.isEmpty ? key : "." + key
        }
      }
      return text
    }
  }
}

/// A JSON value with the place and the certainty of everything in it.
public struct WrittenDocument: Sendable, Equatable {
  public struct Leaf: Sendable, Equatable {
    /// `serial`, `address.city` or `parts[2]`; empty when the whole document is one value.
    public var path: String
    /// A string, number, boolean, null, or an empty array or object.
    public var value: JSON
    /// Where it was copied from.
    public var span: CopiedSpan?
    /// The product of the probabilities of all open decisions that led to it, each renormalised over what was permitted. 0 where the budget ended first.
    public var confidence: Float
  }

  public var value: JSON
  /// In the order in which they were written.
  public var leaves: [Leaf]
}
