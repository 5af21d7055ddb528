import Basics
import Inference
import Jobs
import ModelFile
import Testing

/// A template that asks a question for each label, for the fixtures.
private var askingTemplate: PromptTemplate {
  var template = shortTemplate
  template.classify.multi = .question(prompt: "<|begin_of_text|>{{text}}\n{{label}}<|eot_id|>", described: "{{name}}: {{description}}", yes: "Yes", no: "No")
  return template
}

private func classification(_ engine: JobEngine, _ job: Job) throws -> Answer.Classification {
  guard case .classification(let answer) = try engine.run(job).result.get() else { throw SternaError(.internal, "no classification") }
  return answer
}

private func job(_ text: String, _ labels: [String], _ adjust: (inout Job.Options) -> Void = { _ in }) -> Job {
  var job = Job(input: text, work: .classify(labels.map { Job.Label($0) }))
  adjust(&job.options)
  return job
}

private let labelSets = [["leak", "fire"], ["leak", "leakage", "leak in pump", "le", "l"], (0..<70).map { "label number \($0)" }, ["only"]]

@Suite struct ContextualTests {
  @Test(arguments: [false, true]) func scoresAreDividedByThoseWithoutContent(multi: Bool) throws {
    for template in [shortTemplate, askingTemplate] {
      let engine = try engine(template: template)
      for labels in labelSets where multi || labels.count > 1 {
        let (raw, divided) = try (
          classification(engine, job("water on the floor", labels) { ($0.contextual, $0.multi) = (false, multi) }),
          classification(engine, job("water on the floor", labels) { ($0.contextual, $0.multi) = (true, multi) })
        )
        let free = try ContextualCalibration.inputs.map { try classification(engine, job($0, labels) { ($0.contextual, $0.multi) = (false, multi) }).scores.map(\.score) }
        if !multi {
          #expect(divided.scores.map(\.score) == ContextualCalibration.apply(ContextualCalibration.prior(free), to: raw.scores.map(\.score)))
          #expect(abs(divided.scores.reduce(0) { $0 + Double($1.score) } - 1) < 1e-5)
        } else if case .question = template.classify.multi {
          for label in labels.indices {
            let prior = ContextualCalibration.prior(free.map { [$0[label], 1 - $0[label]] })
            // 1 - p rounds otherwise than the prior of no.
            #expect(abs(divided.scores[label].score - ContextualCalibration.apply(prior, to: [raw.scores[label].score, 1 - raw.scores[label].score])[0]) < 1e-6)
          }
        } else {
          #expect(divided.scores.map(\.score) != raw.scores.map(\.score))
        }
      }
    }
  }

