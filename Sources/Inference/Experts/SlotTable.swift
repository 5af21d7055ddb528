import Glibc

/// Room for records: anonymous memory in slots of one size, in huge pages where the system has them. It is taken as it is used.
// @unchecked: each slot belongs to one read or to the model's thread at a time.
final class SlotMemory: @unchecked Sendable {
  let slotBytes: Int
  let count: Int
  private let base: UnsafeMutableRawPointer
  private let mapped: Int

  /// Nil where the address space has no room for it.
  /// - Parameter slotBytes: a multiple of 4096.
  init?(slots: Int, slotBytes: Int) {
    let huge = 2 << 20
    let (bytes, overflow) = slots.multipliedReportingOverflow(by: slotBytes)
    guard !overflow, bytes < Int.max - 2 * huge, let start = mmap(nil, bytes + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      start != MAP_FAILED
    else { return nil }
    mapped = bytes + huge
    base = start
    count = slots
    self.slotBytes = slotBytes
    madvise(start, mapped, MADV_HUGEPAGE)
  }

  deinit { munmap(base, mapped) }

  subscript(slot: Int) -> UnsafeMutableRawPointer {
    let first = UnsafeMutableRawPointer(bitPattern: (UInt(bitPattern: base) + (2 << 20) - 1) / (2 << 20) * (2 << 20)) ?? base
    return first + slot * slotBytes
  }
}

/// Which record is in which slot, and which slot was used longest ago.
struct SlotTable {
  enum Content: UInt8 { case nothing, underWay, there }

  /// Where a record is, -1 for nowhere. [keys]
  private var slotOfKey: [Int32]
  /// [slots]
  private var keyOfSlot: [Int32]
  private var content: [Content]
  private var isPinned: [Bool]
  /// A ring from the slot that was used longest ago to the latest; the element behind the last slot is its seam. [slots + 1]
  private var later: [Int32]
  private var earlier: [Int32]

  init(slots: Int, keys: Int) {
    slotOfKey = .init(repeating: -1, count: keys)
    keyOfSlot = .init(repeating: -1, count: slots)
    content = .init(repeating: .nothing, count: slots)
    isPinned = .init(repeating: false, count: slots)
    later = (0...slots).map { Int32($0 == slots ? 0 : $0 + 1) }
    earlier = (0...slots).map { Int32($0 == 0 ? slots : $0 - 1) }
  }

  private var seam: Int { keyOfSlot.count }

  /// The slot that holds a record or will.
  func slot(of key: Int) -> Int? { slotOfKey[key] < 0 ? nil : Int(slotOfKey[key]) }
  func isThere(_ slot: Int) -> Bool { content[slot] == .there }

  /// A pinned slot keeps its record.
  mutating func pin(_ slot: Int) { isPinned[slot] = true }

  /// Used just now, and free to go when its turn comes.
  mutating func unpin(_ slot: Int) {
    isPinned[slot] = false
    move(slot, before: seam)
  }

  /// The record has arrived.
  mutating func fill(_ slot: Int) { content[slot] = .there }

  /// The slot holds nothing any more, and is the next to be taken.
  mutating func clear(_ slot: Int) {
    if keyOfSlot[slot] >= 0 { slotOfKey[Int(keyOfSlot[slot])] = -1 }
    keyOfSlot[slot] = -1
    content[slot] = .nothing
    isPinned[slot] = false
    move(slot, before: Int(later[seam]))
  }

  /// A slot for a record that is nowhere: the one whose record was used longest ago. Nil where every slot is pinned or under way.
  mutating func take(for key: Int) -> Int? {
    var slot = Int(later[seam])
    while slot != seam, isPinned[slot] || content[slot] == .underWay { slot = Int(later[slot]) }
    guard slot != seam else { return nil }
    clear(slot)
    slotOfKey[key] = Int32(slot)
    keyOfSlot[slot] = Int32(key)
    content[slot] = .underWay
    move(slot, before: seam)
    return slot
  }

  private mutating func move(_ slot: Int, before other: Int) {
    guard slot != other else { return }
    let (e, l) = (earlier[slot], later[slot])
    later[Int(e)] = l
    earlier[Int(l)] = e
    let e2 = earlier[other]
    later[Int(e2)] = Int32(slot)
    earlier[slot] = e2
    later[slot] = Int32(other)
    earlier[other] = Int32(slot)
  }
}
