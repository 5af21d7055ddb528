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
  private let end: TokenID
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
    /// Forced text that is not in `queue` whole: it began where the tokens of a value ended, and `committed` tokens of it are taken or queued.
    var run: [UInt8] = []
    var committed = 0
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
    guard grounding.isViable(constraint.root) else {
      throw SternaError(
        .noValidOutput, "the text contains no values that this schema allows", found: grounding.whatIsMissing,
        remedy: "allow null for what a text may not contain, or leave it out of `required`")
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

  /// Makes the request for a decision, and drafts what is likely to follow.
  private mutating func ask(_ decision: Decision) {
    var request = Request(feed: pending, asks: [Ask(position: pending.count - 1, candidates: decision.candidates)])
    drafts = [Draft(threads: threads, decision: decision, predicted: nil)]
    pending = []
    var copied = 0
    defer { drafted = copied }
    drafting: while draftLength > 0, let last = drafts.last, let token = prediction(last.threads, last.decision, copied: &copied) {
      drafts[drafts.count - 1].predicted = token
      request.feed.append(token)
      var ahead = advance(last.threads, last.decision, token)
      while true {
        ahead = normalised(ahead)
        guard let first = ahead.first, !ahead.contains(where: { $0.rest == nil }), first.rest != nil else { break drafting }
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
  private func prediction(_ threads: [Thread], _ decision: Decision, copied: inout Int) -> TokenID? {
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

  // MARK: - Threads

  /// Threads that begin with a token or the inside of a value; forced text becomes tokens.
  private func normalised(_ threads: [Thread]) -> [Thread] {
    guard threads.count > 1 else { return resolved(threads) }
    // Of threads that go on alike the first counts, or a list of values that can be meant in two ways would double them with each element.
    var seen: Set<Int> = []
    return resolved(threads).filter { thread in
      var hasher = Hasher()
      hasher.combine(thread.queue)
      hasher.combine(thread.run)
      hasher.combine(thread.committed)
      thread.rest?.hash(into: &hasher)
      return seen.insert(hasher.finalize()).inserted
    }
  }

  private func resolved(_ threads: [Thread]) -> [Thread] {
    threads.flatMap { thread -> [Thread] in
      guard thread.queue.isEmpty, let rest = thread.rest else { return [thread] }
      switch rest.item {
      case .copy: return [thread]
      case .free(let content):
        // A string ends with its own quote.
        guard content.isString, let value = content.closed else { return [thread] }
        return resolved([Thread(rest: rest.next, notes: Notes(.leaf(value, nil), behind: thread.notes))])
      default: return resolved(expanded(thread, depth: 0))
      }
    }
  }

  /// The ways in which a thread goes on, each with at least one token or at the end.
  private func expanded(_ thread: Thread, depth: Int) -> [Thread] {
    ways(thread.rest, text: thread.run, notes: thread.notes, choices: 1).flatMap { way -> [Thread] in
      var next = Thread(rest: way.rest, notes: way.notes, base: thread.notes?.values ?? 0)
      let isFixed: Bool
      switch way.rest?.item {
      case nil, .copy?, .free?: isFixed = true
      default: isFixed = depth >= 8
      }
      if isFixed {
        // A value begins here, or the text ends: nothing can grow together with these tokens.
        next.queue = tokens(way.text, behind: thread)[...]
        if way.text.isEmpty, way.rest == nil { next.queue = [end] }
        return [next]
      }
      // What stands in front of a choice is certain as far as it is the same whatever comes.
      var certain: [TokenID]?
      for following in ways(way.rest, text: way.text, notes: way.notes, choices: 1) {
        let tokens = tokens(following.text, behind: thread)
        certain = certain.map { known in Array(zip(known, tokens).prefix { $0 == $1 }.map(\.0)) } ?? tokens
      }
      var bytes = committedBytes(thread)
      var queue: [TokenID] = []
      for token in certain ?? [] {
        bytes += vocabulary.length(token)
        if bytes > way.text.count { break }
        queue.append(token)
      }
      next.run = way.text
      next.committed = thread.committed + queue.count
      next.queue = queue[...]
      return queue.isEmpty ? expanded(next, depth: depth + 1) : [next]
    }
  }

  private func committedBytes(_ thread: Thread) -> Int { vocabulary.encode(thread.run).prefix(thread.committed).reduce(0) { $0 + vocabulary.length($1) } }

  /// The tokens of a forced text behind those of its beginning that are committed.
  private func tokens(_ text: [UInt8], behind thread: Thread) -> [TokenID] {
    let all = vocabulary.encode(text)
    guard thread.committed > 0 else { return all }
    let before = vocabulary.encode(thread.run).prefix(thread.committed)
    if all.prefix(thread.committed) == before { return Array(all.dropFirst(thread.committed)) }
    // The text grew together in another way than expected: the rest is encoded on its own.
    return vocabulary.encode(Array(text.dropFirst(before.reduce(0) { $0 + vocabulary.length($1) })))
  }

  private func decision(_ threads: [Thread]) -> Decision {
    var decision = Decision(candidates: [], exits: [], crossings: [])
    for thread in threads {
      var exits: [Thread] = []
      var crossings: [(token: TokenID, thread: Thread)] = []
      if let first = thread.queue.first {
        decision.candidates.append(first)
      } else if let rest = thread.rest, case .copy(let value) = rest.item {
        decision.candidates += value.copy.permitted(in: grounding.source)
        if let (found, span) = value.closed(in: grounding.source) {
          exits = normalised([leaving(value, found, span, thread, rest)])
          decision.candidates += exits.compactMap(\.queue.first)
        }
        crossings = self.crossings(value, thread, rest)
        decision.candidates += crossings.map(\.token)
      } else if let rest = thread.rest, case .free(let content) = rest.item {
        decision.candidates += content.excluded.isEmpty ? vocabulary.permitted(content) : vocabulary.permitted(content).filter { content.mayGoOn(vocabulary.bytes($0)) }
        if let found = content.closed {
          exits = normalised([Thread(rest: rest.next, notes: Notes(.leaf(found, nil), behind: thread.notes))])
          decision.candidates += exits.compactMap(\.queue.first)
        }
      }
      decision.exits.append(exits)
      decision.crossings.append(crossings)
    }
    if decision.candidates.count > 1 {
      decision.candidates.sort()
      var unique: [TokenID] = []
      unique.reserveCapacity(decision.candidates.count)
      for token in decision.candidates where token != unique.last { unique.append(token) }
      decision.candidates = unique
    }
    return decision
  }

  /// The thread behind the end of a copied value.
  private func leaving(_ value: CopiedValue, _ found: JSON, _ span: CopiedSpan, _ thread: Thread, _ rest: Rest) -> Thread {
    Thread(rest: value.isQuoted ? Rest(.text([UInt8(ascii: "\"")]), rest.next) : rest.next, notes: Notes(.leaf(found, span), behind: thread.notes))
  }

  /// Tokens that hold the last bytes of a value and the beginning of what follows it, such as `.",`.
  private func crossings(_ value: CopiedValue, _ thread: Thread, _ rest: Rest) -> [(token: TokenID, thread: Thread)] {
    guard value.copy.length > 0, value.copy.occurrences.count <= Self.mostCrossed else { return [] }
    var found: [(token: TokenID, thread: Thread)] = []
    for (tail, ended) in value.copy.endings(in: grounding.source) {
      var value = value
      value.copy = ended
      guard let (json, span) = value.closed(in: grounding.source) else { continue }
      let leaving = leaving(value, json, span, thread, rest)
      for way in ways(leaving.rest, text: [], notes: leaving.notes, choices: 1) {
        for (token, taken) in grounding.source.tokens(tail, then: way.text) {
          found.append((token, Thread(rest: Rest(.text(Array(way.text[taken...])), way.rest), notes: way.notes)))
        }
      }
    }
    return found
  }
  private static let mostCrossed = 2

  private func advance(_ threads: [Thread], _ decision: Decision, _ token: TokenID) -> [Thread] {
    var next: [Thread] = []
    for (index, thread) in threads.enumerated() {
      if let first = thread.queue.first {
        guard first == token else { continue }
        var thread = thread
        thread.queue.removeFirst()
        next.append(thread)
      } else if let rest = thread.rest, case .copy(var value) = rest.item {
        value.copy.append(token, in: grounding.source)
        if !value.copy.occurrences.isEmpty {
          var thread = thread
          thread.rest = Rest(.copy(value), rest.next)
          next.append(thread)
        }
        for exit in decision.exits[index] where exit.queue.first == token {
          var exit = exit
          exit.queue.removeFirst()
          next.append(exit)
        }
        for crossing in decision.crossings[index] where crossing.token == token { next.append(crossing.thread) }
      } else if let rest = thread.rest, case .free(let content) = rest.item {
        if let content = content.appending(vocabulary.bytes(token)) {
          var thread = thread
          thread.rest = Rest(.free(content), rest.next)
          next.append(thread)
        }
        for exit in decision.exits[index] where exit.queue.first == token {
          var exit = exit
          exit.queue.removeFirst()
          next.append(exit)
        }
      }
    }
    return next
  }
}
