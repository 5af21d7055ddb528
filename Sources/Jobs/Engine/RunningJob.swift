import Basics
import Decoding
import Inference
import Tokenizer

/// A job under way: which tokens it wants to run next, and what it makes of what came out.
final class RunningJob {
  let job: Job
  let ticket: Int
  let prompt: Prompt
  var usage = Usage()
  /// Set when the job is over.
  private(set) var outcome: Outcome?
  /// The task prompt that it waits for.
  var load: PrefixLoad?

  private let engine: JobEngine
  private let work: Work
  /// What decides; nil while the job has no place.
  private var decider: Decider?
  /// The text and what the template puts behind it; then what the answer begins with, which goes with them.
  let reading: [TokenID]
  private var opening: [TokenID] = []
  private var read = 0
  /// Tokens of the step asked for last.
  private var reads = 0
  /// Holds what was read, and of an extraction what was written, too. A chain: when one is full, the next continues it.
  private var sequence: Inference.Sequence?
  /// The part of `sequence` that holds what was read.
  private var text: Inference.Sequence?
  private var asked: [(ask: BranchAsk, sequence: Inference.Sequence)] = []
  /// What the labels' scores are divided by; nil: they stay as they are.
  private(set) var prior: LabelPrior?
  /// What a dictated extraction has written.
  private var written: [TokenID] = []
  /// What a classification's decisions came to, before anything was done to it.
  private var undivided: [Float]?

  /// The question, prepared.
  private enum Work {
    case classify([Job.Label], LabelTrie)
    case ask([Job.Label], [[TokenID]], yes: TokenID, no: TokenID)
    case extract(Constraint)
  }

  private enum Decider {
    case classify(any BranchScorer)
    case extract(JSONWriter)
  }

  /// Labels of one job that are scored in one batch.
  private static let branches = 64
  /// Tokens for which an extraction takes memory at a time.
  private static let stride = 64

  /// - Throws: `input_too_long` when the context does not hold the job, and what the template throws.
  init(_ job: Job, ticket: Int, _ engine: JobEngine) throws(SternaError) {
    self.job = job
    self.ticket = ticket
    self.engine = engine
    prompt = try engine.template.render(
      job.work, text: job.input, multi: job.options.multi, listTokens: engine.listTokens, tokenizer: engine.tokenizer)
    reading = prompt.text + prompt.suffix
    usage.inputTokens = prompt.count
    // Before anything is made of a text that does not fit anyway.
    try Self.checkRoom(for: prompt, answer: 0, engine.network.contextLength)
    switch job.work {
    case .classify(let labels):
      if case .questions(let questions, let yes, let no)? = prompt.multi {
        work = .ask(labels, questions, yes: yes, no: no)
        try checkRoom(answer: questions.map(\.count).max() ?? 0)
      } else {
        let trie = LabelTrie(prompt.spoken.map { engine.tokenizer.encode($0, atStart: false) }, end: prompt.stop)
        work = .classify(labels, trie)
        try checkRoom(answer: trie.depth)
      }
      if let calibration = job.calibration {
        try calibration.check(labels, multi: job.options.multi)
        try calibration.check(engine.model, contextual: engine.isContextual(job.options))
      }
    case .extract(let fields): work = .extract(Constraint(fields, spoken: prompt.spoken))
    case .fill(let schema): work = .extract(try schema.constraint().spoken(engine.template.extract.names))
    }
    try prepare()
  }

  private func checkRoom(answer: Int) throws(SternaError) { try Self.checkRoom(for: prompt, answer: answer, engine.network.contextLength) }

  private static func checkRoom(for prompt: Prompt, answer: Int, _ context: Int) throws(SternaError) {
    guard prompt.count + answer > context else { return }
    throw SternaError(
      .inputTooLong, "the text does not fit the model's context", at: "input",
      expected: "at most \(max(0, context - answer - prompt.prefix.count - prompt.suffix.count)) tokens of text",
      found: "\(prompt.text.count) tokens; \(prompt.prefix.count + prompt.suffix.count) of the task prompt and \(answer) for the answer come on top of them, and the context holds \(context)")
  }

