import Basics
import Tokenizer

/// A part of the text, where a value stands.
public struct CopiedSpan: Sendable, Equatable {
  /// Offsets in UTF-8 bytes.
  public let bytes: Range<Int>
  /// Offsets in Unicode scalars.
  public let scalars: Range<Int>

  public init(bytes: Range<Int>, scalars: Range<Int>) {
    self.bytes = bytes
    self.scalars = scalars
  }
}

/// The text that values are copied from, as a JSON string would write it, together with the tokens that can continue a copy at each place.
///
/// A partial value is the set of all places where the bytes written so far occur (`Copy`). What may come next are the tokens whose bytes continue
/// the text at one of them. Tokens are looked up once for a place and kept: a job asks for the same places again with every field.
///
/// Used from one thread at a time.
public final class CopySource {
  /// Text bytes with `"`, `\` and control characters escaped.
  package let escaped: [UInt8]
  /// For an escaped offset that lies between two bytes of the text: that place. -1 inside an escape.
  private let origin: [Int32]
  private let text: [UInt8]
  /// Where a value may begin and end, by escaped offset.
  private let cuts: [Bool]
  /// Occurrences that a string may begin with: every place where a word, a sign or a character begins, also from the space in front of it.
  package private(set) var strings: [Occurrence]
  /// The numbers of the text, and what they are in JSON.
  package let numbers: [Occurrence]
  private let numberValues: [Int: TextNumber]
  /// The dates and times of the text, and what they are in ISO 8601.
  private(set) lazy var moments: [Occurrence] = momentValues.keys.sorted().flatMap { start in
    (momentValues[start] ?? []).map { Occurrence(start: start, limit: place[$0.bytes.upperBound], least: place[$0.bytes.upperBound], lead: 0) }
  }.filter { !escaped[$0.start..<$0.limit].contains(where: missing.contains) }
  private lazy var momentValues = Dictionary(grouping: TextMoments.of(String(decoding: text, as: UTF8.self))) { place[$0.bytes.lowerBound] }
  /// Escaped offset of a byte of the text.
  private let place: [Int]
  /// Bytes of the text that no token stands for.
  private let missing: Set<UInt8>

  let longestToken: Int
  private let lengths: TokenLengths?
  private let token: (UnsafeRawBufferPointer) -> TokenID?
  private var known: [[Continuation]?]
  /// Whether the end of the text can be reached by tokens from an escaped offset; nil: from everywhere.
  private var reachesEnd: [Bool]?

  /// A place where a value begins.
  package struct Occurrence: Equatable {
    /// Escaped offset.
    package var start: Int
    /// Escaped offset that the value may not pass.
    package var limit: Int
    /// Escaped offset in front of which it may not end; `limit` for what is taken whole, such as a number.
    package var least: Int
    /// 1 when it begins with the space in front of the value.
    package var lead: Int
  }

  /// A token that continues the text at some place.
  package struct Continuation: Equatable {
    var token: TokenID
    var length: Int
  }

  /// - Parameters:
  ///   - text: the input of a job, at most 2^30 bytes.
  ///   - lengths: of the tokenizer's tokens.
  public convenience init(_ text: String, tokenizer: Tokenizer, lengths: TokenLengths) {
    self.init(text, longestToken: tokenizer.maxTokenBytes, lengths: lengths) { tokenizer.token($0) }
  }

