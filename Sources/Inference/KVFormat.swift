import Basics
import ModelFile

/// How the cache stores keys and values.
public enum KVFormat: String, Sendable, CaseIterable {
  case f32, f16
  /// int8 with a scale for each head and token.
  case q8
}

/// Where the keys and values of one sequence lie, for a capacity in tokens. A token has some *parts* in each block:
///
///     grouped attention         keys [kvHeads, headSize], values [kvHeads, headSize]
///     latent attention          the latent [1, rank], which is the keys of all heads and their values too, and the rotated key [1, ropeSize];
///                               for q8, where keys and values lie differently, the latent once more as values
///
///     f32, f16   [blocks, parts, heads, capacity, size]
///     q8         [blocks, parts, heads, slots * paddedSize] int8, each a multiple of 64, then [blocks, parts, heads, slots] float32 scales
///
/// Int8 keys lie in groups of 16 tokens and values in pairs, as the kernels read them (docs/kernels.md). The keys of a sequence of less than 16 tokens,
/// such as a label's beginning, lie token by token: a whole group would be mostly empty.
struct KVLayout {
  struct Part {
    let heads: Int
    let size: Int
    /// Whether int8 values of it lie as values do, not as keys.
    let isValue: Bool

    /// A head as int8: whole vectors of 16.
    var paddedSize: Int { (size + 15) / 16 * 16 }
  }

  let format: KVFormat
  let blocks: Int
  let parts: [Part]
  /// The part that holds values.
  let valuePart: Int

  init(_ c: ModelConfiguration, _ format: KVFormat) {
    self.format = format
    blocks = c.blockCount
    if let latent = c.latent {
      let keys = [Part(heads: 1, size: latent.rank, isValue: false), Part(heads: 1, size: c.ropeSize, isValue: false)]
      parts = format == .q8 ? keys + [Part(heads: 1, size: latent.rank, isValue: true)] : keys
      valuePart = format == .q8 ? 2 : 0
    } else {
      parts = [Part(heads: c.kvHeads, size: c.headSize, isValue: false), Part(heads: c.kvHeads, size: c.headSize, isValue: true)]
      valuePart = 1
    }
  }

  /// Tokens that are stored for a capacity.
  func slots(_ capacity: Int) -> Int {
    guard format == .q8 else { return capacity }
    return capacity < 16 ? (capacity + 1) / 2 * 2 : (capacity + 15) / 16 * 16
  }

  /// Whether int8 keys lie in groups of 16 tokens.
  func groupsKeys(_ capacity: Int) -> Bool { capacity >= 16 }

  /// Bytes of one head of a part: aligned vectors where they are int8.
  func headBytes(_ part: Int, _ capacity: Int) -> Int {
    switch format {
    case .f32: capacity * parts[part].size * 4
    case .f16: capacity * parts[part].size * 2
    case .q8: (slots(capacity) * parts[part].paddedSize + 63) / 64 * 64
    }
  }

  /// Heads of all parts.
  private var heads: Int { parts.reduce(0) { $0 + $1.heads } }

  private func blockBytes(_ capacity: Int) -> Int { parts.indices.reduce(0) { $0 + parts[$1].heads * headBytes($1, capacity) } }

  /// Bytes of all keys and values of so many tokens.
  func bytes(_ capacity: Int) -> Int { blocks * (blockBytes(capacity) + (format == .q8 ? heads * slots(capacity) * 4 : 0)) }

  /// Bytes a token costs in a long sequence.
  var bytesPerToken: Int {
    switch format {
    case .f32: blocks * parts.reduce(0) { $0 + $1.heads * $1.size * 4 }
    case .f16: blocks * parts.reduce(0) { $0 + $1.heads * $1.size * 2 }
    case .q8: blocks * parts.reduce(0) { $0 + $1.heads * ($1.paddedSize + 4) }
    }
  }

  /// Offset of one head of a part of one block.
  func offset(block: Int, part: Int, head: Int, capacity: Int) -> Int {
    var offset = block * blockBytes(capacity) + head * headBytes(part, capacity)
    for before in 0..<part { offset += parts[before].heads * headBytes(before, capacity) }
    return offset
  }

  /// Offset of their scales, for `q8`.
  func scaleOffset(block: Int, part: Int, head: Int, capacity: Int) -> Int {
    let before = parts[..<part].reduce(0) { $0 + $1.heads }
    return blocks * blockBytes(capacity) + ((block * heads + before) + head) * slots(capacity) * 4
  }

  /// Where four dimensions of one int8 key lie, from `dimension` (a multiple of 4) on; from the head's keys.
  func keyOffset(_ part: Int, slot: Int, dimension: Int, capacity: Int) -> Int {
    let size = parts[part].paddedSize
    return groupsKeys(capacity) ? slot / 16 * 16 * size + dimension * 16 + slot % 16 * 4 : slot * size + dimension
  }

  /// Where one dimension of one int8 value lies; from the head's values.
  func valueOffset(_ part: Int, slot: Int, dimension: Int) -> Int { slot / 2 * 2 * parts[part].paddedSize + 2 * dimension + slot % 2 }
}
