import Tokenizer

/// The ordinary tokens of a vocabulary by their bytes: what begins alike is walked once.
///
/// The nodes lie in the order of a walk (a token, then everything that begins with it), 8 bytes each: 2.1 MB for the 128,000 tokens of Llama 3.
public struct VocabularyTrie: Sendable {
  /// One byte of one or several tokens: byte (8 bits), depth (8), token + 1 where one ends here (20), first node that is not below (28).
  package struct Node {
    private var bits: UInt64

    init(byte: UInt8, depth: Int) { bits = UInt64(byte) | UInt64(depth) << 8 }

    @inline(__always) package var byte: UInt8 { UInt8(truncatingIfNeeded: bits) }
    @inline(__always) package var depth: Int { Int(truncatingIfNeeded: bits >> 8 & 0xFF) }
    /// The token that ends here; -1: none.
    @inline(__always) package var token: TokenID {
      get { TokenID(truncatingIfNeeded: bits >> 16 & 0xF_FFFF) - 1 }
      set { bits = bits & ~(0xF_FFFF << 16) | UInt64(newValue + 1) << 16 }
    }
    /// Where the walk goes on when it does not go below this node.
    @inline(__always) package var end: Int {
      get { Int(truncatingIfNeeded: bits >> 36) }
      set { bits = bits & 0xF_FFFF_FFFF | UInt64(newValue) << 36 }
    }
  }

  /// Longer tokens are left out (the longest of Llama 3 has 128 bytes). A million tokens of this length have fewer than 2^28 nodes.
  package static let maxTokenBytes = 255

  package let nodes: [Node]
  /// Tokens of the whole vocabulary: ids are below.
  let tokenCount: Int

  public var byteCount: Int { nodes.count * MemoryLayout<Node>.stride }

  /// Takes about 30 ms for the 128,000 tokens of Llama 3.
  public init(_ tokenizer: Tokenizer) {
    tokenCount = tokenizer.count
    var sorted: [(head: UInt64, id: TokenID)] = []
    sorted.reserveCapacity(tokenizer.count)
    for id in 0..<TokenID(truncatingIfNeeded: tokenizer.count) {
      let bytes = tokenizer.bytes(id)
      guard 1...VocabularyTrie.maxTokenBytes ~= bytes.count, tokenizer.token(bytes) == id else { continue }
      var head: UInt64 = 0
      for i in 0..<8 { head = head << 8 | (i < bytes.count ? UInt64(bytes[i]) : 0) }
      sorted.append((head, id))
    }
    sorted.sort { a, b in
      if a.head != b.head { return a.head < b.head }
      return tokenizer.bytes(a.id).lexicographicallyPrecedes(tokenizer.bytes(b.id))
    }

    var nodes: [Node] = []
    nodes.reserveCapacity(sorted.count * 2)
    var path: [Int] = []  // the nodes of the token before
    for (_, id) in sorted {
      let bytes = tokenizer.bytes(id)
      var shared = 0
      while shared < path.count, shared < bytes.count, nodes[path[shared]].byte == bytes[shared] { shared += 1 }
      while path.count > shared { nodes[path.removeLast()].end = nodes.count }
      for depth in shared..<bytes.count {
        path.append(nodes.count)
        nodes.append(Node(byte: bytes[depth], depth: depth))
      }
      nodes[nodes.count - 1].token = id
    }
    while let last = path.popLast() { nodes[last].end = nodes.count }
    self.nodes = nodes
  }
}
