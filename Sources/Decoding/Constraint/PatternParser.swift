import Basics

/// Reads a regular expression as ECMA 262 defines it with the `u` flag, without what a finite automaton cannot do.
///
/// Places in errors are offsets in Unicode scalars, from 0.
struct PatternParser {
  private let source: [Unicode.Scalar]
  private var at = 0
  private var depth = 0
  private var groupNames: Set<String> = []
  private var sets: [ScalarSet] = []
  private var setIndex: [ScalarSet: Int] = [:]

  private init(_ source: String) { self.source = Array(source.unicodeScalars) }

  /// - Throws: `badField` for what is no regular expression, `unsupported` for what is none of a supported kind or over a limit.
  static func parse(_ source: String) throws(SternaError) -> Pattern {
    guard source.unicodeScalars.count <= Pattern.Limit.length else {
      throw SternaError(
        .unsupported, "a pattern of this length", expected: "at most \(Pattern.Limit.length) characters", found: "\(source.unicodeScalars.count)",
        remedy: "shorten it, or list the values with enum")
    }
    var parser = PatternParser(source)
    let root = try parser.alternation()
    if parser.peek() == ")" {
      throw parser.malformed("there is no open group to close", parser.at, expected: "\\) for the character itself")
    }
    return Pattern(root: root, sets: parser.sets)
  }

  // MARK: Structure

  private mutating func alternation() throws(SternaError) -> Pattern.Node {
    var branches = [try sequence()]
    while take("|") { branches.append(try sequence()) }
    return branches.count == 1 ? branches[0] : .alternation(branches)
  }

  private mutating func sequence() throws(SternaError) -> Pattern.Node {
    var items: [Pattern.Node] = []
    while let scalar = peek(), scalar != "|", scalar != ")" { items.append(try term()) }
    return items.count == 1 ? items[0] : .sequence(items)
  }

  private mutating func term() throws(SternaError) -> Pattern.Node {
    let start = at
    guard let scalar = advance() else { return .sequence([]) }
    let atom: Pattern.Node
    switch scalar {
    case "^", "$":
      if let next = peek(), "*+?{".unicodeScalars.contains(next) { throw malformed("an anchor cannot be repeated", at, expected: "(?:\(scalar)) repeated, or no repetition") }
      return scalar == "^" ? .start : .end
    case "(": atom = try group(start)
    case "[": atom = .set(intern(try characterClass(start)))
    case ".": atom = .set(intern(ScalarSet.dot))
    case "\\": atom = .set(intern(ClassMember.agreed([try escape(start, inClass: false)], isNegated: false)))
    case "*", "+", "?": throw malformed("nothing to repeat", start, expected: "something in front of \(scalar), or \\\(scalar) for the character itself")
    case "{", "}", "]": throw malformed("a \(scalar) that stands alone", start, expected: "\\\(scalar) for the character itself")
    default: atom = .set(intern(ScalarSet(scalar.value)))
    }
    return try quantified(atom)
  }

  private mutating func group(_ start: Int) throws(SternaError) -> Pattern.Node {
    if take("?") {
      if take(":") {
        // groups without a capture are groups
      } else if take("<"), peek() != "=", peek() != "!" {
        try groupName(start)
      } else {
        throw unsupported(
          "lookaround, or a group of another kind", start, expected: "(..), (?:..) or (?<name>..)",
          remedy: "write the alternatives out, or check this after the job")
      }
    }
    depth += 1
    guard depth <= Pattern.Limit.depth else {
      throw unsupported("groups this deep", start, expected: "at most \(Pattern.Limit.depth) groups within each other", remedy: "leave out groups that only repeat what they hold")
    }
    let inside = try alternation()
    guard take(")") else { throw malformed("a group that is not closed", start, expected: "a ) behind it, or \\( for the character itself") }
    depth -= 1
    return inside
  }

  /// Reads `name>`.
  private mutating func groupName(_ start: Int) throws(SternaError) {
    var name = ""
    while let scalar = advance(), scalar != ">" {
      guard scalar == "_" || scalar == "$" || isASCIILetter(scalar) || (!name.isEmpty && isDigit(scalar)) else { break }
      name.unicodeScalars.append(scalar)
    }
    guard !name.isEmpty, source[at - 1] == ">" else { throw unsupported("a group name", start, expected: "(?<name>..) with ASCII letters, digits and _", remedy: "use (?:..)") }
    guard groupNames.insert(name).inserted else { throw malformed("a second group named \(name)", start, expected: "each name once, or (?:..)") }
  }

