import Agent
import ArgumentParser
import Basics
import Jobs
import ModelFile
import Tokenizer

struct Pack: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a packed model of a hub folder or of another engine's GGUF.",
    discussion: """
      SOURCE is a folder as model hubs have it (config.json, one or many *.safetensors, tokenizer.json), or a GGUF file of bitnet.cpp or
      llama.cpp; of one that is split, any part (NAME-00001-of-00003.gguf). It is streamed: memory stays at a few hundred megabytes whatever the model's size.

      Packing that was interrupted goes on when the same command is given again. Until it is finished there are OUTPUT.partial and
      OUTPUT.state.partial; delete them to give up.

        sterna pack bitnet-b1.58-2B-4T -o models/2b4t.gguf
        sterna pack ggml-model-i2_s.gguf --i2s-layout x86 -o models/2b4t.gguf
      """)

  @Argument(help: "The hub folder, or the GGUF file.", completion: .file())
  var source: String
  @Option(name: .shortAndLong, help: "The file to write.", completion: .file(extensions: ["gguf"]))
  var output: String
  @OptionGroup var arguments: PackArguments

  func run() throws {
    let notes = PackingNotes()
    defer { notes.clear() }
    let report = try packModel(from: source, to: output, arguments: arguments, resumedBy: "sterna \(Agent.version)", report: notes.show)
    notes.clear()
    try printPacked(output, report)
  }
}

/// A line a second: a small model packs in silence, a large one shows that it moves.
func progressNotes() -> (String) -> Void {
  var last = monotonicSeconds()
  return { line in
    guard monotonicSeconds() - last >= 1 else { return }
    last = monotonicSeconds()
    note(line)
  }
}

/// What has become of it.
func printPacked(_ path: String, _ report: PackReport) throws {
  let packed = try PackedModel.open(path)
  printLine("\(path): \((Double(packed.fileBytes) / 1e6).formatted(1)) MB, fingerprint \(packed.fingerprint.prefix(16))")
  if let record = packed.weights.record {
    printLine("experts in \(record.storage.rawValue), \((Double(record.bytes) / 1e6).formatted(2)) MB each")
  } else {
    printLine("layout \(report.layout.rawValue)" + (report.droppedNeurons > 0 ? ", without \(report.droppedNeurons) neurons that are always zero" : ""))
  }
  for (table, loss) in [("embedding", report.embeddingLoss), ("head", report.headLoss)] {
    guard let loss else { continue }
    printLine(
      "\(table) in \(report.embedding.rawValue): relative error \((loss.relativeError * 100).formatted(3)) %, mean cosine of rows \(loss.meanCosine.formatted(6))")
  }
}

/// Composes a packed file of what three modules know: weights, tokenizer tables, prompt template.
@discardableResult
func packModel(
  from source: String, to path: String, arguments: PackArguments, resumedBy program: String? = nil, report: (PackEvent) -> Void = { _ in }
) throws -> PackReport {
  if isFolder(source) {
    let folder = try HubFolder(source, activation: arguments.activation)
    let options = try arguments.storage.options(folder.configuration)
    let (sections, metadata) = try companions(folder.configuration, Tokenizer.pack(hubFolder: source), arguments)
    return try Packer.pack(folder, to: path, options: options, sections: sections, metadata: metadata, resumedBy: program, report: report)
  }
  let gguf = try GGUFFile.whole(source)
  guard !PackedModel.isPacked(gguf) else {
    throw SternaError(
      .unsupported, "this file is packed already", at: source, remedy: "use it as it is; to pack with other options, start from what it was packed from")
  }
  let model = try GGUFSource(gguf, options: .init(i2sLayout: arguments.i2sLayout, activation: arguments.activation))
  let options = try arguments.storage.options(model.configuration)
  for line in model.notes { note("\(source): \(line)") }
  let (sections, metadata) = try companions(model.configuration, Tokenizer.pack(gguf: gguf), arguments)
  return try Packer.pack(model, to: path, options: options, sections: sections, metadata: metadata, resumedBy: program, report: report)
}

/// What travels with the weights: the tokenizer, and the template that goes with it.
private func companions(
  _ configuration: ModelConfiguration, _ tables: [UInt8], _ arguments: PackArguments
) throws -> (sections: [(name: String, bytes: [UInt8])], metadata: [(String, GGUFValue)]) {
  let template = try promptTemplate(arguments.template, architecture: configuration.architecture, tokenizer: Tokenizer(tables: tables))
  return ([(Tokenizer.sectionName, tables)], [(PromptTemplate.metadataKey, .string(template.json.compact))])
}

/// A built-in template by name, a file, or what the tokenizer's special tokens suggest.
func promptTemplate(_ choice: String?, architecture: String, tokenizer: Tokenizer) throws -> PromptTemplate {
  guard let choice else { return PromptTemplate.detect(architecture: architecture, tokenizer: tokenizer).template }
  if let builtIn = PromptTemplate.builtIn(named: choice) { return builtIn }
  guard let bytes = try? readWholeFile(choice, limit: 1 << 20) else {
    throw SternaError(
      .unsupported, "neither a built-in template nor a file that can be read", at: "--template \(choice)",
      expected: "one of \(PromptTemplate.builtInNames.joined(separator: ", ")), or a JSON file (docs/jobs.md)")
  }
  do throws(SternaError) {
    return try PromptTemplate.parse(bytes)
  } catch {
    throw error.within(choice)
  }
}
