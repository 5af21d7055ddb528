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

  /// A third of its experts are in memory at a time.
  @Test func theMixtureAnswersTheSameFromDisk() throws {
    let text = "water under pump 7 on line B"
    for task in [["classify", SternaProcess.pocketMixture, "--labels", "leak,fire,vibration"], ["extract", SternaProcess.pocketMixture, "--fields", "machine,place"]] {
      let mapped = try SternaProcess.run(task + ["--text", text, "--json"]).json()
      let read = try SternaProcess.run(task + ["--text", text, "--json", "--expert-cache", "1"]).json()
      #expect(mapped["result"] as? NSDictionary == read["result"] as? NSDictionary)
      let result = try #require(read["result"] as? [String: Any])
      #expect(result["label"] as? String == "leak" || (result["fields"] as? [String: Any])?["machine"] as? String == "pump 7", "\(result)")
      let experts = try #require((read["usage"] as? [String: Any])?["experts"] as? [String: Any])
      #expect(experts["bytes_read"] as? Int ?? 0 > 0)
    }
  }

  @Test func aLabelAloneIsCertain() throws {
    let answer = try result(["classify", SternaProcess.pocket, "--labels", "only", "--text", "x"])
    #expect(answer["label"] as? String == "only" && answer["score"] as? Double == 1)
  }

  @Test func everyLineWithSomethingInItIsAText() throws {
    let run = try SternaProcess.run(["classify", SternaProcess.pocket, "--labels", "leak,fire", "--json"], input: "water under pump 7\n\n \t\nsmoke in hall 3\r\n\n")
    #expect(run.status == 0, "\(run.errors)")
    #expect(run.output.split(separator: "\n").count == 2, "\(run.output)")
  }

  @Test func aTextWithoutItsOptionIsSaidToBeOne() throws {
    for command in [["classify", SternaProcess.pocket, "--labels", "leak,fire"], ["extract", SternaProcess.pocket, "--fields", "machine"], ["submit", "classify", "--labels", "leak,fire"]] {
      let run = try SternaProcess.run(command + ["water under pump 7"])
      #expect(run.status != 0 && run.errors.contains("\"water under pump 7\" is not expected here; a text goes behind --text"), "\(run.errors)")
    }
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

  @Test func extractsWhatASchemaAsksFor() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("schema.json")
      try #"{"type": "object", "properties": {"machine": {"type": "string"}, "value": {"type": "number", "maximum": 100}, "state": {"enum": ["~on", "~off"]}}, "required": ["state", "machine", "value"]}"#
        .write(to: file, atomically: true, encoding: .utf8)
      let text = "pump 7 vibration 4.2 mm/s above 300 limit on line B"
      let answer = try result(["extract", SternaProcess.pocket, "--schema", file.path, "--text", text])
      let fields = try #require(answer["fields"] as? [String: Any])
      #expect(Set(fields.keys) == ["machine", "value", "state"])
      #expect(text.contains(fields["machine"] as? String ?? "nothing"))
      #expect([7, 4.2].contains(fields["value"] as? Double))
      #expect(["~on", "~off"].contains(fields["state"] as? String))
      #expect(Set((answer["evidence"] as? [String: Any] ?? [:]).keys) == ["machine", "value"])
      #expect(Set((answer["confidence"] as? [String: Any] ?? [:]).keys) == ["machine", "value", "state"])

      try #"{"properties": {"a": {"not": {}}}}"#.write(to: file, atomically: true, encoding: .utf8)
      for (arguments, words) in [(["--schema", file.path], ["properties.a.not"]), (["--schema", file.path + "x"], ["schema.jsonx"]), (["--schema", file.path, "--fields", "a"], ["exactly one"])] {
        let run = try SternaProcess.run(["extract", SternaProcess.pocket, "--text", text] + arguments)
        #expect(1..<128 ~= run.status)
        for word in words { #expect(run.errors.contains(word), "\(run.errors)") }
      }
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

  @Test func severalLabelsMayFit() throws {
    let answer = try result([
      "classify", SternaProcess.pocket, "--labels", "GetWeather,PlayMusic,BookRestaurant", "--multi", "--text", "play some jazz by Miles Davis. will it rain in Oslo tomorrow",
    ])
    #expect(Set(answer["labels"] as? [String] ?? []) == ["GetWeather", "PlayMusic"])
    #expect((answer["scores"] as? [String: Double])?.count == 3)
    let strict = try result(["classify", SternaProcess.pocket, "--labels", "GetWeather,PlayMusic", "--multi", "--threshold", "1", "--text", "will it rain in Oslo tomorrow"])
    #expect((strict["labels"] as? [String]) == [])
  }

  @Test func evalFitsAndDrawsAndClassifyTakesTheCurve() throws {
    try withTemporaryFolder { folder in
      func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
      let texts = [("GetWeather", "will it rain in Oslo"), ("PlayMusic", "play some jazz by Miles Davis"), ("GetWeather", "play me the forecast"), ("oos", "what is the meaning of life")]
      let rows = (0..<80).map { i in #"{"text":"\#(texts[i % 4].1) \#(i)","label":"\#(texts[i % 4].0)"}"# }
      try rows.joined(separator: "\n").write(toFile: path("rows.jsonl"), atomically: true, encoding: .utf8)
      let report = try SternaProcess.run([
        "eval", SternaProcess.pocket, path("rows.jsonl"), "--task", "classify", "--out-of-scope", "oos", "--abstain-below", "0.7", "--calibrate", path("c.json"), "--svg", path("r.svg"), "--json",
      ]).json()
      let scope = try #require(report["out_of_scope"] as? [String: Any])
      #expect(scope["rows"] as? Int == 20 && (scope["thresholds"] as? [Any])?.count == 12)
      let before = try #require((report["before_calibration"] as? [String: Any])?["calibration_error"] as? Double)
      #expect(report["folds"] as? Int == 5 && before > 0 && (report["calibration_error"] as? Double) != before)
      #expect(try String(contentsOfFile: path("r.svg"), encoding: .utf8).hasSuffix("</svg>\n"))

      let classify = ["classify", SternaProcess.pocket, "--text", "will it rain in Oslo"]
      let raw = try result(classify + ["--labels", "GetWeather,PlayMusic"])
      let answer = try result(classify + ["--labels", "GetWeather,PlayMusic", "--calibration", path("c.json")])
      #expect(answer["label"] as? String == raw["label"] as? String)
      #expect(answer["score"] as? Double != raw["score"] as? Double)
      for (arguments, words) in [(["--labels", "PlayMusic,GetWeather"], ["other labels", "c.json"]), (["--labels", "GetWeather,PlayMusic", "--contextual"], ["contextual", "c.json"])] {
        let run = try SternaProcess.run(classify + arguments + ["--calibration", path("c.json")])
        #expect(1..<128 ~= run.status)
        for word in words { #expect(run.errors.contains(word), "\(run.errors)") }
      }
    }
  }

  /// The benchmark scripts what is chosen, so its counts are the same with any weights.
  @Test func jobsAreMeasured() throws {
    let run = try SternaProcess.run(["bench", "jobs", SternaProcess.pocket, "--repeats", "1", "-t", "1", "--json"])
    #expect(run.status == 0, "\(run.errors)")
    let report = try run.json()
    for name in ["model", "kernel", "kv", "layout"] { #expect((report[name] as? String)?.isEmpty == false, "\(name)") }
    #expect(report["threads"] as? Int == 1 && report["prompt_tokens"] as? Int == 154 && report["task_prompts_from_disk"] as? Int == 1)
    let jobs = try #require(report["jobs"] as? [[String: Any]])
    #expect(
      jobs.map { $0["name"] as? String } == [
        "classification", "classification, 64 queued, each", "extraction", "extraction, 16 queued, each", "restart to the first classification",
      ])
    for job in jobs {
      let name = job["name"] as? String ?? ""
      #expect((job["seconds"] as? Double ?? 0) > 0, "\(name)")
      let (passes, read, written) = (job["passes"] as? Int ?? 0, job["tokens_in"] as? Int ?? 0, job["tokens_out"] as? Int ?? 0)
      // The task prompt is there already, behind a restart too.
      if name.contains("classification") { #expect(passes == 1 && (180...186).contains(read), "\(job)") } else { #expect((2...written).contains(passes) && (250...259).contains(read), "\(job)") }
    }
  }

  @Test func wrongJobsAreToldWhatIsWrong() throws {
    for (arguments, words) in [
      (["classify", "--labels", "a,a", "--text", "x"], ["labels[1]", "labels[0]"]), (["classify", "--labels", "a,b", "--text", ""], ["input"]),
      (["extract", "--fields", "a,b:day", "--text", "x"], ["fields[1]", "date", "number"]),
      (["classify", "--labels", String(repeating: "a,", count: 1001), "--text", "x"], ["labels", "1000"]),
    ] {
      let run = try SternaProcess.run([arguments[0], SternaProcess.pocket] + arguments.dropFirst() + ["--json"])
      #expect(1..<128 ~= run.status)
      for word in words { #expect(run.errors.contains(word), "\(run.errors)") }
    }
  }
}
