import Basics
import CTernary
import ModelFile
import Tokenizer

extension Model {
  /// Logits of a few tokens: only their rows of the head are read.
  ///
  /// - Parameters:
  ///   - row: of `hidden`.
  ///   - candidates: token ids below the vocabulary's size.
  /// - Throws: `modelIO` when rows cannot be read.
  public func logits(_ hidden: HiddenStates, row: Int, of candidates: [TokenID]) throws(SternaError) -> [Float] {
    prepareHead(hidden, row)
    head.prefetch(candidates.lazy.map { Int($0) }.filter { 0..<self.configuration.vocabularySize ~= $0 })
    var logits: [Float] = []
    logits.reserveCapacity(candidates.count)
    for token in candidates {
      guard token >= 0, Int(token) < configuration.vocabularySize else {
        logits.append(-.infinity)
        continue
      }
      var logit: Float = 0
      headProduct(try head.row(Int(token)), rows: 1, into: &logit)
      logits.append(logit)
    }
    return logits
  }

  /// Logits of the whole vocabulary. [vocabulary]
  ///
  /// The whole head is read: at the memory's speed where it is mapped, else in slices from the disk.
  /// - Throws: `modelIO` when it cannot be read.
  public func logits(_ hidden: HiddenStates, row: Int) throws(SternaError) -> [Float] {
    prepareHead(hidden, row)
    let vocabulary = configuration.vocabularySize
    var logits = [Float](repeating: 0, count: vocabulary)
    var failure: SternaError?
    logits.withUnsafeMutableBufferPointer { buffer in
      guard let out = buffer.baseAddress else { return }
      if head.isMapped {
        let pieces = threads.count == 1 ? 1 : min(vocabulary, threads.count * 4)
        threads.parallel(pieces, work: vocabulary * hidden.width / 8) { piece, _ in
          let first = vocabulary * piece / pieces
          headProduct(head.table.pointer(first), rows: vocabulary * (piece + 1) / pieces - first, into: out + first)
        }
      } else {
        failure = streamHead(into: out)
      }
    }
    if let failure { throw failure }
    return logits
  }

  /// Whether a job that needs the whole head reads it from the disk.
  public var streamsHead: Bool { !head.isMapped }

  private func prepareHead(_ hidden: HiddenStates, _ row: Int) {
    precondition(row >= 0 && row < hidden.count, "no such row of hidden states")
    hidden.values.withUnsafeBufferPointer { values in
      guard let x = values.baseAddress.map({ $0 + row * hidden.width }) else { return }
      switch head.table.storage {
      case .f32, .f16: work.headInput.base.update(from: x, count: hidden.width)
      case .q8, .q6, .q4: kernels.head_prepare(x, hidden.width, work.headInput.base)
      }
    }
  }

  /// Products of rows of the head, one behind the other, with the hidden state that was prepared last.
  private func headProduct(_ weights: UnsafeRawPointer, rows: Int, into out: UnsafeMutablePointer<Float>) {
    let n = configuration.hiddenSize
    let x = work.headInput.base
    switch head.table.storage {
    case .f32: for i in 0..<rows { out[i] = kernels.dot_f32(weights.assumingMemoryBound(to: Float.self) + i * n, x, n) }
    case .f16: for i in 0..<rows { out[i] = kernels.dot_f16(weights.assumingMemoryBound(to: UInt16.self) + i * n, x, n) }
    case .q8: kernels.head_q8_0(weights, rows, n, x, out)
    case .q6: kernels.head_q6_k(weights, rows, n, x, out)
    case .q4: kernels.head_iq4_nl(weights, rows, n, x, out)
    }
  }

  /// Reads the head once from the disk, each thread a slice at a time, past the page cache where that is possible: it must not push the body's pages out.
  private func streamHead(into out: UnsafeMutablePointer<Float>) -> SternaError? {
    let table = head.table
    let rowsTogether = max(1, HeadStream.sliceBytes / table.rowBytes)
    let slices = (table.rows + rowsTogether - 1) / rowsTogether
    let stream = headStream
    threads.parallel(slices, work: .max) { slice, worker in
      let first = slice * rowsTogether
      let rows = min(rowsTogether, table.rows - first)
      if let start = stream.read(table.fileOffset + first * table.rowBytes, count: rows * table.rowBytes, worker: worker) {
        headProduct(start, rows: rows, into: out + first)
      }
    }
    return stream.takeFailure()
  }
}
