import Basics
import CTernary
import Foundation
import Inference
import ModelFile
import TestSupport
import Testing

/// A file of records with random bytes.
private struct RecordFile {
  static let blocks = 3, experts = 16, chosen = 4, bytes = 3 * 4096

  let path: String
  let file: MappedFile
  /// [blocks][experts]; one block in the middle has none.
  let contents: [[[UInt8]]]
  let places: [[RecordPlace]?]

  init(checksums: Bool = true) throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("records-\(UUID().uuidString)").path
    var random = SplitMix64(seed: 1)
    let kernels = try #require(ct_select(nil)).pointee
    var all = Data(count: 4096)
    var contents: [[[UInt8]]] = []
    var places: [[RecordPlace]?] = []
    for block in 0..<Self.blocks + 1 {
      guard block != 1 else {
        contents.append([])
        places.append(nil)
        continue
      }
      var records: [[UInt8]] = [], row: [RecordPlace] = []
      for expert in 0..<Self.experts {
        let record = (0..<Self.bytes / 8).flatMap { _ in withUnsafeBytes(of: random.next(), Array.init) }
        row.append(
          RecordPlace(
            offset: all.count, bytes: Self.bytes, name: "expert \(expert) of block \(block)", checksum: checksums ? kernels.checksum(record, Self.bytes) : nil))
        all.append(contentsOf: record)
        records.append(record)
      }
      contents.append(records)
      places.append(row)
    }
    try all.write(to: URL(fileURLWithPath: path))
    (self.contents, self.places) = (contents, places)
    file = try MappedFile(path)
  }

  func pool(slots: Int, threads: Int = 4, reads: RecordReads = .buffered, faults: Faults? = nil) throws -> ExpertPool {
    let reader = try #require(FileRecords(file, reads))
    faults?.set(reader)
    return try ExpertPool(
      places, chosen: Self.chosen, budget: slots * Self.bytes, threads: threads, reader: faults.map { $0 as any RecordReader } ?? reader, path: path,
      kernels: #require(ct_select(nil)).pointee)
  }

  /// Rounds of a block and ascending experts, as tokens and chunks of prompts have them.
  func rounds(_ count: Int, seed: UInt64) -> [(block: Int, experts: [Int])] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { round in
      let most = round % 9 == 8 ? Self.experts : Self.chosen  // a prompt's chunk needs many
      let some = Array((0..<Self.experts).shuffled(using: &random).prefix(Int.random(in: 1...most, using: &random)))
      return ([0, 2, 3][round % 3], some.sorted())
    }
  }
}

/// Runs a round, and checks that it got every record once and whole. Returns a digest of what it got, in the order of experts.
private func run(_ pool: ExpertPool, _ file: RecordFile, _ block: Int, _ experts: [Int]) throws -> Int {
  var seen = [Int](repeating: 0, count: experts.count), digests = seen, calls = 0
  try pool.withExperts(experts, of: block, meanwhile: { calls += 1 }) { ready in
    #expect(calls == 1 && !ready.isEmpty)
    for expert in ready {
      seen[expert.index] += 1
      let bytes = UnsafeRawBufferPointer(start: expert.record, count: RecordFile.bytes)
      #expect(bytes.elementsEqual(file.contents[block][experts[expert.index]]))
      digests[expert.index] = bytes.reduce(0) { $0 &* 31 &+ Int($1) }
    }
  }
  #expect(calls == 1)
  #expect(seen.allSatisfy { $0 == 1 })
  return digests.reduce(0) { $0 &* 17 &+ $1 }
}

@Suite struct ExpertPoolTests {
  private static let all = 3 * RecordFile.experts
  private static let perToken = 3 * RecordFile.chosen

