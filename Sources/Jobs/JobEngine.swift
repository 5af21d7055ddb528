import Basics
import Decoding
import Inference
import ModelFile
import Tokenizer

/// Answers jobs with one model.
///
/// Holds the model, its tokenizer and template, and the keys and values of the task prompts that were asked for last: jobs of one task share
/// everything in front of their text. Used from one thread at a time; the agent gives it a thread of its own.
public final class JobEngine: JobRunner {
  public let model: ModelIdentity
  public let network: Model
  public let tokenizer: Tokenizer
  public let template: PromptTemplate

  private let prefixes: PrefixCache
  private let tokenLengths: TokenLengths

  /// - Parameter template: in place of the one that the model file carries.
  /// - Throws: what opening the tokenizer throws; `bad_file` when the file's template is wrong.
  public convenience init(packed: PackedModel, model: Model, template: PromptTemplate? = nil) throws(SternaError) {
    let tokenizer = try Tokenizer(packed)
    let chosen: PromptTemplate
    if let template { chosen = template } else { chosen = try JobEngine.template(of: packed, tokenizer: tokenizer) }
    self.init(model, tokenizer: tokenizer, template: chosen, identity: ModelIdentity(name: packed.configuration.name, sha256: packed.fingerprint))
  }

  /// The same with a model of its own.
  public convenience init(_ packed: PackedModel, options: ModelOptions = ModelOptions(), template: PromptTemplate? = nil) throws(SternaError) {
    try self.init(packed: packed, model: Model(packed, options: options), template: template)
  }

  public init(_ network: Model, tokenizer: Tokenizer, template: PromptTemplate, identity: ModelIdentity) {
    self.network = network
    self.tokenizer = tokenizer
    self.template = template
    model = identity
    tokenLengths = TokenLengths(tokenizer)
    prefixes = PrefixCache(capacity: 4)
  }

  /// The template in the file's metadata, or the built-in one that fits.
  public static func template(of packed: PackedModel, tokenizer: Tokenizer) throws(SternaError) -> PromptTemplate {
    guard let text = packed.metadataString(PromptTemplate.metadataKey) else {
      return PromptTemplate.detect(architecture: packed.configuration.architecture, tokenizer: tokenizer).template
    }
    do {
      return try PromptTemplate.parse(text)
    } catch {
      var error = error.within(PromptTemplate.metadataKey, separator: ".")
      error.code = .badFile
      throw error.within(packed.path)
    }
  }

  public func run(_ job: Job, control: RunControl) -> Outcome {
    var run = Run(control: control)
    do {
      do {
        return Outcome(.success(try answer(job, &run)), usage: run.usage, truncated: run.truncated)
      } catch where error.code == .kvFull {
        // The prompts of other tasks may stand in the way: once more without them.
        prefixes.removeAll()
        run = Run(control: control)
        return Outcome(.success(try answer(job, &run)), usage: run.usage, truncated: run.truncated)
      }
    } catch where error.code == .kvFull {
      return Outcome(
        .failure(
          SternaError(
            .inputTooLong, "the text and its answer do not fit the memory for keys and values", at: "input",
            found: "\(run.usage.inputTokens) tokens and the answer's", cause: error.message)), usage: run.usage)
    } catch {
      return Outcome(.failure(error), usage: run.usage)
    }
  }

  /// What one job used and how it is watched.
  private struct Run {
    var control: RunControl
    var usage = Usage()
    var truncated = false
  }

  private func answer(_ job: Job, _ run: inout Run) throws(SternaError) -> Answer {
    let prompt = try template.render(job.work, text: job.input, tokenizer: tokenizer)
    run.usage.inputTokens = prompt.count
    switch job.work {
    case .classify(let labels): return try classify(labels, prompt, job.options, &run)
    case .extract(let fields): return try extract(fields, prompt, job, &run)
    }
  }

  // MARK: - Classification

  private func classify(_ labels: [Job.Label], _ prompt: Prompt, _ options: Job.Options, _ run: inout Run) throws(SternaError) -> Answer {
    let trie = LabelTrie(prompt.spoken.map { tokenizer.encode($0, atStart: false) }, end: prompt.stop)
    try checkRoom(for: prompt, answer: trie.depth)
    var scores: [Float] = [1]
    if labels.count > 1 {
      let (sequence, states) = try prefill(prompt, behind: [], room: 0, &run)
      let scored = try LabelScoring.score(trie, with: network, after: sequence, hidden: states, row: 0) { steps throws(SternaError) in
        try self.forward(steps, &run)
      }
      scores = scored.scores
      run.usage.outputTokens = scored.tokens
    }
    var best = 0
    for i in scores.indices where scores[i] > scores[best] { best = i }
    return .classification(
      Answer.Classification(
        scores: zip(labels, scores).map { ($0.name, $1) }, best: best,
        abstained: options.abstainBelow.map { Double(scores[best]) < $0 } ?? false, alternatives: options.alternatives))
  }

  // MARK: - Extraction

