import Basics
import Foundation
import ModelFile
import Testing

/// Packing that was interrupted, and goes on.
@Suite struct ResumedPackingTests {
  /// A hub folder whose disk fails once so many pieces have been read.
  private struct FailingSource: WeightSource {
    final class Count { var left = 0 }
    let base: HubFolder
    let count = Count()

    init(_ path: String, after pieces: Int = .max) throws {
      base = try HubFolder(path)
      count.left = pieces
    }

    var configuration: ModelConfiguration { base.configuration }
    var identity: SourceIdentity? { base.identity }
    func check(_ plan: [PlannedTensor]) throws(SternaError) { try base.check(plan) }
    func ternary(_ tensor: PlannedTensor) throws(SternaError) -> TernaryRows { try base.ternary(tensor) }
    func storage(_ tensor: PlannedTensor) throws(SternaError) -> WeightStorage? { try base.storage(tensor) }
    func floats(_ tensor: PlannedTensor, rows: Range<Int>, into: UnsafeMutableBufferPointer<Float>) throws(SternaError) {
      guard count.left > 0 else { throw SternaError(.io, "the disk failed", at: tensor.name) }
      count.left -= 1
      try base.floats(tensor, rows: rows, into: into)
    }
  }

  /// Packs, and returns what was said.
  @discardableResult
  private func pack(_ source: some WeightSource, _ scratch: Scratch, _ options: PackOptions = PackOptions(trunk: .q8_0, experts: .q4_0), by program: String? = "test") throws -> [String] {
    var notes: [String] = []
    try Packer.pack(
      source, to: scratch["m.gguf"], options: options, sections: [("sterna.tokenizer", [1, 2, 3])], resumedBy: program,
      report: { if case .note(let text) = $0 { notes.append(text) } })
    return notes
  }

  /// Packs a copy of a reference model as far as a number of pieces.
  private func interrupt(_ folder: String, _ scratch: Scratch, after pieces: Int) throws {
    let error = failure { try pack(FailingSource(folder, after: pieces), scratch) }
    #expect(error?.code == .io && error?.remedy?.contains("same command again") == true)
    #expect(!FileManager.default.fileExists(atPath: scratch["m.gguf"]))
  }

