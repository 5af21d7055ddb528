import Foundation
import Testing

/// Experts on disk, from the command line.
@Suite struct ExpertCommandTests {
  private func withMixture(_ body: (_ model: String, _ folder: URL) throws -> Void) throws {
    try withTemporaryFolder { folder in
      let model = folder.appendingPathComponent("mixture.gguf").path
      let packed = try SternaProcess.run(["pack", SternaProcess.fixture("qwen2-moe"), "-o", model])
      #expect(packed.status == 0, "\(packed.errors)")
      try body(model, folder)
    }
  }

  @Test func planPredictsForEverySizeOfTheCache() throws {
    try withMixture { model, folder in
      let chart = folder.appendingPathComponent("plan.svg").path
      let facts = try SternaProcess.run(["plan", model, "--json", "--measure", "--svg", chart, "-t", "1"]).json()
      let caches = try #require(facts["caches"] as? [[String: Any]])
      #expect(caches.map { $0["name"] as? String }.contains("no cache") && caches.last?["name"] as? String == "this machine")
      #expect(caches.allSatisfy { ($0["tokens_per_s"] as? Double ?? 0) > 0 && ($0["measured_tokens_per_s"] as? Double ?? 0) > 0 })
      #expect(try String(contentsOfFile: chart, encoding: .utf8).hasPrefix("<svg"))
      // People get a table, and are told where nothing fits.
      let small = try SternaProcess.run(["plan", model, "--memory-limit", "1", "-t", "1"])
      #expect(small.status == 0 && small.output.contains("does not fit"), "\(small.errors)")
      let dense = try SternaProcess.run(["plan", SternaProcess.pocket])
      #expect(1..<128 ~= dense.status && dense.errors.contains("no experts"))
    }
  }

  @Test func tracesAreRecordedAndReplayed() throws {
    try withMixture { model, folder in
      let texts = folder.appendingPathComponent("texts").path, trace = folder.appendingPathComponent("trace").path
      let chart = folder.appendingPathComponent("caches.svg").path
      try "water under pump 7\n\nthe door is open\n".write(toFile: texts, atomically: true, encoding: .utf8)
      let traced = try SternaProcess.run(["experts", "trace", model, "--texts", texts, "-n", "4", "-o", trace])
      #expect(traced.status == 0 && traced.errors.contains("2 texts"), "\(traced.errors)")
      let replayed = try SternaProcess.run(["experts", "replay", trace, "--json", "--svg", chart])
      let rows = try replayed.output.split(separator: "\n").map { try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Double]) }
      #expect(rows.count > 5 && rows.allSatisfy { ($0["belady"] ?? 0) >= ($0["lru"] ?? 1) }, "\(replayed.errors)")
      #expect(rows.last?["lru"] == rows.last?["belady"])
      #expect(try String(contentsOfFile: chart, encoding: .utf8).hasPrefix("<svg"))
      #expect(try SternaProcess.run(["plan", model, "--trace", trace, "-t", "1"]).status == 0)

      for work in [["--labels", "leak,fire"], ["--fields", "place,count:integer"]] {
        let traced = try SternaProcess.run(["experts", "trace", model, "--texts", texts, "-o", trace] + work)
        #expect(traced.status == 0 && traced.errors.contains("2 texts"), "\(traced.errors)")
        #expect(try SternaProcess.run(["experts", "replay", trace]).status == 0)
      }
      let both = try SternaProcess.run(["experts", "trace", model, "--texts", texts, "-o", trace, "--labels", "a,b", "--fields", "c"])
      #expect(1..<128 ~= both.status && both.errors.contains("only one"))

      try "sterna experts 3 9 4096\n0 1\n".write(toFile: trace, atomically: true, encoding: .utf8)
      let other = try SternaProcess.run(["plan", model, "--trace", trace])
      #expect(1..<128 ~= other.status && other.errors.contains("of another model"))
      let wrong = try SternaProcess.run(["experts", "replay", texts])
      #expect(1..<128 ~= wrong.status && wrong.errors.contains("line 1"))
    }
  }

  @Test func benchSaysWhatExpertsCost() throws {
    try withMixture { model, _ in
      for (cache, reads) in [("0", "buffered"), ("1", "buffered")] {
        let result = try SternaProcess.run(["bench", model, "-p", "20", "-n", "4", "-t", "2", "--expert-cache", cache, "--expert-reads", reads, "--json"])
        let experts = try #require(result.json()["experts"] as? [String: Any], "\(result.errors)")
        #expect(experts["reads"] as? String == reads && experts["cache"] as? Bool == (cache != "0"))
        let decode = try #require(experts["decode"] as? [String: Any])
        #expect(0.0...1.0 ~= decode["hit_rate"] as? Double ?? -1)
      }
    }
  }
}
