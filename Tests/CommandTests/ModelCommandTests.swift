import Foundation
import Testing

private let references = ["bitnet-offline", "bitnet-online", "bitnet-silu", "llama-bitlinear", "llama-autobitlinear", "llama-rmsnorm-bitlinear"]

/// The first case of a reference model: ids, and logits by position.
private func firstCase(_ name: String) throws -> (ids: [Int], logits: [Int: [Double]]) {
  try firstCase(in: URL(fileURLWithPath: SternaProcess.fixture(name)))
}

private func firstCase(in folder: URL) throws -> (ids: [Int], logits: [Int: [Double]]) {
  let data = try Data(contentsOf: folder.appendingPathComponent("expected.json"))
  let expected = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
  let first = try #require((expected["cases"] as? [[String: Any]])?.first)
  let logits = try #require(first["logits"] as? [String: [Double]])
  return (try #require(first["ids"] as? [Int]), Dictionary(uniqueKeysWithValues: logits.map { (Int($0) ?? -1, $1) }))
}

private func relativeError(_ got: [Double], _ want: [Double]) -> Double {
  let error = zip(got, want).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
  return (error / want.reduce(0) { $0 + $1 * $1 }).squareRoot()
}

@Suite struct ModelCommandTests {
  @Test(arguments: references) func logitsOfAHubFolderAreTheReferences(name: String) throws {
    let (ids, logits) = try firstCase(name)
    let list = ids.map(String.init).joined(separator: ",")
    for (options, limit) in [(["--embedding", "f32", "--kv", "f32"], 2e-2), ([], 3e-2)] {
      let result = try SternaProcess.run(["logits", SternaProcess.fixture(name), "--ids", list, "--json"] + options)
      #expect(result.status == 0, "\(result.errors)")
      let rows = try #require(result.json()["logits"] as? [[Double]])
      #expect(rows.count == ids.count)
      for (position, want) in logits { #expect(relativeError(rows[position], want) < limit) }
    }
  }

  /// A file that bitnet.cpp made is a model like any other, packed or not.
  @Test func logitsOfAnotherEnginesFileAreTheReferences() throws {
    let fixtures = SternaProcess.repository.appendingPathComponent("Tests/Fixtures/gguf")
    let (ids, logits) = try firstCase(in: fixtures)
    let list = ids.map(String.init).joined(separator: ",")
    let source = fixtures.appendingPathComponent("i2_s.gguf").path
    try withTemporaryFolder { folder in
      let packed = folder.appendingPathComponent("m.gguf").path
      let pack = try SternaProcess.run(["pack", source, "-o", packed, "--embedding", "f32"])
      #expect(pack.status == 0 && pack.errors.contains("activation relu2") && pack.errors.contains("x86"), "\(pack.errors)")
      for file in [source, packed] {
        let result = try SternaProcess.run(["logits", file, "--ids", list, "--json", "--embedding", "f32", "--kv", "f32"])
        let rows = try #require(result.json()["logits"] as? [[Double]], "\(result.errors)")
        for (position, want) in logits { #expect(relativeError(rows[position], want) < 2e-2) }
      }
      let again = try SternaProcess.run(["pack", packed, "-o", folder.appendingPathComponent("n.gguf").path])
      #expect(1..<128 ~= again.status && again.errors.contains("packed already"))
      // The other layout is another model, and nonsense.
      let wrong = try SternaProcess.run(["logits", source, "--ids", list, "--json", "--i2s-layout", "arm"])
      let rows = try #require(wrong.json()["logits"] as? [[Double]])
      for (position, want) in logits { #expect(relativeError(rows[position], want) > 0.5) }
    }
  }

  /// llama.cpp's blocks have half-precision scales, which moves a rounding to int8 here and there.
  @Test(
    .enabled(if: FileManager.default.fileExists(atPath: SternaProcess.repository.path + "/../shared/reference/gguf"), "needs ../shared/reference"),
    arguments: ["tq1_0", "tq2_0"])
  func logitsOfLlamaCppsFilesAreClose(name: String) throws {
    let folder = SternaProcess.repository.appendingPathComponent("../shared/reference/gguf")
    let (ids, logits) = try firstCase(in: folder)
    let list = ids.map(String.init).joined(separator: ",")
    let file = folder.appendingPathComponent(name + ".gguf").path
    let untold = try SternaProcess.run(["logits", file, "--ids", list, "--json"])
    #expect(1..<128 ~= untold.status && untold.errors.contains("--activation"))
    let result = try SternaProcess.run(["logits", file, "--ids", list, "--json", "--embedding", "f32", "--kv", "f32", "--activation", "relu2"])
    let rows = try #require(result.json()["logits"] as? [[Double]], "\(result.errors)")
    for (position, want) in logits { #expect(relativeError(rows[position], want) < 3e-2) }
  }

  @Test func packedFileAnswersLikeItsFolder() throws {
    try withTemporaryFolder { folder in
      let packed = folder.appendingPathComponent("m.gguf").path
      let pack = try SternaProcess.run(["pack", SternaProcess.fixture("bitnet-offline"), "-o", packed])
      #expect(pack.status == 0, "\(pack.errors)")
      for file in [packed, SternaProcess.fixture("bitnet-offline")] {
        let result = try SternaProcess.run(["generate", file, "--ids", "0,17,4", "-n", "8", "--json"])
        #expect((try result.json()["ids"] as? [Int])?.count == 8, "\(result.errors)")
      }
      let a = try SternaProcess.run(["generate", packed, "--ids", "0,17,4", "-n", "8", "--json", "-t", "1"])
      let b = try SternaProcess.run(["generate", SternaProcess.fixture("bitnet-offline"), "--ids", "0,17,4", "-n", "8", "--json", "-t", "2"])
      #expect(a.output == b.output)
      for file in [packed, SternaProcess.fixture("bitnet-offline")] {
        let inspect = try SternaProcess.run(["inspect", file, "--verify"])
        #expect(inspect.status == 0 && inspect.output.contains("bitnet"), "\(inspect.errors)")
      }
    }
  }

  @Test func tokenizeGivesTheReferencesIds() throws {
    let result = try SternaProcess.run(["tokenize", SternaProcess.fixture("bitnet-offline"), "--text", "pump 7 vibration above limit", "--json"])
    #expect(try result.json()["ids"] as? [Int] == Array(firstCase("bitnet-offline").ids.dropFirst()), "\(result.errors)")
  }

  @Test func benchMeasures() throws {
    let result = try SternaProcess.run(["bench", SternaProcess.fixture("bitnet-offline"), "-p", "64", "-n", "4", "-t", "2", "--json"])
    let json = try result.json()
    for key in ["prefill_tokens_per_s", "decode_tokens_per_s", "model_bytes", "peak_rss_bytes"] {
      #expect((json[key] as? Double ?? 0) > 0, "\(key)")
    }
  }

  @Test func everyCommandShowsAnExample() throws {
    for command in ["run", "pack", "inspect", "tokenize", "logits", "generate", "classify", "extract", "submit", "top", "eval", "bench", "dummy"] {
      let help = try SternaProcess.run(["help", command])
      #expect(help.status == 0)
      let lines = help.output.split(separator: "\n", omittingEmptySubsequences: false)
      let examples = lines.indices.filter { lines[$0].hasPrefix("  sterna \(command) ") }
      #expect(!examples.isEmpty, "\(command) has no example")
      // Wrapped in the middle, it could not be copied.
      for i in examples { #expect(lines[i + 1].isEmpty || lines[i + 1].hasPrefix("  "), "\(lines[i])") }
    }
  }
}

/// What a person sees when a file is not what it should be: the place, and what to do; never a crash (a signal gives a status of 128 or more).
@Suite struct BadFileTests {
  private func expectRefusal(_ arguments: [String], says words: [String]) throws {
    let result = try SternaProcess.run(arguments)
    #expect(1..<128 ~= result.status, "\(arguments) ended with \(result.status)")
    for word in words { #expect(result.errors.contains(word), "\(result.errors) lacks \(word)") }
    #expect(result.output.isEmpty)
  }

  @Test func fileThatIsNotThere() throws {
    try expectRefusal(["inspect", "/nowhere/model.gguf"], says: ["/nowhere/model.gguf"])
    try expectRefusal(["logits", "/nowhere/model.gguf", "--ids", "0", "--json"], says: ["/nowhere/model.gguf"])
  }

  @Test func truncatedModel() throws {
    try withTemporaryFolder { folder in
      let packed = folder.appendingPathComponent("m.gguf")
      #expect(try SternaProcess.run(["pack", SternaProcess.fixture("bitnet-offline"), "-o", packed.path]).status == 0)
      let whole = try Data(contentsOf: packed)
      for part in [0, 3, 24, 1000, 5000, whole.count / 2, whole.count - 1] {
        let cut = folder.appendingPathComponent("cut.gguf")
        try whole.prefix(part).write(to: cut)
        try expectRefusal(["generate", cut.path, "--ids", "0", "-n", "1", "--json"], says: ["cut.gguf"])
      }
    }
  }

  @Test func configThatDoesNotSay() throws {
    try withTemporaryFolder { folder in
      for (key, value, word) in [("hidden_act", nil, "hidden_act"), ("quant_method", "awq", "quant_method"), ("model_type", "mamba", "mamba")] {
        let copy = folder.appendingPathComponent(key)
        try FileManager.default.copyItem(atPath: SternaProcess.fixture("bitnet-offline"), toPath: copy.path)
        let config = copy.appendingPathComponent("config.json")
        var json = try #require(JSONSerialization.jsonObject(with: Data(contentsOf: config)) as? [String: Any])
        if key == "quant_method" {
          var quantization = json["quantization_config"] as? [String: Any] ?? [:]
          quantization[key] = value
          json["quantization_config"] = quantization
        } else {
          json[key] = value
        }
        try FileManager.default.removeItem(at: config)
        try JSONSerialization.data(withJSONObject: json).write(to: config)
        let out = folder.appendingPathComponent("out.gguf").path
        try expectRefusal(["pack", copy.path, "-o", out], says: [word])
        #expect(!FileManager.default.fileExists(atPath: out))
      }
    }
  }

  @Test func tokensOutsideTheVocabulary() throws {
    try expectRefusal(["logits", SternaProcess.fixture("bitnet-offline"), "--ids", "0,99999", "--json"], says: ["99999"])
    try expectRefusal(["logits", SternaProcess.fixture("bitnet-offline"), "--ids", "0,-1", "--json"], says: ["-1"])
    try expectRefusal(["logits", SternaProcess.fixture("bitnet-offline"), "--ids", "0,x", "--json"], says: ["ids"])
  }
}
