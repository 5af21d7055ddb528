import Basics
import Foundation
import Inference
import Jobs
import ModelFile
import TestSupport
import Tokenizer

let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures/models").path

/// Short prompts for the fixtures, whose random models understand nothing and whose vocabularies spell most words out.
let shortTemplate = PromptTemplate(
  classify: .init(prompt: "<|begin_of_text|>{{labels}}\n{{text}}\n", separator: "|", stop: "<|eot_id|>"),
  extract: .init(prompt: "<|begin_of_text|>{{fields}}\n{{text}}\n", separator: "|", stop: "<|eot_id|>"))

/// Fixtures, packed once for all tests of a run, with a context of 2,048 tokens in place of 256.
final class PackedFixtures: Sendable {
  static let shared = PackedFixtures()
  private let folder: String
  private let packed: [String: Result<PackedModel, SternaError>]

  private init() {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sterna-jobs-\(UUID().uuidString)").path
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    var packed: [String: Result<PackedModel, SternaError>] = [:]
    for model in ["bitnet-offline", "llama-bitlinear", "qwen2-moe", "deepseek-v3"] {
      let hub = "\(folder)/\(model)"
      try? FileManager.default.copyItem(atPath: "\(fixtures)/\(model)", toPath: hub)
      let config = URL(fileURLWithPath: "\(hub)/config.json")
      if let text = try? String(contentsOf: config, encoding: .utf8) {
        let longer = text.replacingOccurrences(of: "\"max_position_embeddings\": 256", with: "\"max_position_embeddings\": 2048")
        try? longer.write(to: config, atomically: true, encoding: .utf8)
      }
      packed[model] = Result { () throws(SternaError) in
        let path = "\(folder)/\(model).gguf"
        try Packer.pack(
          HubFolder(hub), to: path, options: PackOptions(embedding: .f32), sections: [("sterna.tokenizer", Tokenizer.pack(hubFolder: hub))])
        return try PackedModel.open(path)
      }
    }
    self.folder = folder
    self.packed = packed
    try? FileManager.default.removeItem(atPath: folder)  // mapped files live on
  }

  subscript(model: String) -> Result<PackedModel, SternaError> {
    packed[model] ?? .failure(SternaError(.io, "no such fixture", at: model))
  }
}

func engine(
  _ model: String = "bitnet-offline", template: PromptTemplate = shortTemplate, adjust: (inout ModelOptions) -> Void = { _ in }
) throws -> JobEngine {
  var options = ModelOptions()
  adjust(&options)
  return try JobEngine(try PackedFixtures.shared[model].get(), options: options, template: template)
}


/// Texts with everything that makes copying hard.
func hardText(_ random: inout SplitMix64) -> String {
  let atoms = [
    "pump", "Ventil", " ", " ", " ", "  ", "\n", "\t", "\"", "\\", "\\n", "\u{1}", "é", "e\u{301}", "👩‍🚒", "🔥", "温度", "計", "नमस्ते", "12", "3.5", "-7", ".", ",", "{", "}", "null",
    "<|eot_id|>", "SN-12", "x",
  ]
  return "a" + (0..<Int.random(in: 0...12, using: &random)).map { _ in atoms.randomElement(using: &random) ?? "a" }.joined()
}
