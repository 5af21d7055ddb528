import ArgumentParser
import Basics
import Tokenizer

struct Tokenize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Turn a text into token ids.",
    discussion: """
      FILE is a packed model, a vocabulary GGUF or a hub folder. Special tokens in the text are ordinary characters here.

        sterna tokenize Models/pocket.gguf --text "valve 3 closed" --json
      """)

  @Argument(help: "A packed model, a vocabulary GGUF or a hub folder.", completion: .file())
  var file: String
  @Option(help: "The text.")
  var text: String
  @OptionGroup var output: OutputOptions

  func run() throws {
    let tokenizer = try Tokenizer.load(file)
    let ids = tokenizer.encode(text)
    if output.json {
      printLine(JSON.object(["ids": .array(ids.map { .number(Int($0)) })]).compact)
    } else {
      for id in ids { printLine("\(id)\t\(JSON.string(String(decoding: tokenizer.bytes(id), as: UTF8.self)).compact)") }
    }
  }
}
