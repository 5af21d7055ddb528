import Basics

/// The keywords of one subschema, checked. Other subschemas are meant by their index in the document; nil is one that any value satisfies.
struct Subschema {
  /// Where it stands, for example `properties.a.anyOf[1]`; empty for the root.
  let path: String
  /// `false`: no value is right.
  var allowsNothing = false
  var types = Types.all
  /// `integer` without `number`, or `multipleOf` 1.
  var isInteger = false
  /// `const` and `enum`: these and no other values.
  var values: SchemaLiterals?
  var minimum: SchemaBound?
  var maximum: SchemaBound?
  var minLength = 0
  var maxLength: Int?
  /// One for `pattern`, one for `format`.
  var automata: [StringAutomaton] = []
  var moment: Constraint.StringRule.Moment?
  var minItems = 0
  var maxItems: Int?
  var uniqueItems = false
  var prefixItems: [Int?] = []
  var items: Int?
  var properties: [(name: String, description: String?, schema: Int?)] = []
  var additionalProperties: Int?
  var required: [String] = []
  /// `$ref` and `allOf`: these hold too.
  var also: [Int] = []
  var anyOf: [Int] = []
  var oneOf: [Int] = []
  var source: Constraint.Source?
  var description: String?

  init(path: String) { self.path = path }

  /// The path of something inside, for example of a keyword.
  func place(_ inside: String) -> String { path.isEmpty ? inside : path + "." + inside }

  /// Whether it only says which others must hold.
  private var isPlain: Bool {
    !allowsNothing && types == .all && !isInteger && values == nil && minimum == nil && maximum == nil && minLength == 0 && maxLength == nil
      && automata.isEmpty && minItems == 0 && maxItems == nil && !uniqueItems && prefixItems.isEmpty && items == nil && properties.isEmpty
      && additionalProperties == nil && required.isEmpty && anyOf.isEmpty && oneOf.isEmpty && source == nil
  }
  /// The one other subschema that this one stands for.
  var alias: Int? { isPlain && also.count == 1 ? also[0] : nil }
  var allowsAnything: Bool { isPlain && also.isEmpty }

  struct Types: OptionSet {
    let rawValue: Int
    static let null = Types(rawValue: 1)
    static let boolean = Types(rawValue: 2)
    static let number = Types(rawValue: 4)
    static let string = Types(rawValue: 8)
    static let array = Types(rawValue: 16)
    static let object = Types(rawValue: 32)
    static let all: Types = [.null, .boolean, .number, .string, .array, .object]
  }
}

/// Values in their order, none equal to another.
struct SchemaLiterals {
  private(set) var values: [JSON] = []
  private var keys = Set<JSON.ValueKey>()

  init(_ values: [JSON] = []) { for value in values { insert(value) } }

  var isEmpty: Bool { values.isEmpty }

  func contains(_ value: JSON) -> Bool { keys.contains(value.valueKey) }

  mutating func insert(_ value: JSON) {
    if keys.insert(value.valueKey).inserted { values.append(value) }
  }
}

extension JSON {
  var schemaType: Subschema.Types {
    switch self {
    case .null: .null
    case .bool: .boolean
    case .number: .number
    case .string: .string
    case .array: .array
    case .object: .object
    }
  }
}

/// One end of a range of numbers.
struct SchemaBound: Equatable {
  var value: ExactDecimal
  var isExclusive: Bool

  /// Whether a number is on the right side, above a minimum or below a maximum.
  func allows(_ number: ExactDecimal, asMinimum: Bool) -> Bool {
    number == value ? !isExclusive : asMinimum ? number > value : number < value
  }

  /// The one that leaves less.
  static func tighter(_ a: SchemaBound?, _ b: SchemaBound?, asMinimum: Bool) -> SchemaBound? {
    guard let a, let b else { return a ?? b }
    if a.value == b.value { return a.isExclusive ? a : b }
    return (a.value > b.value) == asMinimum ? a : b
  }
}
