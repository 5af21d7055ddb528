import Basics
import Foundation
import ModelFile
import TestSupport

/// A random model of one block whose matrices are ternary to the bit, and the ways in which other programs would write it. The encoders
/// are written from the formats' definitions, one weight at a time.
struct TinyTernary {
  enum Granularity: CaseIterable { case tensor, rows, groups }

  var architecture = "llama"
  var granularity = Granularity.tensor
  let hidden = 256
  let feedForward = 512
  let queryHeads = 4
  let kvHeads = 2
  let headSize = 64
  let vocabulary = 24

  struct Matrix {
    /// The end of the name in a GGUF, and in a hub folder.
    let gguf: String
    let hub: String
    let rows: Int
    let columns: Int
    var weights: [Int8]
    /// [rows, columns / 128], each exact in half precision.
    var scales: [Float]

    var values: [Float] { weights.indices.map { Float(weights[$0]) * scales[$0 / 128] } }
  }

  var matrices: [Matrix] = []
  /// Norms by their names in a GGUF and in a hub folder.
  var vectors: [(gguf: String, hub: String, values: [Float])] = []
  var embedding: [Float] = []

  init(_ architecture: String = "llama", _ granularity: Granularity = .tensor, seed: UInt64 = 1) {
    self.architecture = architecture
    self.granularity = granularity
    var random = SplitMix64(seed: seed)
    let shapes = [
      ("attn_q", "self_attn.q_proj", queryHeads * headSize, hidden), ("attn_k", "self_attn.k_proj", kvHeads * headSize, hidden),
      ("attn_v", "self_attn.v_proj", kvHeads * headSize, hidden), ("attn_output", "self_attn.o_proj", hidden, queryHeads * headSize),
      ("ffn_gate", "mlp.gate_proj", feedForward, hidden), ("ffn_up", "mlp.up_proj", feedForward, hidden), ("ffn_down", "mlp.down_proj", hidden, feedForward),
    ]
    for (gguf, hub, rows, columns) in shapes {
      func scale() -> Float { Float(Int.random(in: 1025...2047, using: &random)) / 32768 }
      var scales: [Float] = []
      var current = scale()
      for _ in 0..<rows {
        if granularity == .rows { current = scale() }
        for _ in 0..<columns / 128 {
          if granularity == .groups { current = scale() }
          scales.append(current)
        }
      }
      let weights = (0..<rows * columns).map { _ in Int8.random(in: -1...1, using: &random) }
      matrices.append(Matrix(gguf: gguf, hub: hub, rows: rows, columns: columns, weights: weights, scales: scales))
    }
    func vector(_ gguf: String, _ hub: String, _ count: Int) {
      vectors.append((gguf, hub, (0..<count).map { _ in Float.random(in: 0.5...1.5, using: &random) }))
    }
    vector("attn_norm", "input_layernorm", hidden)
    vector("ffn_norm", "post_attention_layernorm", hidden)
    if architecture.hasPrefix("bitnet") {
      vector("attn_sub_norm", "self_attn.attn_sub_norm", queryHeads * headSize)
      vector("ffn_sub_norm", "mlp.ffn_sub_norm", feedForward)
    }
    if architecture == "qwen3" {
      vector("attn_q_norm", "self_attn.q_norm", headSize)
      vector("attn_k_norm", "self_attn.k_norm", headSize)
    }
    embedding = (0..<vocabulary * hidden).map { _ in Float(Float16(Float.random(in: -1...1, using: &random))) }
  }

  // MARK: Encoders

  private static func half(_ value: Float) -> [UInt8] { HandMadeGGUF.int(Float16(value).bitPattern) }

