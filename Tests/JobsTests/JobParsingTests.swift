import Basics
import Jobs
import Testing

@Suite struct JobParsingTests {
  private func classify(_ payload: String, limits: JobLimits = JobLimits()) throws(SternaError) -> Job {
    try Job.parse(Array(payload.utf8), task: .classify, limits: limits)
  }
  private func extract(_ payload: String, limits: JobLimits = JobLimits()) throws(SternaError) -> Job {
    try Job.parse(Array(payload.utf8), task: .extract, limits: limits)
  }
  private func error(_ task: JobTask, _ payload: String, limits: JobLimits = JobLimits()) -> SternaError? {
    do {
      _ = try Job.parse(Array(payload.utf8), task: task, limits: limits)
      return nil
    } catch {
      return error
    }
  }

  @Test func aCompleteClassificationIsRead() throws {
    let job = try classify(
      #"{"v":1,"id":"a-1","input":"water on the floor","labels":["leak",{"name":"fire","description":"smoke or flames"}],"options":{"priority":3,"ttl_ms":60000,"alternatives":2,"ack":true,"abstain_below":0.5,"max_tokens":64,"evidence":false},"meta":{"line":3},"unknown":[1]}"#)
    #expect(job.id == "a-1")
    #expect(job.work == .classify([Job.Label("leak"), Job.Label("fire", description: "smoke or flames")]))
    #expect(job.options.priority == 3 && job.options.ttlMilliseconds == 60000 && job.options.alternatives == 2 && job.options.acknowledge)
    #expect(job.options.abstainBelow == 0.5 && job.options.maxTokens == 64 && !job.options.evidence)
    #expect(job.meta == ["line": 3])
  }

  @Test func severalLabelsWithThresholdsAreRead() throws {
    let job = try classify(#"{"input":"x","labels":["a",{"name":"b","threshold":0.7}],"options":{"multi":true,"threshold":0.25,"contextual":false}}"#)
    #expect(job.work == .classify([Job.Label("a"), Job.Label("b", threshold: 0.7)]))
    #expect(job.options.multi && job.options.threshold == 0.25 && job.options.contextual == false)
    #expect(job.options.threshold(of: Job.Label("a")) == 0.25 && job.options.threshold(of: Job.Label("b", threshold: 0.7)) == 0.7 && Job.Options().threshold(of: Job.Label("c")) == 0.5)
    #expect(try Job.parse(job.json.compactBytes, task: .classify) == job)
  }

  @Test func aCompleteExtractionIsRead() throws {
    let job = try extract(#"{"input":"x","fields":["serial","pressure:number",{"name":"a:b","type":"integer","description":"d"},{"name":"plain"}]}"#)
    #expect(
      job.work
        == .extract([
          Job.Field("serial"), Job.Field("pressure", kind: .number), Job.Field("a:b", kind: .integer, description: "d"), Job.Field("plain"),
        ]))
    #expect(job.id == nil && job.options == Job.Options() && job.meta == nil)
  }

  @Test func whatIsWrittenReadsBack() throws {
    var job = try extract(#"{"id":"x","input":"a \"b\"","fields":["s","n:number",{"name":"a:b","description":"d"}],"options":{"evidence":false,"ttl_ms":5},"meta":[1]}"#)
    #expect(try Job.parse(job.json.compactBytes, task: .extract) == job)
    job = try classify(#"{"input":"x","labels":["a",{"name":"b","description":"d"}],"options":{"ack":true}}"#)
    #expect(try Job.parse(job.json.compactBytes, task: .classify) == job)
  }

  @Test(arguments: [
    (#"{"labels":["a"]}"#, "input"), (#"{"input":7,"labels":["a"]}"#, "input"), (#"{"input":"","labels":["a"]}"#, "input"),
    (#"{"input":" \n\u00a0","labels":["a"]}"#, "input"), (#"{"input":"x"}"#, "labels"), (#"{"input":"x","labels":"a"}"#, "labels"),
    (#"{"input":"x","labels":[]}"#, "labels"), (#"{"input":"x","labels":["a",7]}"#, "labels[1]"), (#"{"input":"x","labels":["a",""]}"#, "labels[1]"),
    (#"{"input":"x","labels":["a","b","a"]}"#, "labels[2]"), (#"{"input":"x","labels":[{"name":"a","threshold":1}]}"#, "labels[0].threshold"),
    (#"{"input":"x","labels":[{"description":"d"}]}"#, "labels[0].name"), (#"{"input":"x","labels":[{"name":"a","description":7}]}"#, "labels[0].description"),
    (#"{"input":"x","labels":["a"],"fields":["b"]}"#, "fields"), (#"{"input":"x","labels":["a"],"v":2}"#, "v"),
    (#"{"input":"x","labels":["a"],"id":"a b"}"#, "id"), (#"{"input":"x","labels":["a"],"id":""}"#, "id"), (#"{"input":"x","labels":["a"],"id":"a/b"}"#, "id"),
    (#"{"input":"x","labels":["a"],"id":7}"#, "id"), (#"{"input":"x","labels":["a"],"options":{"alternative":1}}"#, "options.alternative"),
    (#"{"input":"x","labels":["a"],"options":{"typo":null}}"#, "options.typo"), (#"{"input":"x","labels":["a"],"options":{"priority":10}}"#, "options.priority"),
    (#"{"input":"x","labels":["a"],"options":{"ttl_ms":0}}"#, "options.ttl_ms"), (#"{"input":"x","labels":["a"],"options":{"max_tokens":-1}}"#, "options.max_tokens"),
    (#"{"input":"x","labels":["a"],"options":{"abstain_below":1.5}}"#, "options.abstain_below"), (#"{"input":"x","labels":["a"],"options":{"ack":1}}"#, "options.ack"),
    (#"{"input":"x","labels":["a"],"options":{"multi":1}}"#, "options.multi"), (#"{"input":"x","labels":["a"],"options":{"threshold":0.5}}"#, "options.threshold"),
    (#"{"input":"x","labels":["a"],"options":{"multi":true,"threshold":2}}"#, "options.threshold"), (#"{"input":"x","labels":["a"],"options":{"contextual":"no"}}"#, "options.contextual"),
    (#"{"input":"x","labels":["a",{"name":"b","threshold":-1}],"options":{"multi":true}}"#, "labels[1].threshold"),
    (#"{"input":"x","labels":["a"],"options":{"multi":true,"abstain_below":0.5}}"#, "options.abstain_below"),
    (#"{"input":"x","labels":["a"],"options":[]}"#, "options"), (#"{"input":"x","labels":["a"],"schema":{}}"#, "schema"),
  ])
  func aWrongClassificationNamesThePlace(payload: String, place: String) {
    let found = error(.classify, payload)
    #expect(found?.place == place)
    #expect(found?.code == .badField)
  }

  @Test(arguments: [
    (#"{"input":"x","fields":["a","b:day"]}"#, "fields[1]"), (#"{"input":"x","fields":["a[]","a"]}"#, "fields[1]"), (#"{"input":"x","fields":["a:b|"]}"#, "fields[0]"), (#"{"input":"x","fields":[":number"]}"#, "fields[0]"),
    (#"{"input":"x","fields":[{"name":"a","type":"number","enum":["b"]}]}"#, "fields[0].type"), (#"{"input":"x","fields":[{"name":"a","enum":["b","b"]}]}"#, "fields[0].enum[1]"), (#"{"input":"x","fields":[{"name":"a","type":"object"}]}"#, "fields[0].type"),
    (#"{"input":"x","fields":[{"name":"a"},{"name":"a"}]}"#, "fields[1]"), (#"{"input":"x","fields":[["a"]]}"#, "fields[0]"), (#"{"input":"x","labels":["a"]}"#, "labels"),
    (#"{"input":"x","fields":["a"],"options":{"multi":true}}"#, "options.multi"), (#"{"input":"x","fields":["a"],"options":{"threshold":0.5}}"#, "options.threshold"),
    (#"{"input":"x","fields":["a"],"options":{"contextual":true}}"#, "options.contextual"),
  ])
  func aWrongExtractionNamesThePlace(payload: String, place: String) {
    let found = error(.extract, payload)
    #expect(found?.place == place)
    #expect(found?.code == .badField)
  }

  @Test func textThatIsNotJSONIsBadJSON() {
    #expect(error(.classify, "{")?.code == .badJSON)
    #expect(error(.classify, #"{"input":"x","input":"y","labels":["a"]}"#)?.code == .badJSON)
    let invalid = Array(#"{"labels":["a"],"input":""#.utf8) + [0xC3, 0x28] + Array(#""}"#.utf8)
    #expect(throws: SternaError.self) { try Job.parse(invalid, task: .classify) }
    #expect(error(.classify, String(repeating: "[", count: 40))?.code == .badJSON)
  }

  @Test func limitsAreKeptAndNamed() {
    let many = "[" + (0..<10_000).map { "\"l\($0)\"" }.joined(separator: ",") + "]"
    let labels = error(.classify, #"{"input":"x","labels":\#(many)}"#)
    #expect(labels?.place == "labels" && labels?.found == "10000")
    let long = String(repeating: "x", count: 70_000)
    #expect(error(.classify, #"{"input":"\#(long)","labels":["a"]}"#)?.code == .payloadTooLarge)
    #expect(error(.classify, #"{"input":"\#(long)","labels":["a"]}"#)?.place == "input")
    #expect(error(.classify, #"{"input":"x","labels":["\#(long.prefix(200))"]}"#)?.place == "labels[0]")
    #expect(error(.classify, #"{"input":"x","labels":["a"],"meta":"\#(long.prefix(1100))"}"#)?.place == "meta")
    #expect(error(.classify, #"{"input":"x","labels":[{"name":"a","description":"\#(long.prefix(1100))"}]}"#)?.place == "labels[0].description")
    var limits = JobLimits()
    limits.payloadBytes = 20
    #expect(error(.classify, #"{"input":"x","labels":["a"]}"#, limits: limits)?.code == .payloadTooLarge)
    limits = JobLimits()
    limits.labels = 2
    #expect(error(.classify, #"{"input":"x","labels":["a","b","c"]}"#, limits: limits)?.place == "labels")
  }

  @Test func oneLabelIsAClassification() throws {
    #expect(try classify(#"{"input":"x","labels":["a"]}"#).work == .classify([Job.Label("a")]))
  }

  @Test func aThousandLabelsAreAllowed() throws {
    let many = "[" + (0..<1000).map { "\"l\($0)\"" }.joined(separator: ",") + "]"
    _ = try classify(#"{"input":"x","labels":\#(many)}"#)
  }
}

@Suite struct ResultMessageTests {
  private let message = ResultMessage(
    id: "j1", task: "classify", model: ModelIdentity(name: "pocket", sha256: String(repeating: "ab", count: 32)), agent: "gw1", receivedAt: "2026-11-24T00:00:00Z",
    finishedAt: "2026-11-24T00:00:01Z", queuedMilliseconds: 3, runMilliseconds: 40, meta: ["line": 3])

  @Test func aClassificationIsWrittenInFull() {
    let answer = Answer.classification(
      Answer.Classification(scores: [("fire", 0.25), ("leak", 0.5), ("noise", 0.25)], best: 1, alternatives: 1))
    var usage = Usage()
    usage.inputTokens = 40
    usage.forwardPasses = 2
    #expect(
      message.json(Outcome(.success(answer), usage: usage)).compact
        == #"{"v":1,"id":"j1","status":"ok","task":"classify","result":{"label":"leak","score":0.5,"abstained":false,"alternatives":[{"label":"fire","score":0.25}],"scores":{"fire":0.25,"leak":0.5,"noise":0.25}},"timing":{"queued_ms":3,"run_ms":40},"usage":{"in":40,"out":0,"passes":2},"truncated":false,"model":{"name":"pocket","sha256":"abababababababab"},"agent":"gw1","attempt":1,"received_at":"2026-11-24T00:00:00Z","finished_at":"2026-11-24T00:00:01Z","meta":{"line":3}}"#)
  }

  @Test func anAbstentionHasNoLabel() {
    let json = Answer.Classification(scores: [("a", 0.4), ("b", 0.6)], best: 1, abstained: true).json
    #expect(json.compact == #"{"label":null,"score":0.6,"abstained":true,"scores":{"a":0.4,"b":0.6}}"#)
  }

  @Test func anExtractionShowsWhereItsValuesStand() {
    let values = [
      Answer.Extraction.Value(
        name: "serial", value: "SN-12", evidence: Answer.Extraction.Evidence(text: "SN-12", scalars: 18..<23, bytes: 19..<24), confidence: 0.75),
      Answer.Extraction.Value(name: "place", value: nil, evidence: nil, confidence: 1),
    ]
    #expect(
      Answer.Extraction(values: values).json.compact
        == #"{"fields":{"serial":"SN-12","place":null},"evidence":{"serial":{"text":"SN-12","start":18,"end":23,"start_byte":19,"end_byte":24}},"confidence":{"serial":0.75,"place":1}}"#)
    #expect(
      Answer.Extraction(values: values, showsEvidence: false).json.compact == #"{"fields":{"serial":"SN-12","place":null},"confidence":{"serial":0.75,"place":1}}"#)
  }

  @Test func anErrorSaysWhatWhereAndWhetherToTryAgain() {
    let json = message.failure(SternaError(.queueFull, "the queue is full"), retryAfterMilliseconds: 5000)
    #expect(
      json.compact
        == #"{"v":1,"id":"j1","status":"error","task":"classify","error":{"code":"queue_full","http":503,"message":"the queue is full","retryable":true,"retry_after_ms":5000},"agent":"gw1","attempt":1,"received_at":"2026-11-24T00:00:00Z","finished_at":"2026-11-24T00:00:01Z","meta":{"line":3}}"#)
    #expect(
      ResultMessage.error(SternaError(.badField, "is missing", at: "labels", expected: "an array", found: "nothing")).compact
        == #"{"code":"bad_field","http":400,"message":"is missing; expected an array; found nothing","field":"labels","retryable":false}"#)
    #expect(ResultMessage.error(SternaError(.io, "no")).compact.contains(#""code":"internal","http":500"#))
    #expect(ResultMessage.error(SternaError("model_io", "no")).compact.contains(#""code":"model_io","http":500"#))
  }
}
