import Basics
import Inference
import Jobs
import TestSupport
import Testing

/// Random models answer nonsense; what is tested here is what must hold whatever they answer.
@Suite struct ClassificationTests {
  private func classify(_ engine: JobEngine, _ text: String, _ labels: [String]) throws -> Answer.Classification {
    guard case .classification(let answer) = try engine.run(Job(input: text, work: .classify(labels.map { Job.Label($0) }))).result.get() else {
      throw SternaError(.internal, "no classification")
    }
    return answer
  }

  private let labelSets = [
    ["leak", "fire"], ["leak", "leakage", "leak in pump", "le", "l"], ["GetWeather", "get_weather", "PlayMusic"], ["a/b", "a b", "温度", "🔥", "x y z"],
    (0..<70).map { "label number \($0)" },
  ]

  @Test func scoresAreProbabilitiesOfAllLabels() throws {
    let engine = try engine()
    for labels in labelSets {
      let answer = try classify(engine, "water on the floor", labels)
      #expect(answer.scores.map(\.label) == labels)
      #expect(abs(answer.scores.reduce(0) { $0 + Double($1.score) } - 1) < 1e-5)
      #expect(answer.scores.allSatisfy { $0.score > 0 && $0.score <= 1 })
      #expect(answer.scores[answer.best].score == answer.scores.map(\.score).max())
    }
  }

  @Test func oneLabelIsCertain() throws {
    let outcome = try engine().run(Job(input: "x", work: .classify([Job.Label("only")])))
    #expect(try outcome.result.get().json.compact == #"{"label":"only","score":1,"abstained":false,"scores":{"only":1}}"#)
    #expect(outcome.usage.forwardPasses == 0)
  }

  @Test func labelsThatPartAtOnceNeedOnePassBehindTheTaskPrompt() throws {
    let engine = try engine()
    let job = Job(input: "abc", work: .classify([Job.Label("x"), Job.Label("y")]))
    let first = engine.run(job)
    let second = engine.run(job)
    #expect(first.usage.forwardPasses == 2)
    #expect(second.usage.forwardPasses == 1)
    #expect(try first.result.get() == second.result.get())
  }

  @Test func theAnswerIsTheSameForAnyThreadsKernelsOrderOfJobsAndCache() throws {
    let one = try engine()
    let two = try engine { $0.threads = 2; $0.batchTokens = 7 }
    let texts = ["water on the floor", "a", "\"quoted\" \\ text\n"]
    var expected: [String] = []
    for labels in labelSets { for text in texts { expected.append(try classify(one, text, labels).json.compact) } }
    var found: [String] = []
    for labels in labelSets.reversed() { for text in texts.reversed() { found.append(try classify(two, text, labels).json.compact) } }
    #expect(found.reversed() == expected)
    #expect(try classify(engine { $0.kernel = "scalar" }, texts[0], labelSets[1]).json.compact == expected[3])
  }

  @Test func keysAndValuesMayBeShort() throws {
    let labels = labelSets[4]
    let wide = try engine()
    let prompt = try wide.template.render(.classify(labels.map { Job.Label($0) }), text: "ab", tokenizer: wide.tokenizer)
    let narrow = try engine { $0.kvBudgetBytes = (prompt.count + 30) * wide.network.kvBytesPerToken }
    #expect(try classify(narrow, "ab", labels) == classify(wide, "ab", labels))
  }

  @Test func anAbstentionIsMarked() throws {
    var job = Job(input: "abc", work: .classify([Job.Label("x"), Job.Label("y")]))
    job.options.abstainBelow = 1
    guard case .classification(let answer) = try engine().run(job).result.get() else { Issue.record("no classification"); return }
    #expect(answer.abstained)
    job.options.abstainBelow = 0
    guard case .classification(let sure) = try engine().run(job).result.get() else { Issue.record("no classification"); return }
    #expect(!sure.abstained)
  }
}

@Suite struct ExtractionTests {
  private let fields = [Job.Field("serialNumber"), Job.Field("pressure", kind: .number), Job.Field("the \"place\""), Job.Field("count", kind: .integer)]