  /// The bytes of a matrix in a type of GGUF.
  static func encode(_ matrix: Matrix, as type: GGUFTensorType, layout: I2SLayout = .x86) -> [UInt8] {
    let count = matrix.weights.count
    func weight(_ i: Int) -> Int { Int(matrix.weights[i]) }
    func blocks(_ size: Int, _ body: (Int, Float) -> [UInt8]) -> [UInt8] {
      stride(from: 0, to: count, by: size).flatMap { body($0, matrix.scales[$0 / 128]) }
    }
    switch type {
    case .f32: return matrix.values.flatMap { HandMadeGGUF.int($0.bitPattern) }
    case .f16: return matrix.values.flatMap(half)
    case .bf16: return matrix.values.flatMap { HandMadeGGUF.int(UInt16($0.bitPattern >> 16)) }
    case .q8_0: return blocks(32) { at, s in half(s) + (0..<32).map { UInt8(bitPattern: Int8(weight(at + $0))) } }
    case .q4_0: return blocks(32) { at, s in half(s) + (0..<16).map { UInt8(weight(at + $0) + 8 + (weight(at + 16 + $0) + 8) * 16) } }
    case .q6_K:
      return stride(from: 0, to: count, by: 256).flatMap { at -> [UInt8] in
        var low = [UInt8](repeating: 0, count: 128)
        var high = [UInt8](repeating: 0, count: 64)
        for i in 0..<256 {
          let code = weight(at + i) + 32
          let (n, quarter, l) = (i / 128, i % 128 / 32, i % 32)
          low[n * 64 + l + (quarter % 2 == 1 ? 32 : 0)] |= UInt8(code % 16 * (quarter >= 2 ? 16 : 1))
          high[n * 32 + l] |= UInt8(code / 16) << UInt8(2 * quarter)
        }
        // One factor for 256, so the sixteen scales are 1 and d is that of the first group: by group this type cannot.
        return low + high + [UInt8](repeating: 1, count: 16) + half(matrix.scales[at / 128])
      }
    case .tq2_0:
      return stride(from: 0, to: count, by: 256).flatMap { at -> [UInt8] in
        var bytes = [UInt8](repeating: 0, count: 64)
        for i in 0..<256 { bytes[i / 128 * 32 + i % 32] |= UInt8(weight(at + i) + 1) << UInt8(i % 128 / 32 * 2) }
        return bytes + half(matrix.scales[at / 128])
      }
    case .tq1_0:
      return stride(from: 0, to: count, by: 256).flatMap { at -> [UInt8] in
        func byte(_ places: [Int]) -> UInt8 {
          let number = places.reduce(0) { $0 * 3 + weight(at + $1) + 1 } * (places.count == 4 ? 3 : 1)
          return UInt8((Double(number) * 256 / 243).rounded(.up))
        }
        var bytes: [UInt8] = []
        for j in 0..<32 { bytes.append(byte((0..<5).map { 32 * $0 + j })) }
        for j in 0..<16 { bytes.append(byte((0..<5).map { 160 + 16 * $0 + j })) }
        for j in 0..<4 { bytes.append(byte((0..<4).map { 240 + 4 * $0 + j })) }
        return bytes + half(matrix.scales[at / 128])
      }
    case .i2_s:
      let part = layout == .x86 ? 32 : 16
      var bytes = [UInt8](repeating: 0, count: count / 4)
      for i in 0..<count {
        let within = i % (4 * part)
        bytes[i / (4 * part) * part + within % part] |= UInt8(weight(i) + 1) << UInt8(6 - within / part * 2)
      }
      return bytes + HandMadeGGUF.int(matrix.scales[0].bitPattern) + [UInt8](repeating: 0, count: 28)
    default: return []
    }
  }

  /// A matrix with its rows in another order: row `order(r)` is written as row r.
  private func reordered(_ matrix: Matrix, _ order: (Int) -> Int) -> Matrix {
    var copy = matrix
    let (columns, groups) = (matrix.columns, matrix.columns / 128)
    for r in 0..<matrix.rows {
      let from = order(r)
      copy.weights.replaceSubrange(r * columns..<(r + 1) * columns, with: matrix.weights[from * columns..<(from + 1) * columns])
      copy.scales.replaceSubrange(r * groups..<(r + 1) * groups, with: matrix.scales[from * groups..<(from + 1) * groups])
    }
    return copy
  }

  // MARK: Files

  /// A GGUF file with all matrices in one type, before it is made into bytes.
  struct GGUF {
    typealias G = HandMadeGGUF
    var keys: [(name: String, bytes: [UInt8])] = []
    var tensors: [(name: String, shape: [UInt64], type: UInt32, bytes: [UInt8])] = []

    subscript(key name: String) -> [UInt8]? {
      get { keys.first { $0.name == name }?.bytes }
      set {
        keys.removeAll { $0.name == name }
        if let newValue { keys.append((name, newValue)) }
      }
    }
    mutating func set(_ name: String, _ value: UInt32) { self[key: name] = G.key(name, type: 4, G.int(value)) }
    mutating func set(_ name: String, _ value: Float) { self[key: name] = G.key(name, type: 6, G.int(value.bitPattern)) }
    mutating func set(_ name: String, _ value: String) { self[key: name] = G.key(name, type: 8, G.text(value)) }
    mutating func set(_ name: String, _ value: Bool) { self[key: name] = G.key(name, type: 7, [value ? 1 : 0]) }

    /// The tensor of a name, for changing.
    mutating func change(_ name: String, _ body: (inout (name: String, shape: [UInt64], type: UInt32, bytes: [UInt8])) -> Void) {
      for i in tensors.indices where tensors[i].name == name { body(&tensors[i]) }
    }

    var bytes: [UInt8] {
      var file = G()
      file.keys = keys.map(\.bytes)
      file.data = []
      for tensor in tensors {
        file.tensors.append(G.tensor(tensor.name, tensor.shape, type: tensor.type, offset: UInt64(file.data.count)))
        file.data += tensor.bytes
        file.data += [UInt8](repeating: 0, count: (32 - file.data.count % 32) % 32)
      }
      return file.bytes
    }
  }

