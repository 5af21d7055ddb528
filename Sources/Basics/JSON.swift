/// A JSON value that keeps the order of keys and the spelling of numbers.
///
/// Jobs answer in the order of the schema and must not lose digits, so neither dictionaries nor doubles will do.
public enum JSON: Sendable, Equatable {
  case null
  case bool(Bool)
  case number(Number)
  case string(String)
  case array([JSON])
  case object(Object)

  /// A number as it was written, for example `1e3`; converted only when somebody asks.
  public struct Number: Sendable, Equatable {
    public let text: String

    /// - Parameter text: a JSON number; the parser and the conversions below are the only makers.
    init(text: String) { self.text = text }
    public init(_ value: Int) { text = String(value) }
    /// A finite double, in the shortest form that reads back the same. Infinities and NaN, which JSON lacks, become 0.
    public init(_ value: Double) {
      guard value.isFinite else { text = "0"; return }
      let written = String(value)
      text = written.hasSuffix(".0") ? String(written.dropLast(2)) : written
    }
    /// The same for a float: `0.1`, not `0.10000000149011612`.
    public init(_ value: Float) {
      guard value.isFinite else { text = "0"; return }
      let written = String(value)
      text = written.hasSuffix(".0") ? String(written.dropLast(2)) : written
    }

    public var double: Double? { Double(text) }
    /// The integer, where the number is one (`3`, `3.0` and `3e0` are; `3.5` is not) and fits.
    public var int: Int? { Int(text) ?? ExactDecimal(self)?.int }
  }

  /// Members in the order in which they were written. Names are unique: the parser refuses duplicates.
  public struct Object: Sendable, Equatable, ExpressibleByDictionaryLiteral {
    public private(set) var members: [(name: String, value: JSON)] = []
    private var index: [ExactName: Int] = [:]

    public init() {}
    /// Members in this order; of two with the same name the later one counts.
    public init(_ elements: some Swift.Sequence<(String, JSON)>) {
      for (name, value) in elements { self[name] = value }
    }
    public init(dictionaryLiteral elements: (String, JSON)...) {
      for (name, value) in elements { self[name] = value }
    }

    public var count: Int { members.count }
    /// Where a member stands among `members`.
    public func index(of name: String) -> Int? { index[ExactName(name)] }
    /// The value of a member. Setting nil removes it; setting a new name appends it.
    public subscript(name: String) -> JSON? {
      get { index[ExactName(name)].map { members[$0].value } }
      set {
        switch (index[ExactName(name)], newValue) {
        case (let at?, let value?): members[at].value = value
        case (nil, let value?):
          index[ExactName(name)] = members.count
          members.append((name, value))
        case (let at?, nil):
          members.remove(at: at)
          index = Dictionary(uniqueKeysWithValues: members.enumerated().map { (ExactName($1.name), $0) })
        case (nil, nil): break
        }
      }
    }

    public static func == (a: Object, b: Object) -> Bool {
      a.count == b.count && zip(a.members, b.members).allSatisfy { $0.name.utf8.elementsEqual($1.name.utf8) && $0.value == $1.value }
    }
  }

  /// A name that equals only the same bytes. Strings that differ in Unicode normalisation are equal to Swift and two names to JSON:
  /// Llama 2's vocabulary has both U+03AF and U+1F77.
  private struct ExactName: Hashable {
    let text: String
    init(_ text: String) { self.text = text }
    static func == (a: ExactName, b: ExactName) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }
    func hash(into hasher: inout Hasher) {
      var text = text
      text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
  }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int) { self = .number(Number(value)) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: JSON...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSON)...) {
    var object = Object()
    for (name, value) in elements { object[name] = value }
    self = .object(object)
  }
  public init(nilLiteral: ()) { self = .null }

  public static func number(_ value: Int) -> JSON { .number(Number(value)) }
  public static func number(_ value: Double) -> JSON { .number(Number(value)) }
  public static func number(_ value: Float) -> JSON { .number(Number(value)) }

  /// What kind of value this is, in the words of error messages.
  public var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}
