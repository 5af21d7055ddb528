import Basics
import Foundation
import ModelFile
import Testing

/// Models that are split over several GGUF files.
@Suite struct SplitGGUFTests {
  /// A mixture in three parts, as llama.cpp's tool writes them: metadata in the first, which may have no tensors.
  private func split(_ scratch: Scratch, withoutTensorsInFirst: Bool = false, changing change: (inout [TinyTernary.GGUF]) -> Void = { _ in }) throws -> [String] {
    let whole = try MixtureGGUF("qwen3-moe").file()
    var parts = (0..<3).map { part -> TinyTernary.GGUF in
      var file = TinyTernary.GGUF()
      if part == 0 { file.keys = whole.keys }
      file[key: "split.no"] = HandMadeGGUF.key("split.no", type: 2, HandMadeGGUF.int(UInt16(part)))
      file[key: "split.count"] = HandMadeGGUF.key("split.count", type: 2, HandMadeGGUF.int(UInt16(3)))
      file[key: "split.tensors.count"] = HandMadeGGUF.key("split.tensors.count", type: 5, HandMadeGGUF.int(Int32(whole.tensors.count)))
      return file
    }
    // The experts of a block may lie in several files.
    for (i, tensor) in whole.tensors.enumerated() { parts[withoutTensorsInFirst ? 1 + i % 2 : i % 3].tensors.append(tensor) }
    change(&parts)
    return try parts.enumerated().map { try scratch.write($1.bytes, to: "model-0000\($0 + 1)-of-00003.gguf") }
  }

  @Test(arguments: [false, true]) func anyPartStandsForTheWholeModel(withoutTensorsInFirst: Bool) throws {
    let scratch = try Scratch()
    let whole = try scratch.write(MixtureGGUF("qwen3-moe").file().bytes, to: "whole.gguf")
    try Packer.pack(GGUFSource(whole), to: scratch["a.gguf"], options: PackOptions(name: "x"))
    for part in try split(scratch, withoutTensorsInFirst: withoutTensorsInFirst) {
      try Packer.pack(GGUFSource(part), to: scratch["b.gguf"], options: PackOptions(name: "x"))
      #expect(try contents(scratch["a.gguf"]) == contents(scratch["b.gguf"]))
    }
  }

  @Test func aMissingPartIsNamed() throws {
    for missing in 0..<3 {
      let scratch = try Scratch()
      let parts = try split(scratch)
      try FileManager.default.removeItem(atPath: parts[missing])
      let error = failure { _ = try GGUFSource(parts[(missing + 1) % 3]) }
      #expect(error?.code == .io && error?.place == parts[missing])
    }
  }

  @Test func aForeignPartIsNamed() throws {
    typealias G = HandMadeGGUF
    let changes: [(place: String, change: (inout [TinyTernary.GGUF]) -> Void)] = [
      ("00002-of-00003.gguf: key split.no", { $0[1][key: "split.no"] = G.key("split.no", type: 2, G.int(UInt16(2))) }),
      ("00002-of-00003.gguf: key split.no", { $0[1][key: "split.no"] = nil }),
      ("00003-of-00003.gguf: key split.count", { $0[2][key: "split.count"] = G.key("split.count", type: 2, G.int(UInt16(4))) }),
      ("00002-of-00003.gguf: key split.tensors.count", { $0[1][key: "split.tensors.count"] = G.key("split.tensors.count", type: 5, G.int(Int32(7))) }),
      ("00003-of-00003.gguf: tensor token_embd.weight", { parts in parts[2].tensors += parts.flatMap(\.tensors).filter { $0.name == "token_embd.weight" } }),
      ("00001-of-00003.gguf: key split.tensors.count", { $0[2].tensors.removeLast() }),
    ]
    for (place, change) in changes {
      let scratch = try Scratch()
      let parts = try split(scratch, changing: change)
      let error = failure { _ = try GGUFSource(parts[0]) }
      #expect(error?.code == .badFile && error?.place?.hasSuffix(place) == true, "\(place): \(String(describing: error))")
    }
  }

  @Test func damagedPartsAreRefused() throws {
    let scratch = try Scratch()
    let parts = try split(scratch)
    // Cut short: the error names the part, not the one that was given.
    try scratch.write(contents(parts[1]).dropLast(4096), to: "model-00002-of-00003.gguf")
    #expect(failure { _ = try GGUFSource(parts[0]) }?.place?.contains("model-00002-of-00003.gguf: tensor") == true)
    // Renamed: there is no telling what the others are called.
    try FileManager.default.moveItem(atPath: parts[2], toPath: scratch["third.gguf"])
    let error = failure { _ = try GGUFSource(scratch["third.gguf"]) }
    #expect(error?.expected?.contains("-00003-of-00003.gguf") == true)
    // Numbers that cannot be.
    for (key, value) in [("split.count", UInt16.max), ("split.no", 3), ("split.no", UInt16.max)] {
      let scratch = try Scratch()
      let bad = try split(scratch) { parts in for i in parts.indices { parts[i][key: key] = HandMadeGGUF.key(key, type: 2, HandMadeGGUF.int(value)) } }
      #expect(failure { _ = try GGUFSource(bad[0]) }?.place?.contains("key \(key)") == true)
    }
  }
}