  /// Makes the decider, and ends the job if there is nothing to decide.
  private func prepare() throws(SternaError) {
    switch work {
    case .classify(_, let trie): score(LabelScorer(trie))
    case .ask(_, let questions, let yes, let no): score(QuestionScorer(questions, yes: yes, no: no))
    case .extract(let constraint):
      let source = CopySource(job.input, tokenizer: engine.tokenizer, lengths: engine.tokenLengths)
      var writer = try JSONWriter(constraint, source: source, vocabulary: engine.vocabulary, end: prompt.stop, draftLength: engine.draftLength)
      let least = writer.smallestOutput
      let wanted = job.options.maxTokens ?? usualOutput(least)
      try checkRoom(answer: min(wanted, least))
      writer.limit(to: min(wanted, engine.network.contextLength - prompt.count))
      decider = .extract(writer)
      opening = writer.request?.feed ?? []
      if writer.request == nil { finish() }
    }
  }

  /// Values are copied, so the text bounds them; a field seldom takes more than 64 tokens, unless it is alone.
  private func usualOutput(_ least: Int) -> Int {
    guard case .extract(let fields) = job.work else { return 1024 }
    let text = prompt.text.count + 8
    return min(1024, least + max(text, fields.count * min(64, text)))
  }

  private func score(_ scorer: some BranchScorer) {
    decider = .classify(scorer)
    opening = scorer.opening
    if scorer.isTrivial { finish() }
  }

  // MARK: - The prior

  /// What the scores for inputs without content are known under; nil for a job whose scores are not divided by them, or are known already.
  var priorKey: LabelPrior.Key? {
    guard outcome == nil, job.task == .classify, engine.isContextual(job.options) else { return nil }
    return LabelPrior.Key(prefix: prompt.prefix, suffix: prompt.suffix, spoken: prompt.spoken, multi: prompt.multi)
  }

  /// Whether a text of these tokens leaves nothing to run in front of the first decision.
  var hasNothingToRead: Bool { reading.isEmpty && opening.isEmpty }

  func divide(by prior: LabelPrior) { self.prior = prior }

  /// Whether everything is decided, and only the prior is missing.
  var isWaitingForPrior: Bool { undivided != nil && outcome == nil }

  /// Ends a job whose prior has come, or will not come.
  func conclude() {
    guard let scores = undivided, let prior else { return }
    switch prior.state {
    case .pending: return
    case .known(let values): conclude(prior.divide(scores, by: values))
    case .failed(let error): fail(error)
    }
  }

  // MARK: - Stages

  /// Whether it holds memory, or waits for a task prompt that does.
  var isPlaced: Bool { sequence != nil || load != nil }
  /// Whether its text is not through the model yet.
  var isReading: Bool { sequence != nil && read < reading.count + opening.count }
  /// What is left of its text, and what goes with it.
  var tokensToRead: Int { reading.count + opening.count - read }
  var isAnswering: Bool { sequence != nil && !isReading }

  /// Tokens that it takes memory for at first, and for a step; for a classification that is a guess, which grows smaller by itself.
  var tokensToStart: Int { reading.count + opening.count + (job.task == .extract ? Self.stride / 2 : 0) }
  var tokensToStep: Int { Self.stride }

  /// - Parameter match: holds the task prompt, and perhaps a beginning of the text.
  /// - Throws: `kvFull`, and then nothing has changed.
  func start(behind match: PrefixCache.Match?) throws(SternaError) {
    let known = match?.count ?? 0
    let ahead = max(0, known - prompt.prefix.count)
    let room = min(tokensToStart - ahead, engine.network.contextLength - known)
    sequence = try engine.network.sequence(after: match?.sequence, upTo: match?.count, capacity: room)
    text = sequence
    read = ahead
    load = nil
  }

  /// Lets go of its memory and forgets what was decided; it begins again when there is room.
  func withdraw() {
    load = nil
    sequence = nil
    text = nil
    asked = []
    written = []
    read = 0
    usage.outputTokens = 0
    do { try prepare() } catch { fail(error) }
  }

  func fail(_ error: SternaError) {
    outcome = Outcome(.failure(error), usage: usage)
    release()
  }

