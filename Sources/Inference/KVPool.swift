import Basics
import Glibc
import Synchronization

/// The budget that all keys and values come out of.
final class KVPool: Sendable {
  let budget: Int
  let layout: KVLayout
  private let used = Atomic<Int>(0)
  private static let large = 1 << 20

  init(budget: Int, layout: KVLayout) {
    self.budget = budget
    self.layout = layout
  }

  var usedBytes: Int { used.load(ordering: .relaxed) }
  var freeBytes: Int { max(0, budget - usedBytes) }

  /// Takes memory for `tokens` tokens, aligned to 64 bytes.
  func take(tokens: Int) throws(SternaError) -> UnsafeMutableRawPointer {
    let bytes = layout.bytes(tokens)
    guard used.add(bytes, ordering: .relaxed).newValue <= budget else {
      used.subtract(bytes, ordering: .relaxed)
      throw SternaError(
        .kvFull, "no room for the keys and values of \(tokens) more tokens", expected: "at most \(budget) bytes for all sequences",
        found: "\(usedBytes) in use, \(bytes) more asked for", remedy: "a larger KV budget, a shorter context or fewer jobs at once")
    }
    // Large pieces are the kernel's own: given back they leave the process, where malloc would learn from the first one to keep them.
    if bytes >= Self.large, let memory = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), memory != MAP_FAILED { return memory }
    guard bytes < Self.large else {
      used.subtract(bytes, ordering: .relaxed)
      throw SternaError(.kvFull, "this machine has no memory for keys and values", found: "\(bytes) bytes asked for", cause: String(cString: strerror(errno)))
    }
    return .allocate(byteCount: max(64, bytes), alignment: 64)
  }

  func give(_ memory: UnsafeMutableRawPointer, tokens: Int) {
    let bytes = layout.bytes(tokens)
    if bytes >= Self.large { munmap(memory, bytes) } else { memory.deallocate() }
    used.subtract(bytes, ordering: .relaxed)
  }
}
