import Basics

/// What a JSON value must be, compiled and checked: made from a field list or from a JSON Schema, walked by the decoder, and asked by `sterna schema --accepts`.
///
/// Nodes refer to each other by index, so that a schema may refer to itself.
public struct Constraint: Sendable, Equatable {
  public typealias NodeID = Int

  public var nodes: [Node]
  public var root: NodeID

  public init(nodes: [Node], root: NodeID) {
    self.nodes = nodes
    self.root = root
  }

  public enum Node: Sendable, Equatable {
    /// One of these values, none equal to another: `enum`, `const`, booleans, null. At least one.
    case literals([JSON])
    case number(NumberRule)
    case string(StringRule)
    case array(ArrayRule)
    case object(ObjectRule)
    /// A value of one of these nodes, at least one. The decoder takes the first that fits where several do.
    case anyOf([NodeID])
  }

  /// Where a value comes from.
  public enum Source: Sendable, Equatable {
    /// It stands in the input and is copied from there.
    case copied
    /// The model writes it.
    case free
  }

  public struct NumberRule: Sendable, Equatable {
    public var isInteger = false
    /// Inclusive or exclusive.
    public struct Bound: Sendable, Equatable {
      public var value: JSON.Number
      public var isExclusive: Bool

      public init(_ value: JSON.Number, isExclusive: Bool) {
        self.value = value
        self.isExclusive = isExclusive
      }
    }
    public var minimum: Bound?
    public var maximum: Bound?
    public var source = Source.copied

    public init() {}
  }

  public struct StringRule: Sendable, Equatable {
    /// In Unicode scalars.
    public var minLength = 0
    public var maxLength: Int?
    /// What `pattern` and `format` leave; nil: everything.
    public var automaton: StringAutomaton?
    /// Dates and times are read from the input in many spellings and written in this one.
    public var moment: Moment?
    public var source = Source.copied

    /// `date`, `time` and `date-time` as RFC 3339 writes them.
    public enum Moment: String, Sendable { case date, time, dateTime = "date-time" }

    public init() {}
  }

  public struct ArrayRule: Sendable, Equatable {
    /// The first elements, each by its own rule.
    public var prefix: [NodeID] = []
    /// All further elements; nil: there are none.
    public var items: NodeID?
    public var minCount = 0
    public var maxCount: Int?
    /// No two elements are equal as JSON values.
    public var isUnique = false
    /// Whether the decoder may write one element without brackets and mean the array of it: models that never saw a list do.
    public var allowsBareElement = false

    public init() {}
  }

  public struct ObjectRule: Sendable, Equatable {
    public struct Property: Sendable, Equatable {
      public var name: String
      /// The key that the model reads and writes; the result has `name`.
      public var spoken: String
      /// What the author says about it, for prompts.
      public var description: String?
      public var node: NodeID
      public var isRequired: Bool

      public init(name: String, spoken: String? = nil, description: String? = nil, node: NodeID, isRequired: Bool) {
        self.name = name
        self.spoken = spoken ?? name
        self.description = description
        self.node = node
        self.isRequired = isRequired
      }
    }
    /// In the order in which they are written.
    public var properties: [Property] = []

    public init() {}
  }
}