  private func release() {
    load = nil
    // The next text may begin like this one.
    if let text, read >= reading.count, prompt.text.count >= PrefixCache.leastShared {
      engine.prefixes.insert(text, tokens: prompt.prefix + prompt.text, isPrompt: false)
    }
    text = nil
    sequence = nil
    asked = []
    decider = nil
  }

  // MARK: - A pass

  /// What is to run next; never empty for a job that has its place.
  /// - Parameter limit: tokens of the text; an answer's step is never cut.
  /// - Throws: `kvFull`, and then nothing has changed.
  func steps(atMost limit: Int) throws(SternaError) -> [Model.Step] {
    guard let sequence else { return [] }
    if isReading {
      // The opening is not cut: the first decisions may stand inside it.
      let all = reading.count + opening.count
      let end = read + limit >= all || read == reading.count ? all : min(read + limit, reading.count)
      reads = end - read
      let tokens = reading[min(read, reading.count)..<min(end, reading.count)] + (end == all ? opening[...] : [])
      return [Model.Step(sequence: sequence, tokens: Array(tokens), want: end == all ? .tail(wantedRows) : .none)]
    }
    switch decider {
    case .classify(var scorer)?:
      defer { decider = .classify(scorer) }
      if asked.isEmpty { asked = try branch(&scorer) }
      return asked.map { Model.Step(sequence: $0.sequence, tokens: $0.ask.feed, want: .last) }
    case .extract(let writer)?:
      guard let request = writer.request else { return [] }
      if sequence.room < request.feed.count {
        let left = engine.network.contextLength - sequence.count
        self.sequence = try engine.network.sequence(after: sequence, capacity: min(left, max(request.feed.count, Self.stride)))
      }
      guard let sequence = self.sequence else { return [] }
      return [Model.Step(sequence: sequence, tokens: request.feed, want: .tail(wantedRows))]
    case nil: return []
    }
  }

  /// Hidden states at the end of what is fed next.
  private var wantedRows: Int {
    guard case .extract(let writer)? = decider, let request = writer.request, let first = request.asks.first else { return 1 }
    return request.feed.count - first.position
  }

  private func branch(_ scorer: inout any BranchScorer) throws(SternaError) -> [(ask: BranchAsk, sequence: Inference.Sequence)] {
    var asks = scorer.next(Self.branches)
    while true {
      do {
        var children: [(ask: BranchAsk, sequence: Inference.Sequence)] = []
        for ask in asks { children.append((ask, try engine.network.sequence(after: ask.parent, capacity: ask.feed.count))) }
        return children
      } catch {
        guard error.code == .kvFull, asks.count > 1 else {
          scorer.putBack(asks)
          throw error
        }
        // Fewer at a time: what is below these is finished, and let go, before the others begin.
        scorer.putBack(Array(asks[(asks.count / 2)...]))
        asks.removeSubrange((asks.count / 2)...)
      }
    }
  }

  /// Takes the hidden states of the steps asked for last, which begin at `row`.
  func take(_ states: HiddenStates, from row: Int) {
    do { try advance(states, row) } catch { fail(error) }
  }

  private func advance(_ states: HiddenStates, _ row: Int) throws(SternaError) {
    guard let sequence else { return }
    if isReading {
      read += reads
      if isReading { return }
    }
    switch decider {
    case .classify(var scorer)?:
      if asked.isEmpty {
        scorer.begin(try logits(states, row, scorer.firstCandidates), behind: sequence)
      } else {
        for (at, branch) in asked.enumerated() {
          usage.outputTokens += branch.ask.feed.count
          scorer.answer(branch.ask, try logits(states, row + at, branch.ask.candidates), in: branch.sequence)
        }
        asked = []
      }
      decider = .classify(scorer)
      if scorer.isDone { finish() }
    case .extract(var writer)?:
      guard let request = writer.request, let first = request.asks.first else { return }
      var answers: [[Float]] = []
      for ask in request.asks { answers.append(try logits(states, row + ask.position - first.position, ask.candidates)) }
      let kept: Int
      if let text = engine.dictation[ticket] {
        kept = writer.choose(scripted: request.asks.map { ask in choice(for: text, behind: written + request.feed[..<(ask.position + 1)], of: ask.candidates) }, answers)
        written += request.feed[..<kept]
      } else {
        kept = writer.choose(answers)
      }
      sequence.truncate(to: sequence.count - (request.feed.count - kept))
      decider = .extract(writer)
      if writer.request == nil { finish() }
    case nil: return
    }
  }