  @Test(arguments: [2, 3, 8, perToken, all / 2, all, 2 * all], [1, 4])
  func everyRecordArrivesOnceAndWhole(slots: Int, threads: Int) throws {
    let file = try RecordFile()
    defer { unlink(file.path) }
    let rounds = file.rounds(60, seed: 3)
    var digests: [[Int]] = []
    for reads in RecordReads.allCases {
      for faults in [nil, Faults(transient: true), Faults(transient: true, damagesFirst: true)] {
        guard FileRecords(file.file, reads) != nil else { continue }  // no direct reads in this file system
        let pool = try file.pool(slots: slots, threads: threads, reads: reads, faults: faults)
        #expect(pool.slots <= min(slots, Self.all))
        digests.append(try rounds.map { try run(pool, file, $0.block, $0.experts) })
        #expect(pool.counters.asked == rounds.reduce(0) { $0 + $1.experts.count })
        if let faults, faults.damagesFirst { #expect(pool.counters.retries > 0) }
      }
    }
    #expect(digests.allSatisfy { $0 == digests[0] })
  }

  /// Against a plain list: the record that was used longest ago goes.
  @Test(arguments: [perToken, 17, all / 2, all - 1, all])
  func theRecordThatWasUsedLongestAgoGoes(slots: Int) throws {
    let file = try RecordFile()
    defer { unlink(file.path) }
    let pool = try file.pool(slots: slots, faults: Faults(transient: true))
    #expect(pool.isCache)
    var list: [[Int]] = []  // the latest is last
    var hits = 0, read = 0
    for round in file.rounds(200, seed: 4) where round.experts.count <= RecordFile.chosen {
      _ = try run(pool, file, round.block, round.experts)
      let keys = round.experts.map { [round.block, $0] }
      hits += keys.count { list.contains($0) }
      read += keys.count { !list.contains($0) }
      list.removeAll { keys.contains($0) }
      list = (list + keys).suffix(slots)
    }
    #expect(pool.counters.hits == hits)
    #expect(pool.counters.reads == read)
    #expect(pool.counters.bytesRead == read * RecordFile.bytes)
  }

  @Test func whatDoesNotHoldATokenIsNoMoreThanABuffer() throws {
    let file = try RecordFile()
    defer { unlink(file.path) }
    #expect(try file.pool(slots: Self.perToken).isCache)
    let pool = try file.pool(slots: Self.perToken - 1)
    #expect(!pool.isCache)
    #expect(pool.slots == 2 * RecordFile.chosen)
    #expect(throws: SternaError.self) { try file.pool(slots: 1) }
  }

  @Test func aReadThatKeepsFailingFailsTheRoundAndNothingElse() throws {
    let file = try RecordFile()
    defer { unlink(file.path) }
    for slots in [3, Self.perToken, Self.all] {
      let faults = Faults(transient: false)
      let pool = try file.pool(slots: slots, faults: faults)
      let broken = try #require(file.places[2]?[5])
      for _ in 0..<(slots == Self.all ? 1 : 3) {  // where there is room for all, it is there afterwards
        faults.setBroken([broken.offset])
        let error = #expect(throws: SternaError.self) { try pool.withExperts([1, 5, 9, 14], of: 2, meanwhile: {}, use: { _ in }) }
        #expect(error?.code == .modelIO)
        #expect(error?.place?.contains("expert 5 of block 2 (byte \(broken.offset))") == true)
        #expect(error?.cause == "Input/output error")
        for round in file.rounds(20, seed: 5) where round.block != 2 || !round.experts.contains(5) { _ = try run(pool, file, round.block, round.experts) }
        faults.setBroken([])
        _ = try run(pool, file, 2, [1, 5, 9, 14])
        _ = try run(pool, file, 2, Array(0..<RecordFile.experts))
        _ = try run(pool, file, 0, Array(0..<RecordFile.experts))
      }
      #expect(pool.counters.retries >= 3)
    }
  }

  @Test func aDamagedRecordIsNeverUsed() throws {
    let file = try RecordFile()
    defer { unlink(file.path) }
    let place = try #require(file.places[3]?[7])
    let handle = try FileHandle(forUpdating: URL(fileURLWithPath: file.path))
    try handle.seek(toOffset: UInt64(place.offset + 5000))
    let byte = try #require(try handle.read(upToCount: 1)?.first)
    try handle.seek(toOffset: UInt64(place.offset + 5000))
    try handle.write(contentsOf: Data([byte ^ 4]))
    try handle.close()
    let pool = try file.pool(slots: Self.all)
    let error = #expect(throws: SternaError.self) { try pool.withExperts([7], of: 3, meanwhile: {}, use: { _ in Issue.record("used") }) }
    #expect(error?.code == .modelIO && error?.message == "is damaged")
    _ = try run(pool, file, 3, [6, 8])
  }

  @Test func aFileThatIsCutShortIsAnError() throws {
    let file = try RecordFile()
    defer { unlink(file.path) }
    let place = try #require(file.places[3]?[15])
    #expect(truncate(file.path, off_t(place.offset + 4096)) == 0)
    for reads in RecordReads.allCases where FileRecords(file.file, reads) != nil {
      let pool = try file.pool(slots: Self.all, reads: reads)
      let error = #expect(throws: SternaError.self) { try pool.withExperts([15], of: 3, meanwhile: {}, use: { _ in Issue.record("used") }) }
      #expect(error?.message == "the model's file was cut short while it was in use")
      _ = try run(pool, file, 3, [14])
    }
  }

  @Test func guessesChangeNothingButWhatIsThere() throws {
    let file = try RecordFile()
    defer { unlink(file.path) }
    for slots in [Self.perToken, Self.all] {
      let faults = Faults(transient: true)
      let pool = try file.pool(slots: slots, faults: faults)
      var random = SplitMix64(seed: 6)
      for round in file.rounds(120, seed: 7) {
        // Some of it right, some of it wrong, some broken for now.
        let wrong = Int.random(in: 0..<RecordFile.experts, using: &random)
        faults.setBroken(round.experts.contains(wrong) ? [] : [file.places[round.block]![wrong].offset])
        pool.guess(round.experts.prefix(2) + [wrong], of: round.block)
        if Bool.random(using: &random) { usleep(1000) }
        _ = try run(pool, file, round.block, round.experts)
      }
      #expect(pool.counters.guessed > 0)
    }
  }

  @Test func aPoolCanGoWhileItStillReads() throws {
    let file = try RecordFile()
    defer { unlink(file.path) }
    for _ in 0..<20 {
      let pool = try file.pool(slots: Self.all, faults: Faults(transient: true))
      pool.guess(Array(0..<RecordFile.experts), of: 0)
    }
  }
}
