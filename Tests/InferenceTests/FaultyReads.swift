import Foundation
import Inference
import Synchronization
import TestSupport

/// Reads that come late, in pieces, out of order, damaged, or not at all.
final class Faults: RecordReader, @unchecked Sendable {
  private var reader: (any RecordReader)?  // set once, before any thread reads
  private let state = Mutex((random: SplitMix64(seed: 9), brokenOffsets: Set<Int>(), attempts: [Int: Int](), continuations: Set<Int>()))
  private let transient: Bool
  let damagesFirst: Bool

  init(transient: Bool, damagesFirst: Bool = false) {
    self.transient = transient
    self.damagesFirst = damagesFirst
  }

  func set(_ reader: any RecordReader) { self.reader = reader }

  var reads: RecordReads { reader?.reads ?? .buffered }

  func setBroken(_ offsets: Set<Int>) { state.withLock { $0.brokenOffsets = offsets } }

  func read(_ offset: Int, into target: UnsafeMutableRawPointer, count: Int) -> Int {
    guard let reader else { return -Int(EIO) }
    // Where a reading goes on that was short nothing fails: a record fails twice at most, and is tried four times.
    let (dice, attempt, broken) = state.withLock { state in
      let dice = Int.random(in: 0..<10, using: &state.random)
      if transient, dice == 4 || dice == 5, count > 4096 { state.continuations.insert(offset + 4096) }
      guard !state.continuations.contains(offset) else { return (dice, Int.max, false) }
      state.attempts[offset, default: 0] += 1
      return (dice, state.attempts[offset] ?? 0, state.brokenOffsets.contains(offset))
    }
    if broken { return -Int(EIO) }
    guard transient else { return reader.read(offset, into: target, count: count) }
    switch dice {
    case 0: return -Int(EINTR)
    case 1 where attempt < 3: return -Int(EIO)
    case 2, 3: usleep(2000)
    case 4, 5: return reader.read(offset, into: target, count: min(count, 4096))
    default: break
    }
    let got = reader.read(offset, into: target, count: count)
    if damagesFirst, attempt == 1, got > 100 { target.storeBytes(of: ~target.load(fromByteOffset: 100, as: UInt8.self), toByteOffset: 100, as: UInt8.self) }
    return got
  }
}