  /// - Parameters:
  ///   - longestToken: in bytes.
  ///   - token: the ordinary token with exactly these bytes.
  package init(_ text: String, longestToken: Int, lengths: TokenLengths? = nil, token: @escaping (UnsafeRawBufferPointer) -> TokenID?) {
    self.text = Array(text.utf8)
    self.longestToken = longestToken
    self.lengths = lengths
    self.token = token
    let textCuts = TextCuts.of(text)

    var escaped: [UInt8] = []
    var origin: [Int32] = []
    var cuts: [Bool] = []
    var place = [Int](repeating: 0, count: self.text.count + 1)  // escaped offset of a byte of the text
    escaped.reserveCapacity(self.text.count + 16)
    for (offset, byte) in self.text.enumerated() {
      place[offset] = escaped.count
      JSON.escape(byte, to: &escaped)
      origin.append(Int32(truncatingIfNeeded: offset))
      cuts.append(textCuts[offset])
      while origin.count < escaped.count {
        origin.append(-1)
        cuts.append(false)
      }
    }
    place[self.text.count] = escaped.count
    origin.append(Int32(truncatingIfNeeded: self.text.count))
    cuts.append(true)
    self.escaped = escaped
    self.origin = origin
    self.cuts = cuts
    self.known = Array(repeating: nil, count: escaped.count)

    var strings: [Occurrence] = []
    var offset = 0
    var spaceBefore = false
    for scalar in text.unicodeScalars {
      if textCuts[offset], !scalar.properties.isWhitespace {
        if spaceBefore, textCuts[offset - 1] { strings.append(Occurrence(start: place[offset - 1], limit: escaped.count, least: 0, lead: 1)) }
        strings.append(Occurrence(start: place[offset], limit: escaped.count, least: 0, lead: 0))
      }
      spaceBefore = scalar == " "
      offset += scalar.utf8.count
    }
    var numbers: [Occurrence] = []
    var numberValues: [Int: TextNumber] = [:]
    for number in TextNumbers.of(text) {
      let (start, end) = (place[number.bytes.lowerBound], place[number.bytes.upperBound])
      numbers.append(Occurrence(start: start, limit: end, least: end, lead: 0))
      numberValues[start] = number
    }
    self.place = place

    // With a token for every byte nothing can lead astray; that is so for byte-level vocabularies and those with byte fallback.
    let missing = Set(escaped).filter { byte in withUnsafeBytes(of: byte) { token($0) } == nil }
    self.missing = missing
    self.numberValues = numberValues
    self.numbers = numbers.filter { !escaped[$0.start..<$0.limit].contains(where: missing.contains) }
    guard !missing.isEmpty else {
      self.strings = strings
      return
    }
    self.strings = []
    var reaches = [Bool](repeating: false, count: escaped.count + 1)
    reaches[escaped.count] = true
    for at in stride(from: escaped.count - 1, through: 0, by: -1) {
      reaches[at] = cuts[at] || continuations(at: at).contains { reaches[at + $0.length] }
    }
    reachesEnd = reaches
    for at in known.indices { known[at] = known[at]?.filter { reaches[at + $0.length] } }
    // Nothing is written yet at the start of a value, so it does not count that it could end there.
    self.strings = strings.filter { start in
      continuations(at: start.start).contains { $0.length > start.lead || !continuations(at: start.start + start.lead).isEmpty }
    }
  }

  /// The tokens that continue the text at an escaped offset, shortest first.
  func continuations(at place: Int) -> [Continuation] {
    guard place < escaped.count else { return [] }
    if let found = known[place] { return found }
    var found: [Continuation] = []
    escaped.withUnsafeBytes { bytes in
      var most = min(longestToken, bytes.count - place)
      if let lengths, most > 1 { most = min(most, lengths.longest(bytes[place], bytes[place + 1])) }
      for length in 1...max(1, most) {
        if let reachesEnd, !reachesEnd[place + length] { continue }
        if let id = token(UnsafeRawBufferPointer(rebasing: bytes[place..<(place + length)])) { found.append(Continuation(token: id, length: length)) }
      }
    }
    known[place] = found
    return found
  }

  /// Whether a value may end at an escaped offset.
  func isCut(_ place: Int) -> Bool { cuts[place] }

