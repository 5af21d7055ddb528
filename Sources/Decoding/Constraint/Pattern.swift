/// A regular expression as it was read: what it means, without how it was written.
struct Pattern {
  indirect enum Node {
    /// One scalar of `sets[index]`.
    case set(Int)
    case sequence([Node])
    case alternation([Node])
    /// `count` times at least, `most` times at most; nil: as often as one likes.
    case repetition(Node, least: Int, most: Int?)
    /// `^`: here a string begins.
    case start
    /// `$`: here it ends.
    case end
  }

  var root: Node
  /// Each set of scalars that occurs, once.
  var sets: [ScalarSet]
}

extension Pattern {
  /// Bounds on what is read, so that neither time nor memory nor the stack depend on who wrote the pattern.
  enum Limit {
    /// Scalars of the pattern.
    static let length = 4096
    /// Groups within groups.
    static let depth = 64
    /// `{n}`; what nested ones multiply to is bounded by `PatternAutomaton.Limit`.
    static let repetition = 4096
  }
}
