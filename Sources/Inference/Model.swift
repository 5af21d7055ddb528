import Basics
import CTernary
import ModelFile
import Tokenizer

/// A model that can run: weights, working memory and threads.
///
/// Everything is allocated here once; a pass over the blocks allocates nothing. Used from one thread at a time.
public final class Model {
  public let packed: PackedModel
  public let configuration: ModelConfiguration
  /// The most tokens a sequence may have.
  public let contextLength: Int
  public let options: ModelOptions

  let weights: ModelWeights
  let kernels: ct_kernels
  let threads: WorkerThreads
  let rope: RopeTable
  let pool: KVPool
  let work: Workspace
  /// Nil where the model has none.
  var experts: (any ExpertSource)?
  let embedding: TableRows
  /// The embedding where the head is tied to it.
  let head: TableRows
  let headStream: HeadStream
  /// Where the memory goes.
  public let memory: MemoryPlan

  /// - Throws: `memoryLimit` when the parts do not fit under the limit, `unsupported` when no kernel of the asked name passes its self-test, or a size is not possible.
  public init(_ packed: PackedModel, options: ModelOptions = ModelOptions()) throws(SternaError) {
    let configuration = packed.configuration
    let context = options.contextLength ?? configuration.contextLength
    guard context >= 1, options.batchTokens ?? 1 >= 1, options.threads >= 1 else {
      throw SternaError(.unsupported, "context, batch and threads must be at least 1")
    }
    guard context <= configuration.contextLength else {
      throw SternaError(
        .unsupported, "the context is longer than the model was made for", expected: "at most \(configuration.contextLength) tokens",
        found: "\(context)")
    }
    // Kernels for scales by group take activations by group: who quantises them by token has no room for these.
    for (i, block) in packed.weights.blocks.enumerated() where !configuration.groupsActivations {
      guard !block.matrices.contains(where: { $0.ternary?.isGrouped ?? false }) else {
        throw SternaError(
          .badFile, "says nothing of groups, but there is a matrix with scales by group", at: "\(packed.path): key sterna.groups_activations", expected: "true",
          found: "block \(i)")
      }
    }
    guard let kernels = ct_select(options.kernel) else {
      throw SternaError(.unsupported, "this machine cannot run the kernel \(options.kernel ?? "scalar")", remedy: "leave the choice to Sterna")
    }
    memory = try MemoryPlan(packed, options, contextLength: context)
    self.packed = packed
    self.configuration = configuration
    self.options = options
    weights = packed.weights
    contextLength = context
    self.kernels = kernels.pointee
    threads = WorkerThreads(count: options.threads)
    rope = RopeTable(configuration, contextLength: context)
    let layout = KVLayout(configuration, options.kv)
    pool = KVPool(budget: memory.kvBudget, layout: layout)
    experts = try Model.expertSource(packed, options, memory, kernels.pointee)
    work = Workspace(configuration, packed.weights.record, tokens: memory.batchTokens, contextLength: context, workers: threads.count, layout: layout)
    embedding = TableRows(weights.embedding, of: packed.gguf.file, cacheBytes: memory.rowCacheBytes)
    if let table = weights.head { head = TableRows(table, of: packed.gguf.file, cacheBytes: memory.rowCacheBytes) } else { head = embedding }
    headStream = HeadStream(packed.gguf.file, workers: head.isMapped ? 0 : threads.count)
  }

  /// The instruction set that the ternary products run on, such as `avx512vnni`.
  public var kernelName: String { String(cString: kernels.name) }

  /// Tokens that run through the blocks together.
  public var batchTokens: Int { memory.batchTokens }
  /// Bytes of keys and values in use by all sequences.
  public var kvBytesInUse: Int { pool.usedBytes }
  /// Bytes of keys and values a token.
  public var kvBytesPerToken: Int { pool.layout.bytesPerToken }

  /// Bytes of keys and values that the budget still has.
  public var kvBytesFree: Int { pool.freeBytes }
  /// Bytes that the keys and values of all sequences may take.
  public var kvBudgetBytes: Int { memory.kvBudget }
  /// Bytes of the keys and values of one sequence.
  /// - Parameter capacity: its own tokens, at most `contextLength`.
  public func kvBytes(capacity: Int) -> Int { pool.layout.bytes(capacity) }

  /// A new sequence, behind tokens of `parent` or at position 0.
  ///
  /// - Parameters:
  ///   - count: how many of the parent's tokens it continues, those of the parent's ancestors included; nil: all of them.
  ///   - capacity: own tokens it can take.
  /// - Throws: `contextFull` when parent and capacity together exceed the context, `kvFull` when the budget is used up.
  public func sequence(after parent: Sequence? = nil, upTo count: Int? = nil, capacity: Int) throws(SternaError) -> Sequence {
    guard parent == nil || parent?.pool === pool else {
      throw SternaError(.unsupported, "the parent belongs to another model")
    }
    let start = count ?? parent?.count ?? 0
    guard 0...(parent?.count ?? 0) ~= start else {
      throw SternaError(.unsupported, "a sequence continues tokens that its parent has", expected: "0...\(parent?.count ?? 0)", found: "\(start)")
    }
    guard capacity >= 0, capacity <= contextLength - start else {
      throw SternaError(
        .contextFull, "the text does not fit into the context", expected: "at most \(contextLength) tokens", found: "\(start) + \(capacity)",
        remedy: "a shorter text, or a larger context in the configuration")
    }
    // An ancestor of whose own tokens none is visible has nothing to do with it.
    var parent = parent
    while let nearest = parent, start <= nearest.start, start < nearest.count { parent = nearest.parent }
    return try Sequence(pool: pool, parent: parent, start: start, capacity: capacity)
  }

  /// Which positions' hidden states a step is for.
  public enum Want: Sendable, Equatable {
    case none, last, all
    /// The last so many.
    case tail(Int)

    func includes(_ index: Int, of count: Int) -> Bool {
      switch self {
      case .none: false
      case .last: index == count - 1
      case .all: true
      case .tail(let wanted): index >= count - wanted
      }
    }

    /// Of a step of `count` tokens.
    public func count(of count: Int) -> Int {
      switch self {
      case .none: 0
      case .last: min(1, count)
      case .all: count
      case .tail(let wanted): min(wanted, count)
      }
    }
  }

  /// Tokens that continue one sequence.
  public struct Step {
    public var sequence: Sequence
    public var tokens: [TokenID]
    public var want: Want

    public init(sequence: Sequence, tokens: [TokenID], want: Want) {
      self.sequence = sequence
      self.tokens = tokens
      self.want = want
    }
  }
}

public typealias Step = Model.Step
