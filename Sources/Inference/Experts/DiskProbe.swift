import Basics
import CTernary
import Glibc
import ModelFile

/// How fast a disk gives records: whole ones, at random places, several at a time, as a model asks for them.
public struct DiskProbe: Sendable {
  public let reads: RecordReads
  /// Bytes a second.
  public let rate: Double

  /// Measures for about `seconds`, and at most once around all records. What the page cache holds of them is given up first, or memory would be measured.
  /// Nil where the file system has no such reads, or nothing could be read.
  package init?(_ file: MappedFile, _ places: [RecordPlace], _ reads: RecordReads, threads: Int, seconds: Double) {
    guard let reader = FileRecords(file, reads), let largest = places.map(\.bytes).max(),
      let memory = SlotMemory(slots: 2 * threads, slotBytes: (largest + 4095) / 4096 * 4096)
    else { return nil }
    self.reads = reads
    let queue = ReadQueue(threads: threads, reader: reader, path: file.path, memory: memory) { _, _ in 0 }
    guard queue.threads > 0 else { return nil }
    // A step that has no divisor in common with the number of records visits each once, far from the one before.
    var step = max(1, places.count * 5 / 8)
    while step > 1, Self.divisor(step, places.count) > 1 { step -= 1 }
    var next = 0, underWay = 0, bytes = 0
    func request(_ slot: Int) {
      guard next < places.count else { return }
      let place = places[next * step % places.count]
      next += 1
      underWay += 1
      posix_fadvise(file.descriptor, place.offset, place.bytes, POSIX_FADV_DONTNEED)
      queue.demand([.init(slot: slot, place: RecordPlace(offset: place.offset, bytes: place.bytes, name: place.name, checksum: nil), target: memory[slot])])
    }
    // Memory that was never touched is not the disk's fault.
    for slot in 0..<memory.count { memset(memory[slot], 0, memory.slotBytes) }
    let start = now()
    for slot in 0..<memory.count { request(slot) }
    while underWay > 0 {
      for completion in queue.completions() {
        underWay -= 1
        guard completion.error == nil else { continue }
        bytes += completion.bytes
        if Double(now() - start) * 1e-9 < seconds { request(completion.slot) }
      }
    }
    guard bytes > 0 else { return nil }
    rate = Double(bytes) / (Double(max(1, now() - start)) * 1e-9)
  }

  private static func divisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : divisor(b, a % b) }

  /// Both ways, and the faster one; direct where they are much the same, since it leaves the page cache alone.
  package static func fastest(_ file: MappedFile, _ places: [RecordPlace], threads: Int, seconds: Double) -> DiskProbe? {
    let direct = DiskProbe(file, places, .direct, threads: threads, seconds: seconds)
    guard let buffered = DiskProbe(file, places, .buffered, threads: threads, seconds: seconds) else { return direct }
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