  /// The candidate that goes on as a dictated text does, the longest of them.
  private func choice(for text: [UInt8], behind tokens: [TokenID], of candidates: [TokenID]) -> Int {
    let left = text.dropFirst(tokens.reduce(0) { $0 + engine.tokenizer.bytes($1).count })
    var best = (index: 0, length: 0)
    for (index, candidate) in candidates.enumerated() {
      let bytes = engine.tokenizer.bytes(candidate)
      if bytes.count > best.length, left.starts(with: bytes) { best = (index, bytes.count) }
    }
    return best.index
  }

  /// Few candidates have their rows of the head read; for many, as free text has, the whole head goes through all threads.
  private func logits(_ states: HiddenStates, _ row: Int, _ candidates: [TokenID]) throws(SternaError) -> [Float] {
    let network = engine.network
    guard candidates.count > network.configuration.vocabularySize / 8, candidates.count > 2048 else { return try network.logits(states, row: row, of: candidates) }
    let all = try network.logits(states, row: row)
    return candidates.map { all[Int($0)] }
  }

  // MARK: - Answers

  private func finish() {
    guard let decider else { return }
    switch (work, decider) {
    case (.classify, .classify(let scorer)), (.ask, .classify(let scorer)):
      undivided = scorer.scores
      if prior == nil { conclude(scorer.scores) } else { conclude() }
      release()
      return
    case (.extract, .extract(let writer)):
      usage.outputTokens = writer.tokensFed
      if writer.hasFailed {
        return fail(SternaError(.noValidOutput, "no value that the schema allows was found in the text", remedy: "ask for fewer elements where they must differ"))
      }
      let document = writer.document
      let values = document.leaves.map { leaf in
        Answer.Extraction.Value(
          name: leaf.path, value: leaf.value,
          evidence: leaf.span.map { span in
            Answer.Extraction.Evidence(text: Self.slice(job.input, span.bytes), scalars: span.scalars, bytes: span.bytes)
          }, confidence: leaf.confidence)
      }
      outcome = Outcome(
        .success(.extraction(Answer.Extraction(document: document.value, values: values, showsEvidence: job.options.evidence))), usage: usage,
        truncated: writer.truncated)
    default: fail(SternaError(.internal, "a job of one kind has the decider of another"))
    }
    release()
  }

  /// Makes the answer of a classification.
  /// - Parameter scores: one for each label that the model could choose, the contrast among them; for questions the probabilities of yes.
  private func conclude(_ scores: [Float]) {
    guard case .classify(let labels) = job.work else { return }
    var scores = scores
    if case .contrast(let contrast)? = prompt.multi { scores = Array(LabelPrior.odds(scores, against: contrast).prefix(labels.count)) }
    var best = 0
    for i in scores.indices where scores[i] > scores[best] { best = i }
    if let curve = job.calibration?.curve {
      scores = job.options.multi ? scores.map { Float(curve.rate(at: Double($0))) } : curve.calibrated(scores)
    }
    var answer = Answer.Classification(
      scores: zip(labels, scores).map { ($0.name, $1) }, best: best, abstained: job.options.abstainBelow.map { Double(scores[best]) < $0 } ?? false,
      alternatives: job.options.alternatives)
    if job.options.multi { answer.chosen = labels.indices.filter { Double(scores[$0]) >= job.options.threshold(of: labels[$0]) } }
    if prompt.listed < labels.count { answer.listed = prompt.listed }
    outcome = Outcome(.success(.classification(answer)), usage: usage)
  }

  /// What the labels scored, for a job that runs for a prior.
  var scores: Result<[Float], SternaError> {
    if case .failure(let error)? = outcome?.result { return .failure(error) }
    return undivided.map { .success($0) } ?? .failure(SternaError(.internal, "an input without content has no scores"))
  }

  private static func slice(_ text: String, _ bytes: Range<Int>) -> String {
    String(decoding: text.utf8.dropFirst(bytes.lowerBound).prefix(bytes.count), as: UTF8.self)
  }
}
