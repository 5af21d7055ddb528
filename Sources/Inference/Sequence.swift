import Basics

/// A run of tokens in the KV cache: a task's prompt, a job's text behind it, a label's beginning behind that.
///
/// Sequences form a tree. A child continues its parent, or a beginning of it, and shares the parent's keys and values; while it has children a parent is
/// frozen. What a pass computes for a token does not depend on how the tokens before it are divided between ancestors.
///
/// Used from the model's thread only.
public final class Sequence {
  let pool: KVPool
  let parent: Sequence?
  /// Tokens of ancestors that this sequence continues: the position of its first own token. What the parent holds from there on is invisible to it.
  let start: Int
  /// Own tokens that fit.
  public let capacity: Int
  /// Own tokens that are in the cache.
  private(set) var length = 0
  private(set) var children = 0
  private var isSealed = false
  /// Keys and values; `pool.layout` says where.
  let storage: UnsafeMutableRawPointer

  /// - Parameter start: at most the parent's `count`, at least its `start`.
  init(pool: KVPool, parent: Sequence?, start: Int, capacity: Int) throws(SternaError) {
    assert(start >= parent?.start ?? 0 && start <= parent?.count ?? 0)
    self.pool = pool
    self.parent = parent
    self.start = start
    self.capacity = capacity
    storage = try pool.take(tokens: capacity)
    parent?.children += 1
  }

  deinit {
    parent?.children -= 1
    pool.give(storage, tokens: capacity)
  }

  /// Tokens in the cache, ancestors' included: the position of the next token.
  public var count: Int { start + length }
  /// Own tokens that still fit.
  public var room: Int { capacity - length }
  /// Whether others rely on this sequence's tokens, so that it must not change: children, or the prefix cache.
  public var isFrozen: Bool { children > 0 || isSealed }

  /// Freezes for good.
  func seal() { isSealed = true }

  /// Forgets tokens from the end, for example a draft that was not accepted. Ancestors keep theirs: `count` is at least their part. Without effect on a frozen sequence.
  public func truncate(to count: Int) {
    guard !isFrozen else { return }
    length = min(length, max(0, count - start))
  }

  /// After the keys and values of `tokens` tokens were written.
  func advance(by tokens: Int) {
    assert(length + tokens <= capacity)
    length += tokens
  }
}
