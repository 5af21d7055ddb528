import Basics
import Tokenizer

extension PromptTemplate {
  /// A job to which several labels may fit, as one question for each label behind the text. What they have in common, up to the label, is read once.
  ///
  /// - Throws: `unsupported` when the vocabulary cannot tell `yes` from `no` by one token.
  func renderQuestions(_ labels: [Job.Label], text: String, tokenizer: Tokenizer) throws(SternaError) -> Prompt {
    guard case .question(let pattern, let described, let yes, let no) = classify.multi else {
      throw SternaError(.internal, "the template asks no questions", at: "classify.multi")
    }
    guard let yesToken = tokenizer.encode(yes, atStart: false).first, let noToken = tokenizer.encode(no, atStart: false).first, yesToken != noToken else {
      throw SternaError(
        .unsupported, "the answers begin with the same token", at: "classify.multi", expected: "two words that differ at once", found: "\"\(yes)\" and \"\(no)\"",
        remedy: "pack the model with a template that has others")
    }
    let spoken = PromptTemplate.spoken(labels.map(\.name), classify.names)
    var prompt = Prompt(
      prefix: [], text: [], suffix: [], spoken: spoken, stop: try PromptTemplate.stop(classify.stop, tokenizer, "classify.stop"), listed: labels.count)
    let tail: [TokenID]
    (prompt.prefix, prompt.text, prompt.suffix, tail) = try PromptTemplate.pieces(pattern, at: "classify.multi.prompt", text: text, list: nil, tokenizer)
    var questions: [[TokenID]] = []
    for (label, name) in zip(labels, spoken) {
      var asked = name
      if let described, let description = label.description { asked = try PromptTemplate.fill(described, ["name": name, "description": description]) }
      questions.append(tokenizer.encode(asked, atStart: false) + tail)
    }
    prompt.multi = .questions(questions, yes: yesToken, no: noToken)
    return prompt
  }
}
