import Basics
import Glibc
import Tokenizer

/// A field to extract, as the decoder sees it.
public struct FieldSpec: Sendable, Equatable {
  /// What its value must be. Each kind has its own automaton; dates, enumerations, lists and nested objects will be more of them.
  public enum Kind: Sendable {
    case string, number, integer
  }

  /// The key that the model reads and writes.
  public var spoken: String
  public var kind: Kind

  public init(spoken: String, kind: Kind) {
    self.spoken = spoken
    self.kind = kind
  }
}

/// What was found for a field.
public struct ExtractedValue: Sendable, Equatable {
  /// A string, a number, or null.
  public var value: JSON
  /// Where it stands; nil for null.
  public var span: CopiedSpan?
  /// The product of the probabilities of all open decisions that led to it, each renormalised over what was permitted. 0 where the budget ended first.
  public var confidence: Float
}

/// Writes `{"key":"copied value","key":null,"key":21.5}` token by token, with nothing but valid outputs to choose from.
///
/// Keys and punctuation are forced, so are tokens without an alternative; they wait and are fed together with the next open decision. The extractor does
/// not run the model: it asks for one pass at a time (`request`) and is told the logits (`choose`). So whoever runs it may batch several jobs, and a test may play the model.
///
///     while let request = extractor.request {
///       feed request.feed; extractor.choose(logits of request.candidates)
///     }
///
/// Pieces are tokenised each on its own: `{"key":` and `,"key":`, `null`, `"`, the tokens of a value, `"`, `}`.
public struct ObjectExtractor {
  /// A pass that the extractor needs.
  public struct Request: Sendable, Equatable {
    /// Tokens to feed behind those of the requests before.
    public var feed: [TokenID]
    /// The decisions, in order; at least one.
    public var asks: [Ask]
  }

  /// A decision behind a token of `feed`.
  public struct Ask: Sendable, Equatable {
    /// Index in `feed`.
    public var position: Int
    /// What may come next, ascending, at least two.
    public var candidates: [TokenID]
  }

  /// The next pass; nil when the object is complete.
  public private(set) var request: Request?
  /// One a field, as far as they are decided; all of them when `request` is nil.
  public private(set) var values: [ExtractedValue] = []
  /// Whether the budget ended before the object was complete. Values missing then are null, a string begun is cut at its last whole word.
  public private(set) var truncated = false
  /// Tokens fed so far.
  public private(set) var tokensFed = 0

  private enum State {
    /// Is there a value?
    case presence(numbers: Copy?)
    case string(Copy)
    /// `terminator` ends it: the quote of a number in quotes, else what begins the next piece.
    case number(Copy, terminator: TokenID)
    case done
  }

  private let fields: [FieldSpec]
  private let source: CopySource
  private let maxTokens: Int
  private let quote: TokenID
  private let null: [TokenID]
  /// `{"a":`, `,"b":`, ..., `}`
  private let frame: [[TokenID]]

  private var state = State.done
  /// Chosen or forced, and not fed yet.
  private var pending: [TokenID] = []
  private var logConfidence = 0.0

  /// - Parameter maxTokens: the most tokens that may be fed; the object is finished without the model when they are used up.
  /// - Throws: `unsupported` when the vocabulary cannot tell `null` from a quote.
  public init(fields: [FieldSpec], source: CopySource, tokenizer: Tokenizer, maxTokens: Int) throws(SternaError) {
    self.fields = fields
    self.source = source
    self.maxTokens = maxTokens
    let pieces = Self.pieces(fields, tokenizer)
    guard let quote = pieces.quote.first, pieces.quote.count == 1, let no = pieces.null.first, no != quote else {
      throw SternaError(.unsupported, "this vocabulary has no token for a quote, or none for null", remedy: "extract with another model")
    }
    self.quote = quote
    null = pieces.null
    frame = pieces.frame
    if fields.isEmpty { return }
    pending = frame[0]
    state = presence(of: 0)
    advance()
  }

  /// Tokens that an object of nulls takes: the least that an extraction of these fields needs.
  public static func smallestOutput(fields: [FieldSpec], tokenizer: Tokenizer) -> Int {
    let pieces = pieces(fields, tokenizer)
    return pieces.frame.reduce(0) { $0 + $1.count } + fields.count * pieces.null.count
  }

  private static func pieces(_ fields: [FieldSpec], _ tokenizer: Tokenizer) -> (quote: [TokenID], null: [TokenID], frame: [[TokenID]]) {
    var frame: [[TokenID]] = []
    for (i, field) in fields.enumerated() {
      frame.append(tokenizer.encode((i == 0 ? "{" : ",") + JSON.string(field.spoken).compact + ":", atStart: false))
    }
    frame.append(tokenizer.encode("}", atStart: false))
    return (tokenizer.encode("\"", atStart: false), tokenizer.encode("null", atStart: false), frame)
  }

