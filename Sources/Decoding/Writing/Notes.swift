import Basics

/// What was written so far, as values; the last thing first.
// @unchecked: immutable but for `before`, which `deinit` alone changes, and only in objects that nobody else refers to.
final class Notes: @unchecked Sendable {
  enum Note: Sendable {
    case open(isArray: Bool)
    case key(String)
    case leaf(JSON, CopiedSpan?)
    case close
  }

  let note: Note
  private(set) var before: Notes?
  /// Values that are complete, this one included; an empty array or object counts.
  let values: Int
  /// Arrays and objects that are open.
  let depth: Int

  init(_ note: Note, behind before: Notes?) {
    self.note = note
    self.before = before
    var isValue = false
    var opened = 0
    switch note {
    case .leaf: isValue = true
    case .open: opened = 1
    case .close:
      opened = -1
      if case .open? = before?.note { isValue = true }
    case .key: break
    }
    values = (before?.values ?? 0) + (isValue ? 1 : 0)
    depth = (before?.depth ?? 0) + opened
  }

  /// One after the other: as many inside each other as a document may have things would take more stack than a thread has.
  deinit {
    var next = before
    before = nil
    while isKnownUniquelyReferenced(&next) {
      let following = next?.before
      next?.before = nil
      next = following
    }
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
      case .array(var elements)?:
        elements.append(value)
        open.append(.array(elements))
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
