import Basics

/// How a job becomes a prompt: literal text and placeholders, one pattern for each task. It travels in the model file
/// (metadata `sterna.template`) and is never executed.
///
///     {"classify": {"prompt": "<|classify|>{{labels}}<|text|>{{text}}<|answer|>", "item": "{{name}}", "separator": "|",
///                   "names": "words", "stop": "<|end|>"},
///      "extract": {"prompt": "<|extract|>{{fields}}<|text|>{{text}}<|answer|>", ...}}
public struct PromptTemplate: Sendable, Equatable {
  /// The key of the model file's metadata.
  public static let metadataKey = "sterna.template"

  /// The pattern for one task.
  public struct Pattern: Sendable, Equatable {
    /// How names are spoken to the model.
    public enum Names: String, Sendable {
      /// As `words(_:)` makes them.
      case words
      /// As the client wrote them.
      case asIs = "asis"
    }

    /// With `{{labels}}` or `{{fields}}` and, behind it, `{{text}}`.
    public var prompt: String
    /// One label or field, with `{{name}}`.
    public var item: String
    /// One label or field that has a description, with `{{name}}` and `{{description}}`; nil leaves descriptions out.
    public var described: String?
    /// Between two items.
    public var separator: String
    public var names: Names
    /// The special token that ends an answer.
    public var stop: String
    /// Classify: whether scores are divided by what they are for inputs without content, where a job does not say.
    public var contextual = false
    /// Classify: how a job is asked to which several labels may fit.
    public var multi = Multi.contrast("out of scope")

    /// How a model is brought to say yes or no to each label.
    public enum Multi: Sendable, Equatable {
      /// The list with this name at its end; a label's score is its odds against it. For models that know nothing but choosing one label.
      case contrast(String)
      /// A question for each label behind one text. `prompt` has `{{text}}` and behind it `{{label}}`, which is the name, or `described` for a label with a description.
      case question(prompt: String, described: String?, yes: String, no: String)
    }

    public init(prompt: String, item: String = "{{name}}", described: String? = nil, separator: String, names: Names = .words, stop: String) {
      self.prompt = prompt
      self.item = item
      self.described = described
      self.separator = separator
      self.names = names
      self.stop = stop
    }
  }

  public var classify: Pattern
  public var extract: Pattern

  public init(classify: Pattern, extract: Pattern) {
    self.classify = classify
    self.extract = extract
  }

  public subscript(task: JobTask) -> Pattern { task == .classify ? classify : extract }
}
