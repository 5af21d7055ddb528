import Basics
import Tokenizer

extension PromptTemplate {
  /// The names that `builtIn(named:)` knows.
  public static let builtInNames = ["pocket", "bitnet-2b4t", "llama-3", "falcon", "qwen", "plain"]

  /// A template that comes with Sterna: the turn markers of a family that people download, around the same questions.
  public static func builtIn(named name: String) -> PromptTemplate? {
    switch name {
    case "pocket":
      // The format that the pocket model is trained on (training/data.py).
      PromptTemplate(
        classify: Pattern(prompt: "<|classify|>{{labels}}<|text|>{{text}}<|answer|>", separator: "|", stop: "<|end|>"),
        extract: Pattern(prompt: "<|extract|>{{fields}}<|text|>{{text}}<|answer|>", separator: "|", stop: "<|end|>"))
    case "bitnet-2b4t":
      chat(begin: "<|begin_of_text|>System: ", user: "<|eot_id|>User: ", assistant: "<|eot_id|>Assistant: ", stop: "<|eot_id|>")
    case "llama-3":
      chat(
        begin: "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n", user: "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        assistant: "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", stop: "<|eot_id|>")
    case "falcon":
      chat(begin: "<|system|>\n", user: "\n<|user|>\n", assistant: "\n<|assistant|>\n", stop: "<|endoftext|>")
    case "qwen":
      chat(
        begin: "<|im_start|>system\n", user: "<|im_end|>\n<|im_start|>user\n", assistant: "<|im_end|>\n<|im_start|>assistant\n", stop: "<|im_end|>")
    case "plain":
      // For models that know no turns. A line break ends the answer.
      chat(begin: "{{bos}}", user: "\n\nMessage:\n", assistant: "\n\nAnswer:\n", stop: "\n")
    default: nil
    }
  }

  /// The built-in template that fits a model, by its special tokens; `plain` when none does.
  public static func detect(architecture: String, tokenizer: Tokenizer) -> (name: String, template: PromptTemplate) {
    func has(_ tokens: String...) -> Bool { tokens.allSatisfy { tokenizer.special($0) != nil } }
    let name =
      if has("<|classify|>", "<|extract|>", "<|text|>", "<|answer|>", "<|end|>") {
        "pocket"
      } else if has("<|im_start|>", "<|im_end|>") {
        "qwen"
      } else if has("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>") {
        // BitNet 2B4T has Llama 3's vocabulary and turns of its own.
        architecture.hasPrefix("bitnet") ? "bitnet-2b4t" : "llama-3"
      } else if has("<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>") {
        "falcon"
      } else {
        "plain"
      }
    return (name, builtIn(named: name) ?? PromptTemplate(classify: Self.empty(.classify), extract: Self.empty(.extract)))
  }

  private static func empty(_ task: JobTask) -> Pattern {
    Pattern(prompt: "{{\(Pattern.itemsPlaceholder(task))}}\n{{text}}\n", separator: "\n", stop: "\n")
  }

  private static func chat(begin: String, user: String, assistant: String, stop: String) -> PromptTemplate {
    func pattern(_ instruction: String, _ items: String) -> Pattern {
      Pattern(
        prompt: begin + instruction + "\n{{\(items)}}" + user + "{{text}}" + assistant, item: "- {{name}}", described: "- {{name}}: {{description}}",
        separator: "\n", stop: stop)
    }
    var template = PromptTemplate(
      classify: pattern("You sort messages. Which of these labels fits the message best? Answer with the label and nothing else.", "labels"),
      extract: pattern(
        "You fill in forms. Answer with one JSON object that has these fields. Copy each value from the message exactly as it stands there; "
          + "write null for what the message does not say.", "fields"))
    // What an instruction-tuned model prefers before it has read a message is large (Zhao et al. 2021). The pocket model was trained to have no such preference, and loses by it (docs/jobs.md).
    template.classify.contextual = true
    template.classify.multi = .question(
      prompt: begin + "You sort messages. Answer with Yes or No and nothing else." + user + "{{text}}\n\nDoes the label \"{{label}}\" fit this message?" + assistant,
      described: "{{name}}: {{description}}", yes: "Yes", no: "No")
    return template
  }
}
