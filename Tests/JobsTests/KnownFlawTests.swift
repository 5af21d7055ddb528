import Basics
import Jobs
import Testing

/// The holes that parameters of requests opened, each by its name (docs/security.md).
@Suite struct KnownFlawTests {
  /// A negative number in a request became an index.
  @Test(arguments: ["max_tokens", "priority", "ttl_ms", "alternatives", "abstain_below", "threshold"]) func negativeParameters_CVE_2026_21869(_ option: String) {
    for number in ["-1", "-9223372036854775808", "-9223372036854775809", "9223372036854775808", "1e400", "-1e400", "0.5e1000000000", "18446744073709551615", "-0.1"] {
      for task in JobTask.allCases {
        let work = task == .classify ? #""labels":["a","b"]"# : #""fields":["a"]"#
        let payload = #"{"input":"x",\#(work),"options":{"\#(option)":\#(number)}}"#
        let error = #expect(throws: SternaError.self, "\(payload)") { try Job.parse(Array(payload.utf8), task: task) }
        #expect(error?.place?.hasPrefix("options") == true, "\(payload): \(error.map { "\($0)" } ?? "")")
      }
    }
  }

  /// Every count, depth and length of a message has a limit, kept before anything is built from it.
  @Test func countsDepthsAndLengths() {
    func error(_ payload: String) -> SternaError? {
      do throws(SternaError) { _ = try Job.parse(Array(payload.utf8), task: .classify); return nil } catch { return error }
    }
    func job(_ members: String) -> String { #"{"input":"x","labels":["a","b"],"# + members + "}" }
    let deep = String(repeating: "[", count: 40) + String(repeating: "]", count: 40)
    #expect(error(job(#""meta":"# + deep))?.code == .badJSON)
    #expect(error(job(#""meta":""# + String(repeating: "x", count: 2000) + "\""))?.place == "meta")
    #expect(error(job(#""extra":["# + String(repeating: "0,", count: 200_000) + "0]"))?.code == .badJSON)
    #expect(error(job(#""extra":1"# + String(repeating: "0", count: 100)))?.code == .badJSON)
    #expect(error(job(#""id":""# + String(repeating: "x", count: 65) + "\""))?.place == "id")
    #expect(error(#"{"input":"x","labels":["a",""# + String(repeating: "b", count: 10_000) + #""]}"#)?.place == "labels[1]")
    #expect(error(#"{"input":""# + String(repeating: "x", count: JobLimits().inputBytes + 1) + #"","labels":["a","b"]}"#)?.code == .payloadTooLarge)
    #expect(error(String(repeating: " ", count: JobLimits().payloadBytes + 1))?.code == .payloadTooLarge)
  }
}
