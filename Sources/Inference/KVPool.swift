import Basics
import Synchronization

/// The budget that all keys and values come out of.
final class KVPool: Sendable {
  let budget: Int
  let layout: KVLayout
  private let used = Atomic<Int>(0)

  init(budget: Int, layout: KVLayout) {
    self.budget = budget
    self.layout = layout
  }

  var usedBytes: Int { used.load(ordering: .relaxed) }

  /// Takes memory for `tokens` tokens, aligned to 64 bytes.
  func take(tokens: Int) throws(SternaError) -> UnsafeMutableRawPointer {
    let bytes = layout.bytes(tokens)
    guard used.add(bytes, ordering: .relaxed).newValue <= budget else {
      used.subtract(bytes, ordering: .relaxed)
      throw SternaError(
        .kvFull, "no room for the keys and values of \(tokens) more tokens", expected: "at most \(budget) bytes for all sequences",
        found: "\(usedBytes) in use, \(bytes) more asked for", remedy: "a larger KV budget, a shorter context or fewer jobs at once")
    }
    return .allocate(byteCount: max(64, bytes), alignment: 64)
  }

  func give(_ memory: UnsafeMutableRawPointer, tokens: Int) {
    memory.deallocate()
    used.subtract(layout.bytes(tokens), ordering: .relaxed)
  }
}
