import Basics
import Decoding
import Synchronization

extension Job {
  /// A JSON Schema that an answer has to fulfil, compiled.
  public struct Schema: Sendable, Equatable {
    /// As the client sent it.
    public let document: JSON
    public let constraint: Constraint

    /// - Throws: `unsupported` and `bad_field` with the place in the schema.
    public init(_ document: JSON) throws(SternaError) {
      self = try Schema.compiled(document)
    }

    private init(document: JSON, constraint: Constraint) {
      self.document = document
      self.constraint = constraint
    }

    public static func == (a: Schema, b: Schema) -> Bool { a.document == b.document }

    /// What the prompt says is asked for: the properties of the object, or of the objects, that the schema describes.
    var items: [(name: String, description: String?)] {
      var items: [(name: String, description: String?)] = []
      var seen: Set<Constraint.NodeID> = []
      func visit(_ node: Constraint.NodeID) {
        guard seen.insert(node).inserted, constraint.nodes.indices.contains(node) else { return }
        switch constraint.nodes[node] {
        case .object(let rule):
          for property in rule.properties where !items.contains(where: { $0.name == property.name }) { items.append((property.name, property.description)) }
        case .anyOf(let nodes): nodes.forEach(visit)
        case .array(let rule): (rule.prefix + (rule.items.map { [$0] } ?? [])).forEach(visit)
        case .literals, .number, .string: break
        }
      }
      visit(constraint.root)
      return items
    }

    // MARK: Compiling

    /// What a schema in a message may cost, less than one on the command line: the agent compiles it between two messages, in a second at most.
    private static let limits = {
      var limits = JSONSchema.Limits()
      limits.subschemas = 1_000
      limits.steps = 20_000
      limits.nodes = 4_000
      limits.patterns = 32
      limits.states = 20_000
      return limits
    }()

    /// Schemas come again with every job of a kind.
    private static let known = Mutex<[(text: [UInt8], schema: Schema)]>([])
    private static let mostKnown = 32

    private static func compiled(_ document: JSON) throws(SternaError) -> Schema {
      let text = document.compactBytes
      let found = known.withLock { known -> Schema? in
        guard let at = known.firstIndex(where: { $0.text == text }) else { return nil }
        let entry = known.remove(at: at)
        known.append(entry)
        return entry.schema
      }
      if let found { return found }
      let schema = Schema(document: document, constraint: try JSONSchema(document, limits: limits).constraint)
      known.withLock { known in
        known.append((text, schema))
        if known.count > mostKnown { known.removeFirst() }
      }
      return schema
    }
  }
}

extension Constraint {
  /// The same with keys as the model reads and writes them.
  func spoken(_ style: PromptTemplate.Pattern.Names) -> Constraint {
    var constraint = self
    for index in constraint.nodes.indices {
      guard case .object(var rule) = constraint.nodes[index] else { continue }
      for (at, name) in PromptTemplate.spoken(rule.properties.map(\.name), style).enumerated() { rule.properties[at].spoken = name }
      constraint.nodes[index] = .object(rule)
    }
    return constraint
  }
}
