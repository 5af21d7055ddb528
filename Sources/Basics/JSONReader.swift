/// A JSON value together with its path, so that every complaint names the place.
///
///     let job = JSONReader(value)
///     let labels = try job["labels"].array(count: 1...1000).map { try $0["name"].string() }
///     // labels[3].name: expected a string, found a number
public struct JSONReader: Sendable {
  /// Nil when the member is missing.
  public let value: JSON?
  /// For example `labels[3].name`; empty at the root.
  public let path: String

  public init(_ value: JSON, path: String = "") {
    self.value = value
    self.path = path
  }

  private init(value: JSON?, path: String) {
    self.value = value
    self.path = path
  }

  /// A member, which may be missing. Asking a value that is not an object gives a missing member: the error comes when it is read.
  public subscript(name: String) -> JSONReader {
    let member: JSON? = if case .object(let object)? = value { object[name] } else { nil }
    return JSONReader(value: member, path: path.isEmpty ? name : path + "." + name)
  }

  /// Whether the value is there and not null.
  public var isPresent: Bool { value != nil && value != .null }
  /// The reader itself, or nil when the value is missing or null: `try job["ttl_ms"].optional?.int(in: 0...)`.
  public var optional: JSONReader? { isPresent ? self : nil }

  /// An error at this place.
  public func error(_ message: String, expected: String? = nil) -> SternaError {
    SternaError(.badField, message, at: path.isEmpty ? "(the whole value)" : path, expected: expected, found: found)
  }

  private var found: String {
    switch value {
    case nil: "nothing"
    case .number(let number)?: "the number \(number.text)"
    case .string(let text)?: "the string \"\(String(String.UnicodeScalarView(text.unicodeScalars.prefix(40))))\""
    case .bool(let value)?: "\(value)"
    case let value?: value.kind
    }
  }

  private func wrong(_ expected: String) -> SternaError {
    error(value == nil ? "is missing" : "has the wrong type", expected: expected)
  }

  public func object() throws(SternaError) -> JSON.Object {
    guard case .object(let object)? = value else { throw wrong("an object") }
    return object
  }

  /// The members as readers, in the order in which they were written.
  public func members() throws(SternaError) -> [(name: String, value: JSONReader)] {
    try object().members.map { ($0.name, JSONReader(value: $0.value, path: path.isEmpty ? $0.name : path + "." + $0.name)) }
  }

  /// The elements, each with its own path.
  public func array(count: some RangeExpression<Int> = 0...Int.max) throws(SternaError) -> [JSONReader] {
    guard case .array(let elements)? = value else { throw wrong("an array") }
    guard count.contains(elements.count) else {
      throw SternaError(.badField, "has the wrong number of elements", at: path, expected: "\(count)", found: "\(elements.count)")
    }
    return elements.enumerated().map { JSONReader(value: $1, path: "\(path)[\($0)]") }
  }

  /// - Parameter bytes: how many UTF-8 bytes are allowed.
  public func string(bytes: some RangeExpression<Int> = 0...Int.max) throws(SternaError) -> String {
    guard case .string(let text)? = value else { throw wrong("a string") }
    guard bytes.contains(text.utf8.count) else {
      throw SternaError(.badField, "has the wrong length", at: path, expected: "\(bytes) bytes", found: "\(text.utf8.count) bytes")
    }
    return text
  }

  public func int(in range: some RangeExpression<Int> = Int.min...Int.max) throws(SternaError) -> Int {
    guard case .number(let number)? = value, let int = number.int else { throw wrong("an integer") }
    guard range.contains(int) else { throw error("is out of range", expected: "\(range)") }
    return int
  }

  public func double(in range: some RangeExpression<Double> = -Double.greatestFiniteMagnitude...Double.greatestFiniteMagnitude) throws(SternaError) -> Double {
    guard case .number(let number)? = value, let double = number.double, double.isFinite else { throw wrong("a number") }
    guard range.contains(double) else { throw error("is out of range", expected: "\(range)") }
    return double
  }

  public func bool() throws(SternaError) -> Bool {
    guard case .bool(let bool)? = value else { throw wrong("true or false") }
    return bool
  }
}
