import Foundation
import Testing

/// The model that comes with Sterna, asked as the README asks it. Results are the same on every machine, so exact answers may be expected.
@Suite struct PocketTests {
  private func result(_ arguments: [String]) throws -> [String: Any] {
    let run = try SternaProcess.run(arguments + ["--json"])
    #expect(run.status == 0, "\(run.errors)")
    let message = try run.json()
    #expect(message["status"] as? String == "ok")
    return message["result"] as? [String: Any] ?? [:]
  }

  @Test func classifiesWithAProbabilityForEveryLabel() throws {
    let answer = try result(["classify", SternaProcess.pocket, "--labels", "leak,fire,vibration,normal", "--text", "pump 7 vibration 4.2 mm/s above limit on line B"])
    #expect(answer["label"] as? String == "vibration")
    let scores = try #require(answer["scores"] as? [String: Double])
    #expect(Set(scores.keys) == ["leak", "fire", "vibration", "normal"])
    #expect(abs(scores.values.reduce(0, +) - 1) < 1e-5)
  }

  @Test func aLabelAloneIsCertain() throws {
    let answer = try result(["classify", SternaProcess.pocket, "--labels", "only", "--text", "x"])
    #expect(answer["label"] as? String == "only" && answer["score"] as? Double == 1)
  }

  @Test func extractsPartsOfTheTextWithTheirPlaces() throws {
    let text = "pump 7 vibration 4.2 mm/s above limit on line B"
    let answer = try result(["extract", SternaProcess.pocket, "--fields", "machine,value:number,place", "--text", text])
    let fields = try #require(answer["fields"] as? [String: Any])
    #expect(fields["machine"] as? String == "pump 7")
    #expect(fields["value"] as? Double == 4.2)
    #expect(fields["place"] as? String == "line B")
    for case let (name, place as [String: Any]) in try #require(answer["evidence"] as? [String: Any]) {
      let start = try #require(place["start"] as? Int)
      let end = try #require(place["end"] as? Int)
      #expect(String(Array(text)[start..<end]) == place["text"] as? String, "\(name)")
    }
  }

  @Test func textsComeFromStandardInputToo() throws {
    // Nothing on standard input: no text, no answer, no error.
    let run = try SternaProcess.run(["classify", SternaProcess.pocket, "--labels", "a,b"])
    #expect(run.status == 0 && run.output.isEmpty)
  }

  @Test func evalCountsWhatIsRight() throws {
    try withTemporaryFolder { folder in
      let data = folder.appendingPathComponent("rows.jsonl")
      try """
        {"text": "will it rain in Oslo tomorrow", "label": "GetWeather", "spans": [{"field": "city", "text": "Oslo", "start": 16, "end": 20}]}
        {"text": "play some jazz by Miles Davis", "label": "PlayMusic", "spans": [{"field": "artist", "text": "Miles Davis", "start": 18, "end": 29}]}
        {"text": "play some jazz by Miles Davis", "label": "GetWeather"}

        """.write(to: data, atomically: true, encoding: .utf8)
      let classify = try SternaProcess.run(["eval", SternaProcess.pocket, data.path, "--task", "classify", "--json"]).json()
      #expect(classify["rows"] as? Int == 3 && classify["labels"] as? Int == 2)
      #expect(abs((classify["accuracy"] as? Double ?? 0) - 2.0 / 3) < 1e-9)
      let extract = try SternaProcess.run(["eval", SternaProcess.pocket, data.path, "--task", "extract", "--json"]).json()
      for key in ["precision", "recall", "f1", "jobs_per_second"] { #expect(extract[key] is Double, "\(key)") }
    }
  }

  @Test func wrongJobsAreToldWhatIsWrong() throws {
    for (arguments, words) in [
      (["classify", "--labels", "a,a", "--text", "x"], ["labels[1]", "labels[0]"]), (["classify", "--labels", "a,b", "--text", ""], ["input"]),
      (["extract", "--fields", "a,b:date", "--text", "x"], ["fields[1]", "date", "number"]),
      (["classify", "--labels", String(repeating: "a,", count: 1001), "--text", "x"], ["labels", "1000"]),
    ] {
      let run = try SternaProcess.run([arguments[0], SternaProcess.pocket] + arguments.dropFirst() + ["--json"])
      #expect(1..<128 ~= run.status)
      for word in words { #expect(run.errors.contains(word), "\(run.errors)") }
    }
  }
}
