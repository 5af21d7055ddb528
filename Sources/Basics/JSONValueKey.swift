extension JSON {
  /// The value without its spelling: two values have equal keys when JSON calls them equal, whatever the order of their members and the way
  /// their numbers are written. Strings are equal when their scalars are: Swift's `==` also joins what differs in normalisation.
  public struct ValueKey: Sendable, Hashable {
    let bytes: [UInt8]
  }

  public var valueKey: ValueKey {
    var bytes: [UInt8] = []
    writeKey(to: &bytes)
    return ValueKey(bytes: bytes)
  }

  private func writeKey(to out: inout [UInt8]) {
    switch self {
    case .null, .bool, .string: out += compactBytes
    case .number(let number):
      guard let exact = ExactDecimal(number) else {
        out += number.text.utf8
        return
      }
      if exact.sign < 0 { out.append(UInt8(ascii: "-")) }
      out += exact.digits.map { $0 + UInt8(ascii: "0") }
      out += "e\(exact.scale)".utf8
    case .array(let elements):
      out.append(UInt8(ascii: "["))
      for element in elements {
        element.writeKey(to: &out)
        out.append(UInt8(ascii: ","))
      }
      out.append(UInt8(ascii: "]"))
    case .object(let object):
      out.append(UInt8(ascii: "{"))
      for member in object.members.sorted(by: { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }) {
        JSON.writeString(member.name.utf8, to: &out)
        out.append(UInt8(ascii: ":"))
        member.value.writeKey(to: &out)
        out.append(UInt8(ascii: ","))
      }
      out.append(UInt8(ascii: "}"))
    }
  }
}

extension [JSON] {
  /// Whether no two are equal as JSON values.
  public var areAllDifferent: Bool {
    var seen = Set<JSON.ValueKey>()
    return allSatisfy { seen.insert($0.valueKey).inserted }
  }
}
