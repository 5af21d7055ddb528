import ArgumentParser
import Basics
import Jobs
import ModelFile
import Tokenizer

extension DummyShape: ExpressibleByArgument {}

struct Dummy: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a packed model of random weights, for measuring.",
    discussion: """
      The file has the shapes of a real model, so it costs the same time and memory; its answers mean nothing.

        sterna dummy bitnet-2b-4t -o models/dummy-2b.gguf --layout small
        sterna dummy qwen3-30b-a3b -o models/dummy-moe.gguf --layers 24
      """)

  @Argument(help: "Which model: \(DummyShape.allCases.map(\.rawValue).joined(separator: ", ")).")
  var shape: DummyShape
  @Option(name: .shortAndLong, help: "The file to write.", completion: .file(extensions: ["gguf"]))
  var output: String
  @Option(help: "A GGUF file whose vocabulary to use. (default: an invented one of the right size)", completion: .file(extensions: ["gguf"]))
  var vocab: String?
  @Option(help: "Only the first so many blocks. (default: all)")
  var layers: Int?
  @OptionGroup var storage: StorageArguments
  @Option(help: "The same seed and options give the same file.")
  var seed: UInt64 = 0

  func validate() throws {
    if let layers, !(1...shape.configuration.blockCount ~= layers) {
      throw ValidationError("--layers: expected 1...\(shape.configuration.blockCount), found \(layers)")
    }
  }

  func run() throws {
    let size = shape.configuration.vocabularySize
    let tables: [UInt8]
    if let vocab {
      tables = try Tokenizer.pack(gguf: GGUFFile(vocab))
    } else {
      tables = try Tokenizer.pack(syntheticVocabularyOf: size)
    }
    let tokenizer = try Tokenizer(tables: tables)
    guard tokenizer.count <= size else {
      throw SternaError(
        .unsupported, "this vocabulary is larger than that of \(shape.rawValue)", at: vocab, expected: "at most \(size) tokens", found: "\(tokenizer.count)",
        remedy: "take another vocabulary, or leave --vocab away")
    }
    let source = DummySource(
      shape, blocks: layers, trunk: storage.trunk?.storage ?? .q8_0, experts: storage.experts?.storage ?? .q4_0, seed: seed, beginOfText: tokenizer.beginOfText, endOfText: tokenizer.endOfText)
    let template = PromptTemplate.detect(architecture: source.configuration.architecture, tokenizer: tokenizer).template
    let options = try storage.options(source.configuration)
    let notes = PackingNotes()
    defer { notes.clear() }
    let report = try Packer.pack(
      source, to: output, options: options, sections: [(Tokenizer.sectionName, tables)],
      metadata: [(PromptTemplate.metadataKey, .string(template.json.compact))], report: notes.show)
    notes.clear()
    try printPacked(output, report)
  }
}
