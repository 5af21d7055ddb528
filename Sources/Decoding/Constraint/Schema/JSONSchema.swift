import Basics

/// A JSON Schema (draft 2020-12), compiled to the constraint that enforces it.
///
/// Every value that the constraint accepts satisfies the schema. What cannot be enforced is refused with its path; where the constraint is narrower
/// than the schema is listed in `docs/jobs.md`.
///
/// In three steps: `SchemaDocument` reads the keywords of every subschema that can be reached, `SchemaExpander` works out for sets of subschemas that hold
/// at once which kinds of values are left, and `SchemaCompiler` drops what no value can satisfy and writes the nodes.
public struct JSONSchema: Sendable {
  public let constraint: Constraint
  /// What the author of the schema may want to know: keywords without a meaning, properties that can never be there.
  public let notes: [String]

  /// The place of an error that no part of a schema is to blame for.
  public static let wholePlace = "(the whole schema)"

  /// What a schema may cost before it is refused.
  public struct Limits: Sendable {
    /// Subschemas that can be reached from the root.
    public var subschemas = 4_000
    /// `$ref`, `allOf`, `anyOf` and `oneOf` inside each other, without going into a property or an element.
    public var nesting = 64
    /// Values of one `enum`.
    public var values = 4_000
    /// Kinds of values that one place may have, after `anyOf` and `oneOf` are multiplied out.
    public var alternatives = 400
    /// Sets of branches of one `anyOf` that an object may satisfy at once.
    public var combinations = 256
    /// Nodes of the constraint.
    public var nodes = 20_000
    /// Different patterns and formats, and the states of their automata together.
    public var patterns = 500
    public var states = 100_000
    /// `minItems` and `minLength`, which somebody has to write.
    public var leastCount = 65_536
    /// Combinations looked at. They take two seconds or less.
    public var steps = 3_000_000

    public init() {}
  }

  /// - Throws: `unsupported` for what cannot be enforced or is too much, `badField` for what is not a schema; `place` is the path in the schema.
  public init(_ document: JSON, limits: Limits = Limits()) throws(SternaError) {
    let document = try SchemaDocument(document, limits: limits)
    var compiler = SchemaCompiler(document, limits: limits)
    constraint = try compiler.compile()
    notes = document.notes + compiler.notes
  }
}
