import Basics
import Glibc
import Tokenizer

/// Writes a JSON text that fulfils a constraint, token by token, with nothing but valid continuations to choose from.
///
/// What can be continued in one way only (keys, punctuation, the rest of a word that stands once in the text) costs no decision: it waits and is fed together with the next
/// open one. The writer does not run the model: it asks for one pass at a time (`request`) and is told the logits (`choose`). So whoever runs it may batch several jobs, and a
/// test may play the model.
///
///     while let request = writer.request {
///       feed request.feed; writer.choose(logits of every ask's candidates)
///     }
///
/// Forced text is tokenised as a whole, with what may follow it, so that the model reads the tokens it would see in an encoded text. Where a value begins and ends its own tokens begin and
/// end, but for tokens that hold the end of a value and what follows it.
public struct JSONWriter {
  /// A pass that the writer needs.
  public struct Request: Sendable, Equatable {
    /// Tokens to feed behind those of the requests before: what was decided, and a draft of what may be decided next.
    public var feed: [TokenID]
    /// The decisions, in order; at least one.
    public var asks: [Ask]
  }

  /// A decision behind a token of `feed`.
  public struct Ask: Sendable, Equatable {
    /// Index in `feed`; -1 for a first decision in front of all tokens.
    public var position: Int
    /// What may come next, ascending, at least two.
    public var candidates: [TokenID]
  }

  /// The next pass; nil when the text is complete.
  public private(set) var request: Request?
  /// Whether the budget ended before the text was complete. What was missing then was filled in without the model: null where that is allowed, a string begun ends at its
  /// last whole word, else the first value that fits.
  public private(set) var truncated = false
  /// Whether not even that was found: elements that must differ, and too few that do. Then there is no document.
  public private(set) var hasFailed = false
  /// Tokens fed and kept so far.
  public private(set) var tokensFed = 0
  /// Tokens of a copied value that are drafted ahead: twice as many after a draft that was right, else as many as were. It changes the number of passes, never the text.
  private var draftLength: Int

  let grounding: Grounding
  let vocabulary: WriterVocabulary
  private var maxTokens = Int.max
  /// Ends a text that has no end of its own, such as a bare number.
  let end: TokenID
  /// All ways in which what was written so far can be meant; mostly one.
  private var threads: [Thread]
  /// Chosen or forced, and not fed yet.
  private var pending: [TokenID] = []
  /// The states behind `request.asks`.
  private var drafts: [Draft] = []
  /// How many of the drafted tokens are of a copied value.
  private var drafted = 0
  private var finished: Notes?
  /// Logarithms of the probabilities of decisions, and how many values were complete at each.
  private var decisions: [(values: Int, logProbability: Double)] = []

  struct Thread {
    /// Tokens that follow for certain.
    var queue: ArraySlice<TokenID> = []
    /// Forced text that is not in `queue` whole: it began where the tokens of a value ended, and `committed` are the tokens of it that are taken or queued.
    var run: [UInt8] = []
    var committed: [TokenID] = []
    var rest: Rest?
    var notes: Notes?
    /// Values that were complete in front of `queue`.
    var base = 0

    /// Which value a decision here is about.
    var value: Int { queue.isEmpty ? notes?.values ?? 0 : base }
  }

  struct Decision {
    /// Ascending.
    var candidates: [TokenID]
    /// How a thread that copies a value goes on behind its end, by thread.
    var exits: [[Thread]]
    /// The same with a token that holds the end of the value, too.
    var crossings: [[(token: TokenID, thread: Thread)]]
  }

  private struct Draft {
    var threads: [Thread]
    var decision: Decision
    /// The drafted choice; nil for the last one.
    var predicted: TokenID?
  }

