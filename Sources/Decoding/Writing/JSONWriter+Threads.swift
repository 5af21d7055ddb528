import Basics
import Tokenizer

// Threads: the ways in which what was written so far can be meant, and what tokens make of them.

extension JSONWriter {
  /// Threads that begin with a token or the inside of a value; forced text becomes tokens.
  func normalised(_ threads: [Thread]) -> [Thread] {
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

  func resolved(_ threads: [Thread]) -> [Thread] {
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
  func expanded(_ thread: Thread, depth: Int) -> [Thread] {
    ways(thread.rest, text: thread.run, notes: thread.notes, choices: 1).flatMap { way -> [Thread] in
      var next = Thread(rest: way.rest, notes: way.notes, base: thread.notes?.values ?? 0)
      let isFixed: Bool
      switch way.rest?.item {
      case nil, .copy?, .free?: isFixed = true
      default: isFixed = depth >= 8 || way.text.count > Self.longestRun
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
      next.committed = thread.committed + queue
      next.queue = queue[...]
      return queue.isEmpty ? expanded(next, depth: depth + 1) : [next]
    }
  }

  /// Bytes of forced text that may grow together with what follows. Behind more a choice begins tokens of its own: each of its ways would have all of the text again.
  static let longestRun = 4096

  func committedBytes(_ thread: Thread) -> Int { thread.committed.reduce(0) { $0 + vocabulary.length($1) } }

  /// The tokens of a forced text behind those of its beginning that are committed.
  func tokens(_ text: [UInt8], behind thread: Thread) -> [TokenID] {
    let all = vocabulary.encode(text)
    if all.starts(with: thread.committed) { return Array(all.dropFirst(thread.committed.count)) }
    // The text grew together in another way than expected: the rest is encoded on its own.
    return vocabulary.encode(Array(text.dropFirst(committedBytes(thread))))
  }

  func decision(_ threads: [Thread]) -> Decision {
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
  func leaving(_ value: CopiedValue, _ found: JSON, _ span: CopiedSpan, _ thread: Thread, _ rest: Rest) -> Thread {
    Thread(rest: value.isQuoted ? Rest(.text([UInt8(ascii: "\"")]), rest.next) : rest.next, notes: Notes(.leaf(found, span), behind: thread.notes))
  }

  /// Tokens that hold the last bytes of a value and the beginning of what follows it, such as `.",`.
  func crossings(_ value: CopiedValue, _ thread: Thread, _ rest: Rest) -> [(token: TokenID, thread: Thread)] {
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
  private static let mostCrossed = 8

  func advance(_ threads: [Thread], _ decision: Decision, _ token: TokenID) -> [Thread] {
    func taking(_ thread: Thread) -> Thread? {
      guard thread.queue.first == token else { return nil }
      var thread = thread
      thread.queue.removeFirst()
      return thread
    }
    var next: [Thread] = []
    for (index, thread) in threads.enumerated() {
      guard thread.queue.isEmpty, let rest = thread.rest else {
        next += [taking(thread)].compactMap { $0 }
        continue
      }
      var inside: Rest?
      switch rest.item {
      case .copy(var value):
        value.copy.append(token, in: grounding.source)
        if !value.copy.occurrences.isEmpty { inside = Rest(.copy(value), rest.next) }
      case .free(let content): inside = content.appending(vocabulary.bytes(token)).map { Rest(.free($0), rest.next) }
      default: break
      }
      if let inside {
        var thread = thread
        thread.rest = inside
        next.append(thread)
      }
      next += decision.exits[index].compactMap(taking)
      next += decision.crossings[index].filter { $0.token == token }.map(\.thread)
    }
    return next
  }
}
