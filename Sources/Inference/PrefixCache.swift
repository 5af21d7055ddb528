import Basics
import Tokenizer

/// Keys and values of beginnings that jobs share, so that each is computed once.
///
/// Two kinds: the prompts of tasks, which all jobs of a task have in front of their text, and texts that jobs had behind them, whose beginnings the next
/// job may share (the header of an alarm). A job asks with all its tokens and continues behind the longest beginning that is stored. Results do not
/// depend on what is found here: what a pass computes for a token is the same to the bit however the tokens before it were computed and divided.
///
///     task prompt ─┬─ text ─┬─ rest of another text that began with the first 40 tokens of that one
///                  │        └─ running job
///                  └─ running job
///
/// An entry is a `Sequence` of just its own tokens, a child of the entry that it continues. A prompt always stands alone, so that prompts come and go by
/// themselves and can be files (docs/format.md, section 8). What is over the budget goes in the order of last use, texts before prompts, and only what
/// nobody continues: memory in use would not come free.
///
/// Used from the model's thread only.
public final class PrefixCache {
  /// What is stored of some tokens.
  public struct Match {
    /// The parent for `Model.sequence(after:upTo:capacity:)`; not to be changed.
    public let sequence: Sequence
    /// How many tokens of it agree, ancestors' included.
    public let count: Int
  }

  /// What happened so far, and what is stored now.
  public struct Statistics: Sendable, Equatable {
    public var prompts = 0
    public var texts = 0
    /// Of keys and values.
    public var bytes = 0
    public var searches = 0
    /// Searches that found the whole prompt of the task, in memory or on disk.
    public var promptsFound = 0
    public var tokensAsked = 0
    public var tokensFound = 0
    public var evictions = 0
    public var filesRead = 0
    /// Files that were damaged or not what their name says, and were removed.
    public var filesRefused = 0
    public var filesWritten = 0
  }

  private enum OnDisk {
    case no, yes
    /// The disk refused.
    case never
  }

  private final class Entry {
    var sequence: Sequence
    /// The sequence's own.
    let tokens: [TokenID]
    let isPrompt: Bool
    private(set) weak var parent: Entry?
    var children: [Entry] = []
    let depth: Int
    let bytes: Int
    var lastUse = 0
    var onDisk = OnDisk.no

    init(_ sequence: Sequence, tokens: [TokenID], isPrompt: Bool, parent: Entry?, bytes: Int) {
      self.sequence = sequence
      self.tokens = tokens
      self.isPrompt = isPrompt
      self.parent = parent
      self.bytes = bytes
      depth = (parent?.depth ?? 0) + 1
    }

    var start: Int { sequence.start }
    var end: Int { sequence.start + tokens.count }
  }

  /// Fewer shared tokens are not worth an entry of their own, nor attending to one.
  public static let leastShared = 16
  /// Attention visits every ancestor for every token.
  private static let deepest = 8

  private let model: Model
  private let budgetBytes: Int
  private let store: PrefixStore?
  private var entries: [Entry] = []
  private var clock = 0
  private var counts = Statistics()

  /// - Parameters:
  ///   - budgetBytes: keys and values that may be stored; they are part of the model's budget.
  ///   - directory: for the prompts' files, made when there is something to write; nil: memory only.
  ///   - diskBudgetBytes: bytes that the files may take together.
  public init(_ model: Model, budgetBytes: Int, directory: String? = nil, diskBudgetBytes: Int = 0) {
    self.model = model
    self.budgetBytes = budgetBytes
    store = directory.map { PrefixStore($0, budgetBytes: diskBudgetBytes) }
    store?.sweep()
  }

  public var statistics: Statistics {
    var counts = counts
    counts.prompts = entries.count { $0.isPrompt }
    counts.texts = entries.count - counts.prompts
    counts.bytes = heldBytes
    counts.filesRefused = store?.refused ?? 0
    return counts
  }

  private var heldBytes: Int { entries.reduce(0) { $0 + $1.bytes } }

  // MARK: - Finding

