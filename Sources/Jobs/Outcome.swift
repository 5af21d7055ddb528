import Basics
import Inference

/// What became of a job that ran.
public struct Outcome: Sendable {
  /// The answer, or why there is none (`SternaError.Code` of `ErrorCodes.swift`).
  public var result: Result<Answer, SternaError>
  public var usage: Usage
  /// Whether the budget of tokens ran out before the answer was complete.
  public var truncated: Bool

  public init(_ result: Result<Answer, SternaError>, usage: Usage = Usage(), truncated: Bool = false) {
    self.result = result
    self.usage = usage
    self.truncated = truncated
  }
}

/// What a job cost.
public struct Usage: Sendable, Equatable {
  /// Tokens of the prompt, cached ones included.
  public var inputTokens = 0
  /// Tokens that were fed or chosen for the answer.
  public var outputTokens = 0
  /// Passes over the model's weights.
  public var forwardPasses = 0
  /// What experts on disk cost in those passes, which other jobs may have shared; nil where there are none.
  public var experts: ExpertCounters?

  public init() {}
}

/// The answer to a job; the same for the same job, byte for byte.
public enum Answer: Sendable, Equatable {
  case classification(Classification)
  case extraction(Extraction)

  public struct Classification: Sendable, Equatable {
    /// Every label with its probability, in the order in which they were offered.
    public var scores: [(label: String, score: Float)]
    /// Index of the best score; the first of equal ones.
    public var best: Int
    /// Whether the best score is under `abstain_below`.
    public var abstained: Bool
    /// How many labels behind the best one, or behind those chosen, are listed; nil: no list.
    public var alternatives: Int?
    /// With `multi`: indices of the labels whose score reaches their threshold, none to all of them.
    public var chosen: [Int]?
    /// How many labels, from the first on, the model was shown; nil: all of them.
    public var listed: Int?

    public init(scores: [(label: String, score: Float)], best: Int, abstained: Bool = false, alternatives: Int? = nil) {
      self.scores = scores
      self.best = best
      self.abstained = abstained
      self.alternatives = alternatives
    }

    public static func == (a: Self, b: Self) -> Bool {
      a.best == b.best && a.abstained == b.abstained && a.alternatives == b.alternatives && a.chosen == b.chosen && a.listed == b.listed && a.scores.count == b.scores.count
        && zip(a.scores, b.scores).allSatisfy { $0.label == $1.label && $0.score == $1.score }
    }
  }

  public struct Extraction: Sendable, Equatable {
    public struct Value: Sendable, Equatable {
      /// The field, or a path such as `parts[2]` or `address.city`.
      public var name: String
      /// A string, a number, a boolean, or null when the text does not contain the field; an empty list or object.
      public var value: JSON
      /// Where the value stands in the input; nil for what is not copied.
      public var evidence: Evidence?
      /// The probability that the model gave to this value, among all it could have written.
      public var confidence: Float

      public init(name: String, value: JSON, evidence: Evidence?, confidence: Float) {
        self.name = name
        self.value = value
        self.evidence = evidence
        self.confidence = confidence
      }
    }

    /// A part of the input.
    public struct Evidence: Sendable, Equatable {
      public var text: String
      /// Offsets in Unicode scalars.
      public var scalars: Range<Int>
      /// Offsets in UTF-8 bytes.
      public var bytes: Range<Int>

      public init(text: String, scalars: Range<Int>, bytes: Range<Int>) {
        self.text = text
        self.scalars = scalars
        self.bytes = bytes
      }
    }

    /// All of it, in the order of the fields or the schema.
    public var document: JSON
    /// Every single value in it.
    public var values: [Value]
    /// Whether the message shows where the values stand.
    public var showsEvidence: Bool

    public init(document: JSON, values: [Value], showsEvidence: Bool = true) {
      self.document = document
      self.values = values
      self.showsEvidence = showsEvidence
    }

    /// The same for fields that each have one value.
    public init(values: [Value], showsEvidence: Bool = true) {
      self.init(document: .object(JSON.Object(values.map { ($0.name, $0.value) })), values: values, showsEvidence: showsEvidence)
    }
  }

  /// The `result` member of the result message.
  public var json: JSON {
    switch self {
    case .classification(let classification): classification.json
    case .extraction(let extraction): extraction.json
    }
  }
}

extension Answer.Extraction {
  /// `{"fields":{...},"evidence":{"serial":{"text":"SN-12","start":18,"end":23,...}},"confidence":{...}}`.
  public var json: JSON {
    var evidence = JSON.Object()
    var confidence = JSON.Object()
    for value in values {
      confidence[value.name] = .number(value.confidence)
      if let place = value.evidence {
        evidence[value.name] = [
          "text": .string(place.text), "start": .number(place.scalars.lowerBound), "end": .number(place.scalars.upperBound),
          "start_byte": .number(place.bytes.lowerBound), "end_byte": .number(place.bytes.upperBound),
        ]
      }
    }
    var object: JSON.Object = ["fields": document]
    if showsEvidence { object["evidence"] = .object(evidence) }
    object["confidence"] = .object(confidence)
    return .object(object)
  }
}
