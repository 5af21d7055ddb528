import Foundation
import Testing

/// What is chosen about how weights are stored.
@Suite struct StorageOptionTests {
  private static let storages = ["asis", "q8_0", "q4_0", "mxfp4", "iq4_nl", "f32"]

  @Test func everyCombinationIsAModel() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("m.gguf").path
      var prints: Set<String> = []
      for trunk in Self.storages {
        for experts in Self.storages {
          let pack = try SternaProcess.run(["pack", SternaProcess.fixture("glm4-moe"), "-o", file, "--trunk", trunk, "--experts", experts])
          #expect(pack.status == 0, "\(pack.errors)")
          prints.insert(String(pack.output.split(separator: "\n")[0].split(separator: " ").last ?? ""))
          let logits = try SternaProcess.run(["logits", file, "--ids", "0,17,4", "--json"])
          let rows = try #require(logits.json()["logits"] as? [[Double]], "\(trunk), \(experts): \(logits.errors)")
          #expect(rows.count == 3 && rows.allSatisfy { $0.allSatisfy(\.isFinite) })
        }
      }
      // Of floats, "as the source has it" is the default: q8_0 for the trunk, q4_0 for experts.
      #expect(prints.count == 25)
    }
  }

  @Test func whatTheModelDoesNotHaveIsRefused() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("m.gguf").path
      for (model, option, value) in [("bitnet-offline", "--experts", "q8_0"), ("bitnet-offline", "--trunk", "f32"), ("mixtral", "--layout", "fast")] {
        let pack = try SternaProcess.run(["pack", SternaProcess.fixture(model), "-o", file, option, value])
        #expect(1..<128 ~= pack.status && pack.errors.contains("\(option) \(value)") && pack.errors.contains("leave it away"), "\(pack.errors)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
        #expect(try SternaProcess.run(["pack", SternaProcess.fixture(model), "-o", file]).status == 0)
        try FileManager.default.removeItem(atPath: file)
      }
      for option in ["--experts", "--trunk"] {
        let wrong = try SternaProcess.run(["pack", SternaProcess.fixture("mixtral"), "-o", file, option, "q3"])
        #expect(wrong.status != 0 && wrong.errors.contains(option) && wrong.errors.contains("q3"), "\(wrong.errors)")
      }
    }
  }
}
