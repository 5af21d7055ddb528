import Basics
import Decoding
import Synchronization

extension Job {
  /// A JSON Schema that an answer has to fulfil.
  ///
  /// One that came in a message is compiled when its job runs: that may take a second, which the thread that talks to the broker does not have.
  public struct Schema: Sendable, Equatable {
    /// As the client sent it.
    public let document: JSON
    private let ready: Constraint?

    public init(_ document: JSON) {
      self.document = document
      ready = nil
    }

    /// - Throws: `unsupported` and `bad_field` with the place in the schema.
    public init(compiling document: JSON) throws(SternaError) {
      self.document = document
      ready = try Schema.compiled(document)
    }

    /// What it compiles to.
    /// - Throws: `unsupported` and `bad_field` with the place in the job.
    public func constraint() throws(SternaError) -> Constraint {
      if let ready { return ready }
      do { return try Schema.compiled(document) } catch { throw error.inSchema(at: "schema") }
    }

    public static func == (a: Schema, b: Schema) -> Bool { a.document == b.document }

    /// What the prompt says is asked for: the properties of the object, or of the objects, that the schema describes.
    func items() throws(SternaError) -> [(name: String, description: String?)] {
      let constraint = try constraint()
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

    /// What a schema in a job may cost, less than one of `sterna schema`: it is compiled between two passes of the jobs that run, in a second at most.
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
    private static let known = Mutex<[(text: [UInt8], constraint: Constraint)]>([])
    private static let mostKnown = 32

    private static func compiled(_ document: JSON) throws(SternaError) -> Constraint {
      let text = document.compactBytes
      let found = known.withLock { known -> Constraint? in
        guard let at = known.firstIndex(where: { $0.text == text }) else { return nil }
        let entry = known.remove(at: at)
        known.append(entry)
        return entry.constraint
      }
      if let found { return found }
      let constraint = try JSONSchema(document, limits: limits).constraint
      known.withLock { known in
        known.append((text, constraint))
        if known.count > mostKnown { known.removeFirst() }
      }
      return constraint
    }
  }
}

extension SternaError {
  /// The same, of a schema that stands at `path`.
  func inSchema(at path: String) -> SternaError {
    guard place == JSONSchema.wholePlace else { return within(path, separator: ".") }
    var error = self
    error.place = path
    return error
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
