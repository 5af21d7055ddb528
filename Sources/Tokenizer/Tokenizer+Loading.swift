import Basics
import ModelFile

extension Tokenizer {
  /// The section of a packed model that holds the tables.
  public static let sectionName = "sterna.tokenizer"

  /// Reads the tokenizer of a packed model, a vocabulary GGUF or a hub folder.
  ///
  /// The tables of a packed model are used where they lie; for the others they are made in memory.
  /// - Throws: `io`, `badFile` or `unsupported`; the place is the file and the key or JSON path in it.
  public static func load(_ path: String) throws(SternaError) -> Tokenizer {
    if isFolder(path) { return try Tokenizer(tables: pack(hubFolder: path), place: path) }
    let gguf = try GGUFFile(path)
    if let section = gguf.tensor(sectionName) {
      return Tokenizer(tables: try TokenTables(gguf.bytes(of: section), owner: gguf.file, place: "\(path): \(sectionName)"))
    }
    return try Tokenizer(tables: pack(gguf: gguf), place: path)
  }

  /// The tokenizer inside a packed model, used where it lies.
  ///
  /// - Throws: `badFile` when the model has none or it is damaged.
  public init(_ model: PackedModel) throws(SternaError) {
    let place = "\(model.path): \(Tokenizer.sectionName)"
    guard let section = model.section(Tokenizer.sectionName) else {
      throw SternaError(.badFile, "this model was packed without a tokenizer", at: place, remedy: "pack it again from a folder with tokenizer.json")
    }
    tables = try TokenTables(section, owner: model, place: place)
  }

  /// Tables in memory, for example from `pack`.
  ///
  /// - Parameter place: what to call them in errors.
  public init(tables: [UInt8], place: String = "the tokenizer tables") throws(SternaError) {
    let memory = TableMemory(tables)
    self.tables = try TokenTables(memory.bytes, owner: memory, place: place)
  }

  /// The section `sterna.tokenizer` made from `tokenizer.json` of a hub folder, and from `tokenizer_config.json` and `config.json` which say
  /// the tokens that begin and end a text.
  public static func pack(hubFolder path: String) throws(SternaError) -> [UInt8] {
    try TokenTables.build(Vocabulary(hubFolder: path))
  }

  /// The same from `tokenizer.ggml.*` in the metadata of a GGUF file.
  public static func pack(gguf: GGUFFile) throws(SternaError) -> [UInt8] {
    try TokenTables.build(Vocabulary(gguf))
  }

  /// The same for a vocabulary without a language, for models with random weights.
  /// - Parameter count: of tokens, at least 258.
  public static func pack(syntheticVocabularyOf count: Int) throws(SternaError) -> [UInt8] {
    try TokenTables.build(Vocabulary(syntheticOf: count))
  }
}
