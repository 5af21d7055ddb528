import Basics
import Decoding

/// The two kinds of job, named as in the topics `jobs/classify` and `jobs/extract`.
public enum JobTask: String, Sendable, CaseIterable {
  case classify, extract
}

/// A job as a client sends it: a text, what is asked about it, and how.
///
/// `Job.parse` makes one from an MQTT payload and checks everything; a job made by hand is checked by `validate`.
public struct Job: Sendable, Equatable {
  /// What is asked about the text.
  public enum Work: Sendable, Equatable {
    case classify([Label])
    case extract([Field])
    /// An extraction whose answer fulfils a JSON Schema.
    case fill(Schema)

    public var task: JobTask {
      switch self {
      case .classify: .classify
      case .extract, .fill: .extract
      }
    }
  }

  /// One answer on offer.
  public struct Label: Sendable, Equatable {
    /// As it appears in the result. `/` between names makes it a leaf of a hierarchy: `alarm/fire`.
    public var name: String
    /// What the model is told about it, where the prompt template has a place for it.
    public var description: String?
    /// With `multi`: the score from which on this label is chosen; nil: that of the options.
    public var threshold: Double?

    public init(_ name: String, description: String? = nil, threshold: Double? = nil) {
      self.name = name
      self.description = description
      self.threshold = threshold
    }
  }

  /// One value to look for.
  public struct Field: Sendable, Equatable {
    /// What a value must be.
    public enum Kind: Sendable, Equatable {
      /// Copied from the input.
      case string
      /// A decimal number that stands in the input.
      case number
      /// A number without a fraction that stands in the input.
      case integer
      case boolean
      /// Read from the input and written as ISO 8601.
      case date, time, dateTime
      /// One of these.
      case oneOf([String])

      /// Kinds that have a word of their own.
      static let words: [(word: String, kind: Kind)] = [
        ("string", .string), ("number", .number), ("integer", .integer), ("boolean", .boolean), ("date", .date), ("time", .time), ("date-time", .dateTime),
      ]
      var word: String? { Self.words.first { $0.kind == self }?.word }
    }

    /// As it appears in the result.
    public var name: String
    public var kind: Kind
    /// Whether it is a list of such values, no two alike.
    public var isList: Bool
    public var description: String?

    public init(_ name: String, kind: Kind = .string, isList: Bool = false, description: String? = nil) {
      self.name = name
      self.kind = kind
      self.isList = isList
      self.description = description
    }
  }

  /// How the job is to be answered. Defaults are what a client gets that sends no `options`.
  public struct Options: Sendable, Equatable {
    /// The most tokens an extraction may write; nil leaves it to the engine.
    public var maxTokens: Int?
    /// 0 (default) to 9; higher ones first.
    public var priority = 0
    /// How long the answer is of use, from the job's arrival on.
    public var ttlMilliseconds: Int?
    /// How many labels behind the best one are listed in `alternatives`; nil: no list (`scores` always has all of them).
    public var alternatives: Int?
    /// Whether an extraction says where its values stand in the input.
    public var evidence = true
    /// Whether the client wants an `accepted` message.
    public var acknowledge = false
    /// A best score under this is an abstention: `label` is null.
    public var abstainBelow: Double?
    /// Whether several labels may fit, or none: each gets a yes or no of its own.
    public var multi = false
    /// With `multi`: the score from which on a label is chosen; nil: 0.5.
    public var threshold: Double?
    /// Whether label scores are divided by what they are for inputs without content; nil: as the prompt template says.
    public var contextual: Bool?

    public init() {}

    /// From which score on a label is chosen.
    public func threshold(of label: Label) -> Double { label.threshold ?? threshold ?? 0.5 }
  }

  /// Nil: the agent names it.
  public var id: String?
  public var input: String
  public var work: Work
  public var options: Options
  /// The client's own, echoed in the result.
  public var meta: JSON?
  /// What a configured task has for its labels; never part of a payload.
  public var calibration: Calibration?

  public var task: JobTask { work.task }

  public init(id: String? = nil, input: String, work: Work, options: Options = Options(), meta: JSON? = nil, calibration: Calibration? = nil) {
    self.id = id
    self.input = input
    self.work = work
    self.options = options
    self.meta = meta
    self.calibration = calibration
  }
}

/// What a job may cost before it is refused. An operator can change every one of them.
public struct JobLimits: Sendable, Equatable {
  /// Bytes of the whole payload, refused before it is parsed.
  public var payloadBytes = 1 << 20
  /// UTF-8 bytes of `input`.
  public var inputBytes = 64 << 10
  /// Nesting of the payload.
  public var depth = 32
  public var labels = 1000
  /// UTF-8 bytes of the name of a label or field.
  public var nameBytes = 128
  /// UTF-8 bytes of the description of a label or field.
  public var descriptionBytes = 1024
  public var fields = 64
  public var metaBytes = 1024
  /// The most that `options.max_tokens` may ask for.
  public var maxTokens = 4096
  /// The most that `options.ttl_ms` may ask for: thirty days.
  public var ttlMilliseconds = 30 * 24 * 3600 * 1000

  public init() {}
}