  /// The longest stored beginning of a job's tokens; never all of them, since somebody wants the state behind the last.
  ///
  /// - Parameters:
  ///   - tokens: prompt, text, and what stands behind it.
  ///   - prompt: tokens that are the task's prompt: looked for on disk where memory does not have them all.
  /// - Returns: nil where nothing is stored. `count` under `prompt`: a beginning that another prompt shares.
  public func find(_ tokens: [TokenID], prompt: Int) -> Match? {
    var found = longest(tokens, limit: tokens.count - 1)
    if prompt > 0, prompt < tokens.count, found.map({ $0.count < prompt }) ?? true {
      // To make room for it may have cost what was found before.
      found = load(Array(tokens[..<prompt])).map { ($0, prompt) } ?? longest(tokens, limit: tokens.count - 1)
    }
    counts.searches += 1
    counts.tokensAsked += tokens.count
    guard let (entry, count) = found else { return nil }
    counts.tokensFound += count
    if count >= prompt { counts.promptsFound += 1 }
    touch(entry)
    return Match(sequence: entry.sequence, count: count)
  }

  /// The entry with the longest common beginning, and how long that is; the nearer to the root where two are equal.
  private func longest(_ tokens: [TokenID], limit: Int) -> (entry: Entry, count: Int)? {
    var best: (entry: Entry, count: Int)?
    var open = entries.filter { $0.parent == nil }
    while let entry = open.popLast() {
      var agreed = entry.start
      let end = min(entry.end, limit)
      while agreed < end, entry.tokens[agreed - entry.start] == tokens[agreed] { agreed += 1 }
      let isWorthIt = agreed >= entry.start + Self.leastShared || agreed == entry.end
      if isWorthIt, agreed > best?.count ?? 0 { best = (entry, agreed) }
      open += entry.children.filter { $0.start <= agreed }
    }
    return best
  }

  private func touch(_ entry: Entry) {
    clock += 1
    var current: Entry? = entry
    while let entry = current {
      entry.lastUse = clock
      current = entry.parent
    }
  }

  // MARK: - Storing

  /// Stores a beginning of a sequence. Its keys and values are copied, unless the sequence is just what an entry would be: then it is kept, and frozen.
  ///
  /// What does not fit, or adds fewer than `leastShared` tokens to a stored text, is not stored. A text never pushes out a prompt.
  ///
  /// - Parameters:
  ///   - sequence: holds at least `tokens`, from position 0 on.
  ///   - isPrompt: whether the tokens are a task's prompt, else a prompt and a text behind it.
  /// - Returns: what to continue behind: the entry, or the sequence itself where nothing was stored.
  @discardableResult
  public func insert(_ sequence: Sequence, tokens: [TokenID], isPrompt: Bool) -> Match {
    let entry = entry(sequence, tokens, isPrompt: isPrompt)
    return Match(sequence: entry?.sequence ?? sequence, count: min(tokens.count, sequence.count))
  }

  private func entry(_ sequence: Sequence, _ tokens: [TokenID], isPrompt: Bool) -> Entry? {
    guard !tokens.isEmpty, sequence.pool === model.pool, tokens.count <= sequence.count else { return nil }
    if isPrompt {
      if let known = entries.first(where: { $0.isPrompt && $0.tokens == tokens }) {
        touch(known)
        return known
      }
      return add(sequence, tokens, isPrompt: true, behind: nil, covered: 0)
    }
    let known = longest(tokens, limit: tokens.count)
    if let entry = known?.entry { touch(entry) }
    let covered = known?.count ?? 0
    guard tokens.count - covered >= Self.leastShared, known?.entry.depth ?? 0 < Self.deepest else { return nil }
    return add(sequence, tokens, isPrompt: false, behind: known?.entry, covered: covered)
  }

  private func add(_ sequence: Sequence, _ tokens: [TokenID], isPrompt: Bool, behind parent: Entry?, covered: Int) -> Entry? {
    let own = tokens.count - covered
    let bytes = model.kvBytes(capacity: own)
    let isReady = sequence.parent === parent?.sequence && sequence.start == covered && sequence.count == tokens.count && sequence.room == 0
    // The parent is in use from here on.
    let parentSequence = parent?.sequence
    guard makeRoom(for: bytes, inPool: isReady ? 0 : bytes, textsOnly: !isPrompt) else { return nil }
    var kept = sequence
    if !isReady {
      guard let copy = try? model.sequence(after: parentSequence, upTo: covered, capacity: own) else { return nil }
      copy.append(copying: sequence, upTo: tokens.count)
      kept = copy
    }
    return keep(Entry(kept, tokens: Array(tokens[covered...]), isPrompt: isPrompt, parent: parent, bytes: bytes), behind: parent)
  }

  private func keep(_ entry: Entry, behind parent: Entry?) -> Entry {
    entry.sequence.seal()
    parent?.children.append(entry)
    entries.append(entry)
    touch(entry)
    return entry
  }