  func gguf(_ type: GGUFTensorType, layout: I2SLayout = .x86, table: GGUFTensorType = .f16) -> GGUF {
    typealias G = HandMadeGGUF
    var file = GGUF()
    let a = architecture
    file.set("general.architecture", a)
    for (key, value) in [
      ("vocab_size", vocabulary), ("context_length", 128), ("embedding_length", hidden), ("block_count", 1), ("feed_forward_length", feedForward),
      ("attention.head_count", queryHeads), ("attention.head_count_kv", kvHeads), ("rope.dimension_count", headSize),
    ] { file.set("\(a).\(key)", UInt32(value)) }
    file.set("\(a).attention.layer_norm_rms_epsilon", Float(1e-5))
    file.set("\(a).rope.freq_base", Float(500_000))
    func floats(_ name: String, _ shape: [Int], _ values: [Float], _ type: GGUFTensorType = .f32) {
      let bytes = type == .f32 ? values.flatMap { G.int($0.bitPattern) } : values.flatMap { G.int(Float16($0).bitPattern) }
      file.tensors.append((name, shape.map(UInt64.init), type.rawValue, bytes))
    }
    floats("token_embd.weight", [hidden, vocabulary], embedding, table)
    floats("output_norm.weight", [hidden], [Float](repeating: 1, count: hidden))
    for vector in vectors { floats("blk.0.\(vector.gguf).weight", [vector.values.count], vector.values) }
    for matrix in matrices {
      var stored = matrix
      if ["llama", "falcon3"].contains(a), ["attn_q", "attn_k"].contains(matrix.gguf) {
        // What llama.cpp's converter does: the halves of a head are dealt out in turns.
        stored = reordered(matrix) { r in
          let (head, within) = (r / headSize, r % headSize)
          return head * headSize + (within % 2 == 0 ? within / 2 : headSize / 2 + within / 2)
        }
      }
      file.tensors.append(
        ("blk.0.\(matrix.gguf).weight", [UInt64(matrix.columns), UInt64(matrix.rows)], type.rawValue, Self.encode(stored, as: type, layout: layout)))
    }
    return file
  }

  /// A hub folder with floats of one type, F32, F16 or BF16, and no word about their being ternary.
  func writeHub(to folder: String, type: String = "F16", changing config: (inout [String: Any]) -> Void = { _ in }) throws {
    let ggufType: GGUFTensorType = ["F32": .f32, "F16": .f16, "BF16": .bf16][type] ?? .f32
    var file = PlainSafetensors()
    func floats(_ name: String, _ shape: [Int], _ values: [Float]) {
      file.entries[name] = .init(type: "F32", shape: shape, bytes: values.flatMap { HandMadeGGUF.int($0.bitPattern) })
    }
    floats("model.embed_tokens.weight", [vocabulary, hidden], embedding)
    floats("model.norm.weight", [hidden], [Float](repeating: 1, count: hidden))
    for vector in vectors { floats("model.layers.0.\(vector.hub).weight", [vector.values.count], vector.values) }
    for matrix in matrices {
      file.entries["model.layers.0.\(matrix.hub).weight"] =
        .init(type: type, shape: [matrix.rows, matrix.columns], bytes: Self.encode(matrix, as: ggufType))
    }
    var object: [String: Any] = [
      "model_type": architecture, "hidden_size": hidden, "intermediate_size": feedForward, "num_hidden_layers": 1, "num_attention_heads": queryHeads,
      "num_key_value_heads": kvHeads, "head_dim": headSize, "max_position_embeddings": 128, "vocab_size": vocabulary, "rms_norm_eps": 1e-5,
      "hidden_act": "silu", "tie_word_embeddings": true, "rope_theta": 500_000,
    ]
    config(&object)
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try Data(file.serialised()).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    try JSONSerialization.data(withJSONObject: object).write(to: URL(fileURLWithPath: folder + "/config.json"))
  }
}

extension WeightSource {
  /// Everything of a matrix, read in pieces of an odd number of rows: weights, and scales for each row and 128 columns.
  func everything(_ name: String) throws -> (scale: TernaryRows.Scale, weights: [Int8], scales: [Float]) {
    guard let planned = configuration.plan().first(where: { $0.name == name }), case .ternary(let rows, let columns) = planned.kind else {
      throw SternaError(.badFile, "no such matrix", at: name)
    }
    let matrix = try ternary(planned)
    let groups = columns / 128
    let perRow = matrix.scale == .groups ? groups : 1
    var weights: [Int8] = []
    var scales: [Float] = []
    for first in stride(from: 0, to: rows, by: 37) {
      let range = first..<min(first + 37, rows)
      var part = [Int8](repeating: 99, count: range.count * columns)
      var found = [Float](repeating: .nan, count: range.count * perRow)
      try matrix.read(range, &part, &found)
      weights += part
      switch matrix.scale {
      case .tensor(let scale): scales += [Float](repeating: scale, count: range.count * groups)
      case .rows: scales += found.flatMap { [Float](repeating: $0, count: groups) }
      case .groups: scales += found
      }
    }
    return (matrix.scale, weights, scales)
  }
}
