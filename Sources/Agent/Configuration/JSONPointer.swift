import Basics

/// A place inside a JSON value, as RFC 6901 writes it: `/alarm/text`, `/lines/0`. The empty pointer is the whole value.
public struct JSONPointer: Sendable, Equatable {
  public let text: String
  private let tokens: [String]

  /// Nil when the text is not a pointer: neither empty nor starting with `/`, or with a `~` that is not `~0` or `~1`.
  public init?(_ text: String) {
    guard text.isEmpty || text.utf8.first == UInt8(ascii: "/") else { return nil }
    var tokens: [String] = []
    for part in text.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
      var token = ""
      var escaped = false
      for character in part.unicodeScalars {
        switch (escaped, character) {
        case (true, "0"): token.unicodeScalars.append("~")
        case (true, "1"): token.unicodeScalars.append("/")
        case (true, _): return nil
        case (false, "~"):
          escaped = true
          continue
        case (false, _): token.unicodeScalars.append(character)
        }
        escaped = false
      }
      guard !escaped else { return nil }
      tokens.append(token)
    }
    self.text = text
    self.tokens = tokens
  }

  /// The value at this place, nil where there is none.
  public func find(in root: JSON) -> JSON? {
    var value = root
    for token in tokens {
      switch value {
      case .object(let object):
        guard let member = object[token] else { return nil }
        value = member
      case .array(let elements):
        // RFC 6901 allows neither a sign nor leading zeros.
        guard let index = Int(token), String(index) == token, elements.indices.contains(index) else { return nil }
        value = elements[index]
      default: return nil
      }
    }
    return value
  }
}