  private func extract(_ fields: [Job.Field], _ prompt: Prompt, _ job: Job, _ run: inout Run) throws(SternaError) -> Answer {
    let specs = zip(fields, prompt.spoken).map { FieldSpec(spoken: $1, kind: FieldSpec.Kind($0.kind)) }
    let least = ObjectExtractor.smallestOutput(fields: specs, tokenizer: tokenizer)
    // Values are copied, so the text bounds them; a field seldom takes more than 64 tokens, unless it is alone.
    let usual = least + max(prompt.text.count + 8, fields.count * min(64, prompt.text.count + 8))
    let wanted = job.options.maxTokens ?? min(1024, usual)
    try checkRoom(for: prompt, answer: min(wanted, least + 8 * fields.count))
    let budget = min(wanted, network.contextLength - prompt.count)

    var extractor = try ObjectExtractor(
      fields: specs, source: CopySource(job.input, tokenizer: tokenizer, lengths: tokenLengths), tokenizer: tokenizer, maxTokens: budget)
    if let first = extractor.request {
      var (sequence, states) = try prefill(prompt, behind: first.feed, room: budget - first.feed.count, &run)
      extractor.choose(try network.logits(states, row: 0, of: first.candidates))
      while let request = extractor.request {
        states = try forward([Model.Step(sequence: sequence, tokens: request.feed, want: .last)], &run)
        extractor.choose(try network.logits(states, row: 0, of: request.candidates))
      }
      run.usage.outputTokens = extractor.tokensFed
    }
    run.truncated = extractor.truncated
    return .extraction(
      Answer.Extraction(
        values: zip(fields, extractor.values).map { field, found in
          Answer.Extraction.Value(
            name: field.name, value: found.value,
            evidence: found.span.map { span in
              Answer.Extraction.Evidence(text: Self.slice(job.input, span.bytes), scalars: span.scalars, bytes: span.bytes)
            }, confidence: found.confidence)
        }, showsEvidence: job.options.evidence))
  }

  private static func slice(_ text: String, _ bytes: Range<Int>) -> String {
    String(decoding: text.utf8.dropFirst(bytes.lowerBound).prefix(bytes.count), as: UTF8.self)
  }

  // MARK: - The model

  private func checkRoom(for prompt: Prompt, answer: Int) throws(SternaError) {
    guard prompt.count + answer > network.contextLength else { return }
    throw SternaError(
      .inputTooLong, "the text does not fit the model's context", at: "input",
      expected: "at most \(max(0, network.contextLength - answer - prompt.prefix.count - prompt.suffix.count)) tokens of text",
      found: "\(prompt.text.count) tokens; \(prompt.prefix.count + prompt.suffix.count) of the task prompt and \(answer) for the answer come on top of them, and the context holds \(network.contextLength)")
  }

  /// Runs the prompt and `tail` behind it. Returns its sequence, with `room` for more tokens, and the state of the last position.
  private func prefill(_ prompt: Prompt, behind tail: [TokenID], room: Int, _ run: inout Run) throws(SternaError) -> (Inference.Sequence, HiddenStates) {
    var parent: Inference.Sequence?
    if !prompt.prefix.isEmpty {
      parent = prefixes.find(prompt.prefix)
      if parent == nil {
        let sequence = try network.sequence(capacity: prompt.prefix.count)
        _ = try feed(prompt.prefix, to: sequence, want: .none, &run)
        prefixes.insert(prompt.prefix, sequence)
        parent = sequence
      }
    }
    let tokens = prompt.text + prompt.suffix + tail
    let sequence = try network.sequence(after: parent, capacity: tokens.count + room)
    return (sequence, try feed(tokens, to: sequence, want: .last, &run))
  }

  /// Feeds tokens a chunk at a time, so that a long text can be watched and stopped.
  private func feed(_ tokens: [TokenID], to sequence: Inference.Sequence, want: Model.Want, _ run: inout Run) throws(SternaError) -> HiddenStates {
    let chunk = 128
    var at = 0
    while tokens.count - at > chunk {
      _ = try forward([Model.Step(sequence: sequence, tokens: Array(tokens[at..<(at + chunk)]), want: .none)], &run)
      at += chunk
    }
    return try forward([Model.Step(sequence: sequence, tokens: Array(tokens[at...]), want: want)], &run)
  }

  private func forward(_ steps: [Model.Step], _ run: inout Run) throws(SternaError) -> HiddenStates {
    if run.control.shouldStop?() == true { throw SternaError(.cancelled, "the job was cancelled") }
    let states = try network.forward(steps)
    run.usage.forwardPasses += 1
    run.control.progress?()
    return states
  }
}

extension FieldSpec.Kind {
  init(_ kind: Job.Field.Kind) {
    self = switch kind {
    case .string: .string
    case .number: .number
    case .integer: .integer
    }
  }
}

/// Keys and values of the task prompts asked for last. The place where the cache with a budget and a file on disk will be.
private final class PrefixCache {
  private var entries: [(tokens: [TokenID], sequence: Inference.Sequence)] = []
  private let capacity: Int

  init(capacity: Int) { self.capacity = capacity }

  func find(_ tokens: [TokenID]) -> Inference.Sequence? {
    guard let at = entries.firstIndex(where: { $0.tokens == tokens }) else { return nil }
    let entry = entries.remove(at: at)
    entries.append(entry)
    return entry.sequence
  }

  func insert(_ tokens: [TokenID], _ sequence: Inference.Sequence) {
    entries.append((tokens, sequence))
    if entries.count > capacity { entries.removeFirst() }
  }

  func removeAll() { entries.removeAll() }
}
