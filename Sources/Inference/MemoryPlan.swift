import Basics
import ModelFile

/// Where a model's memory goes, decided before any of it is taken.
///
/// Nothing in Sterna grows with load: each part has a size, the sizes add up, and what does not fit under the limit is refused with this table.
public struct MemoryPlan: Sendable {
  public struct Entry: Sendable, Equatable {
    public let name: String
    public let bytes: Int
    /// What decides the size.
    public let reason: String

    public init(_ name: String, _ bytes: Int, _ reason: String) {
      self.name = name
      self.bytes = bytes
      self.reason = reason
    }
  }

  public private(set) var entries: [Entry] = []
  public let limit: Int?
  /// Tokens that run through the blocks together.
  let batchTokens: Int
  /// Bytes for keys and values of all sequences.
  let kvBudget: Int
  /// Bytes for rows of the embedding, and as many for those of a head of its own; nil: both are used where they are mapped.
  let rowCacheBytes: Int?
  /// Bytes for experts that are read as they are needed; nil: there are none, or they are used where they are mapped.
  public let expertCacheBytes: Int?

  public var total: Int { entries.reduce(0) { $0 + $1.bytes } }

  /// The program itself with its libraries, stacks and small objects: measured as what an agent holds besides all that is counted here.
  private static let runtimeBytes = 32_000_000
  private static let rowCache = (least: 1_000_000, most: 8_000_000)

  /// - Throws: `memoryLimit` with the table when the parts do not fit.
  init(_ packed: PackedModel, _ options: ModelOptions, contextLength: Int) throws(SternaError) {
    let c = packed.configuration
    let layout = KVLayout(c, options.kv)
    let tables = [packed.weights.embedding, packed.weights.head].compactMap { $0 }
    let tableBytes = tables.reduce(0) { $0 + $1.bytes }
    let tokenizer = packed.section("sterna.tokenizer")?.count ?? 0
    let body = packed.bodyRange.count
    let context = layout.bytes(contextLength)
    limit = options.memoryLimit

    let experts = ExpertSizes(packed.weights, c)

    func plan(batch: Int, cache: Int?, kv: Int, experts pool: Int?) -> [Entry] {
      var entries = [
        Entry("weights", body, pool == nil ? "mapped; every pass reads them" : "in memory of their own; every pass reads them"),
        cache.map { Entry("embedding and head", $0 * tables.count + options.threads * (HeadStream.sliceBytes + 8192), "rows in use; the rest stays on disk") }
          ?? Entry("embedding and head", tableBytes, "mapped"),
      ]
      if experts.records > 0 { entries.append(experts.entry(pool)) }
      entries += [
        Entry("keys and values", kv, "\(kv / max(1, layout.bytesPerToken)) tokens in \(options.kv.rawValue)"),
        Entry(
          "working memory", Workspace.bytes(c, packed.weights.record, tokens: batch, contextLength: contextLength, workers: options.threads, layout: layout),
          "\(batch) tokens at once, \(options.threads) threads"),
        Entry("tokenizer", tokenizer, "mapped"),
        Entry("program", Self.runtimeBytes, "code, libraries, stacks"),
      ]
      return entries + options.reserved
    }
    func total(_ entries: [Entry]) -> Int { entries.reduce(0) { $0 + $1.bytes } }
    /// Wider where experts are read from disk, since a chunk reads each of its experts once. That must take little from their cache.
    func widened(_ tokens: Int, cache: Int?, kv: Int, room: Int) -> (tokens: Int, experts: Int?) {
      let budget = experts.budget(free: room, asked: options.expertCacheBytes)
      guard let budget, options.batchTokens == nil else { return (tokens, budget) }
      for wide in [4 * tokens, 2 * tokens].map({ min($0, contextLength) }) where wide > tokens {
        let cost = total(plan(batch: wide, cache: cache, kv: kv, experts: 0)) - total(plan(batch: tokens, cache: cache, kv: kv, experts: 0))
        guard cost <= room / 8, let rest = experts.budget(free: room - cost, asked: options.expertCacheBytes) else { continue }
        if experts.layout(rest).isCache == experts.layout(budget).isCache { return (wide, rest) }
      }
      return (tokens, budget)
    }
    let batch = min(options.batchTokens ?? 128, contextLength)
    guard let limit else {
      kvBudget = options.kvBudgetBytes ?? 2 * context
      rowCacheBytes = nil
      // Without a limit the machine is one: experts that it cannot hold would push each other out.
      let free = ProcessMemory.availableBytes / 10 * 9 - total(plan(batch: batch, cache: nil, kv: kvBudget, experts: 0))
      (batchTokens, expertCacheBytes) = widened(batch, cache: nil, kv: kvBudget, room: max(free, 2 * experts.recordBytes))
      entries = plan(batch: batchTokens, cache: nil, kv: kvBudget, experts: expertCacheBytes)
      return
    }

    // What is fastest first: a token's experts, tables in memory, room for two contexts, wide batches.
    let budgets = options.kvBudgetBytes.map { [$0] } ?? [2 * context, context]
    for least in experts.least {
      for (mapped, narrowing) in [(true, 1), (false, 2), (false, 4)] {
        for kv in budgets {
          let tokens = max(1, batch / narrowing)
          let free = limit - least - total(plan(batch: tokens, cache: mapped ? nil : 0, kv: kv, experts: 0))
          let cache = mapped ? nil : min(Self.rowCache.most, free / tables.count)
          guard cache.map({ $0 >= Self.rowCache.least }) ?? (free >= 0) else { continue }
          let room = limit - total(plan(batch: tokens, cache: cache, kv: kv, experts: 0))
          (kvBudget, rowCacheBytes) = (kv, cache)
          (batchTokens, expertCacheBytes) = widened(tokens, cache: cache, kv: kv, room: room)
          entries = plan(batch: batchTokens, cache: cache, kv: kv, experts: expertCacheBytes)
          return
        }
      }
    }
    let least = plan(batch: max(1, batch / 4), cache: Self.rowCache.least, kv: budgets.last ?? context, experts: 2 * experts.recordBytes)
    throw SternaError(
      .memoryLimit, "the model does not fit under the memory limit", expected: "at most \(megabytes(limit))",
      found: "\(megabytes(total(least))): " + least.map { "\($0.name) \(megabytes($0.bytes))" }.joined(separator: ", "),
      remedy: "a higher limit, a shorter context, a smaller layout (pack --layout small) or a smaller model")
  }
}

/// `418.8 MB`, in millions of bytes.
private func megabytes(_ bytes: Int) -> String {
  let tenths = (bytes + 50_000) / 100_000
  return "\(tenths / 10).\(tenths % 10) MB"
}