  private mutating func quantified(_ atom: Pattern.Node) throws(SternaError) -> Pattern.Node {
    let start = at
    let least: Int
    let most: Int?
    switch peek() {
    case "*": (least, most) = (0, nil)
    case "+": (least, most) = (1, nil)
    case "?": (least, most) = (0, 1)
    case "{":
      at += 1
      let form = "{m}, {m,} or {m,n}, or \\{ for the character itself"
      guard let first = try count(start) else { throw malformed("a { without a count", start, expected: form) }
      var last: Int? = first
      if take(",") { last = peek() == "}" ? nil : try count(start) }
      guard peek() == "}" else { throw malformed("a repetition that is not closed", start, expected: form) }
      if let last, last < first { throw malformed("a repetition that ends before it begins", start, expected: "{m,n} with m <= n", found: "{\(first),\(last)}") }
      (least, most) = (first, last)
    default: return atom
    }
    at += 1
    _ = take("?")  // lazy: the same strings
    if let next = peek(), "*+?{".unicodeScalars.contains(next) { throw malformed("a repetition of a repetition", at, expected: "(?:..) around the first") }
    return .repetition(atom, least: least, most: most)
  }

  private mutating func count(_ start: Int) throws(SternaError) -> Int? {
    var value: Int?
    while let scalar = peek(), isDigit(scalar) {
      let next = (value ?? 0) * 10 + Int(scalar.value - 0x30)
      guard next <= Pattern.Limit.repetition else {
        throw unsupported("a repetition this often", start, expected: "at most \(Pattern.Limit.repetition)", remedy: "bound the length with maxLength instead")
      }
      value = next
      at += 1
    }
    return value
  }

  // MARK: Classes

  /// Reads what follows `[`.
  private mutating func characterClass(_ start: Int) throws(SternaError) -> ScalarSet {
    let isNegated = take("^")
    var members: [ClassMember] = []
    if peek() == "]" { throw unsupported("an empty class", start, expected: "something between the brackets, or [\\]..] for the bracket itself") }
    while true {
      guard let scalar = peek() else { throw malformed("a class that is not closed", start, expected: "a ] behind it, or \\[ for the character itself") }
      if scalar == "]" { break }
      let memberStart = at
      let member = try classAtom()
      guard peek() == "-", at + 1 < source.count, source[at + 1] != "]" else {
        members.append(member)
        continue
      }
      at += 1
      let end = try classAtom()
      guard case .scalar(let low) = member, case .scalar(let high) = end else {
        throw malformed("a range between classes", memberStart, expected: "single characters on both sides, or \\- for the character itself")
      }
      guard low <= high else { throw malformed("a range that ends before it begins", memberStart, expected: "its lower character first") }
      members.append(.range(low...high))
    }
    at += 1
    return ClassMember.agreed(members, isNegated: isNegated)
  }

  private mutating func classAtom() throws(SternaError) -> ClassMember {
    let start = at
    guard let scalar = advance() else { throw malformed("a class that is not closed", start, expected: "a ] behind it") }
    return scalar == "\\" ? try escape(start, inClass: true) : .scalar(scalar.value)
  }

  /// Reads what follows a backslash.
  private mutating func escape(_ start: Int, inClass: Bool) throws(SternaError) -> ClassMember {
    guard let scalar = advance() else { throw malformed("a backslash with nothing behind it", start, expected: "\\\\ for the character itself") }
    switch scalar {
    case "d": return .digits(isNegated: false)
    case "D": return .digits(isNegated: true)
    case "w": return .word(isNegated: false)
    case "W": return .word(isNegated: true)
    case "s": return .spaces(isNegated: false)
    case "S": return .spaces(isNegated: true)
    case "t": return .scalar(0x09)
    case "n": return .scalar(0x0A)
    case "v": return .scalar(0x0B)
    case "f": return .scalar(0x0C)
    case "r": return .scalar(0x0D)
    case "b" where inClass: return .scalar(0x08)
    case "0":
      if let next = peek(), isDigit(next) { throw malformed("an octal escape", start, expected: "\\xHH") }
      return .scalar(0)
    case "c":
      guard let letter = advance(), isASCIILetter(letter) else { throw malformed("\\c without a letter", start, expected: "\\cA to \\cZ") }
      return .scalar(letter.value & 0x1F)
    case "x":
      guard let value = hexadecimal(digits: 2) else { throw malformed("\\x without two hexadecimal digits", start, expected: "\\xHH") }
      return .scalar(value)
    case "u":
      let value = take("{") ? hexadecimalInBraces() : hexadecimal(digits: 4)
      guard let value else { throw malformed("\\u without a code point", start, expected: "\\uHHHH or \\u{H..} up to 10FFFF") }
      guard !(0xD800...0xDFFF ~= value) else {
        throw unsupported("half of a surrogate pair", start, expected: "a character", remedy: "write \\u{1F600}, or the character itself")
      }
      return .scalar(value)
    case "p", "P":
      guard take("{") else { throw malformed("\\\(scalar) without a property", start, expected: "\\\(scalar){Name}") }
      var name = ""
      while let next = advance(), next != "}" { name.unicodeScalars.append(next) }
      guard source[at - 1] == "}", let set = ScalarSet.category(named: name) else {
        throw unsupported("this property", start, expected: "a general category such as \\p{L}, \\p{Lu} or \\p{Number}", found: name, remedy: "list the characters in a class")
      }
      return .set(scalar == "P" ? set.complement : set)
    case "b", "B", "A", "Z", "z", "G":
      throw unsupported("the assertion \\\(scalar)", start, expected: "^ or $", remedy: "say what stands on both sides")
    case "k":
      throw unsupported("a reference to a group", start, expected: "no references", remedy: "write the group's pattern again")
    default:
      if isDigit(scalar) { throw unsupported("a reference to a group", start, expected: "no references", remedy: "write the group's pattern again") }
      // Punctuation beyond the syntax characters (`\-`, `\@`, `\"`) means itself wherever it is allowed.
      guard scalar.isASCII, scalar.value > 0x20, scalar.value < 0x7F, scalar != "_", !isASCIILetter(scalar) else {
        throw malformed("an escape that means nothing", start, expected: "a class (\\d), a control character (\\n), a code (\\u00E9) or an escaped punctuation character")
      }
      return .scalar(scalar.value)
    }
  }