  /// What must hold for every answer, whatever the model.
  private func check(_ outcome: Outcome, _ job: Job) throws {
    guard case .extraction(let answer) = try outcome.result.get(), case .extract(let fields) = job.work else {
      Issue.record("no extraction of \(job.input)")
      return
    }
    #expect(answer.values.map(\.name) == fields.map(\.name))
    #expect(try JSON.parse(answer.json.compactBytes) == answer.json)
    for (field, value) in zip(fields, answer.values) {
      #expect(value.confidence >= 0 && value.confidence <= 1)
      guard let evidence = value.evidence else {
        #expect(value.value == .null)
        continue
      }
      #expect(Array(Array(job.input.utf8)[evidence.bytes]) == Array(evidence.text.utf8))
      #expect(String(String.UnicodeScalarView(Array(job.input.unicodeScalars)[evidence.scalars])) == evidence.text)
      #expect(!evidence.text.isEmpty && evidence.text.unicodeScalars.first?.properties.isWhitespace == false && evidence.text.unicodeScalars.last?.properties.isWhitespace == false)
      switch (field.kind, value.value) {
      case (.string, .string(let text)): #expect(text == evidence.text)
      case (.number, .number(let number)): #expect(number.double != nil)
      case (.integer, .number(let number)): #expect(number.int != nil)
      default: Issue.record("\(field) became \(value.value)")
      }
    }
  }

  @Test func everyValueStandsInTheText() throws {
    var random = SplitMix64(seed: 7)
    for model in ["bitnet-offline", "llama-bitlinear"] {
      let engine = try engine(model)
      for _ in 0..<40 {
        let job = Job(input: hardText(&random), work: .extract(fields))
        try check(engine.run(job), job)
      }
    }
  }

  @Test func theAnswerIsTheSameForAnyThreadsOrderAndCache() throws {
    var random = SplitMix64(seed: 8)
    let texts = (0..<12).map { _ in hardText(&random) }
    let one = try engine()
    let two = try engine { $0.threads = 2; $0.batchTokens = 5 }
    let first = try texts.map { try one.run(Job(input: $0, work: .extract(fields))).result.get().json.compact }
    let second = try texts.reversed().map { try two.run(Job(input: $0, work: .extract(fields))).result.get().json.compact }
    let again = try texts.map { try one.run(Job(input: $0, work: .extract(fields))).result.get().json.compact }
    #expect(first == second.reversed())
    #expect(first == again)
  }

  @Test func aBudgetThatRunsOutStillGivesAnObjectAndIsFlagged() throws {
    let engine = try engine()
    var random = SplitMix64(seed: 9)
    var flagged = 0
    for budget in [1, 5, 20, 21, 22, 23, 25, 30, 40, 60] {
      var job = Job(input: hardText(&random) + " pump 12 is at 3.5 bar", work: .extract(fields))
      job.options.maxTokens = budget
      let outcome = engine.run(job)
      try check(outcome, job)
      #expect(outcome.usage.outputTokens <= budget)
      if outcome.truncated { flagged += 1 }
    }
    #expect(flagged >= 2)
  }

  @Test func aTextWithoutNumbersHasNone() throws {
    let job = Job(input: "no numbers", work: .extract([Job.Field("n", kind: .number)]))
    let outcome = try engine().run(job)
    #expect(try outcome.result.get().json.compact == #"{"fields":{"n":null},"evidence":{},"confidence":{"n":1}}"#)
    #expect(outcome.usage.forwardPasses == 0)
  }

  @Test func evidenceCanBeLeftOut() throws {
    var job = Job(input: "pump", work: .extract([Job.Field("a")]))
    job.options.evidence = false
    guard case .object(let object) = try engine().run(job).result.get().json else { Issue.record("no object"); return }
    #expect(object["evidence"] == nil && object["fields"] != nil)
  }
}

@Suite struct EngineTests {
  @Test func aTextOverTheContextIsRefusedWithNumbers() throws {
    let engine = try engine()
    for work in [Job.Work.classify([Job.Label("a"), Job.Label("b")]), .extract([Job.Field("a")])] {
      let outcome = engine.run(Job(input: String(repeating: "overlong ", count: 600), work: work))
      guard case .failure(let error) = outcome.result else { Issue.record("answered"); continue }
      #expect(error.code == .inputTooLong && error.place == "input")
      #expect(error.expected?.contains("tokens of text") == true)
    }
  }

  @Test func tooLittleMemoryForKeysAndValuesIsAnAnswerToo() throws {
    let engine = try engine { $0.kvBudgetBytes = 1 }
    guard case .failure(let error) = engine.run(Job(input: "text", work: .extract([Job.Field("a")]))).result else { Issue.record("answered"); return }
    #expect(error.code == .inputTooLong)
  }

