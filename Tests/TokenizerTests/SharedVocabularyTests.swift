import Foundation
import Glibc
import ModelFile
import TestSupport
import Testing
import Tokenizer

/// Real vocabularies, which do not come with the repository: their texts and ids are in `../shared/tokenizers`.
@Suite(.enabled(if: Place.sharedIsThere, "needs ../shared/tokenizers")) struct SharedVocabularyTests {
  static let names = ["llama-bpe", "falcon", "qwen2", "deepseek-llm", "llama-spm"]

  private func cases(_ name: String) throws -> [(text: String, ids: [TokenID])] {
    let texts = try String(contentsOfFile: "\(Place.shared)/\(name).inp", encoding: .utf8).components(separatedBy: "\n__ggml_vocab_test__\n")
    let lines = try String(contentsOfFile: "\(Place.shared)/\(name).out", encoding: .utf8).components(separatedBy: "\n")
    #expect(lines.count - texts.count <= 1 && texts.count > 40)
    return zip(texts, lines).map { ($0, $1.split(separator: " ").compactMap { TokenID($0) }) }
  }

  @Test(arguments: names) func textsHaveTheirIDsAndComeBack(_ name: String) throws {
    let tokenizer = try Tokenizer.load("\(Place.shared)/\(name).gguf")
    for (sent, ids) in try cases(name) {
      #expect(tokenizer.encode(sent) == ids, "\(name): \(sent.debugDescription)")
      #expect(text(tokenizer.decode(ids)) == sent)
    }
  }

  @Test(arguments: names) func anyTextComesBack(_ name: String) throws {
    let tokenizer = try Tokenizer.load("\(Place.shared)/\(name).gguf")
    var random = SplitMix64(seed: 5)
    // Falcon has no tokens for some control characters and for bytes that UTF-8 does not use.
    let kept: Set<UInt8> = Set((0...255).filter { byte in [UInt8(byte)].withUnsafeBytes { tokenizer.token($0) } != nil }.map { UInt8($0) })
    #expect(kept.count == 256 || name == "falcon")
    for length in 0..<200 {
      let bytes = random.bytes(length).filter { kept.contains($0) }
      #expect(tokenizer.decode(tokenizer.encode(bytes)) == bytes)
    }
  }

  @Test func specialTokensOfLlama3() throws {
    let tokenizer = try Tokenizer.load("\(Place.shared)/llama-bpe.gguf")
    #expect(tokenizer.special("<|eot_id|>") == 128009)
    #expect(tokenizer.beginOfText == 128000 && tokenizer.endOfText == 128001)
    #expect(tokenizer.encodeTemplate("<|start_header_id|>user<|end_header_id|>\n\n") == [128006, 882, 128007, 271])
    #expect(!tokenizer.encode("<|eot_id|>").contains { tokenizer.isSpecial($0) })
  }

  /// Llama 3's tables in a file as a packed model has them: a GGUF with the section as an I8 tensor.
  private func packedLlama3() throws -> String {
    let section = try Tokenizer.pack(gguf: GGUFFile("\(Place.shared)/llama-bpe.gguf"))
    var file: [UInt8] = Array("GGUF".utf8)
    func append(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value.littleEndian) { file.append(contentsOf: $0) } }
    func append(_ text: String) { append(UInt64(text.utf8.count)); file.append(contentsOf: text.utf8) }
    append(UInt32(3)); append(UInt64(1)); append(UInt64(1))
    append("general.alignment"); append(UInt32(4)); append(UInt32(4096))
    append("sterna.tokenizer"); append(UInt32(1)); append(UInt64(section.count)); append(UInt32(24)); append(UInt64(0))
    file.append(contentsOf: [UInt8](repeating: 0, count: 4096 - file.count))
    file.append(contentsOf: section)
    let path = NSTemporaryDirectory() + "/sterna-llama3-\(getpid()).gguf"
    try Data(file).write(to: URL(fileURLWithPath: path))
    return path
  }

  @Test func loadingLlama3FromAPackedModelAddsLittleMemory() async throws {
    let path = try packedLlama3()
    defer { try? FileManager.default.removeItem(atPath: path) }
    // In a process of its own, so that other tests' memory does not count.
    let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) { [path = path as String] in
      func resident() throws -> Int {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
        return try #require(line.split(separator: " ").compactMap { Int($0) }.first) * 1024
      }
      let sample = try String(contentsOfFile: #filePath, encoding: .utf8)
      let before = try resident()
      let start = ContinuousClock.now
      let tokenizer = try Tokenizer.load(path)
      let loaded = ContinuousClock.now - start
      let afterLoad = try resident()
      let ids = tokenizer.encode(sample)
      #expect(text(tokenizer.decode(ids)) == sample)
      let after = try resident()
      print("Llama 3: \(tokenizer.tableBytes) bytes of tables, loaded in \(loaded), RSS +\((afterLoad - before) / 1024) KiB, +\((after - before) / 1024) KiB after \(ids.count) tokens")
      #expect(after - before < 15 << 20)
    }
    let output = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
    print(output.split(separator: "\n").first { $0.contains("Llama 3: ") } ?? "no output")
  }

  /// The same vocabulary as a hub folder gives the same tables, byte for byte.
  @Test(arguments: [SplitRule.llamaBPE, .falcon, .qwen2, .deepseekLLM]) func tokenizerJSONAndGGUFGiveTheSameTables(_ rule: SplitRule) throws {
    let gguf = try GGUFFile("\(Place.shared)/\(rule.name).gguf")
    func value(_ key: String) -> GGUFValue? { gguf.metadata["tokenizer.ggml." + key] }
    let texts = try #require(value("tokens")?.strings)
    let types = try #require(value("token_type")?.ints)
    var vocab: [String: Int] = [:]
    var added: [[String: Any]] = []
    for (id, text) in texts.enumerated() {
      if types[id] == 1 { vocab[text] = id } else { added.append(["id": id, "content": text, "special": types[id] == 3]) }
    }
    let folder = try TemporaryFolder()
    try folder.write(
      [
        "added_tokens": added, "normalizer": ["type": "NFC"], "pre_tokenizer": PreTokenizer.of(rule),
        "model": [
          "type": "BPE", "ignore_merges": rule == .llamaBPE, "vocab": vocab, "merges": try #require(value("merges")?.strings),
        ] as [String: Any],
      ] as [String: Any], to: "tokenizer.json")
    try folder.write(["bos_token_id": value("bos_token_id")?.int ?? -1, "eos_token_id": [value("eos_token_id")?.int ?? -1]], to: "config.json")
    #expect(try Tokenizer.pack(hubFolder: folder.path) == Tokenizer.pack(gguf: gguf))
  }
}
