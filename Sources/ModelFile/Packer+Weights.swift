import Basics
import CTernary

extension Packer {
  /// A matrix that is not ternary, or a router.
  static func writeMatrix(
    _ source: some WeightSource, _ planned: PlannedTensor, _ storage: WeightStorage, _ rows: Int, _ columns: Int, heads: Int, _ writer: GGUFWriter
  ) throws(SternaError) {
    let encoder = WeightEncoder(storage, columns: columns, chunkValues: chunkValues)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: storage.bytes(rows: encoder.rows, columns: columns), alignment: 64)
    defer { bytes.deallocate() }
    let perHead = rows / heads
    for head in 0..<heads {
      for first in stride(from: head * perHead, to: (head + 1) * perHead, by: encoder.rows) {
        let range = first..<min(first + encoder.rows, (head + 1) * perHead)
        guard let out = bytes.baseAddress else { return }
        try encoder.encode(source, planned, rows: range, into: out)
        try writer.write(UnsafeRawBufferPointer(start: out, count: storage.bytes(rows: range.count, columns: columns)))
      }
    }
  }

  /// The records of a block's experts. Returns the checksum of each.
  static func writeExperts(
    _ source: some WeightSource, block: Int, count: Int, _ record: ExpertRecord, _ writer: GGUFWriter, progress: (String) -> Void
  ) throws(SternaError) -> [UInt64] {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: record.bytes, alignment: 4096)
    defer { bytes.deallocate() }
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    guard let start = bytes.baseAddress else { return [] }
    // Every instruction set gives the same.
    let checksum = (ct_select(nil) ?? ct_scalar()).pointee.checksum
    var checksums: [UInt64] = []
    let wide = WeightEncoder(record.storage, columns: record.hiddenSize, chunkValues: chunkValues)
    let narrow = WeightEncoder(record.storage, columns: record.expertSize, chunkValues: chunkValues)
    for expert in 0..<count {
      progress("expert \(expert + 1) of \(count) of block \(block + 1)")
      let gate = source.configuration.expert(block, expert, .gate)
      let up = source.configuration.expert(block, expert, .up)
      let down = source.configuration.expert(block, expert, .down)
      try write(source, gate, wide, to: start + record.gateOffset)
      try write(source, up, wide, to: start + record.upOffset)
      try write(source, down, narrow, to: start + record.downOffset)
      checksums.append(checksum(start, record.bytes))
      try writer.write(UnsafeRawBufferPointer(bytes))
    }
    return checksums
  }

  private static func write(
    _ source: some WeightSource, _ planned: PlannedTensor, _ encoder: borrowing WeightEncoder, to start: UnsafeMutableRawPointer
  ) throws(SternaError) {
    guard case .matrix(let rows, let columns, _) = planned.kind else { return }
    for first in stride(from: 0, to: rows, by: encoder.rows) {
      try encoder.encode(
        source, planned, rows: first..<min(first + encoder.rows, rows), into: start + encoder.storage.bytes(rows: first, columns: columns))
    }
  }
}
