import Basics

/// What is still to be written of a JSON text, the next thing first. Immutable, so that alternatives share what they have in common.
final class Rest: Sendable {
  enum Item: Sendable {
    /// Bytes that can only be these.
    case text([UInt8])
    /// A value of a node, other than these.
    case value(Constraint.NodeID, excluded: Set<JSON.ValueKey>)
    /// The members of an object from a property on.
    case members(Constraint.NodeID, from: Int, isFirst: Bool)
    /// The elements of an array behind those that there are.
    case elements(Constraint.NodeID, count: Int)
    /// The inside of a copied value.
    case copy(CopiedValue)
    /// The inside of a value that the model writes itself.
    case free(FreeContent)
    /// Nothing to write, something to remember.
    case note(Notes.Note)
  }

  let item: Item
  let next: Rest?

  init(_ item: Item, _ next: Rest?) {
    self.item = item
    self.next = next
  }

  /// Adds what decides how it goes on: two rests that hash alike go on alike.
  func hash(into hasher: inout Hasher) {
    var here: Rest? = self
    while let rest = here {
      switch rest.item {
      case .text(let bytes): hasher.combine(bytes)
      case .value(let node, let excluded):
        hasher.combine(node)
        hasher.combine(excluded)
      case .members(let node, let from, let isFirst):
        hasher.combine(node)
        hasher.combine(from)
        hasher.combine(isFirst)
      case .elements(let node, let count):
        hasher.combine(node)
        hasher.combine(count)
      case .copy(let value):
        for occurrence in value.copy.occurrences {
          hasher.combine(occurrence.start)
          hasher.combine(occurrence.limit)
          hasher.combine(occurrence.least)
        }
        hasher.combine(value.copy.length)
        hasher.combine(value.isQuoted)
        hasher.combine(value.kind)
        hasher.combine(value.excluded)
        hasher.combine(value.automaton?.stateCount)
      case .free(let content): hasher.combine(content.state)
      case .note: break
      }
      here = rest.next
    }
  }
}