  private mutating func hexadecimal(digits: Int) -> UInt32? {
    var value: UInt32 = 0
    for _ in 0..<digits {
      guard let digit = peek().flatMap(hexadecimalDigit) else { return nil }
      value = value << 4 | digit
      at += 1
    }
    return value
  }

  /// Reads `H..}`.
  private mutating func hexadecimalInBraces() -> UInt32? {
    var value: UInt32?
    while let digit = peek().flatMap(hexadecimalDigit) {
      value = (value ?? 0) << 4 | digit
      guard let value, value <= 0x10FFFF else { return nil }
      at += 1
    }
    return take("}") ? value : nil
  }

  // MARK: Scalars

  private func peek() -> Unicode.Scalar? { at < source.count ? source[at] : nil }

  private mutating func advance() -> Unicode.Scalar? {
    guard at < source.count else { return nil }
    at += 1
    return source[at - 1]
  }

  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard peek() == scalar else { return false }
    at += 1
    return true
  }

  private func isDigit(_ scalar: Unicode.Scalar) -> Bool { 0x30...0x39 ~= scalar.value }
  private func isASCIILetter(_ scalar: Unicode.Scalar) -> Bool { 0x61...0x7A ~= scalar.value | 0x20 }
  private func hexadecimalDigit(_ scalar: Unicode.Scalar) -> UInt32? {
    isDigit(scalar) ? scalar.value - 0x30 : 0x61...0x66 ~= scalar.value | 0x20 ? (scalar.value | 0x20) - 0x57 : nil
  }

  private mutating func intern(_ set: ScalarSet) -> Int {
    if let index = setIndex[set] { return index }
    setIndex[set] = sets.count
    sets.append(set)
    return sets.count - 1
  }

  // MARK: Errors

  private func malformed(_ message: String, _ offset: Int, expected: String, found: String? = nil) -> SternaError {
    SternaError(.badField, message, at: "offset \(offset)", expected: expected, found: found, remedy: "patterns are ECMA 262 regular expressions with the u flag")
  }

  private func unsupported(_ message: String, _ offset: Int, expected: String, found: String? = nil, remedy: String? = nil) -> SternaError {
    SternaError(.unsupported, message, at: "offset \(offset)", expected: expected, found: found, remedy: remedy)
  }
}

/// What an escape or a part of a class stands for.
private enum ClassMember {
  case scalar(UInt32)
  case range(ScalarSet.Range)
  case set(ScalarSet)
  case digits(isNegated: Bool)
  case word(isNegated: Bool)
  case spaces(isNegated: Bool)

  /// - Parameter narrow: take ECMA's digits and letters for Python's too, where that gives the same: it spares reading the Unicode tables.
  func readings(narrow: Bool = false) -> ScalarSet.Readings {
    switch self {
    case .scalar(let value): ScalarSet.Readings(ScalarSet(value))
    case .range(let range): ScalarSet.Readings(ScalarSet([range]))
    case .set(let set): ScalarSet.Readings(set)
    case .digits(false): narrow ? ScalarSet.Readings(.asciiDigits) : ScalarSet.digits
    case .digits(true): ScalarSet.digits.complement
    case .word(false): narrow ? ScalarSet.Readings(.asciiWord) : ScalarSet.word
    case .word(true): ScalarSet.word.complement
    case .spaces(false): ScalarSet.spaces
    case .spaces(true): ScalarSet.spaces.complement
    }
  }

  /// The scalars that a class of these members has in both readings.
  static func agreed(_ members: [ClassMember], isNegated: Bool) -> ScalarSet {
    // Python's digits and letters hold ECMA's. In a class that takes away nothing, the others among them could only be agreed on
    // if ECMA's reading of another member had them: a complement.
    let takesAway = members.contains { member in
      switch member {
      case .digits(true), .word(true), .spaces(true): true
      default: false
      }
    }
    var ecma: [ScalarSet.Range] = []
    var python: [ScalarSet.Range] = []
    for member in members {
      let readings = member.readings(narrow: !isNegated && !takesAway)
      ecma += readings.ecma.ranges
      python += readings.python.ranges
    }
    let both = ScalarSet.Readings(ecma: ScalarSet(ecma), python: ScalarSet(python))
    return (isNegated ? both.complement : both).agreed
  }
}