  /// - Parameters:
  ///   - end: the token that ends an answer.
  ///   - draftLength: tokens of a value that are drafted at first: about as many as a pass over the weights takes along without getting slower; 0: nothing is ever drafted.
  /// - Throws: `no_valid_output` when the text has no value that the constraint allows; `unsupported` when a free value cannot be written as its rule demands.
  public init(_ constraint: Constraint, source: CopySource, vocabulary: WriterVocabulary, end: TokenID, draftLength: Int = 6) throws(SternaError) {
    grounding = try Grounding(constraint, source, vocabulary)
    self.vocabulary = vocabulary
    self.end = end
    self.draftLength = draftLength
    guard let least = grounding.least[constraint.root] else {
      throw SternaError(
        .noValidOutput, "the text contains no values that this schema allows", found: grounding.whatIsMissing,
        remedy: "allow null for what a text may not contain, or leave it out of `required`")
    }
    guard least.depth <= Grounding.mostDepth, least.values <= Grounding.mostValues else {
      throw SternaError(
        .unsupported, "the shortest answer that the schema allows is too large",
        expected: "at most \(Grounding.mostValues) values, \(Grounding.mostDepth) arrays and objects inside each other",
        found: least.depth > Grounding.mostDepth ? "\(least.depth) inside each other" : "more values")
    }
    threads = [Thread(rest: Rest(.value(constraint.root, excluded: []), nil))]
    settle()
  }

  private static let draftLengths = 2...12

  /// Tokens of the shortest text, asked before the first decision.
  public var smallestOutput: Int { vocabulary.encode((threads.first.flatMap { filledIn($0).notes } ?? finished)?.document.value.compactBytes ?? []).count }

  /// The most tokens that may be fed; when they are used up, the text is finished without the model.
  public mutating func limit(to maxTokens: Int) {
    self.maxTokens = maxTokens
    guard var request else { return }
    let asks = request.asks.prefix { $0.position < maxTokens }
    guard let last = asks.last else { return breakOff() }
    request.feed.removeLast(request.feed.count - 1 - last.position)
    request.asks = Array(asks)
    drafts.removeLast(drafts.count - asks.count)
    drafts[drafts.count - 1].predicted = nil
    self.request = request
  }

  /// What was written, when `request` is nil.
  public var document: WrittenDocument {
    var document = finished?.document ?? WrittenDocument(value: .null, leaves: [])
    var logProbabilities = [Double](repeating: 0, count: document.leaves.count)
    for decision in decisions where decision.values < document.leaves.count { logProbabilities[decision.values] += decision.logProbability }
    for index in document.leaves.indices { document.leaves[index].confidence = index < certain ? Float(exp(logProbabilities[index])) : 0 }
    return document
  }
  /// Values that the model wrote; those behind them were filled in.
  private var certain = Int.max

  // MARK: - Decisions

  /// Takes the decisions that were asked for: each the candidate with the largest logit, the lower id of equal ones, as far as the draft proves right.
  /// - Parameter logits: for each of `request.asks` one for each candidate.
  /// - Returns: how many tokens of `request.feed` are kept; the rest is to be forgotten.
  public mutating func choose(_ logits: [[Float]]) -> Int {
    guard let request, request.asks.count == logits.count, drafts.count == logits.count else { return 0 }
    return take(logits.map { Choice.best($0) }, logits)
  }

  /// The same with choices made elsewhere: indices of candidates; as many of them as the draft proves right count.
  public mutating func choose(scripted choices: [Int], _ logits: [[Float]]) -> Int {
    guard let request, request.asks.count == choices.count, drafts.count == choices.count, logits.count == choices.count else { return 0 }
    return take(choices, logits)
  }

  private mutating func take(_ choices: [Int], _ logits: [[Float]]) -> Int {
    guard let request else { return 0 }
    self.request = nil
    var kept = 0
    for (index, ask) in request.asks.enumerated() {
      let best = choices[index]
      guard ask.candidates.indices.contains(best), logits[index].count == ask.candidates.count else { break }
      let token = ask.candidates[best]
      let draft = drafts[index]
      kept = ask.position + 1
      decisions.append((Self.value(of: draft.threads), Choice.logProbabilities(logits[index])[best]))
      if index + 1 < drafts.count, token == draft.predicted { continue }
      threads = advance(draft.threads, draft.decision, token)
      pending = [token]
      break
    }
    tokensFed += kept
    if drafted > 0 {
      let right = drafted - (request.feed.count - kept)
      let length = right >= drafted ? 2 * draftLength : right + 1
      draftLength = min(max(length, Self.draftLengths.lowerBound), Self.draftLengths.upperBound)
    }
    drafts = []
    settle()
    return kept
  }

