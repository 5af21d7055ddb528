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
  /// The names of labels or fields as the model reads and writes them, in the order of the job; a contrast that is no label of the job comes last.
  public var spoken: [String]
  /// The token that ends an answer.
  public var stop: TokenID
  /// How many labels or fields, from the first on, the list in the prompt names.
  public var listed = 0
  /// With `multi`: the index in `spoken` of the name that stands for none of the labels, or the questions.
  public var multi: Multi?

  public enum Multi: Sendable, Equatable {
    case contrast(Int)
    /// What to ask about each label behind `suffix`, and the tokens with which the answers begin.
    case questions([[TokenID]], yes: TokenID, no: TokenID)
  }

  public var count: Int { prefix.count + text.count + suffix.count }
}

extension PromptTemplate {
  /// Fills in a job. Only the template's own literals can become special tokens; names, descriptions and the text are plain text, whatever they contain.
  /// Each piece between two joints is tokenised on its own; the labels or fields with their separators are one piece.
  ///
  /// - Parameters:
  ///   - multi: whether several labels may fit.
  ///   - listTokens: what the list of labels may take. Those at its end that do not fit are left out of it; the model can choose them all the same.
  /// - Throws: `bad_field` when a placeholder is wrong, `unsupported` when the vocabulary has no token for `stop`.
  public func render(_ work: Job.Work, text: String, multi: Bool = false, listTokens: Int = .max, tokenizer: Tokenizer) throws(SternaError) -> Prompt {
    let pattern = self[work.task]
    if case .classify(let labels) = work, multi, case .question = pattern.multi { return try renderQuestions(labels, text: text, tokenizer: tokenizer) }
    let items: [(name: String, description: String?)] =
      switch work {
      case .classify(let labels): labels.map { ($0.name, $0.description) }
      case .extract(let fields): fields.map { ($0.name, $0.description) }
      case .fill(let schema): try schema.items()
      }
    var spoken = PromptTemplate.spoken(items.map(\.name), pattern.names)
    var list: [String] = []
    for (item, name) in zip(items, spoken) {
      if let described = pattern.described, let description = item.description {
        list.append(try PromptTemplate.fill(described, ["name": name, "description": description]))
      } else {
        list.append(try PromptTemplate.fill(pattern.item, ["name": name]))
      }
    }
    var contrast: (index: Int, item: String?)?
    if multi, work.task == .classify, case .contrast(let name) = pattern.multi {
      // A label of the job that says the same stands for it.
      if let own = spoken.firstIndex(of: name) { contrast = (own, nil) } else {
        contrast = (spoken.count, try PromptTemplate.fill(pattern.item, ["name": name]))
        spoken.append(name)
      }
    }
    let (tokens, listed) = PromptTemplate.tokens(
      of: list, behind: contrast?.item, separator: pattern.separator, atMost: work.task == .classify ? listTokens : .max, tokenizer)

    var prompt = Prompt(prefix: [], text: [], suffix: [], spoken: spoken, stop: try PromptTemplate.stop(pattern.stop, tokenizer, "\(work.task.rawValue).stop"))
    prompt.listed = listed
    prompt.multi = contrast.map { .contrast($0.index) }
    (prompt.prefix, prompt.text, prompt.suffix, _) = try PromptTemplate.pieces(pattern.prompt, at: "\(work.task.rawValue).prompt", text: text, list: tokens, tokenizer)
    return prompt
  }

  /// The parts of a pattern, each tokenised on its own.
  ///
  /// - Parameter list: what stands for the labels or fields; nil for a pattern whose placeholder is a label that comes in each time: what is behind it is the tail.
  static func pieces(
    _ pattern: String, at path: String, text: String, list: [TokenID]?, _ tokenizer: Tokenizer
  ) throws(SternaError) -> (prefix: [TokenID], text: [TokenID], suffix: [TokenID], tail: [TokenID]) {
    var pieces = (prefix: [TokenID](), text: [TokenID](), suffix: [TokenID](), tail: [TokenID]())
    var isBehindText = false
    var isBehindLabel = false
    for part in try Pattern.split(pattern, at: path) {
      let atStart = pieces.prefix.isEmpty && !isBehindText
      let piece: [TokenID]
      switch part {
      case .literal(let literal): piece = tokenizer.encodeTemplate(literal, atStart: atStart)
      case .placeholder("bos"): piece = tokenizer.beginOfText.map { [$0] } ?? []
      case .placeholder("text"):
        pieces.text = tokenizer.encode(text, atStart: atStart)
        isBehindText = true
        continue
      case .placeholder:
        piece = list ?? []
        isBehindLabel = list == nil
      }
      if isBehindLabel { pieces.tail += piece } else if isBehindText { pieces.suffix += piece } else { pieces.prefix += piece }
    }
    return pieces
  }

  /// As many items from the first on as `most` tokens hold, joined, and `last` at the end whatever happens. One piece.
  private static func tokens(of items: [String], behind last: String?, separator: String, atMost most: Int, _ tokenizer: Tokenizer) -> ([TokenID], listed: Int) {
    func encode(_ count: Int) -> [TokenID] { tokenizer.encode((items.prefix(count) + [last].compactMap { $0 }).joined(separator: separator), atStart: false) }
    let all = encode(items.count)
    guard all.count > most else { return (all, items.count) }
    var (fitting, low, high) = ([TokenID](), 0, items.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      let tokens = encode(middle)
      if tokens.count <= most { (fitting, low) = (tokens, middle) } else { high = middle }
    }
    return (low == 0 ? encode(0) : fitting, low)
  }

  /// Names as the model reads them. Names that words alone would make equal, or empty, stay as they are.
  static func spoken(_ names: [String], _ style: Pattern.Names) -> [String] {
    guard style == .words else { return names }
    let spoken = names.map(words)
    var times: [String: Int] = [:]
    for name in spoken { times[name, default: 0] += 1 }
    return zip(names, spoken).map { name, spoken in spoken.isEmpty || times[spoken, default: 0] > 1 ? name : spoken }
  }

  static func fill(_ text: String, _ values: [String: String]) throws(SternaError) -> String {
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
  static func stop(_ text: String, _ tokenizer: Tokenizer, _ path: String) throws(SternaError) -> TokenID {
    if let special = tokenizer.special(text) { return special }
    var copy = text
    if let ordinary = copy.withUTF8({ tokenizer.token(UnsafeRawBufferPointer($0)) }) { return ordinary }
    if let end = tokenizer.endOfText { return end }
    throw SternaError(.unsupported, "the vocabulary has no token that ends an answer", at: path, found: JSON.string(text).compact, remedy: "pack the model with a template that names one")
  }
}
