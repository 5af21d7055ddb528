import Basics
import Foundation
import Inference
import ModelFile

/// The six dense ternary reference models, and one more for YaRN; what each stands for is in its expected.json.
let references = ["bitnet-offline", "bitnet-online", "bitnet-silu", "llama-bitlinear", "llama-autobitlinear", "llama-rmsnorm-bitlinear", "llama-yarn"]

private let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Fixtures/models")
private let marginsFile = fixtures.deletingLastPathComponent().appendingPathComponent("greedy-margins.json")

/// One prompt with what `transformers` computes for it in float32.
struct ReferenceCase {
  let ids: [Int32]
  let greedy: [Int32]
  /// By how much the reference's best logit is above its second best, at each step of `greedy`.
  let margins: [Float]
  /// Logits by position.
  let logits: [Int: [Float]]

  static func all(_ name: String) throws -> [ReferenceCase] {
    let data = try Data(contentsOf: fixtures.appendingPathComponent("\(name)/expected.json"))
    let root = JSONReader(try JSON.parse(data, limits: .file))
    let cases = try root["cases"].array()
    let known = try JSONReader(JSON.parse(Data(contentsOf: marginsFile)))[name]
    let marginRows: [JSONReader?] = known.isPresent ? try known.array() : cases.map { _ in nil }
    return try zip(cases, marginRows).map { item, marginRow in
      ReferenceCase(
        ids: try item["ids"].array().map { Int32(try $0.int()) }, greedy: try item["greedy"].array().map { Int32(try $0.int()) },
        margins: try marginRow?.array().map { Float(try $0.double()) } ?? [],
        logits: Dictionary(
          uniqueKeysWithValues: try item["logits"].members().map { (Int($0.name) ?? -1, try $0.value.array().map { Float(try $0.double()) }) }))
    }
  }
}

/// Packs a reference model into a temporary file, once for each storage.
func packed(
  _ name: String, embedding: EmbeddingTable.Storage? = .f32, layout: TernaryMatrix.Layout? = nil, trunk: WeightStorage? = nil, experts: WeightStorage? = nil
) throws -> PackedModel {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("inference-\(name)-\(UUID().uuidString).gguf").path
  defer { unlink(path) }  // the mapping stays
  try Packer.pack(HubFolder(fixtures.appendingPathComponent(name).path), to: path, options: PackOptions(embedding: embedding, layout: layout, trunk: trunk, experts: experts))
  return try PackedModel.open(path)
}

/// The hub folder of a reference model.
func mixtureFolder(_ name: String) -> String { fixtures.appendingPathComponent(name).path }

func model(
  _ packed: PackedModel, threads: Int = 1, kv: KVFormat = .f32, batchTokens: Int = 128, kernel: String? = nil, kvBudgetBytes: Int? = nil
) throws -> Model {
  var options = ModelOptions()
  options.threads = threads
  options.kv = kv
  options.batchTokens = batchTokens
  options.kernel = kernel
  options.kvBudgetBytes = kvBudgetBytes
  return try Model(packed, options: options)
}

extension Model {
  /// Hidden states after each of some tokens, as one new sequence.
  func run(_ tokens: [Int32]) throws -> HiddenStates {
    try forward([Step(sequence: sequence(capacity: tokens.count), tokens: tokens, want: .all)])
  }
}

/// Root mean square of the difference over that of what was wanted.
func relativeError(_ got: [Float], _ want: [Float]) -> Float {
  let error = zip(got, want).reduce(Float(0)) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
  return (error / want.reduce(0) { $0 + $1 * $1 }).squareRoot()
}

func argmax(_ logits: [Float]) -> Int32 {
  Int32(logits.indices.max { logits[$0] < logits[$1] || logits[$0] == logits[$1] && $0 > $1 } ?? 0)
}
