/// What experts cost so far.
public struct ExpertCounters: Sendable, Equatable {
  /// Experts that were asked for, once for each block and pass.
  public var asked = 0
  /// Of those, the ones whose records were there.
  public var hits = 0
  /// Of the hits and of what was under way when it was asked for, records that had been read on a guess.
  public var guessed = 0
  public var reads = 0
  public var bytesRead = 0
  /// Readings that had to be repeated.
  public var retries = 0
  /// Nanoseconds in which the model waited for records and had nothing else to do.
  public var waiting = 0
  /// Nanoseconds in which it computed experts, the shared one among them.
  public var computing = 0

  public init() {}

  /// The part of what was asked for that was there; 1 where nothing was asked for.
  public var hitRate: Double { asked == 0 ? 1 : Double(hits) / Double(asked) }

  public static func - (a: Self, b: Self) -> Self {
    var c = Self()
    c.asked = a.asked - b.asked
    c.hits = a.hits - b.hits
    c.guessed = a.guessed - b.guessed
    c.reads = a.reads - b.reads
    c.bytesRead = a.bytesRead - b.bytesRead
    c.retries = a.retries - b.retries
    c.waiting = a.waiting - b.waiting
    c.computing = a.computing - b.computing
    return c
  }
}
