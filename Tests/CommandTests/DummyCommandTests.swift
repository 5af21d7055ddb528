import Foundation
import Testing

@Suite struct DummyCommandTests {
  /// A model of random weights is a model: it opens, verifies, answers jobs, and its values stay where a trained model's are.
  @Test func pocketSizedDummyWorksLikeAModel() throws {
    try withTemporaryFolder { folder in
      var logits: [[[Double]]] = []
      for layout in ["small", "fast"] {
        let file = folder.appendingPathComponent("\(layout).gguf").path
        let made = try SternaProcess.run(["dummy", "pocket", "-o", file, "--layout", layout, "--embedding", "q6", "--seed", "3"])
        #expect(made.status == 0, "\(made.errors)")
        #expect(made.output.contains("layout \(layout), without 638 neurons") && made.output.contains("embedding in q6: relative error 1.6"))
        let inspect = try SternaProcess.run(["inspect", file, "--verify", "--json"])
        let facts = try inspect.json()
        #expect(facts["verified"] as? Bool == true && facts["layout"] as? String == layout && facts["tokenizer_tokens"] as? Int == 4096)

        let classified = try SternaProcess.run(["classify", file, "--labels", "leak,fire,vibration", "--text", "water under pump 7"])
        #expect(classified.status == 0 && classified.output.contains("leak"), "\(classified.errors)")
        let extracted = try SternaProcess.run(["extract", file, "--fields", "place", "--text", "water under pump 7"])
        #expect(extracted.status == 0, "\(extracted.errors)")

        let result = try SternaProcess.run(["logits", file, "--ids", "4094,17,1000,300,2", "--json", "-t", "1"])
        logits.append(try #require(result.json()["logits"] as? [[Double]], "\(result.errors)"))
      }
      #expect(logits[0] == logits[1])  // a layout is a way to store the same numbers
      for row in logits[0] {
        let mean = row.reduce(0, +) / Double(row.count)
        let deviation = (row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)).squareRoot()
        #expect(0.5 < deviation && deviation < 6)
        let largest = try #require(row.max())
        #expect(1 / row.reduce(0) { $0 + exp($1 - largest) } < 0.9)
      }
    }
  }

  @Test func aVocabularyThatDoesNotFitIsRefused() throws {
    try withTemporaryFolder { folder in
      let out = folder.appendingPathComponent("m.gguf").path
      let vocab = folder.appendingPathComponent("vocab.gguf").path
      // A packed model has its tokenizer in another form.
      #expect(try SternaProcess.run(["dummy", "pocket", "-o", vocab]).status == 0)
      let other = try SternaProcess.run(["dummy", "pocket", "-o", out, "--vocab", vocab])
      #expect(1..<128 ~= other.status && other.errors.contains("vocab.gguf"))
      let shape = try SternaProcess.run(["dummy", "gpt-5", "-o", out])
      #expect(1..<128 ~= shape.status && shape.errors.contains("bitnet-2b-4t"))
      #expect(!FileManager.default.fileExists(atPath: out))
    }
  }
}