  /// Takes the decision that was asked for: the candidate with the largest logit, the lower id of equal ones.
  /// - Parameter logits: for each of `request.asks` one for each candidate.
  /// - Returns: how many tokens of `request.feed` count; the rest is to be forgotten.
  public mutating func choose(_ logits: [[Float]]) -> Int {
    guard let request, request.asks.count == logits.count, let ask = request.asks.first, ask.candidates.count == logits[0].count else { return 0 }
    tokensFed += request.feed.count
    let best = Choice.best(logits[0])
    logConfidence += Choice.logProbabilities(logits[0])[best]
    self.request = nil
    take(ask.candidates[best])
    advance()
    return request.feed.count
  }

  /// Goes on to the next open decision, or to the end.
  private mutating func advance() {
    while true {
      if case .done = state { return }
      let candidates = permitted()
      if candidates.count > 1 {
        guard tokensFed + pending.count <= maxTokens else { return breakOff() }
        request = Request(feed: pending, asks: [Ask(position: pending.count - 1, candidates: candidates)])
        pending = []
        return
      }
      // Copies can always go on or end; should they not, the object still ends well.
      guard let forced = candidates.first else { return breakOff() }
      take(forced)
    }
  }

  /// What may come next, ascending.
  private func permitted() -> [TokenID] {
    switch state {
    case .done: return []
    case .presence(let numbers):
      guard let numbers else { return source.strings.isEmpty ? [null[0]] : [min(null[0], quote), max(null[0], quote)] }
      // Models that saw only strings put numbers in quotes; others write them bare. Either form means the same.
      let starts = numbers.permitted(in: source)
      return starts.isEmpty ? [null[0]] : inserting(null[0], into: inserting(quote, into: starts))
    case .string(let copy):
      let next = copy.permitted(in: source)
      return copy.closedString(in: source) == nil ? next : inserting(quote, into: next)
    case .number(let copy, let terminator):
      let next = copy.permitted(in: source)
      return copy.closedNumber(in: source) == nil ? next : inserting(terminator, into: next)
    }
  }

  private func inserting(_ token: TokenID, into tokens: [TokenID]) -> [TokenID] {
    var tokens = tokens
    let at = tokens.firstIndex { $0 >= token } ?? tokens.count
    if at == tokens.count || tokens[at] != token { tokens.insert(token, at: at) }
    return tokens
  }

  /// A bare number ends where the next piece begins.
  private var nextPiece: TokenID { frame[values.count + 1].first ?? quote }

  /// Applies one permitted token.
  private mutating func take(_ token: TokenID) {
    switch state {
    case .done: return
    case .presence(let numbers):
      if token == null[0] {
        pending += null
        finish(.null, at: nil)
      } else if var copy = numbers {
        pending.append(token)
        if token == quote {
          state = .number(Copy(source.withLeadingSpaces(copy.occurrences)), terminator: quote)
        } else {
          copy.append(token, in: source)
          state = .number(copy, terminator: nextPiece)
        }
      } else {
        pending.append(quote)
        state = .string(Copy(source.strings))
      }
    case .string(var copy):
      pending.append(token)
      if token == quote, let span = copy.closedString(in: source) {
        finish(.string(source.string(span)), at: span)
      } else {
        copy.append(token, in: source)
        state = .string(copy)
      }
    case .number(var copy, let terminator):
      if token == terminator, let (number, span) = copy.closedNumber(in: source) {
        if terminator == quote { pending.append(quote) }
        finish(number.json, at: span)
      } else {
        copy.append(token, in: source)
        pending.append(token)
        state = .number(copy, terminator: terminator)
      }
    }
  }

  /// The value of the current field is decided: on to the next key.
  private mutating func finish(_ value: JSON, at span: CopiedSpan?) {
    values.append(ExtractedValue(value: value, span: span, confidence: Float(exp(logConfidence))))
    logConfidence = 0
    if values.count < fields.count {
      pending += frame[values.count]
      state = presence(of: values.count)
    } else {
      pending = []
      state = .done
    }
  }

  private func presence(of field: Int) -> State {
    switch fields[field].kind {
    case .string: .presence(numbers: nil)
    case .number: .presence(numbers: Copy(source.numbers))
    case .integer: .presence(numbers: Copy(source.numbers.filter { source.number(startingAt: $0.start)?.isInteger == true }))
    }
  }

  /// Ends the object without the model.
  private mutating func breakOff() {
    truncated = true
    // A part of a string is still a part of the text; a part of a number is a wrong number.
    if case .string(let copy) = state, let span = copy.brokenOffString(in: source) {
      values.append(ExtractedValue(value: .string(source.string(span)), span: span, confidence: 0))
    }
    while values.count < fields.count { values.append(ExtractedValue(value: .null, span: nil, confidence: 0)) }
    pending = []
    state = .done
    request = nil
  }
}
