import Inference
import Tokenizer

/// A decision between a few tokens behind a branch of its own.
public struct BranchAsk {
  /// The scorer's own name for it.
  let node: Int
  let logProbability: Double
  /// Holds everything in front of `feed`.
  public let parent: Inference.Sequence
  /// What stands between the parent and the decision.
  public let feed: [TokenID]
  /// At least two.
  public let candidates: [TokenID]
}

/// Turns decisions at branches behind one prompt into probabilities of labels.
///
/// A scorer does not run the model: it asks for decisions (`next`) and is told their logits (`answer`). All that are waiting may run in one batch, each in a child sequence.
public protocol BranchScorer {
  /// What every branch begins with, to be fed behind the prompt.
  var opening: [TokenID] { get }
  /// The decision behind `opening`; may be empty.
  var firstCandidates: [TokenID] { get }
  /// Whether there is nothing to decide at all.
  var isTrivial: Bool { get }
  var isDone: Bool { get }
  /// One probability a label, valid when everything is decided.
  var scores: [Float] { get }

  /// Takes the first decision.
  /// - Parameter sequence: holds the prompt and `opening`.
  mutating func begin(_ logits: [Float], behind sequence: Inference.Sequence)
  /// Decisions to run next, at most `most`; each in a child of its parent.
  mutating func next(_ most: Int) -> [BranchAsk]
  /// Takes asks back that could not run now.
  mutating func putBack(_ asks: [BranchAsk])
  /// - Parameter sequence: the child that holds the ask's `feed`.
  mutating func answer(_ ask: BranchAsk, _ logits: [Float], in sequence: Inference.Sequence)
}

/// Asks that wait, the next ones last: what is under a branch is finished, and its memory let go, before the next branch begins.
struct WaitingAsks {
  private var asks: [BranchAsk] = []

  var isEmpty: Bool { asks.isEmpty }

  mutating func append(_ ask: BranchAsk) { asks.append(ask) }

  /// The next ones, at most `most`, in their order.
  mutating func next(_ most: Int) -> [BranchAsk] {
    let next = Array(asks.suffix(most).reversed())
    asks.removeLast(next.count)
    return next
  }

  mutating func putBack(_ asks: [BranchAsk]) { self.asks += asks.reversed() }
}
