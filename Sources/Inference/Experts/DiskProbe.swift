import Basics
import CTernary
import Glibc
import ModelFile

/// How fast a disk gives records: whole ones, at random places, as a block asks for them: some at a time, and then none until all of them are there and have been
/// checked. The fewer there are, the less of its rate a disk gives.
public struct DiskProbe: Sendable {
  public let reads: RecordReads
  /// Bytes of a record.
  private let bytes: Int
  /// How many were asked for at a time.
  private let together: Int
  /// Seconds until one is there that was asked for alone, and until so many are there.
  private let alone: Double
  private let all: Double

  /// Bytes a second, of records that are asked for together.
  public var rate: Double { Double(together * bytes) / all }

  /// Seconds that blocks wait for records.
  /// - Parameters:
  ///   - records: that are read.
  ///   - blocks: those of which at least one is read.
  func seconds(records: Double, blocks: Double) -> Double {
    let each = together > 1 ? max(0, all - alone) / Double(together - 1) : alone
    return blocks * max(0, alone - each) + records * each
  }

  /// Measures for about `seconds`, and at most once around all records. What the page cache holds of them is given up first, or memory would be measured.
  /// Nil where the file system has no such reads, or nothing could be read.
  /// - Parameter together: records that a block asks for at once.
  package init?(_ file: MappedFile, _ places: [RecordPlace], _ reads: RecordReads, threads: Int, together: Int, checksum: @escaping @Sendable (UnsafeRawPointer, Int) -> UInt64, seconds: Double) {
    let together = max(1, min(together, places.count - 1))
    guard let reader = FileRecords(file, reads), let largest = places.map(\.bytes).max(),
      let memory = SlotMemory(slots: together, slotBytes: (largest + 4095) / 4096 * 4096)
    else { return nil }
    let queue = ReadQueue(threads: threads, reader: reader, path: file.path, memory: memory, checksum: checksum)
    guard queue.threads > 0 else { return nil }
    // A step that has no divisor in common with the number of records visits each once, far from the one before.
    var step = max(1, places.count * 5 / 8)
    while step > 1, Self.divisor(step, places.count) > 1 { step -= 1 }
    // Memory that was never touched is not the disk's fault.
    for slot in 0..<memory.count { memset(memory[slot], 0, memory.slotBytes) }
    var next = 0
    /// Seconds until so many are there; nil where one could not be read.
    func burst(_ count: Int) -> Double? {
      let chosen = (next..<next + count).map { places[$0 * step % places.count] }
      next += count
      for place in chosen { posix_fadvise(file.descriptor, place.offset, place.bytes, POSIX_FADV_DONTNEED) }
      let start = now()
      queue.demand(chosen.enumerated().map { .init(slot: $0, place: $1, target: memory[$0]) })
      var left = count, isWhole = true
      while left > 0 {
        let completions = queue.completions()
        left -= completions.count
        if completions.contains(where: { $0.error != nil }) { isWhole = false }
      }
      return isWhole ? Double(max(1, now() - start)) * 1e-9 : nil
    }
    var times: (alone: [Double], all: [Double]) = ([], [])
    let start = now()
    repeat {
      if let time = burst(1) { times.alone.append(time) }
      if let time = burst(together) { times.all.append(time) }
    } while Double(now() - start) * 1e-9 < seconds && next + together < places.count
    guard !times.alone.isEmpty, !times.all.isEmpty else { return nil }
    self.reads = reads
    self.together = together
    bytes = largest
    // Medians: somebody else's burst does not count.
    alone = times.alone.sorted()[times.alone.count / 2]
    all = times.all.sorted()[times.all.count / 2]
  }

  private static func divisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : divisor(b, a % b) }

  /// Both ways, and the faster one; direct where they are much the same, since it leaves the page cache alone. Or the way that is asked for.
  package static func fastest(
    _ file: MappedFile, _ places: [RecordPlace], _ reads: RecordReads? = nil, threads: Int, together: Int, kernels: ct_kernels, seconds: Double
  ) -> DiskProbe? {
    let checksum = kernels.checksum
    func probe(_ reads: RecordReads) -> DiskProbe? {
      DiskProbe(file, places, reads, threads: threads, together: together, checksum: { checksum($0, $1) }, seconds: seconds)
    }
    if let reads { return probe(reads) }
    let direct = probe(.direct)
    guard let buffered = probe(.buffered) else { return direct }
    guard let direct, direct.rate > 0.9 * buffered.rate else { return buffered }
    return direct
  }
}

/// Nanoseconds on a clock that only goes forward.
func now() -> Int {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return now.tv_sec &* 1_000_000_000 &+ now.tv_nsec
}