  // MARK: - Letting go

  /// Lets go of entries until the model's budget has so many bytes free. Without effect where that cannot be reached.
  ///
  /// - Returns: whether they are free now.
  public func makeRoom(bytes: Int) -> Bool { letGo(bytes - model.kvBytesFree, textsOnly: false) }

  /// Lets go of all that nobody continues.
  public func removeAll() {
    while let entry = victim(textsOnly: false) { remove(entry) }
  }

  private func makeRoom(for bytes: Int, inPool poolBytes: Int, textsOnly: Bool) -> Bool {
    letGo(max(heldBytes + bytes - budgetBytes, poolBytes - model.kvBytesFree), textsOnly: textsOnly)
  }

  private func letGo(_ bytes: Int, textsOnly: Bool) -> Bool {
    guard bytes > 0 else { return true }
    let freeable = entries.reduce(0) { $1.parent == nil ? $0 + self.freeable($1, textsOnly: textsOnly).bytes : $0 }
    guard freeable >= bytes else { return false }
    var freed = 0
    while freed < bytes, let entry = victim(textsOnly: textsOnly) {
      remove(entry)
      freed += entry.bytes
    }
    return freed >= bytes
  }

  /// Bytes that come free with an entry and those behind it, and whether all of these can go.
  private func freeable(_ entry: Entry, textsOnly: Bool) -> (bytes: Int, whole: Bool) {
    var bytes = 0
    var whole = true
    for child in entry.children {
      let part = freeable(child, textsOnly: textsOnly)
      bytes += part.bytes
      whole = whole && part.whole
    }
    let isUnused = entry.children.isEmpty ? isKnownUniquelyReferenced(&entry.sequence) : entry.sequence.children == entry.children.count
    guard whole, isUnused, !(textsOnly && entry.isPrompt) else { return (bytes, false) }
    return (bytes + entry.bytes, true)
  }

  /// Among the entries that nobody holds or continues the one that was not used for longest, texts first.
  private func victim(textsOnly: Bool) -> Entry? {
    var oldest: Entry?
    for entry in entries where entry.children.isEmpty && !(textsOnly && entry.isPrompt) {
      if let other = oldest, (other.isPrompt ? 1 : 0, other.lastUse) < (entry.isPrompt ? 1 : 0, entry.lastUse) { continue }
      if isKnownUniquelyReferenced(&entry.sequence) { oldest = entry }
    }
    return oldest
  }

  private func remove(_ entry: Entry) {
    entries.removeAll { $0 === entry }
    entry.parent?.children.removeAll { $0 === entry }
    counts.evictions += 1
  }

  // MARK: - Files

  private func load(_ tokens: [TokenID]) -> Entry? {
    guard let store, tokens.count <= model.contextLength else { return nil }
    let bytes = model.kvBytes(capacity: tokens.count)
    let loaded = store.load(PrefixKey(tokens, model)) {
      guard makeRoom(for: bytes, inPool: bytes, textsOnly: false) else { return nil }
      return try? model.sequence(capacity: tokens.count)
    }
    guard let loaded else { return nil }
    counts.filesRead += 1
    let entry = Entry(loaded, tokens: tokens, isPrompt: true, parent: nil, bytes: bytes)
    entry.onDisk = .yes
    return keep(entry, behind: nil)
  }

  /// Writes one prompt that has no file yet. Takes as long as the disk does, so it is for a time when no job waits.
  ///
  /// - Parameter shouldStop: asked every few megabytes: whether a job came in. The prompt is written another time then.
  /// - Returns: whether there is more to write now; false also when it was stopped, or another process writes.
  /// - Throws: `io` when the disk refuses, and then not again before a file was written; that prompt stays in memory only.
  public func persistOne(shouldStop: () -> Bool = { false }) throws(SternaError) -> Bool {
    guard let store, let entry = entries.filter({ $0.isPrompt && $0.onDisk == .no }).max(by: { $0.lastUse < $1.lastUse }) else { return false }
    // Whatever happens, this one is not tried again; unless nothing was tried.
    entry.onDisk = .never
    switch try store.save(PrefixKey(entry.tokens, model), entry.sequence, shouldStop: shouldStop) {
    case .written:
      counts.filesWritten += 1
      entry.onDisk = .yes
    case .wasThere: entry.onDisk = .yes
    case .failed: break
    case .stopped, .busy:
      entry.onDisk = .no
      return false
    }
    return entries.contains { $0.isPrompt && $0.onDisk == .no }
  }
}
