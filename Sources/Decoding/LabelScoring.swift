import Basics
import Glibc
import Inference
import Tokenizer

/// Probabilities of labels, each the continuation of one prompt.
///
/// A label's probability is the product, over the places where labels part, of the probability of its branch among the branches there. So scores
/// sum to 1 by construction, a long label does not pay for its length, and what can be continued in one way only costs nothing. All places of one
/// depth go through the model in one batch, each behind the shared prompt in a child sequence.
public enum LabelScoring {
  /// A pass over the weights; the caller counts it, and may throw to stop.
  public typealias Forward = ([Model.Step]) throws(SternaError) -> HiddenStates

  /// Sequences of one batch. More labels than that part in several batches, one after another, so that their keys and values are not all held at once.
  private static let batch = 64

  private struct Branch {
    var node: Int
    var parent: Inference.Sequence
    var logProbability: Double
  }

  /// - Parameters:
  ///   - sequence: holds the prompt.
  ///   - hidden: a pass that ended with the prompt, and the `row` of its last position.
  /// - Returns: one probability a label, in the order in which the trie was given them, and the number of tokens fed.
  public static func score(
    _ trie: LabelTrie, with model: Model, after sequence: Inference.Sequence, hidden: HiddenStates, row: Int, forward: Forward
  ) throws(SternaError) -> (scores: [Float], tokens: Int) {
    var logProbabilities = [Double](repeating: -.infinity, count: trie.labelCount)
    var tokens = 0
    var waiting: [[Branch]] = []

    /// Takes the decision at a branching node: ends are scored, branches that go on wait for their turn.
    func decide(_ node: LabelTrie.Node, _ logits: [Float], _ logProbability: Double, behind parent: Inference.Sequence, into next: inout [Branch]) {
      let steps = Choice.logProbabilities(logits)
      for (child, step) in zip(node.children, steps) {
        let labels = trie.nodes[child].labels
        if labels.isEmpty {
          next.append(Branch(node: child, parent: parent, logProbability: logProbability + step))
        }
        for label in labels { logProbabilities[label] = logProbability + step - log(Double(labels.count)) }
      }
    }

    guard let root = trie.nodes.first else { return ([], 0) }
    var next: [Branch] = []
    if !root.labels.isEmpty {
      for label in root.labels { logProbabilities[label] = 0 }
    } else if root.edge.isEmpty {
      decide(root, try model.logits(hidden, row: row, of: root.choices), 0, behind: sequence, into: &next)
    } else {
      next.append(Branch(node: 0, parent: sequence, logProbability: 0))
    }
    waiting.append(next)

    while let level = waiting.popLast() {
      guard !level.isEmpty else { continue }
      if level.count > batch { waiting.append(Array(level[batch...])) }
      var group = Array(level.prefix(batch))
      let sequences: [Inference.Sequence]
      while true {
        do {
          sequences = try children(of: group, in: trie, model)
          break
        } catch let error where error.code == .kvFull && group.count > 1 {
          // Fewer at a time: what is below these is finished, and let go, before the others begin.
          let half = group.count / 2
          waiting.append(Array(group[half...]))
          group.removeSubrange(half...)
        }
      }
      let steps = zip(group, sequences).map { Model.Step(sequence: $1, tokens: trie.nodes[$0.node].edge, want: .last) }
      let states = try forward(steps)
      var below: [Branch] = []
      for (row, branch) in group.enumerated() {
        let node = trie.nodes[branch.node]
        tokens += node.edge.count
        decide(node, try model.logits(states, row: row, of: node.choices), branch.logProbability, behind: sequences[row], into: &below)
      }
      waiting.append(below)
    }

    // The products sum to 1 but for rounding; dividing by the sum removes that, too.
    let probabilities = logProbabilities.map { exp($0) }
    let total = probabilities.reduce(0, +)
    return (probabilities.map { Float($0 / total) }, tokens)
  }

  private static func children(of group: [Branch], in trie: LabelTrie, _ model: Model) throws(SternaError) -> [Inference.Sequence] {
    var sequences: [Inference.Sequence] = []
    for branch in group { sequences.append(try model.sequence(after: branch.parent, capacity: trie.nodes[branch.node].edge.count)) }
    return sequences
  }
}
