import Basics
import Decoding
import Inference
import ModelFile
import Tokenizer

/// Answers jobs with one model, several at once: one pass over the weights serves all jobs that are under way.
///
/// Holds the model, its tokenizer and template, and the keys and values of beginnings that jobs share: all jobs of a task have everything in front of
/// their text in common. What a job answers depends on nothing but the job and the model. Used from one thread at a time; the agent gives it a thread of its own.
public final class JobEngine: JobRunner {
  public let model: ModelIdentity
  public let network: Model
  public let tokenizer: Tokenizer
  public let template: PromptTemplate
  /// Jobs under way at once, as far as the memory for keys and values allows.
  public let width = 16
  public var expertCosts: JSON? { network.expertCounters?.json }

  /// Tokens that the list of a classification's labels may take in the prompt: half of a small context, a quarter of a large one. The text must have room, too, and the list is the same for every text.
  let listTokens: Int
  let prefixes: PrefixCache
  let priors = PriorCache(capacity: 64)
  let tokenLengths: TokenLengths
  let vocabulary: WriterVocabulary
  /// Drafts are for models whose weights come from memory in every pass: with those that fit into a cache a token costs what it costs.
  package var draftLength: Int

  /// Where the keys and values of task prompts outlive the process.
  public struct PrefixFiles: Sendable {
    /// A folder, made when there is something to write.
    public var path: String
    /// Bytes that all files may take together.
    public var budgetBytes: Int

    public init(path: String, budgetBytes: Int) {
      self.path = path
      self.budgetBytes = budgetBytes
    }
  }

  /// - Parameters:
  ///   - template: in place of the one that the model file carries.
  ///   - prefixFiles: nil keeps task prompts in memory only.
  /// - Throws: what opening the tokenizer throws; `bad_file` when the file's template is wrong.
  public convenience init(
    packed: PackedModel, model: Model, template: PromptTemplate? = nil, prefixFiles: PrefixFiles? = nil
  ) throws(SternaError) {
    let tokenizer = try Tokenizer(packed)
    let chosen: PromptTemplate
    if let template { chosen = template } else { chosen = try JobEngine.template(of: packed, tokenizer: tokenizer) }
    self.init(model, tokenizer: tokenizer, template: chosen, identity: ModelIdentity(name: packed.configuration.name, sha256: packed.fingerprint), prefixFiles: prefixFiles)
  }

  /// The same with a model of its own.
  public convenience init(_ packed: PackedModel, options: ModelOptions = ModelOptions(), template: PromptTemplate? = nil) throws(SternaError) {
    try self.init(packed: packed, model: Model(packed, options: options), template: template)
  }

  /// - Parameter listTokens: what the list of labels may take in the prompt; nil: it depends on the context's length.
  public init(_ network: Model, tokenizer: Tokenizer, template: PromptTemplate, identity: ModelIdentity, prefixFiles: PrefixFiles? = nil, listTokens: Int? = nil) {
    self.listTokens = listTokens ?? min(network.contextLength / 2, max(512, network.contextLength / 4))
    self.network = network
    self.tokenizer = tokenizer
    self.template = template
    model = identity
    tokenLengths = TokenLengths(tokenizer)
    vocabulary = WriterVocabulary(tokenizer)
    draftLength = network.packed.bodyRange.count > 64_000_000 ? 6 : 0
    // Half of the keys and values may be those that jobs share; running jobs take them back when they need the room.
    prefixes = PrefixCache(network, budgetBytes: network.kvBudgetBytes / 2, directory: prefixFiles?.path, diskBudgetBytes: prefixFiles?.budgetBytes ?? 0)
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

  /// For measurements with a model that knows nothing: the text that each extraction is to write, by ticket. Decisions are computed as always, and then taken for this text.
  package var dictation: [Int: [UInt8]] = [:]

  /// What the cache of shared beginnings did so far.
  public var prefixStatistics: PrefixCache.Statistics { prefixes.statistics }

  public func rest(shouldStop: () -> Bool) throws(SternaError) {
    while try prefixes.persistOne(shouldStop: shouldStop) {}
  }

  /// Whether a job's label scores are divided by those for inputs without content.
  public func isContextual(_ options: Job.Options) -> Bool { options.contextual ?? template.classify.contextual }

  /// Checks that a task's calibration belongs to this model.
  public func check(_ calibration: Calibration, _ options: Job.Options) throws(SternaError) {
    try calibration.check(model, contextual: isContextual(options))
  }

  public func run(_ job: Job, control: RunControl) -> Outcome {
    var waiting: Job? = job
    var outcome = Outcome(.failure(SternaError(.internal, "the job was never finished")))
    serve(control: control) { _ in
      defer { waiting = nil }
      return waiting.map { (0, $0) }
    } finish: { outcome = $1 }
    return outcome
  }

  public func serve(control: RunControl, take: (_ underWay: Int) -> (ticket: Int, job: Job)?, finish: (_ ticket: Int, Outcome) -> Void) {
    let batch = JobBatch(self)
    func deliver() { for done in batch.takeFinished() { finish(done.ticket, done.outcome) } }
    while true {
      while let next = take(batch.count) {
        batch.add(next.job, ticket: next.ticket)
        // Some are over before any pass; the next `take` may wait long for another job.
        deliver()
      }
      guard batch.count > 0 else { return }
      if let isOverdue = control.isOverdue { batch.drop(isOverdue) }
      if control.shouldStop?() == true { batch.cancel() } else if batch.pass() { control.progress?() }
      deliver()
    }
  }
}
