import Basics

/// What a `Model` may use of the machine.
public struct ModelOptions: Sendable {
  /// Threads that compute, the caller's among them.
  public var threads = 1
  public var kv = KVFormat.f16
  /// The most tokens a sequence may have, its ancestors' included; nil: what the model was made for.
  public var contextLength: Int?
  /// Bytes for the keys and values of all sequences together; nil: enough for two of full length.
  public var kvBudgetBytes: Int?
  /// Tokens that run through the blocks together; sets the size of the working memory. nil: 128, and up to 512 where experts are read from disk.
  public var batchTokens: Int?
  /// Bytes that the process may take, page cache included; nil: no limit. Decides whether embedding and head are mapped or read row by row.
  public var memoryLimit: Int?
  /// Bytes that are somebody else's under that limit, such as a queue's.
  public var reserved: [MemoryPlan.Entry] = []
  /// Bytes for experts that are read as they are needed; nil: all experts where there is room for them, else whatever room there is.
  public var expertCacheBytes: Int?
  /// Threads that read experts.
  public var expertReaders = 4
  /// How they read; nil: whichever is faster here, measured for a moment.
  public var expertReads: RecordReads?
  /// Stands between the disk and the model, for tests: a disk that fails.
  package var expertReader: (@Sendable (any RecordReader) -> any RecordReader)?
  /// How many experts of the next block are guessed, for tests; nil: as many as the disk has had time for.
  package var expertGuesses: Int?
  /// A kernel by name, such as `scalar`; nil: the best that passes its self-test.
  public var kernel: String?

  public init() {}
}

extension SternaError.Code {
  /// The budget for keys and values is used up.
  public static let kvFull: Self = "kv_full"
  /// More tokens than the context holds.
  public static let contextFull: Self = "context_full"
  /// What the configuration asks for does not fit under its memory limit.
  public static let memoryLimit: Self = "memory_limit"
  /// The model's file could not be read while a job needed it.
  public static let modelIO: Self = "model_io"
  /// A token id outside the vocabulary.
  public static let badToken: Self = "bad_token"
}
