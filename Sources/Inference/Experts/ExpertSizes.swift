import ModelFile

/// How much memory experts may take, and what that makes of them.
struct ExpertSizes {
  /// Of all blocks; 0: there are none.
  let records: Int
  let recordBytes: Int
  /// Records that one token uses.
  let perToken: Int
  /// Of those, in one block.
  let chosen: Int

  init(_ weights: ModelWeights, _ configuration: ModelConfiguration) {
    let routed = configuration.experts?.routed.count { $0 } ?? 0
    records = routed * (configuration.experts?.router.experts ?? 0)
    chosen = configuration.experts?.router.chosen ?? 0
    perToken = routed * chosen
    recordBytes = weights.record?.bytes ?? 0
  }

  var bytes: Int { records * recordBytes }

  /// What has to be free, the better first: one token's experts, or two records.
  var least: [Int] { records == 0 ? [0] : [min(bytes, perToken * recordBytes), min(bytes, 2 * recordBytes)] }

  /// Nil where all experts fit, and are used where they are mapped.
  /// - Parameter asked: what the operator allows, 0 for no cache but only the buffer that experts are read into; nil: whatever is free.
  func budget(free: Int, asked: Int?) -> Int? {
    guard records > 0, asked != nil || bytes > free else { return nil }
    let buffer = max(2, min(2 * chosen, perToken - 1)) * recordBytes
    return layout(min(free, asked == 0 ? buffer : asked ?? free)).slots * recordBytes
  }

  /// How many slots a budget gives, and whether they are a cache. A cache that does not hold one token's experts only ever holds what the next token's first
  /// blocks do not need: then there are as many as two blocks' reads take.
  func layout(_ budget: Int) -> (slots: Int, isCache: Bool) {
    let most = min(records, max(0, budget) / max(1, recordBytes))
    return most >= min(perToken, records) ? (most, true) : (min(most, 2 * chosen), false)
  }

  func entry(_ budget: Int?) -> MemoryPlan.Entry {
    guard let budget else { return .init("experts", bytes, "mapped") }
    let (slots, isCache) = layout(budget)
    let part = "\(slots) of \(records) records"
    return .init(
      "experts", budget, isCache ? "a cache of \(part); the rest stays on disk" : "a buffer of \(part): a cache begins with the \(perToken) that a token uses")
  }

  init(records: Int, recordBytes: Int, perToken: Int, chosen: Int) {
    self.records = records
    self.recordBytes = recordBytes
    self.perToken = perToken
    self.chosen = chosen
  }
}