  /// The place of an escaped range in the text, without white space around it; nil if nothing else is in it.
  func span(_ range: Range<Int>) -> CopiedSpan? {
    guard origin[range.lowerBound] >= 0, origin[range.upperBound] >= 0 else { return nil }
    var scalars = Substring(String(decoding: text[Int(origin[range.lowerBound])..<Int(origin[range.upperBound])], as: UTF8.self)).unicodeScalars
    var start = Int(origin[range.lowerBound])
    while let first = scalars.first, first.properties.isWhitespace {
      scalars.removeFirst()
      start += first.utf8.count
    }
    while let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
    guard !scalars.isEmpty else { return nil }
    let before = text[..<start].count { $0 & 0xC0 != 0x80 }
    let length = scalars.reduce(0) { $0 + $1.utf8.count }
    return CopiedSpan(bytes: start..<(start + length), scalars: before..<(before + scalars.count))
  }

  /// The text of a span.
  public func string(_ span: CopiedSpan) -> String { String(decoding: text[span.bytes], as: UTF8.self) }

  package func number(startingAt place: Int) -> TextNumber? { numberValues[place] }

  func moment(_ occurrence: Occurrence) -> TextMoment? {
    momentValues[occurrence.start + occurrence.lead]?.first { place[$0.bytes.upperBound] == occurrence.limit }
  }

  /// The same places for a copy in quotes, where, as with strings, the space in front may come along.
  func withLeadingSpaces(_ places: [Occurrence]) -> [Occurrence] {
    places.flatMap { whole in
      var led = whole
      (led.start, led.lead) = (whole.start - 1, 1)
      return (whole.start > 0 && escaped[whole.start - 1] == UInt8(ascii: " ") ? [led] : []) + [whole]
    }
  }

  /// Tokens that begin with these bytes and go on with at least one of those of `text`, and how many of these they take.
  func tokens(_ tail: ArraySlice<UInt8>, then text: [UInt8]) -> [(token: TokenID, taken: Int)] {
    var bytes = Array(tail)
    guard let first = bytes.first, let follows = text.first else { return [] }
    let second = bytes.count > 1 ? bytes[1] : follows
    let most = min(longestToken, lengths?.longest(first, second) ?? longestToken)
    var found: [(token: TokenID, taken: Int)] = []
    for (index, byte) in text.enumerated() {
      bytes.append(byte)
      if bytes.count > most { break }
      if let id = bytes.withUnsafeBytes({ token($0) }) { found.append((id, index + 1)) }
    }
    return found
  }

  /// Bytes of the longest string with a pattern.
  private static let longestMatch = 4096

  /// Where a string that begins here may end under a rule: the first and the last such end. In between a pattern may have others against it.
  func range(from start: Occurrence, _ rule: Constraint.StringRule) -> Occurrence? {
    var found: Occurrence?
    var scalars = 0
    var state = rule.automaton?.start ?? 0
    var at = start.start + start.lead
    let limit = rule.automaton == nil ? start.limit : min(start.limit, at + Self.longestMatch)
    // White space at the end does not belong to the value, so an end behind it is the end in front of it again.
    var endsInSpace = true
    while scalars <= rule.maxLength ?? .max {
      if at > start.start + start.lead, cuts[at], !endsInSpace, scalars >= rule.minLength, reachesEnd?[at] ?? true, rule.automaton?.isAccepting(state) ?? true {
        if found == nil {
          found = start
          found?.least = at
        }
        found?.limit = at
      }
      guard at < limit, origin[at] >= 0 else { break }
      let from = Int(origin[at])
      let lead = text[from]
      let length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
      guard from + length <= text.count else { break }
      if let automaton = rule.automaton {
        var next: Int? = state
        for byte in text[from..<(from + length)] { next = next.flatMap { automaton.next($0, byte) } }
        guard let next else { break }
        state = next
      }
      endsInSpace =
        lead < 0x80
        ? lead == 0x20 || 0x09...0x0D ~= lead
        : String(decoding: text[from..<(from + length)], as: UTF8.self).unicodeScalars.allSatisfy(\.properties.isWhitespace)
      scalars += 1
      at = place[from + length]
    }
    return found
  }

