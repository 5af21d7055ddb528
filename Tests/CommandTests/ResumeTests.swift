import Foundation
import Testing

/// `sterna pack`, killed in the middle.
@Suite struct ResumeTests {
  /// A mixture of 75 MB in random numbers, in the shape of a reference but wider.
  private func largeFolder(in folder: URL) throws -> String {
    let source = folder.appendingPathComponent("source")
    try FileManager.default.createDirectory(at: source, withIntermediateDirectories: true)
    let fixture = URL(fileURLWithPath: SternaProcess.fixture("qwen3-moe"))
    for name in try FileManager.default.contentsOfDirectory(atPath: fixture.path) where name.hasPrefix("tokenizer") || name.hasPrefix("generation") {
      try FileManager.default.copyItem(at: fixture.appendingPathComponent(name), to: source.appendingPathComponent(name))
    }
    let (hidden, size, experts, layers, head, vocabulary) = (256, 512, 16, 6, 32, 320)
    var config = try JSONSerialization.jsonObject(with: Data(contentsOf: fixture.appendingPathComponent("config.json"))) as? [String: Any] ?? [:]
    config.merge([
      "hidden_size": hidden, "moe_intermediate_size": size, "num_experts": experts, "num_experts_per_tok": 2, "num_hidden_layers": layers, "head_dim": head,
      "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary, "layer_types": [String](repeating: "full_attention", count: layers),
    ]) { $1 }
    try JSONSerialization.data(withJSONObject: config).write(to: source.appendingPathComponent("config.json"))
    var shapes: [(String, [Int])] = [("model.embed_tokens.weight", [vocabulary, hidden]), ("lm_head.weight", [vocabulary, hidden]), ("model.norm.weight", [hidden])]
    for layer in 0..<layers {
      let p = "model.layers.\(layer)."
      shapes += [
        (p + "input_layernorm.weight", [hidden]), (p + "post_attention_layernorm.weight", [hidden]), (p + "self_attn.q_norm.weight", [head]),
        (p + "self_attn.k_norm.weight", [head]), (p + "self_attn.q_proj.weight", [4 * head, hidden]), (p + "self_attn.k_proj.weight", [2 * head, hidden]),
        (p + "self_attn.v_proj.weight", [2 * head, hidden]), (p + "self_attn.o_proj.weight", [hidden, 4 * head]), (p + "mlp.gate.weight", [experts, hidden]),
      ]
      for expert in 0..<experts {
        for (linear, shape) in [("gate", [size, hidden]), ("up", [size, hidden]), ("down", [hidden, size])] { shapes.append((p + "mlp.experts.\(expert).\(linear)_proj.weight", shape)) }
      }
    }
    var header: [String: Any] = [:]
    var end = 0
    for (name, shape) in shapes {
      let bytes = shape.reduce(2, *)
      header[name] = ["dtype": "BF16", "shape": shape, "data_offsets": [end, end + bytes]]
      end += bytes
    }
    let json = try JSONSerialization.data(withJSONObject: header)
    var data = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Data($0) }
    data += json
    // Any bits whose exponent is that of a number near 1 or smaller.
    var state: UInt64 = 9
    let values = (0..<end / 2).map { _ -> UInt16 in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt16(truncatingIfNeeded: state >> 40) & 0x80FF | 0x3D00
    }
    values.withUnsafeBytes { data.append(contentsOf: $0) }
    try data.write(to: source.appendingPathComponent("model.safetensors"))
    return source.path
  }

  /// Starts packing and kills it as soon as its journal is longer than it was.
  /// - Returns: whether it was still at work.
  private func packAndKill(_ arguments: [String], journal: String) throws -> Bool {
    func length() -> Int { (try? FileManager.default.attributesOfItem(atPath: journal)[.size] as? Int) ?? 0 }
    let before = max(length(), 200)
    let process = Process()
    process.executableURL = SternaProcess.executable
    process.arguments = arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try start(process)
    while process.isRunning, length() <= before { usleep(500) }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    return process.terminationReason == .uncaughtSignal
  }

  @Test func packingThatWasKilledGoesOn() throws {
    try withTemporaryFolder { folder in
      let source = try largeFolder(in: folder)
      let (whole, output) = (folder.appendingPathComponent("whole.gguf").path, folder.appendingPathComponent("m.gguf").path)
      #expect(try SternaProcess.run(["pack", source, "-o", whole, "--experts", "f32"]).status == 0)
      let command = ["pack", source, "-o", output, "--experts", "f32"]
      var kills = 0
      for _ in 0..<2 where try packAndKill(command, journal: output + ".state.partial") { kills += 1 }
      // It may be through before it can be killed a second time.
      #expect(kills > 0 && (kills < 2 || !FileManager.default.fileExists(atPath: output)))
      if kills == 2 || !FileManager.default.fileExists(atPath: output) {
        let last = try SternaProcess.run(command)
        #expect(last.status == 0 && last.errors.contains("going on behind"), "\(last.errors)")
      }
      #expect(FileManager.default.contentsEqual(atPath: whole, andPath: output))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["m.gguf", "source", "whole.gguf"])
      // Other options: another file, from its beginning.
      try FileManager.default.removeItem(atPath: output)
      #expect(try packAndKill(command, journal: output + ".state.partial"))
      let other = try SternaProcess.run(["pack", source, "-o", output, "--experts", "q4_0"])
      #expect(other.status == 0 && other.errors.contains("other options") && other.errors.contains("begins again"), "\(other.errors)")
      #expect(try SternaProcess.run(["inspect", output, "--verify"]).status == 0)
    }
  }
  /// Other commands pack into a temporary file, and take it with them when they are interrupted.
  @Test func nothingIsLeftOfATemporaryFile() throws {
    try withTemporaryFolder { folder in
      let source = try largeFolder(in: folder)
      let temporary = folder.appendingPathComponent("temporary").path
      try FileManager.default.createDirectory(atPath: temporary, withIntermediateDirectories: true)
      let process = Process()
      process.executableURL = SternaProcess.executable
      process.arguments = ["inspect", source]
      process.environment = ProcessInfo.processInfo.environment.merging(["TMPDIR": temporary]) { $1 }
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try start(process)
      func left() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: temporary) }
      while process.isRunning, try !left().contains(where: { $0.hasSuffix(".partial") }) { usleep(500) }
      kill(process.processIdentifier, SIGINT)
      process.waitUntilExit()
      #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGINT)
      #expect(try left() == [])
    }
  }
}
