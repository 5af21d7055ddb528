import Basics
import Glibc
import Inference
import Tokenizer

/// Probabilities of labels, each the continuation of one prompt.
///
/// A label's probability is the product, over the places where labels part, of the probability of its branch among the branches there. So scores
/// sum to 1 by construction, a long label does not pay for its length, and what can be continued in one way only costs nothing.
///
/// The first decision is taken at the end of the prompt and `opening`; all others stand in child sequences.
public struct LabelScorer: BranchScorer {
  private let trie: LabelTrie
  private var logProbabilities: [Double]
  private var waiting = WaitingAsks()

  public init(_ trie: LabelTrie) {
    self.trie = trie
    logProbabilities = [Double](repeating: -.infinity, count: trie.labelCount)
    for label in trie.nodes.first?.labels ?? [] { logProbabilities[label] = 0 }
  }

  /// What all labels begin with, to be fed behind the prompt.
  public var opening: [TokenID] { isTrivial ? [] : trie.nodes.first?.edge ?? [] }
  /// The first decision, behind `opening`; empty when there is none, since there is but one label.
  public var firstCandidates: [TokenID] { trie.nodes.first?.choices ?? [] }
  public var isTrivial: Bool { firstCandidates.isEmpty }

  public var isDone: Bool { waiting.isEmpty }

  public mutating func begin(_ logits: [Float], behind sequence: Inference.Sequence) { decide(0, logits, 0, behind: sequence) }
  public mutating func next(_ most: Int) -> [BranchAsk] { waiting.next(most) }
  public mutating func putBack(_ asks: [BranchAsk]) { waiting.putBack(asks) }
  public mutating func answer(_ ask: BranchAsk, _ logits: [Float], in sequence: Inference.Sequence) {
    decide(ask.node, logits, ask.logProbability, behind: sequence)
  }

  /// Ends are scored, branches that go on wait for their turn.
  private mutating func decide(_ node: Int, _ logits: [Float], _ logProbability: Double, behind parent: Inference.Sequence) {
    let steps = Choice.logProbabilities(logits)
    for (child, step) in zip(trie.nodes[node].children, steps).reversed() {
      let next = trie.nodes[child]
      if next.labels.isEmpty {
        waiting.append(BranchAsk(node: child, logProbability: logProbability + step, parent: parent, feed: next.edge, candidates: next.choices))
      }
      for label in next.labels { logProbabilities[label] = logProbability + step - log(Double(next.labels.count)) }
    }
  }

  /// One probability a label, in the order in which the trie was given them; valid when everything is decided.
  public var scores: [Float] {
    // The products sum to 1 but for rounding; dividing by the sum removes that, too.
    let probabilities = logProbabilities.map { exp($0) }
    let total = probabilities.reduce(0, +)
    return probabilities.map { Float($0 / total) }
  }
}