  /// Goes on to the next open decision, or to the end.
  private mutating func settle() {
    while true {
      let next = normalised(threads)
      // A dead end: an element equals another where they must differ. It shows only behind it.
      guard let first = next.first else { return breakOff() }
      threads = next
      if let complete = threads.first(where: { $0.rest == nil && $0.queue.isEmpty }) ?? (threads.count == 1 && first.rest == nil ? first : nil) {
        return finish(complete.notes)
      }
      if case let certain = Self.takeCommon(from: &threads), !certain.isEmpty {
        pending += certain
        continue
      }
      let decision = decision(threads)
      guard let token = decision.candidates.first else { return breakOff() }
      if decision.candidates.count > 1 {
        guard tokensFed + pending.count <= maxTokens else { return breakOff() }
        return ask(decision)
      }
      pending.append(token)
      threads = advance(threads, decision, token)
    }
  }

  /// Takes the tokens with which all threads go on, as far as they are the same: at once, since forced text may be long.
  private static func takeCommon(from threads: inout [Thread]) -> ArraySlice<TokenID> {
    guard var common = threads.first?.queue else { return [] }
    for thread in threads.dropFirst() { common = common.prefix(zip(common, thread.queue).prefix { $0 == $1 }.count) }
    for index in threads.indices { threads[index].queue.removeFirst(common.count) }
    return common
  }

  /// Makes the request for a decision, and drafts what is likely to follow.
  private mutating func ask(_ decision: Decision) {
    var request = Request(feed: pending, asks: [Ask(position: pending.count - 1, candidates: decision.candidates)])
    drafts = [Draft(threads: threads, decision: decision, predicted: nil)]
    pending = []
    var copied = 0
    defer { drafted = copied }
    drafting: while draftLength > 0, let last = drafts.last, let token = prediction(last.threads, copied: &copied) {
      drafts[drafts.count - 1].predicted = token
      request.feed.append(token)
      var ahead = advance(last.threads, last.decision, token)
      while true {
        ahead = normalised(ahead)
        guard !ahead.isEmpty, !ahead.contains(where: { $0.rest == nil }), tokensFed + request.feed.count <= maxTokens else { break drafting }
        if case let certain = Self.takeCommon(from: &ahead), !certain.isEmpty {
          request.feed += certain
          continue
        }
        let decision = self.decision(ahead)
        guard let token = decision.candidates.first, tokensFed + request.feed.count <= maxTokens else { break drafting }
        if decision.candidates.count > 1 {
          request.asks.append(Ask(position: request.feed.count - 1, candidates: decision.candidates))
          drafts.append(Draft(threads: ahead, decision: decision, predicted: nil))
          break
        }
        request.feed.append(token)
        ahead = advance(ahead, decision, token)
      }
    }
    // Behind the last decision nothing is fed.
    if let last = request.asks.last { request.feed.removeLast(request.feed.count - 1 - last.position) }
    drafts[drafts.count - 1].predicted = nil
    self.request = request
  }

  /// What is likely to be chosen: that there is a value, and that a copy goes on as the text does.
  private func prediction(_ threads: [Thread], copied: inout Int) -> TokenID? {
    if threads.count == 1, let rest = threads[0].rest, case .copy(let value) = rest.item, threads[0].queue.isEmpty {
      guard value.copy.length > 0, copied < draftLength else { return nil }
      copied += 1
      return value.copy.likely(in: grounding.source)
    }
    let opening = threads.filter { thread in
      if let rest = thread.rest, case .copy(let value) = rest.item, value.isQuoted { return value.copy.length == 0 && !thread.queue.isEmpty }
      return false
    }
    return opening.count == 1 ? opening[0].queue.first : nil
  }

  private mutating func finish(_ notes: Notes?) {
    finished = notes
    threads = []
    pending = []
    request = nil
  }

  /// Ends the text without the model.
  private mutating func breakOff() {
    truncated = true
    certain = Self.value(of: threads)
    let constraint = grounding.constraint
    func fits(_ notes: Notes?) -> Bool { notes.map { constraint.accepts($0.document.value) } ?? false }
    if let filled = threads.first.map(filledIn), fits(filled.notes) {
      certain = min(certain, filled.certain)
      return finish(filled.notes)
    }
    for thread in threads {
      if let notes = searched(thread.rest, thread.notes), fits(notes) { return finish(notes) }
    }
    // What was written leads nowhere.
    certain = 0
    let notes = searched(Rest(.value(constraint.root, excluded: []), nil), nil)
    hasFailed = !fits(notes)
    finish(hasFailed ? nil : notes)
  }

  /// The value that the next decision is about.
  private static func value(of threads: [Thread]) -> Int { threads.map(\.value).min() ?? 0 }
}
