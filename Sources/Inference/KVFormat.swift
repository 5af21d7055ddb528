import Basics
import ModelFile

/// How the cache stores keys and values.
public enum KVFormat: String, Sendable, CaseIterable {
  case f32, f16
  /// int8 with a scale for each head and token.
  case q8
}

/// Where the keys and values of one sequence lie, for a capacity in tokens.
///
///     f32, f16   [blocks, 2 (keys, values), kvHeads, capacity, headSize]
///     q8         [blocks, 2, kvHeads, slots * paddedHead] int8, each a multiple of 64, then [blocks, 2, kvHeads, slots] float32 scales
///
/// Int8 keys lie in groups of 16 tokens and values in pairs, as the kernels read them (docs/kernels.md). The keys of a sequence of less than 16 tokens,
/// such as a label's beginning, lie token by token: a whole group would be mostly empty.
struct KVLayout {
  let format: KVFormat
  let blocks: Int
  let kvHeads: Int
  let headSize: Int

  init(_ c: ModelConfiguration, _ format: KVFormat) {
    self.format = format
    blocks = c.blockCount
    kvHeads = c.kvHeads
    headSize = c.headSize
  }

  /// Heads as int8: whole vectors of 16.
  var paddedHead: Int { (headSize + 15) / 16 * 16 }

  /// Tokens that are stored for a capacity.
  func slots(_ capacity: Int) -> Int {
    guard format == .q8 else { return capacity }
    return capacity < 16 ? (capacity + 1) / 2 * 2 : (capacity + 15) / 16 * 16
  }

  /// Whether int8 keys lie in groups of 16 tokens.
  func groupsKeys(_ capacity: Int) -> Bool { capacity >= 16 }

  /// Bytes of one head's int8 keys or values: aligned vectors.
  func headBytes(_ capacity: Int) -> Int { (slots(capacity) * paddedHead + 63) / 64 * 64 }

  /// Bytes of all keys and values of so many tokens.
  func bytes(_ capacity: Int) -> Int {
    let heads = blocks * 2 * kvHeads
    return switch format {
    case .f32: heads * capacity * headSize * 4
    case .f16: heads * capacity * headSize * 2
    case .q8: heads * (headBytes(capacity) + slots(capacity) * 4)
    }
  }

  /// Bytes a token costs in a long sequence.
  var bytesPerToken: Int {
    let heads = blocks * 2 * kvHeads
    return switch format {
    case .f32: heads * headSize * 4
    case .f16: heads * headSize * 2
    case .q8: heads * (paddedHead + 4)
    }
  }

  /// Offset of the keys (`kind` 0) or values (1) of one head of one block.
  func offset(block: Int, kind: Int, head: Int, capacity: Int) -> Int {
    let index = (block * 2 + kind) * kvHeads + head
    return switch format {
    case .f32: index * capacity * headSize * 4
    case .f16: index * capacity * headSize * 2
    case .q8: index * headBytes(capacity)
    }
  }

  /// Offset of their scales, for `q8`.
  func scaleOffset(block: Int, kind: Int, head: Int, capacity: Int) -> Int {
    let index = (block * 2 + kind) * kvHeads + head
    return blocks * 2 * kvHeads * headBytes(capacity) + index * slots(capacity) * 4
  }

  /// Where four dimensions of one int8 key lie, from `dimension` (a multiple of 4) on; from the head's keys.
  func keyOffset(slot: Int, dimension: Int, capacity: Int) -> Int {
    groupsKeys(capacity) ? slot / 16 * 16 * paddedHead + dimension * 16 + slot % 16 * 4 : slot * paddedHead + dimension
  }

  /// Where one dimension of one int8 value lies; from the head's values.
  func valueOffset(slot: Int, dimension: Int) -> Int { slot / 2 * 2 * paddedHead + 2 * dimension + slot % 2 }
}
