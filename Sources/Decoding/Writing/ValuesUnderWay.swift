import Basics

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
