import Tokenizer

/// Labels as token sequences, joined where they begin alike. Only the nodes at which labels part are kept: what lies between them can
/// be followed in one way only, so it costs no decision.
///
/// Every label ends with the `end` token, so that a label that is the beginning of another one can be told from it.
public struct LabelTrie: Sendable {
  /// A place where labels part, or a label's end.
  struct Node: Sendable {
    /// What to feed behind the decision above, the chosen token first, before the decision here. For the root: what all labels begin with, often nothing.
    var edge: [TokenID]
    /// The tokens to choose from, ascending; empty at an end.
    var choices: [TokenID] = []
    /// The node behind each choice.
    var children: [Int] = []
    /// Labels that end here: one, unless two labels are the same tokens.
    var labels: [Int] = []
  }

  /// The root first.
  let nodes: [Node]
  public let labelCount: Int
  /// Tokens that scoring feeds to the model at most: all edges in front of decisions.
  public var tokenCount: Int { nodes.reduce(0) { $0 + ($1.choices.isEmpty ? 0 : $1.edge.count) } }
  /// Tokens on the longest way to a decision.
  public let depth: Int

  /// - Parameters:
  ///   - labels: the tokens of each label, without `end`.
  ///   - end: the token that ends an answer.
  public init(_ labels: [[TokenID]], end: TokenID) {
    let sequences = labels.map { $0 + [end] }
    let order = sequences.indices.sorted { a, b in
      sequences[a] == sequences[b] ? a < b : sequences[a].lexicographicallyPrecedes(sequences[b])
    }
    var nodes: [Node] = []
    var deepest = 0

    /// The node of `range` in `order`, whose sequences agree on their first `depth` tokens, of which `fed` were fed before.
    func add(_ range: Range<Int>, agreeing depth: Int, fed: Int) -> Int {
      let first = sequences[order[range.lowerBound]]
      let last = sequences[order[range.upperBound - 1]]
      var depth = depth
      while depth < first.count, depth < last.count, first[depth] == last[depth] { depth += 1 }
      let index = nodes.count
      nodes.append(Node(edge: Array(first[fed..<depth])))
      guard depth < first.count, depth < last.count else {  // sorted, and no sequence begins another: all are the same
        nodes[index].labels = range.map { order[$0] }
        return index
      }
      deepest = max(deepest, depth)
      var start = range.lowerBound
      while start < range.upperBound {
        let token = sequences[order[start]][depth]
        var end = start + 1
        while end < range.upperBound, sequences[order[end]][depth] == token { end += 1 }
        let child = add(start..<end, agreeing: depth + 1, fed: depth)
        nodes[index].choices.append(token)
        nodes[index].children.append(child)
        start = end
      }
      return index
    }
    if !sequences.isEmpty { _ = add(0..<sequences.count, agreeing: 0, fed: 0) }
    self.nodes = nodes
    labelCount = labels.count
    depth = deepest
  }
}
