import Basics

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

  public static func - (a: Self, b: Self) -> Self { a.combined(b, -) }
  public static func + (a: Self, b: Self) -> Self { a.combined(b, +) }

  private func combined(_ other: Self, _ operation: (Int, Int) -> Int) -> Self {
    var result = Self()
    for path in [\Self.asked, \.hits, \.guessed, \.reads, \.bytesRead, \.retries, \.waiting, \.computing] {
      result[keyPath: path] = operation(self[keyPath: path], other[keyPath: path])
    }
    return result
  }

  /// For programs: what stands in results, in `health` and in what `bench` prints.
  public var json: JSON {
    [
      "hit_rate": .number((hitRate * 1e4).rounded() / 1e4), "bytes_read": .number(bytesRead), "waited_for_disk_ms": .number(waiting / 1_000_000),
      "computed_ms": .number(computing / 1_000_000), "retries": .number(retries),
    ]
  }
}