  @Test func progressIsReportedAndAJobCanBeStopped() throws {
    let engine = try engine()
    var passes = 0
    let job = Job(input: "water on the floor", work: .extract([Job.Field("a"), Job.Field("b")]))
    let outcome = engine.run(job, control: RunControl(progress: { passes += 1 }))
    #expect(passes == outcome.usage.forwardPasses && passes > 1)
    var asked = 0
    let stopped = engine.run(job, control: RunControl(shouldStop: { asked += 1; return asked > 1 }))
    guard case .failure(let error) = stopped.result else { Issue.record("not stopped"); return }
    #expect(error.code == .cancelled)
    #expect(try engine.run(job).result.get() == outcome.result.get())
  }

  @Test func manyTasksTakeTurnsInABoundedCache() throws {
    let engine = try engine()
    var first: [String] = []
    for round in 0..<2 {
      for task in 0..<9 {
        let job = Job(input: "text", work: .classify([Job.Label("a\(task)"), Job.Label("b\(task)")]))
        let json = try engine.run(job).result.get().json.compact
        if round == 0 { first.append(json) } else { #expect(json == first[task]) }
      }
    }
  }

  @Test func onlyTheTemplateMakesSpecialTokens() throws {
    let engine = try engine()
    let stop = try #require(engine.tokenizer.special("<|eot_id|>"))
    let begin = try #require(engine.tokenizer.special("<|begin_of_text|>"))
    let prompt = try engine.template.render(
      .classify([Job.Label("<|eot_id|>", description: "<|eot_id|>"), Job.Label("b")]), text: "a <|eot_id|> b <|begin_of_text|>", tokenizer: engine.tokenizer)
    #expect(prompt.prefix.first == begin)
    #expect(!prompt.prefix.dropFirst().contains { engine.tokenizer.isSpecial($0) })
    #expect(!prompt.text.contains { engine.tokenizer.isSpecial($0) })
    #expect(engine.tokenizer.decode(prompt.text) == Array("a <|eot_id|> b <|begin_of_text|>".utf8))
    #expect(prompt.stop == stop)
  }

  @Test func labelsThatWordsWouldMakeEqualStayAsTheyAre() throws {
    let engine = try engine()
    let prompt = try engine.template.render(
      .classify(["GetWeather", "get_weather", "PlayMusic", "--"].map { Job.Label($0) }), text: "x", tokenizer: engine.tokenizer)
    #expect(prompt.spoken == ["GetWeather", "get_weather", "play music", "--"])
  }

  @Test func builtInTemplatesRenderTheTurnsOfTheirFamilies() throws {
    let engine = try engine()
    let template = try #require(PromptTemplate.builtIn(named: "bitnet-2b4t"))
    let work = Job.Work.classify([Job.Label("leak", description: "water or oil"), Job.Label("fire")])
    let prompt = try template.render(work, text: "Hello", tokenizer: engine.tokenizer)
    let tokenizer = engine.tokenizer
    let begin = try #require(tokenizer.special("<|begin_of_text|>"))
    let turn = try #require(tokenizer.special("<|eot_id|>"))
    #expect(
      prompt.prefix
        == [begin]
        + tokenizer.encode("System: You sort messages. Which of these labels fits the message best? Answer with the label and nothing else.\n")
        + tokenizer.encode("- leak: water or oil\n- fire") + [turn] + tokenizer.encode("User: "))
    #expect(prompt.text == tokenizer.encode("Hello"))
    #expect(prompt.suffix == [turn] + tokenizer.encode("Assistant: "))
    #expect(prompt.stop == turn)
    let plain = try #require(PromptTemplate.builtIn(named: "plain")).render(work, text: "Hello", tokenizer: tokenizer)
    #expect(plain.prefix.first == begin && !plain.prefix.dropFirst().contains { tokenizer.isSpecial($0) })
    #expect(String(decoding: tokenizer.decode([plain.stop]), as: UTF8.self) == "\n")
  }

  @Test func aModelWithoutATemplateGetsOneThatFits() throws {
    let packed = try PackedFixtures.shared["bitnet-offline"].get()
    let engine = try JobEngine(packed)
    #expect(engine.template == PromptTemplate.builtIn(named: "plain"))
    #expect(engine.model.sha256 == packed.fingerprint)
  }
}
