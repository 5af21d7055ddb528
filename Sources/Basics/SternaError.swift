/// What went wrong, where, and what to do about it.
///
/// Every error that a person or a client can cause is one of these. `code` is for programs, `message` for people, `place` names
/// the exact spot (`labels[3]`, `tensor blk.0.attn_q.weight`, `byte 4096`, `mqtt.port`, a path), and `remedy` says what to do.
public struct SternaError: Error, Sendable, Equatable {
  /// A stable, lower-case word with underscores; what clients switch on.
  public struct Code: RawRepresentable, Sendable, Hashable, ExpressibleByStringLiteral {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public init(stringLiteral value: String) { rawValue = value }
  }

  public var code: Code
  public var message: String
  public var place: String?
  public var expected: String?
  public var found: String?
  public var remedy: String?
  /// What the layer below said, for example strerror or a parser's words.
  public var cause: String?

  public init(
    _ code: Code, _ message: String, at place: String? = nil, expected: String? = nil, found: String? = nil,
    remedy: String? = nil, cause: String? = nil
  ) {
    self.code = code
    self.message = message
    self.place = place
    self.expected = expected
    self.found = found
    self.remedy = remedy
    self.cause = cause
  }

  /// The same error, seen from one level further out: `prefix` goes in front of the place, joined by `separator`.
  public func within(_ prefix: String, separator: String = ": ") -> SternaError {
    var error = self
    error.place = place.map { prefix + separator + $0 } ?? prefix
    return error
  }
}

extension SternaError.Code {
  /// A file that is damaged, cut short or not what its name says.
  public static let badFile: Self = "bad_file"
  /// A file or request that is well formed but asks for what this version cannot do.
  public static let unsupported: Self = "unsupported"
  /// The operating system refused: open, read, map, write.
  public static let io: Self = "io"
  /// Text that is not JSON, or JSON over a limit.
  public static let badJSON: Self = "bad_json"
  /// A JSON value of the wrong type or out of range; `place` is its path.
  public static let badField: Self = "bad_field"
}

extension SternaError: CustomStringConvertible {
  /// The error as a small tree: place and message on the first line, then the details, one a line. Names in it may be those of strangers: a terminal finds nothing to obey.
  public var description: String {
    var lines = [place.map { "\($0): \(message)" } ?? message]
    for (name, value) in [("expected", expected), ("found", found), ("cause", cause), ("do", remedy)] {
      if let value { lines.append("  " + name + String(repeating: " ", count: 10 - name.count) + value) }
    }
    return lines.flatMap { $0.split(separator: "\n", omittingEmptySubsequences: false) }.map(\.withoutControls).joined(separator: "\n")
  }
}

extension StringProtocol {
  /// The text with spaces in place of control characters, which a terminal would obey.
  public var withoutControls: String {
    String(String.UnicodeScalarView(unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
  }
}
