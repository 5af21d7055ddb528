import Basics
import CTernary
import Glibc
import ModelFile

/// Rows of the embedding, or of a head of its own, as jobs need them.
///
/// A job needs few of a vocabulary's rows: those of its text, of its labels, of JSON. Where memory is short the table is therefore not mapped: rows are
/// read when they are asked for, into a cache of fixed size. (Mapped, each row would bring in the 64 KiB around it.)
///
/// Used from the model's thread only.
final class TableRows {
  let table: EmbeddingTable
  /// Whether the table is read where it is mapped, as there is room for it.
  let isMapped: Bool
  /// Rows that the cache holds.
  let capacity: Int
  private let file: MappedFile
  /// [capacity, rowBytes]
  private let slots: UnsafeMutableRawPointer
  /// Which row a slot holds, -1 for none. [capacity]
  private var rowOfSlot: [Int32]
  /// Where a row is, -1 for not in the cache. [rows]
  private var slotOfRow: [Int32]
  /// Whether a slot was used since the hand of the clock passed it. [capacity]
  private var wasUsed: [Bool]
  private var hand = 0
  /// Bytes read from the file so far.
  private(set) var bytesRead = 0

  /// - Parameter cacheBytes: nil: use the mapping.
  init(_ table: EmbeddingTable, of file: MappedFile, cacheBytes: Int?) {
    self.table = table
    self.file = file
    isMapped = cacheBytes == nil
    capacity = isMapped ? 0 : min(table.rows, max(1, (cacheBytes ?? 0) / table.rowBytes))
    slots = .allocate(byteCount: max(64, capacity * table.rowBytes), alignment: 64)
    rowOfSlot = .init(repeating: -1, count: capacity)
    slotOfRow = .init(repeating: -1, count: isMapped ? 0 : table.rows)
    wasUsed = .init(repeating: false, count: capacity)
    // Read-ahead around a single row would only fill the page cache.
    if !isMapped { posix_fadvise(file.descriptor, table.fileOffset, table.bytes, POSIX_FADV_RANDOM) }
  }

  deinit { slots.deallocate() }

  /// Bytes that this object holds.
  var bytes: Int { capacity * (table.rowBytes + 5) + slotOfRow.count * 4 }

  /// Tells the disk which rows will be asked for, so that it can fetch them side by side. Rows in the cache cost nothing.
  func prefetch(_ rows: some Swift.Sequence<Int>) {
    guard !isMapped else { return }
    for row in rows where slotOfRow[row] < 0 {
      posix_fadvise(file.descriptor, table.fileOffset + row * table.rowBytes, table.rowBytes, POSIX_FADV_WILLNEED)
    }
  }

  /// Where a row is, until the next call.
  ///
  /// - Parameter row: below `table.rows`.
  /// - Throws: `modelIO` when it cannot be read.
  func row(_ row: Int) throws(SternaError) -> UnsafeRawPointer {
    guard !isMapped else { return table.pointer(row) }
    let known = Int(slotOfRow[row])
    if known >= 0 {
      wasUsed[known] = true
      return UnsafeRawPointer(slots + known * table.rowBytes)
    }
    while wasUsed[hand] {
      wasUsed[hand] = false
      hand = hand + 1 == capacity ? 0 : hand + 1
    }
    let slot = hand
    hand = hand + 1 == capacity ? 0 : hand + 1
    if rowOfSlot[slot] >= 0 { slotOfRow[Int(rowOfSlot[slot])] = -1 }
    rowOfSlot[slot] = -1
    let target = slots + slot * table.rowBytes
    try readExactly(file, table.fileOffset + row * table.rowBytes, into: target, count: table.rowBytes)
    bytesRead += table.rowBytes
    rowOfSlot[slot] = Int32(row)
    slotOfRow[row] = Int32(slot)
    wasUsed[slot] = true
    return UnsafeRawPointer(target)
  }
}

/// Reads a range of a file, however many calls that takes.
func readExactly(_ file: MappedFile, _ offset: Int, into target: UnsafeMutableRawPointer, count: Int, descriptor: Int32? = nil) throws(SternaError) {
  var done = 0
  while done < count {
    let got = pread(descriptor ?? file.descriptor, target + done, count - done, offset + done)
    if got < 0 && errno == EINTR { continue }
    guard got > 0 else {
      throw SternaError(
        .modelIO, got == 0 ? "the model's file was cut short while it was in use" : "the model's file cannot be read", at: "\(file.path) (byte \(offset + done))",
        remedy: "check the disk; never write into a model's file in place", cause: got < 0 ? String(cString: strerror(errno)) : nil)
    }
    done += got
  }
}
