import Basics

/// A JSON value with the place and the certainty of everything in it.
public struct WrittenDocument: Sendable, Equatable {
  public struct Leaf: Sendable, Equatable {
    /// `serial`, `address.city` or `parts[2]`; empty when the whole document is one value.
    public var path: String
    /// A string, number, boolean, null, or an empty array or object.
    public var value: JSON
    /// Where it was copied from.
    public var span: CopiedSpan?
    /// The product of the probabilities of all open decisions that led to it, each renormalised over what was permitted. 0 where the budget ended first.
    public var confidence: Float
  }

  public var value: JSON
  /// In the order in which they were written.
  public var leaves: [Leaf]
}