  private func names(_ scratch: Scratch) throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("m.") }.sorted() }

  @Test(arguments: ["qwen2-moe", "deepseek-v3", "bitnet-silu"]) func whereverItStopsTheBytesAreTheSame(name: String) throws {
    let scratch = try Scratch()
    let folder = "\(fixtures)/\(name)"
    let counted = try FailingSource(folder)
    counted.count.left = 1 << 30
    try pack(counted, scratch)
    let pieces = 1 << 30 - counted.count.left
    let whole = try contents(scratch["m.gguf"])
    #expect(try names(scratch) == ["m.gguf"])
    for stop in stride(from: 1, to: pieces, by: max(1, pieces / 23)) {
      try FileManager.default.removeItem(atPath: scratch["m.gguf"])
      try interrupt(folder, scratch, after: stop)
      // A second time, a little further on.
      if stop + 2 < pieces { try interrupt(folder, scratch, after: 2) }
      let goesOn = try FailingSource(folder)
      goesOn.count.left = pieces
      let notes = try pack(goesOn, scratch)
      #expect(notes.contains { $0.contains("going on behind") } && goesOn.count.left > 0, "\(stop): \(notes)")
      #expect(try contents(scratch["m.gguf"]) == whole, "stopped after \(stop) pieces")
      #expect(try names(scratch) == ["m.gguf"])
    }
  }

  /// At the very end: what is written has its name already, and the journal is still there. Or has not yet, and only the name is missing.
  @Test(arguments: ["qwen2-moe", "bitnet-silu"]) func whatWasFinishedIsNotPackedAgain(name: String) throws {
    let scratch = try Scratch()
    let folder = "\(fixtures)/\(name)"
    try pack(HubFolder(folder), scratch)
    let whole = try contents(scratch["m.gguf"])
    try FileManager.default.removeItem(atPath: scratch["m.gguf"])
    for hasItsName in [true, false] {
      try FileManager.default.createDirectory(atPath: scratch["m.gguf"], withIntermediateDirectories: false)
      let error = failure { try pack(HubFolder(folder), scratch) }
      #expect(error?.message == "cannot give this file its name" && error?.remedy?.contains("same command again") == true)
      try FileManager.default.removeItem(atPath: scratch["m.gguf"])
      #expect(try names(scratch) == ["m.gguf.partial", "m.gguf.state.partial"])
      if hasItsName { try FileManager.default.moveItem(atPath: scratch["m.gguf.partial"], toPath: scratch["m.gguf"]) }
      let nothing = try FailingSource(folder)
      nothing.count.left = 0
      let notes = try pack(nothing, scratch)
      #expect(notes.contains { $0.contains(hasItsName ? "was finished already" : "going on behind") }, "\(notes)")
      #expect(try contents(scratch["m.gguf"]) == whole)
      #expect(try names(scratch) == ["m.gguf"])
      if hasItsName {
        // Without a journal the same command packs it again.
        #expect(try pack(HubFolder(folder), scratch).isEmpty)
        try FileManager.default.removeItem(atPath: scratch["m.gguf"])
      }
    }
    // A file of the same name that is another one is not taken for it.
    try FileManager.default.removeItem(atPath: scratch["m.gguf"])
    try FileManager.default.createDirectory(atPath: scratch["m.gguf"], withIntermediateDirectories: false)
    _ = failure { try pack(HubFolder(folder), scratch) }
    try FileManager.default.removeItem(atPath: scratch["m.gguf"])
    try FileManager.default.removeItem(atPath: scratch["m.gguf.partial"])
    try pack(HubFolder(folder), scratch, PackOptions(embedding: .f16, trunk: .q8_0, experts: .q4_0), by: nil)
    #expect(try contents(scratch["m.gguf"]) != whole)
    #expect(try pack(HubFolder(folder), scratch).isEmpty)
    #expect(try contents(scratch["m.gguf"]) == whole)
  }

  /// Each time a packing is interrupted, something is changed, and packing again must give what it gives from nothing.
  private func expectAFreshStart(_ said: String, _ options: PackOptions = PackOptions(trunk: .q8_0, experts: .q4_0), by program: String = "test", change: (_ folder: String, Scratch) throws -> Void) throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("qwen2-moe")
    try interrupt(folder, scratch, after: 40)
    try change(folder, scratch)
    let notes = try pack(HubFolder(folder), scratch, options, by: program)
    #expect(said.isEmpty ? notes.isEmpty : notes.contains { $0.contains(said) && $0.contains("begins again") }, "\(notes)")
    let found = try contents(scratch["m.gguf"])
    try pack(HubFolder(folder), scratch, options, by: nil)
    #expect(try found == contents(scratch["m.gguf"]))
    #expect(try names(scratch) == ["m.gguf"])
  }

  @Test func whatWasChangedIsNoticed() throws {
    try expectAFreshStart("another source") { folder, _ in
      var source = try PlainSafetensors(folder + "/model.safetensors")
      source.entries["model.embed_tokens.weight"]?.bytes.replaceSubrange(0..<4, with: [0, 0, 0x80, 0x3F])
      try Data(source.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    }
    try expectAFreshStart("another source") { folder, _ in
      try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 1e9)], ofItemAtPath: folder + "/config.json")
    }
    try expectAFreshStart("other options", PackOptions(trunk: .q8_0, experts: .q8_0)) { _, _ in }
    try expectAFreshStart("other options", PackOptions(embedding: .f16, trunk: .q8_0, experts: .q4_0)) { _, _ in }
    try expectAFreshStart("other options", by: "a newer one") { _, _ in }
  }

  @Test func whatIsLeftMayBeDamaged() throws {
    // The bytes are gone, or fewer than the journal says.
    for left in [0, 5000] {
      try expectAFreshStart("") { _, scratch in try scratch.write(contents(scratch["m.gguf.partial"]).prefix(left), to: "m.gguf.partial") }
    }
    try expectAFreshStart("") { _, scratch in try FileManager.default.removeItem(atPath: scratch["m.gguf.partial"]) }
    try expectAFreshStart("") { _, scratch in try FileManager.default.removeItem(atPath: scratch["m.gguf.state.partial"]) }
    try expectAFreshStart("another version") { _, scratch in try scratch.write("nonsense\n".utf8, to: "m.gguf.state.partial") }
    // The journal ends anywhere, or in zeros, as after a loss of power.
    let scratch = try Scratch()
    let folder = "\(fixtures)/qwen2-moe"
    try pack(HubFolder(folder), scratch, by: nil)
    let whole = try contents(scratch["m.gguf"])
    try FileManager.default.removeItem(atPath: scratch["m.gguf"])
    try interrupt(folder, scratch, after: 60)
    let (data, journal) = (try contents(scratch["m.gguf.partial"]), try contents(scratch["m.gguf.state.partial"]))
    for cut in stride(from: 0, to: journal.count, by: 97) {
      for tail in [[], [UInt8](repeating: 0, count: 200)] {
        try scratch.write(data, to: "m.gguf.partial")
        try scratch.write(journal.prefix(cut) + tail, to: "m.gguf.state.partial")
        try pack(HubFolder(folder), scratch)
        #expect(try contents(scratch["m.gguf"]) == whole, "journal of \(cut) bytes")
      }
    }
  }

  /// Packing it again would end in the same way.
  @Test func anErrorOfTheSourceLeavesNothingBehind() throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("qwen2-moe")
    var source = try PlainSafetensors(folder + "/model.safetensors")
    source.entries["model.layers.2.mlp.experts.5.down_proj.weight"]?.bytes.replaceSubrange(0..<4, with: [0, 0, 0xC0, 0x7F])
    try Data(source.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    #expect(failure { try pack(HubFolder(folder), scratch) }?.code == .badFile)
    #expect(try names(scratch) == [])
  }

  @Test func twoDoNotPackTheSameFile() throws {
    let scratch = try Scratch()
    let other = try DurableFile(resumable: scratch["m.gguf"])
    try other.append([1, 2, 3])
    let error = failure { try pack(HubFolder("\(fixtures)/qwen2-moe"), scratch) }
    #expect(error?.message.contains("another process") == true)
    #expect(try contents(scratch["m.gguf.partial"]) == [1, 2, 3])
    other.abandon()
  }
}
