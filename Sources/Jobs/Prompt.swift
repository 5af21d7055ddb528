import Basics
import Tokenizer

/// A job as the model reads it.
public struct Prompt: Sendable, Equatable {
  /// Everything in front of the text: the same for all jobs of a task.
  public var prefix: [TokenID]
  /// The text itself; never a special token.
  public var text: [TokenID]
  /// What stands between the text and the answer.
  public var suffix: [TokenID]
  /// The names of labels or fields as the model reads and writes them, in the order of the job.
  public var spoken: [String]
  /// The token that ends an answer.
  public var stop: TokenID

  public var count: Int { prefix.count + text.count + suffix.count }
}

extension PromptTemplate {
  /// Fills in a job. Only the template's own literals can become special tokens; names, descriptions and the text are plain text, whatever they contain.
  /// Each piece between two joints is tokenised on its own; the labels or fields with their separators are one piece.
  ///
  /// - Throws: `bad_field` when a placeholder is wrong, `unsupported` when the vocabulary has no token for `stop`.
  public func render(_ work: Job.Work, text: String, tokenizer: Tokenizer) throws(SternaError) -> Prompt {
    let pattern = self[work.task]
    let items: [(name: String, description: String?)] =
      switch work {
      case .classify(let labels): labels.map { ($0.name, $0.description) }
      case .extract(let fields): fields.map { ($0.name, $0.description) }
      case .fill(let schema): schema.items
      }
    let spoken = PromptTemplate.spoken(items.map(\.name), pattern.names)
    var list: [String] = []
    for (item, name) in zip(items, spoken) {
      if let described = pattern.described, let description = item.description {
        list.append(try PromptTemplate.fill(described, ["name": name, "description": description]))
      } else {
        list.append(try PromptTemplate.fill(pattern.item, ["name": name]))
      }
    }

    var prompt = Prompt(prefix: [], text: [], suffix: [], spoken: spoken, stop: try PromptTemplate.stop(pattern.stop, tokenizer, "\(work.task.rawValue).stop"))
    var isBehindText = false
    for part in try Pattern.split(pattern.prompt, at: "\(work.task.rawValue).prompt") {
      let atStart = prompt.prefix.isEmpty
      let piece: [TokenID]
      switch part {
      case .literal(let literal): piece = tokenizer.encodeTemplate(literal, atStart: atStart)
      case .placeholder("bos"): piece = tokenizer.beginOfText.map { [$0] } ?? []
      case .placeholder("text"):
        prompt.text = tokenizer.encode(text, atStart: atStart)
        isBehindText = true
        continue
      case .placeholder: piece = tokenizer.encode(list.joined(separator: pattern.separator), atStart: atStart)
      }
      if isBehindText { prompt.suffix += piece } else { prompt.prefix += piece }
    }
    return prompt
  }

  /// Names as the model reads them. Names that words alone would make equal, or empty, stay as they are.
  static func spoken(_ names: [String], _ style: Pattern.Names) -> [String] {
    guard style == .words else { return names }
    let spoken = names.map(words)
    var times: [String: Int] = [:]
    for name in spoken { times[name, default: 0] += 1 }
    return zip(names, spoken).map { name, spoken in spoken.isEmpty || times[spoken, default: 0] > 1 ? name : spoken }
  }

  private static func fill(_ text: String, _ values: [String: String]) throws(SternaError) -> String {
    var filled = ""
    for part in try Pattern.split(text, at: "item") {
      switch part {
      case .literal(let literal): filled += literal
      case .placeholder(let name): filled += values[name] ?? ""
      }
    }
    return filled
  }

  /// One token: a special one, an ordinary one with exactly this text, or the model's end of text.
  private static func stop(_ text: String, _ tokenizer: Tokenizer, _ path: String) throws(SternaError) -> TokenID {
    if let special = tokenizer.special(text) { return special }
    var copy = text
    if let ordinary = copy.withUTF8({ tokenizer.token(UnsafeRawBufferPointer($0)) }) { return ordinary }
    if let end = tokenizer.endOfText { return end }
    throw SternaError(.unsupported, "the vocabulary has no token that ends an answer", at: path, found: JSON.string(text).compact, remedy: "pack the model with a template that names one")
  }
}
