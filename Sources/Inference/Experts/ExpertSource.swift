import Basics

/// Where the records of experts come from: memory, or a bounded pool in front of a disk.
///
/// A record is one expert as `ExpertRecord` (ModelFile) lays it out. What a block computes does not depend on which source it has, nor on the order in
/// which records arrive: each expert's output has a place of its own, and those are summed in the order of the experts' numbers.
///
/// Used from the model's thread only.
package protocol ExpertSource: AnyObject {
  /// Brings the records of some experts of a block, and has them used as they arrive.
  ///
  /// - Parameters:
  ///   - experts: distinct, ascending; never empty.
  ///   - meanwhile: called once, as soon as all reads are under way: work that waits for no record.
  ///   - use: called on this thread with one or more records that are there, until each of `experts` was there once, in any order. Records stay
  ///     valid until it returns. The larger the groups, the fewer rounds of the threads: what is in memory already should come as one.
  /// - Throws: `modelIO` when a record cannot be read, after its retries. Then `use` was not called for all of them, and nothing waits or reads any more.
  func withExperts(
    _ experts: [Int], of block: Int, meanwhile: () -> Void, use: (_ ready: [ReadyExpert]) -> Void
  ) throws(SternaError)

  /// How many records of the next block could be read before it is known which ones it needs.
  var worthGuessing: Int { get }

  /// Has records read that the next block will perhaps need, whenever nothing is read that is needed. The likeliest first.
  func guess(_ experts: [Int], of block: Int)
}

extension ExpertSource {
  package var worthGuessing: Int { 0 }
  package func guess(_ experts: [Int], of block: Int) {}
}

/// A record that is there.
package struct ReadyExpert {
  /// Which one of `experts`.
  package let index: Int
  /// Aligned to 64 bytes.
  package let record: UnsafeRawPointer
}