  /// Whether a copy of this occurrence may end at an escaped offset.
  func mayEnd(_ occurrence: Occurrence, at end: Int) -> Bool {
    end >= occurrence.least && end <= occurrence.limit && (occurrence.least == occurrence.limit || cuts[end])
  }
}

/// A value while it is being copied: all places where what was written so far occurs.
package struct Copy {
  package private(set) var occurrences: [CopySource.Occurrence]
  /// Bytes written, in escaped form.
  package private(set) var length = 0

  package init(_ occurrences: [CopySource.Occurrence]) { self.occurrences = occurrences }

  /// A copy of one place, up to an escaped offset.
  init(_ occurrence: CopySource.Occurrence, to end: Int) {
    occurrences = [occurrence]
    length = end - occurrence.start
  }

  /// The tokens that may come next, in ascending order, each once.
  package func permitted(in source: CopySource) -> [TokenID] {
    var tokens: [TokenID] = []
    for occurrence in occurrences {
      let at = occurrence.start + length
      for next in source.continuations(at: at) where at + next.length <= occurrence.limit {
        // The space in front is no value yet: behind it there must be something to go on with.
        if occurrence.lead > 0, length + next.length == occurrence.lead, source.continuations(at: at + next.length).isEmpty { continue }
        tokens.append(next.token)
      }
    }
    tokens.sort()
    var unique: [TokenID] = []
    for token in tokens where token != unique.last { unique.append(token) }
    return unique
  }

  /// Keeps the occurrences that this permitted token continues.
  package mutating func append(_ token: TokenID, in source: CopySource) {
    var step = 0
    occurrences = occurrences.filter { occurrence in
      let at = occurrence.start + length
      guard let next = source.continuations(at: at).first(where: { $0.token == token }), at + next.length <= occurrence.limit else { return false }
      step = next.length
      return true
    }
    length += step
  }

  /// The first place at which the value may end here, of those that are accepted.
  package func closed(in source: CopySource, _ isAccepted: (CopySource.Occurrence, CopiedSpan) -> Bool = { _, _ in true }) -> (CopySource.Occurrence, CopiedSpan)? {
    for occurrence in occurrences where length > occurrence.lead && source.mayEnd(occurrence, at: occurrence.start + length) {
      if let span = source.span(occurrence.start..<(occurrence.start + length)), isAccepted(occurrence, span) { return (occurrence, span) }
    }
    return nil
  }

  /// The longest token that goes on as the first place does: how the text itself is likely to be written.
  func likely(in source: CopySource) -> TokenID? {
    guard let first = occurrences.first else { return nil }
    return source.continuations(at: first.start + length).last { first.start + length + $0.length <= first.limit }?.token
  }

  /// The ends within reach of one token: the bytes up to there, at least one, and the copy as it would be.
  func endings(in source: CopySource) -> [(tail: ArraySlice<UInt8>, copy: Copy)] {
    var endings: [(tail: ArraySlice<UInt8>, copy: Copy)] = []
    for occurrence in occurrences {
      let at = occurrence.start + length
      for end in at + 1..<max(at + 1, min(occurrence.limit + 1, at + source.longestToken)) where source.mayEnd(occurrence, at: end) {
        endings.append((source.escaped[at..<end], Copy(occurrence, to: end)))
      }
    }
    return endings
  }

  /// The longest beginning of what was written that is a string, for a value that had to be broken off.
  package func brokenOff(in source: CopySource, _ isAccepted: (CopySource.Occurrence, CopiedSpan) -> Bool = { _, _ in true }) -> (CopySource.Occurrence, CopiedSpan)? {
    for shorter in stride(from: length, to: 0, by: -1) {
      for occurrence in occurrences where shorter > occurrence.lead && source.mayEnd(occurrence, at: occurrence.start + shorter) {
        if let span = source.span(occurrence.start..<(occurrence.start + shorter)), isAccepted(occurrence, span) { return (occurrence, span) }
      }
    }
    return nil
  }
}
