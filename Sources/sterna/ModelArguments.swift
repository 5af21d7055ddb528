import ArgumentParser
import Basics
import Glibc
import Inference
import ModelFile
import Tokenizer

extension KVFormat: ExpressibleByArgument {}
extension EmbeddingTable.Storage: ExpressibleByArgument {}
extension I2SLayout: ExpressibleByArgument {}
extension RecordReads: ExpressibleByArgument {}
extension ModelConfiguration.Activation: ExpressibleByArgument {}

/// `--layout`: small, fast, or whichever suits the model and the machine.
enum LayoutChoice: String, ExpressibleByArgument, CaseIterable {
  case auto, small, fast

  var layout: TernaryMatrix.Layout? {
    switch self {
    case .auto: nil
    case .small: .small
    case .fast: .fast
    }
  }
}

/// `--trunk`, `--experts`: a storage, or that of the source.
enum WeightChoice: String, ExpressibleByArgument, CaseIterable {
  case asis, q8_0, q4_0, mxfp4, iq4_nl, f32

  /// Nil: that of the source.
  var storage: WeightStorage? { WeightStorage(rawValue: rawValue) }
}

/// What `sterna doctor` would recommend for a large model, measured now; but memory decides first.
private func fasterLayout(fastBytes: Int) -> TernaryMatrix.Layout {
  guard fastBytes < sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) / 2 else { return .small }
  return (try? BoxProbe(threads: [usableCores]).layout) ?? .small
}

/// How weights are stored in a packed file.
struct StorageArguments: ParsableArguments {
  @Option(help: "How embedding and head are stored: f32, f16, q8, q6 or q4. (default: q8; f32 for a table under a megabyte)")
  var embedding: EmbeddingTable.Storage?

  @Option(help: "How ternary weights are laid out: small (1.6 bits), fast (2 bits), or auto: for a large model, measured on this machine.")
  var layout: LayoutChoice = .auto

  @Option(help: "How a model with experts stores all other matrices: q8_0, q4_0, mxfp4, iq4_nl, f32, or asis: as the source does, else q8_0. (default: q8_0)")
  var trunk: WeightChoice?

  @Option(help: "How experts are stored: q4_0, q8_0, mxfp4, iq4_nl, f32, or asis: as the source does, else q4_0. (default: asis)")
  var experts: WeightChoice?

  /// For a model of a configuration.
  /// - Throws: `unsupported` where something was chosen that this model does not have: the file would not be what was asked for.
  func options(_ configuration: ModelConfiguration) throws(SternaError) -> PackOptions {
    func refusal(_ option: String, _ reason: String) -> SternaError {
      SternaError(
        .unsupported, "a model of architecture \(configuration.architecture) \(reason)", at: option,
        remedy: "leave it away; " + (configuration.isTernary ? "--layout says how ternary matrices are stored" : "--trunk and --experts say how its matrices are stored"))
    }
    if configuration.isTernary, let experts { throw refusal("--experts \(experts.rawValue)", "has no experts") }
    if configuration.isTernary, let trunk { throw refusal("--trunk \(trunk.rawValue)", "has only ternary matrices") }
    if !configuration.isTernary, layout != .auto { throw refusal("--layout \(layout.rawValue)", "has no ternary matrices") }
    return PackOptions(
      embedding: embedding, layout: layout.layout, layoutOfBox: fasterLayout, trunk: (trunk ?? .q8_0).storage, experts: (experts ?? .asis).storage)
  }
}

/// How a hub folder or another engine's GGUF is packed; ignored for a file that is packed already.
struct PackArguments: ParsableArguments {
  @OptionGroup var storage: StorageArguments

  @Option(help: "Prompt template: a JSON file, or a built-in one by name. Without it, the tokenizer's special tokens decide.")
  var template: String?

  @Option(help: "The activation function, for a model that does not say: silu or relu2.")
  var activation: ModelConfiguration.Activation?

  @Option(
    name: .customLong("i2s-layout"),
    help: "GGUF with I2_S: the machine on which it was made, x86 or arm. Files differ, and nothing in them tells; the wrong one gives nonsense.")
  var i2sLayout: I2SLayout = .x86
}

/// The model that a command looks at.
struct ModelFileArguments: ParsableArguments {
  @Argument(help: "A packed model; or a hub folder or another engine's GGUF (packed into a temporary file first).", completion: .file())
  var file: String

  @OptionGroup var pack: PackArguments

