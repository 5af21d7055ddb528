import Basics
import ModelFile

/// Experts that are used where they are mapped: for models that fit into memory whole.
final class MappedExperts: ExpertSource {
  /// By block; nil where it has none.
  private let records: [ExpertRecords?]

  init(_ weights: ModelWeights) {
    records = weights.blocks.map { block in
      if case .routed(let routed) = block.feedForward { routed.experts } else { nil }
    }
  }

  func withExperts(
    _ experts: [Int], of block: Int, meanwhile: () -> Void, use: (_ ready: [ReadyExpert]) -> Void
  ) throws(SternaError) {
    meanwhile()
    guard let records = records[block] else { return }
    use(experts.enumerated().map { ReadyExpert(index: $0, record: records.base + $1 * records.record.bytes) })
  }
}
