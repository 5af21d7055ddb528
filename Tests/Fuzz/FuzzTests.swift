import Foundation
import TestSupport
import Testing

/// Every reader of strangers' bytes, a short while: what the corpus has, then what comes of changing it at random. Bad input gets an error; a trap, a fault or a mistake that the target finds ends
/// the process: run it again with the seed that it printed, and the input is in a file. For hours and with sanitizers: run.sh.
@Suite(.serialized) struct ShortFuzzing {
  /// How many inputs each gets, as many as take a moment: some read a JSON, others make a model of it. STERNA_FUZZ_INPUTS multiplies.
  private static let inputs = ["prefix": 2000, "packed": 2000, "safetensors": 2000, "mqtt": 2000, "schema": 4000, "intake": 20_000]
  private static let factor = ProcessInfo.processInfo.environment["STERNA_FUZZ_INPUTS"].flatMap(Int.init) ?? 1

  @Test(arguments: targets.map(\.name)) func everyReaderWithstandsChangedInputs(name: String) throws {
    let read = try #require(targets.first { $0.name == name }).prepare()
    let corpus = try self.corpus(of: name)
    let known = ProcessInfo.processInfo.environment["STERNA_FUZZ_SEED"].flatMap(UInt64.init)
    let seed = known ?? UInt64.random(in: 0..<1 << 32)
    let last = NSTemporaryDirectory() + "sterna-fuzz-last-\(name)"
    print("fuzzing \(name): STERNA_FUZZ_SEED=\(seed)\(known.map { _ in ", an input that ends this process is \(last)" } ?? "")")
    var random = SplitMix64(seed: seed)
    var accepted = 0
    for i in 0..<corpus.count + Self.factor * (Self.inputs[name] ?? 8000) {
      let input = i < corpus.count ? corpus[i] : changed(corpus, &random)
      if known != nil { try Data(input).write(to: URL(fileURLWithPath: last)) }
      do {
        try read(input)
        accepted += 1
      } catch {}
    }
    #expect(accepted > 0, "nothing was read at all: is the corpus in order?")
    if known != nil { try FileManager.default.removeItem(atPath: last) }
  }

  private func corpus(of name: String) throws -> [[UInt8]] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("corpus/\(name)")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    #expect(!names.isEmpty)
    return try names.map { [UInt8](try Data(contentsOf: folder.appendingPathComponent($0))) }
  }

  /// One of the corpus after one to eight changes.
  private func changed(_ corpus: [[UInt8]], _ random: inout SplitMix64) -> [UInt8] {
    var bytes = corpus[Int.random(in: 0..<corpus.count, using: &random)]
    for _ in 0..<Int.random(in: 1...8, using: &random) {
      let at = Int.random(in: 0...bytes.count, using: &random)
      let part = at..<min(bytes.count, at + (1 << Int.random(in: 0...6, using: &random)))
      switch Int.random(in: 0..<7, using: &random) {
      case 0 where at < bytes.count: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1 where at < bytes.count: bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, UInt8(ascii: "\""), UInt8(ascii: "{"), UInt8(ascii: "9")].randomElement(using: &random) ?? 0
      case 2: bytes.replaceSubrange(part, with: part.map { _ in [0, 0xFF].randomElement(using: &random) ?? 0 })  // lengths and counts out of all proportion
      case 3: bytes.removeSubrange(part)
      case 4: bytes.insert(contentsOf: bytes[part], at: at)
      case 5: bytes = Array(bytes[..<at])
      default:
        let other = corpus[Int.random(in: 0..<corpus.count, using: &random)]
        bytes = Array(bytes[..<at] + other[min(at, other.count)...])
      }
    }
    return bytes
  }
}