  /// Opens the packed file, after packing FILE if it is a hub folder or another engine's GGUF.
  func open() throws -> PackedModel {
    if !isFolder(file), try PackedModel.isPacked(GGUFFile(file)) { return try PackedModel.open(file) }
    let temporary = try temporaryName()
    // The mapping outlives the name, so nothing is left behind.
    defer { unlink(temporary) }
    return try Interruption.removing([temporary, DurableFile.temporaryPath(of: temporary)]) {
      try packModel(from: file, to: temporary, arguments: pack)
      return try PackedModel.open(temporary)
    }
  }

  private func temporaryName() throws -> String {
    let folder = temporaryFolder
    var template = Array("\(folder)/sterna-XXXXXX.gguf".utf8CString)
    let descriptor = mkstemps(&template, 5)
    guard descriptor >= 0 else {
      throw SternaError(.io, "cannot make a temporary file", at: folder, remedy: "name a folder with room in TMPDIR", cause: String(cString: strerror(errno)))
    }
    close(descriptor)
    return template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
  }
}

/// Where temporary files go.
var temporaryFolder: String {
  let folder = getenv("TMPDIR").map { String(cString: $0) } ?? ""
  return folder.isEmpty ? "/tmp" : folder
}

/// How a model runs.
struct RunArguments: ParsableArguments {
  @Option(name: .shortAndLong, help: "Worker threads; 0 takes every core that the process may use.")
  var threads = 0

  @Option(help: "How keys and values are cached: f32, f16, or q8 (half the memory of f16, and faster).")
  var kv: KVFormat = .f16

  @Option(help: "Context length in tokens. (default: what the model allows, at most 4096)")
  var context: Int?

  @Option(help: "Megabytes (of 1,000,000 bytes) that the process may take; what does not fit is refused.")
  var memoryLimit: Int?

  @Option(help: "Megabytes for experts that are read from disk as they are needed; 0 for no cache. (default: all experts where they fit, else what is free)")
  var expertCache: Int?

  @Option(help: "Threads that read experts.")
  var expertReaders = 4

  @Option(help: "How experts are read: direct (past the page cache) or buffered. (default: what is faster here)")
  var expertReads: RecordReads?

  func validate() throws {
    guard 0...256 ~= threads else { throw ValidationError("--threads: expected 0...256, found \(threads)") }
    if let context, !(1...1_048_576 ~= context) { throw ValidationError("--context: expected 1...1048576, found \(context)") }
    if let expertCache, !(0...16_000_000 ~= expertCache) { throw ValidationError("--expert-cache: expected 0...16000000, found \(expertCache)") }
    guard 1...64 ~= expertReaders else { throw ValidationError("--expert-readers: expected 1...64, found \(expertReaders)") }
    if let memoryLimit, !(1...16_000_000 ~= memoryLimit) { throw ValidationError("--memory-limit: expected 1...16000000, found \(memoryLimit)") }
  }

  /// Threads to use: as asked, or one a core.
  var threadCount: Int { threads > 0 ? threads : usableCores }

  /// The model with its working memory and threads.
  /// - Parameter kvBudgetBytes: for all keys and values; nil: enough for two full contexts.
  func load(_ packed: PackedModel, kvBudgetBytes: Int? = nil) throws -> Model {
    try Model(packed, options: options(packed, kvBudgetBytes: kvBudgetBytes))
  }

  func options(_ packed: PackedModel, kvBudgetBytes: Int? = nil) -> ModelOptions {
    let longest = packed.configuration.contextLength
    var options = ModelOptions()
    options.threads = threadCount
    options.kv = kv
    options.contextLength = min(longest, context ?? min(longest, 4096))
    options.memoryLimit = memoryLimit.map { $0 * 1_000_000 }
    options.kvBudgetBytes = kvBudgetBytes
    options.expertCacheBytes = expertCache.map { $0 * 1_000_000 }
    options.expertReaders = expertReaders
    options.expertReads = expertReads
    return options
  }
}

/// The model that a command works with, and how it runs.
struct ModelArguments: ParsableArguments {
  @OptionGroup var source: ModelFileArguments
  @OptionGroup var running: RunArguments

  var file: String { source.file }
  var threadCount: Int { running.threadCount }

  func open() throws -> PackedModel { try source.open() }
  func load(_ packed: PackedModel) throws -> Model { try running.load(packed) }
}

/// Token ids as they stand on a command line: `0,17,4`.
struct TokenList: ExpressibleByArgument {
  let ids: [TokenID]
  init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map { TokenID($0) }
    guard !parts.isEmpty, parts.allSatisfy({ $0 != nil }) else { return nil }
    ids = parts.compactMap { $0 }
  }
}

/// Seconds on a clock that only goes forward.
func monotonicSeconds() -> Double {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
}
