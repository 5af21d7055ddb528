import Foundation
import TestSupport
import Testing
import Tokenizer

/// Where things are, from this file's own place.
enum Place {
  static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  static let fixtures = tests.appendingPathComponent("Fixtures")
  static let reference = fixtures.appendingPathComponent("models/bitnet-offline").path
  static let shared = tests.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("shared/tokenizers").path
  static var sharedIsThere: Bool { FileManager.default.fileExists(atPath: shared + "/llama-bpe.gguf") }
}

/// A folder that is gone when the test is over.
final class TemporaryFolder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "/sterna-tokenizer-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ text: String, to name: String) throws { try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/" + name)) }
  func write(_ json: Any, to name: String) throws {
    try JSONSerialization.data(withJSONObject: json).write(to: URL(fileURLWithPath: path + "/" + name))
  }
}

extension SplitMix64 {
  /// A text of characters that the split rules tell apart, common ones often.
  mutating func text(_ length: Int) -> String {
    let alphabet = Array(
      "aabcdstrevml'''SſTLLéßҁͿǅʻאग中文一龥ㄅ가퟿ꙮ𝔸𐐀ª0123456789٣½²Ⅻ𝟘   \u{3000}\u{A0}\u{85}\t\n\r\n\u{2028}\u{B}!?.,;-_$+<=>^`|~#\"（。「‘€©🦙\u{200D}\u{301}\u{FFFD}\0\u{7F}Ａ！"
        .unicodeScalars)
    var scalars = String.UnicodeScalarView()
    for _ in 0..<length {
      if Int.random(in: 0..<25, using: &self) == 0 {
        // Only characters that every Unicode table of the last years knows: Swift's and ICU's are of different ages.
        let any = Unicode.Scalar(UInt32.random(in: 0..<0x3_0000, using: &self)) ?? "x"
        scalars.append((any.properties.age?.major ?? 99) <= 13 ? any : "x")
      } else {
        scalars.append(alphabet.randomElement(using: &self) ?? "x")
      }
    }
    return String(scalars)
  }

  mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) } }
}

/// The reference models' `tokenizer.json`, to be changed and loaded again.
func referenceJSON() throws -> [String: Any] {
  let data = try Data(contentsOf: URL(fileURLWithPath: Place.reference + "/tokenizer.json"))
  return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
}

func made(_ json: [String: Any]) throws -> Tokenizer {
  let folder = try TemporaryFolder()
  try folder.write(json, to: "tokenizer.json")
  return try Tokenizer.load(folder.path)
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// The pre-tokenizers as the families' files have them.
enum PreTokenizer {
  static func split(_ pattern: String) -> [String: Any] {
    ["type": "Split", "pattern": ["Regex": pattern], "behavior": "Isolated", "invert": false]
  }
  static func byteLevel(_ regex: Bool) -> [String: Any] {
    ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex]
  }
  static func sequence(_ stages: [[String: Any]]) -> [String: Any] { ["type": "Sequence", "pretokenizers": stages] }

  static func of(_ rule: SplitRule) -> [String: Any] {
    switch rule {
    case .llamaBPE: sequence([split(SplitPattern.llamaBPE), byteLevel(false)])
    case .qwen2: sequence([split(SplitPattern.qwen2), byteLevel(false)])
    case .falcon:
      sequence([
        ["type": "Punctuation", "behavior": "Contiguous"], byteLevel(true), ["type": "Digits", "individual_digits": false],
        split("[0-9][0-9][0-9]"),
      ])
    case .deepseekLLM: sequence(SplitPattern.deepseekLLM.map(split) + [["type": "Digits", "individual_digits": true], byteLevel(false)])
    case .gpt2: byteLevel(true)
    case .sentencePiece: [:]
    }
  }
}
