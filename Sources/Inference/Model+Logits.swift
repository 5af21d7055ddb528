import ModelFile
import Tokenizer

extension Model {
  /// Logits of a few tokens: only their rows of the head are read.
  ///
  /// - Parameters:
  ///   - row: of `hidden`.
  ///   - candidates: token ids below the vocabulary's size.
  public func logits(_ hidden: HiddenStates, row: Int, of candidates: [TokenID]) -> [Float] {
    precondition(row >= 0 && row < hidden.count, "no such row of hidden states")
    return hidden.values.withUnsafeBufferPointer { values in
      let x = values[row * hidden.width..<(row + 1) * hidden.width]
      return candidates.map { headLogit(Int($0), UnsafeBufferPointer(rebasing: x)) }
    }
  }

  /// Logits of the whole vocabulary. [vocabulary]
  public func logits(_ hidden: HiddenStates, row: Int) -> [Float] {
    precondition(row >= 0 && row < hidden.count, "no such row of hidden states")
    let vocabulary = configuration.vocabularySize
    return hidden.values.withUnsafeBufferPointer { values in
      let x = UnsafeBufferPointer(rebasing: values[row * hidden.width..<(row + 1) * hidden.width])
      return [Float](unsafeUninitializedCapacity: vocabulary) { out, count in
        let pieces = threads.count == 1 ? 1 : min(vocabulary, threads.count * 4)
        let out = out
        threads.parallel(pieces, work: vocabulary * hidden.width) { piece, _ in
          for token in vocabulary * piece / pieces..<vocabulary * (piece + 1) / pieces { out[token] = headLogit(token, x) }
        }
        count = vocabulary
      }
    }
  }

  private func headLogit(_ token: Int, _ x: UnsafeBufferPointer<Float>) -> Float {
    let table = weights.head ?? weights.embedding
    guard let start = x.baseAddress, token >= 0, token < table.rows else { return -.infinity }
    let row = table.pointer(token)
    return switch table.storage {
    case .f32: kernels.dot_f32(row.assumingMemoryBound(to: Float.self), start, table.columns)
    case .f16: kernels.dot_f16(row.assumingMemoryBound(to: UInt16.self), start, table.columns)
    case .q6, .q4: -.infinity
    case .q8: kernels.dot_q8_0(row, start, table.columns)
    }
  }
}
