import Basics

/// Subschemas that must hold for one value at once, by index, ascending. None: any value is right.
struct SchemaGoal: Hashable {
  private(set) var schemas: [Int]

  init(_ schemas: [Int]) { self.schemas = schemas }

  static let anything = SchemaGoal([])

  func and(_ schema: Int?) -> SchemaGoal { schema.map { and(SchemaGoal([$0])) } ?? self }

  func and(_ other: SchemaGoal) -> SchemaGoal {
    if schemas == other.schemas || other.schemas.isEmpty { return self }
    return SchemaGoal(Set(schemas + other.schemas).sorted())
  }
}

/// A kind of value, one level deep: what is inside are goals.
enum SchemaRule: Equatable {
  case number(Number)
  case string(Text)
  case array(List)
  case object(Record)

  struct Number: Equatable {
    var isInteger = false
    var minimum: SchemaBound?
    var maximum: SchemaBound?
    var source: Constraint.Source?
  }

  struct Text: Equatable {
    var minLength = 0
    var maxLength: Int?
    var automaton: StringAutomaton?
    var moment: Constraint.StringRule.Moment?
    var source: Constraint.Source?
  }

  struct List: Equatable {
    var prefix: [SchemaGoal] = []
    var items = SchemaGoal.anything
    var minCount = 0
    var maxCount: Int?
    var isUnique = false

    func goal(at index: Int) -> SchemaGoal { index < prefix.count ? prefix[index] : items }
  }

  struct Record: Equatable {
    struct Property: Equatable {
      var name: String
      var description: String?
      var goal: SchemaGoal
      var isRequired: Bool

      static func == (a: Property, b: Property) -> Bool { a.name.utf8.elementsEqual(b.name.utf8) && a.goal == b.goal && a.isRequired == b.isRequired }
    }
    /// Those that were declared or are required.
    private(set) var properties: [Property] = []
    /// What all others would have to be.
    var rest = SchemaGoal.anything
    private var index: [[UInt8]: Int] = [:]

    func property(_ name: String) -> Property? { index[Array(name.utf8)].map { properties[$0] } }

    /// The property, appended where there is none.
    subscript(name: String) -> Property {
      get { property(name) ?? Property(name: name, goal: rest, isRequired: false) }
      set {
        if let at = index[Array(name.utf8)] {
          properties[at] = newValue
        } else {
          index[Array(name.utf8)] = properties.count
          properties.append(newValue)
        }
      }
    }

    mutating func addToAll(_ schema: Int, except: (String) -> Bool) {
      for i in properties.indices where !except(properties[i].name) { properties[i].goal = properties[i].goal.and(schema) }
    }
  }

  var type: Subschema.Types {
    switch self {
    case .number: .number
    case .string: .string
    case .array: .array
    case .object: .object
    }
  }

  /// Whether everything that can be written for the other can be written for this one, as far as one look shows. (What may be written is
  /// less than what is right: no undeclared properties.)
  func writesAll(of other: SchemaRule) -> Bool {
    switch (self, other) {
    case (.number(let all), .number(let some)):
      (!all.isInteger || some.isInteger) && SchemaBound.tighter(all.minimum, some.minimum, asMinimum: true) == some.minimum
        && SchemaBound.tighter(all.maximum, some.maximum, asMinimum: false) == some.maximum && (all.source == some.source || all.source == .free)
    case (.string(let all), .string(let some)):
      (all.automaton == nil || all.automaton == some.automaton) && all.minLength <= some.minLength
        && (some.maxLength ?? .max) <= (all.maxLength ?? .max)
        && (all.moment == some.moment) && (all.source == some.source || all.source == .free)
    case (.array(let all), .array(let some)): all == some
    case (.object(let all), .object(let some)):
      some.properties.allSatisfy { all.property($0.name)?.goal == $0.goal }
        && all.properties.allSatisfy { !$0.isRequired || some.property($0.name)?.isRequired == true }
    default: false
    }
  }
}

/// All values that are left: these, and those of these kinds.
struct SchemaAlternatives {
  private var values = SchemaLiterals()
  private(set) var rules: [SchemaRule] = []

  init() {}

  var literals: [JSON] { values.values }

  /// Any value.
  static let anything: SchemaAlternatives = {
    var all = SchemaAlternatives()
    for literal: JSON in [.null, .bool(false), .bool(true)] { all.add(literal) }
    all.rules = [.number(.init()), .string(.init()), .array(.init()), .object(.init())]
    return all
  }()

  var isEmpty: Bool { literals.isEmpty && rules.isEmpty }

  func contains(_ literal: JSON) -> Bool { values.contains(literal) }

  mutating func add(_ literal: JSON) { values.insert(literal) }

  mutating func add(_ rule: SchemaRule) {
    if !rules.contains(rule) { rules.append(rule) }
  }

  var onlyRules: SchemaAlternatives {
    var result = SchemaAlternatives()
    result.rules = rules
    return result
  }

  var onlyObjects: SchemaAlternatives {
    var objects = SchemaAlternatives()
    objects.rules = rules.filter { $0.type == .object }
    return objects
  }

  /// The objects that have a property which some object of each of the others lacks.
  func having(morePropertiesThan others: [SchemaAlternatives]) -> SchemaAlternatives {
    var result = SchemaAlternatives()
    result.rules = rules.filter { rule in
      guard case .object(let record) = rule else { return false }
      return others.allSatisfy { other in
        other.rules.contains { rule in
          guard case .object(let less) = rule else { return false }
          return record.properties.contains { less.property($0.name) == nil }
        }
      }
    }
    return result
  }

  mutating func add(_ other: SchemaAlternatives) {
    for literal in other.literals { add(literal) }
    for rule in other.rules { add(rule) }
  }
}