  @Test func aTextWithoutContentPrefersNothing() throws {
    let engine = try engine()
    let labels = labelSets[1]
    let free = try ContextualCalibration.inputs.map { try classification(engine, job($0, labels)).scores.map(\.score) }
    let mean = labels.indices.map { i in Float(free.reduce(0) { $0 + Double($1[i]) } / Double(free.count)) }
    for score in ContextualCalibration.apply(ContextualCalibration.prior(free), to: mean) { #expect(abs(score - 0.2) < 0.05) }
  }

  @Test func theAnswerIsTheSameWithAColdAndAWarmCacheAloneAndTogether() throws {
    let texts = ["water on the floor", "a", "smoke in hall 3", "\"quoted\" \\ text\n"]
    let jobs = labelSets.flatMap { labels in
      texts.enumerated().flatMap { i, text in
        [job(text, labels) { $0.contextual = true; $0.priority = i }, job(text, labels) { $0.contextual = true; $0.multi = true }, job(text, labels)]
      }
    }
    for template in [shortTemplate, askingTemplate] {
      let cold = try jobs.map { try engine(template: template).run($0).result.get().json.compact }
      let warm = try engine(template: template)
      for _ in 0..<2 { #expect(try jobs.map { try warm.run($0).result.get().json.compact } == cold) }
      let kvBytes = warm.network.kvBytesPerToken
      for (threads, batch, budget) in [(1, 128, 4000), (2, 9, 1300)] {
        let together = try engine(template: template) { $0.threads = threads; $0.batchTokens = batch; $0.kvBudgetBytes = budget * kvBytes }
        #expect(try together.run(all: jobs.reversed()).reversed().map { try $0.result.get().json.compact } == cold)
      }
    }
  }

  @Test func aTaskPaysForItOnce() throws {
    let engine = try engine()
    func passes(_ text: String, _ contextual: Bool) -> Int {
      var passes = 0
      _ = engine.run(job(text, labelSets[0]) { $0.contextual = contextual }, control: RunControl(progress: { passes += 1 }))
      return passes
    }
    _ = passes("first", false)
    // The inputs without content run in the same pass as the text.
    #expect(passes("water", true) == 1)
    #expect(passes("water", true) == 1 && passes("smoke", true) == 1)
  }

  @Test func itCanBeStopped() throws {
    let engine = try engine()
    let stopped = engine.run(job("water", labelSets[2]) { $0.contextual = true }, control: RunControl(shouldStop: { true }))
    guard case .failure(let error) = stopped.result else { Issue.record("not stopped"); return }
    #expect(error.code == .cancelled)
    _ = try engine.run(job("water", labelSets[2]) { $0.contextual = true }).result.get()
  }

  @Test func aPriorOfNearlyNothingDoesNotDecideAlone() {
    let prior = ContextualCalibration.prior([[1, 0], [1, 0], [1, 0]])
    #expect(prior[1] > 0.004 && prior.reduce(0, +) < 1.000_001)
    #expect(ContextualCalibration.apply(prior, to: [0.999, 0.001])[0] > 0.8)
  }
}

@Suite struct MultiTests {
  @Test func everyLabelIsScoredAndChosenFromItsThresholdOn() throws {
    for template in [shortTemplate, askingTemplate] {
      let engine = try engine(template: template)
      for labels in labelSets {
        var job = job("water on the floor", labels) { $0.multi = true; $0.alternatives = 2 }
        let answer = try classification(engine, job)
        #expect(answer.scores.map(\.label) == labels && answer.scores.allSatisfy { $0.score >= 0 && $0.score <= 1 })
        #expect(answer.chosen == labels.indices.filter { answer.scores[$0].score >= 0.5 })
        job.options.threshold = 0
        #expect(try classification(engine, job).chosen == Array(labels.indices))
        job.work = .classify(labels.enumerated().map { Job.Label($1, threshold: $0 == 0 ? 1 : nil) })
        #expect(try classification(engine, job).chosen == Array(labels.indices.dropFirst()))
      }
    }
  }

  @Test func aQuestionDoesNotKnowOfTheOthers() throws {
    let engine = try engine(template: askingTemplate)
    let all = try classification(engine, job("water on the floor", labelSets[2]) { $0.multi = true })
    for (label, score) in all.scores.enumerated().filter({ $0.offset % 9 == 0 }).map(\.element) {
      #expect(try classification(engine, job("water on the floor", [label]) { $0.multi = true }).scores[0].score == score)
    }
    // Seventy questions behind one text: more than one batch, and the text is read once.
    let outcome = engine.run(job("smoke", labelSets[2]) { $0.multi = true })
    #expect(outcome.usage.forwardPasses <= 4)
  }

  @Test func questionsComeInSmallBatchesWhereMemoryIsShort() throws {
    let wide = try engine(template: askingTemplate)
    let one = job("ab", labelSets[2]) { $0.multi = true }
    let prompt = try wide.template.render(one.work, text: one.input, multi: true, tokenizer: wide.tokenizer)
    let narrow = try engine(template: askingTemplate) { $0.kvBudgetBytes = (prompt.count + 60) * wide.network.kvBytesPerToken }
    #expect(try classification(narrow, one) == classification(wide, one))
  }

  @Test func theContrastIsInTheListAndNotInTheAnswer() throws {
    let engine = try engine()
    func prompt(_ labels: [String], _ listTokens: Int = .max) throws -> Prompt {
      try engine.template.render(.classify(labels.map { Job.Label($0) }), text: "x", multi: true, listTokens: listTokens, tokenizer: engine.tokenizer)
    }
    let plain = try prompt(["leak", "fire"])
    #expect(plain.spoken == ["leak", "fire", "out of scope"] && plain.multi == .contrast(2))
    #expect(String(decoding: engine.tokenizer.decode(plain.prefix), as: UTF8.self).hasSuffix("leak|fire|out of scope\n"))
    // A label that says the same is not offered twice.
    #expect(try prompt(["leak", "out_of_scope"]).multi == .contrast(1))
    #expect(try prompt(["leak", "out_of_scope"]).spoken.count == 2)
    // However short the list must be, the contrast is in it.
    let short = try prompt(["leak", "fire"], 1)
    #expect(short.listed == 0 && String(decoding: engine.tokenizer.decode(short.prefix), as: UTF8.self).hasSuffix("out of scope\n"))
  }

  @Test func answersThatBeginAlikeAreRefused() throws {
    var template = askingTemplate
    template.classify.multi = .question(prompt: "{{text}}{{label}}", described: nil, yes: "a", no: "a")
    guard case .failure(let error) = try engine(template: template).run(job("x", ["l"]) { $0.multi = true }).result else { Issue.record("answered"); return }
    #expect(error.code == .unsupported && error.place == "classify.multi")
  }

  @Test func severalLabelsAreWrittenBestFirst() {
    var answer = Answer.Classification(scores: [("a", 0.625), ("b", 0.125), ("c", 0.75), ("d", 0.25)], best: 2, alternatives: 1)
    answer.chosen = [0, 2]
    #expect(answer.json.compact == #"{"labels":["c","a"],"alternatives":[{"label":"d","score":0.25}],"scores":{"a":0.625,"b":0.125,"c":0.75,"d":0.25}}"#)
    answer.chosen = []
    answer.alternatives = nil
    #expect(answer.json.compact.hasPrefix(#"{"labels":[],"scores""#))
  }
}

@Suite struct HierarchyTests {
  @Test func innerNodesSumTheirLeaves() {
    let answer = Answer.Classification(scores: [("alarm/fire/smoke", 0.25), ("alarm/leak", 0.125), ("alarm/fire/heat", 0.375), ("normal", 0.25)], best: 2)
    #expect(
      answer.json.compact
        == #"{"label":"alarm/fire/heat","score":0.375,"abstained":false,"path":[{"label":"alarm","score":0.75},{"label":"alarm/fire","score":0.625},{"label":"alarm/fire/heat","score":0.375}],"#
        + #""scores":{"alarm/fire/smoke":0.25,"alarm/leak":0.125,"alarm/fire/heat":0.375,"normal":0.25},"groups":{"alarm":0.75,"alarm/fire":0.625}}"#)
  }

  @Test func aLabelMayBeAGroupAndGroupsOfSeveralTakeTheLargest() {
    var answer = Answer.Classification(scores: [("a/b", 0.5), ("a", 0.25), ("/x", 0.125), ("y//z", 0.125)], best: 1)
    #expect(answer.groups.map(\.name) == ["a"] && answer.groups[0].labels == [0, 1] && answer.groups[0].score == 0.75)
    #expect(answer.json.compact.contains(#""path":[{"label":"a","score":0.25}]"#))
    answer.chosen = []
    #expect(answer.groups[0].score == 0.5)
  }

  @Test func aHierarchyIsNotBottomless() {
    let deep = { (parts: Int) in [String](repeating: "a", count: parts).joined(separator: "/") }
    #expect(Answer.Classification(scores: [(deep(8), 1)], best: 0).groups.count == 7)
    #expect(Answer.Classification(scores: [(deep(9), 1)], best: 0).groups.isEmpty)
  }

  @Test func aLevelIsOneDecision() throws {
    let engine = try engine()
    let answer = try classification(engine, job("water", ["alarm/fire", "alarm/leak", "status/normal", "status/test"]))
    #expect(answer.groups.map(\.name) == ["alarm", "status"])
    #expect(abs(answer.groups.reduce(0) { $0 + Double($1.score) } - 1) < 1e-5)
  }
}

@Suite struct LabelBudgetTests {
  @Test func labelsThatDoNotFitTheListAreScoredAllTheSame() throws {
    let engine = try engine()
    let labels = (0..<1000).map { "label number \($0)" }
    let prompt = try engine.template.render(
      .classify(labels.map { Job.Label($0) }), text: "water", listTokens: 512, tokenizer: engine.tokenizer)
    #expect((1..<1000).contains(prompt.listed) && prompt.prefix.count <= 512 + 4)
    let answer = try classification(engine, job("water", labels))
    #expect(answer.listed == prompt.listed)
    #expect(answer.scores.count == 1000 && abs(answer.scores.reduce(0) { $0 + Double($1.score) } - 1) < 1e-4)
    #expect(answer.scores.allSatisfy { $0.score > 0 })
    // The list does not depend on the text.
    let long = try engine.template.render(
      .classify(labels.map { Job.Label($0) }), text: String(repeating: "x ", count: 300), listTokens: 512, tokenizer: engine.tokenizer)
    #expect(long.prefix == prompt.prefix)
    #expect(try classification(engine, job("water", Array(labels.prefix(3)))).listed == nil)
  }

  @Test func descriptionsCountAndNothingIsCutInTheMiddle() throws {
    var template = shortTemplate
    template.classify.described = "{{name}} ({{description}})"
    let engine = try engine(template: template)
    let labels = ["a", "b", "c"].map { Job.Label($0, description: "forty letters that say what the label is") }
    func prompt(_ listTokens: Int) throws -> Prompt { try engine.template.render(.classify(labels), text: "x", listTokens: listTokens, tokenizer: engine.tokenizer) }
    let all = try prompt(.max)
    let list = all.prefix.count - 2  // begin of text, and the line break behind the list
    #expect(try prompt(list) == all)
    let two = try prompt(list - 1)
    #expect(two.listed == 2)
    #expect(String(decoding: engine.tokenizer.decode(two.prefix), as: UTF8.self).hasSuffix("is)|b (forty letters that say what the label is)\n"))
    #expect(two.spoken == ["a", "b", "c"])
  }
}

@Suite struct CalibratedJobTests {
  private func calibration(_ engine: JobEngine, _ labels: [Job.Label], multi: Bool = false, contextual: Bool = false) throws -> Calibration {
    Calibration(
      curve: try #require(CalibrationCurve(points: [.init(0, 0.01), .init(1, 0.4)])), labels: labels, multi: multi, contextual: contextual, model: engine.model, rows: 100)
  }

  @Test func scoresBecomeFrequenciesAndTheLabelStays() throws {
    let engine = try engine()
    for labels in labelSets where labels.count > 2 {
      var job = job("water on the floor", labels)
      let raw = try classification(engine, job)
      let calibration = try calibration(engine, labels.map { Job.Label($0) })
      job.calibration = calibration
      let answer = try classification(engine, job)
      #expect(answer.best == raw.best && answer.scores.map(\.score) == calibration.curve.calibrated(raw.scores.map(\.score)))
      job.options.abstainBelow = Double(answer.scores[answer.best].score) + 0.01
      #expect(try classification(engine, job).abstained)

      job.options = Job.Options()
      job.options.multi = true
      job.calibration = nil
      let several = try classification(engine, job)
      job.calibration = try self.calibration(engine, labels.map { Job.Label($0) }, multi: true)
      let curve = try #require(job.calibration?.curve)
      #expect(try classification(engine, job).scores.map(\.score) == several.scores.map { Float(curve.rate(at: Double($0.score))) })
    }
  }

  @Test func aCalibrationOfAnotherTaskIsRefused() throws {
    let engine = try engine()
    var job = job("water", ["leak", "fire"])
    job.calibration = try calibration(engine, [Job.Label("fire"), Job.Label("leak")])
    guard case .failure(let error) = engine.run(job).result else { Issue.record("answered"); return }
    #expect(error.code == .badField && error.expected?.contains("labels[0]") == true)
    job.calibration = try calibration(engine, [Job.Label("leak"), Job.Label("fire")])
    _ = try engine.run(job).result.get()
    job.options.contextual = true
    guard case .failure(let other) = engine.run(job).result else { Issue.record("answered"); return }
    #expect(other.found?.contains("without contextual") == true)
  }
}

/// The model that comes with Sterna, whose answers mean something.
@Suite struct PocketLabelTests {
  private func pocket(_ adjust: (inout ModelOptions) -> Void = { _ in }) throws -> JobEngine {
    var options = ModelOptions()
    adjust(&options)
    return try JobEngine(PackedModel.open(fixtures + "/../../../Models/pocket.gguf"), options: options)
  }

  private let labels = ["leak", "fire", "vibration", "power/failure", "power/overload", "normal"]
  private let texts = [
    "water under pump 7", "pump 7 vibration 4.2 mm/s above limit on line B", "smoke in hall 3. water on the floor next to the tank", "all good on line 2", "UPS battery low in the server room",
  ]

  @Test func answersAreTheSameAloneTogetherColdAndWarm() throws {
    let curve = try #require(CalibrationCurve(points: [.init(0.3, 0.2), .init(0.9, 0.7), .init(1, 0.95)]))
    let warm = try pocket()
    var jobs: [Job] = []
    for text in texts {
      for contextual in [false, true] {
        for multi in [false, true] {
          var job = job(text, labels) { ($0.contextual, $0.multi, $0.alternatives) = (contextual, multi, 2) }
          jobs.append(job)
          job.calibration = Calibration(curve: curve, labels: labels.map { Job.Label($0) }, multi: multi, contextual: contextual, model: warm.model, rows: 100)
          jobs.append(job)
        }
      }
    }
    // A new engine every time: nothing is known.
    let cold = try jobs.map { try pocket().run($0).result.get().json.compact }
    for _ in 0..<2 { #expect(try jobs.map { try warm.run($0).result.get().json.compact } == cold) }
    #expect(try pocket { $0.threads = 2; $0.batchTokens = 24 }.run(all: jobs.reversed()).reversed().map { try $0.result.get().json.compact } == cold)
    for job in jobs where !job.options.multi {
      let answer = try classification(warm, job)
      #expect(abs(answer.scores.reduce(0) { $0 + Double($1.score) } - 1) < 1e-5)
      #expect(answer.scores[answer.best].score == answer.scores.map(\.score).max())
    }
  }

  @Test func whatATextSaysIsFound() throws {
    let engine = try pocket()
    #expect(try classification(engine, job(texts[1], labels)).best == 2)
    let several = try classification(engine, job(texts[1], labels) { $0.multi = true })
    #expect(several.chosen == [2])
    let power = try #require(classification(engine, job(texts[4], labels)).groups.first)
    #expect(power.name == "power" && power.score > 0.5)
  }
}
