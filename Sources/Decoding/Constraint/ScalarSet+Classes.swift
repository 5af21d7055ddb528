/// What `\d`, `\w`, `\s`, `.` and `\p{..}` stand for.
///
/// ECMA 262 and Python (whose `re` most validators of JSON Schema outside browsers use) disagree on characters outside ASCII. A pattern here must not
/// accept what either of them rejects, so a class is kept in both readings until it is complete, and then their intersection counts.
extension ScalarSet {
  /// One class in two readings.
  struct Readings {
    var ecma: ScalarSet
    var python: ScalarSet

    init(_ both: ScalarSet) {
      ecma = both
      python = both
    }

    init(ecma: ScalarSet, python: ScalarSet) {
      self.ecma = ecma
      self.python = python
    }

    var complement: Readings { Readings(ecma: ecma.complement, python: python.complement) }
    /// What both take.
    var agreed: ScalarSet { ecma.intersection(python) }
  }

  static let asciiDigits = ScalarSet([0x30...0x39])
  static let asciiWord = ScalarSet([0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A])
  /// ECMA's LineTerminator excluded; Python's dot takes more.
  static let dot = ScalarSet([0x0A...0x0A, 0x0D...0x0D, 0x2028...0x2029]).complement

  private static let commonSpaces: [Range] = [
    0x09...0x0D, 0x20...0x20, 0xA0...0xA0, 0x1680...0x1680, 0x2000...0x200A, 0x2028...0x2029, 0x202F...0x202F, 0x205F...0x205F, 0x3000...0x3000,
  ]
  static let spaces = Readings(ecma: ScalarSet(commonSpaces + [0xFEFF...0xFEFF]), python: ScalarSet(commonSpaces + [0x1C...0x1F, 0x85...0x85]))

  // Python's readings ask the Unicode tables. Scalars without a category may get one in the next version of Unicode, so they count as digits
  // and letters: no complement has them.
  static let digits = Readings(ecma: asciiDigits, python: ScalarCategories.table.scalars { $0 == .decimalNumber || $0 == .unassigned })
  static let word = Readings(
    ecma: asciiWord,
    python: ScalarCategories.table.scalars { category in
      switch category {
      case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber, .letterNumber, .otherNumber, .unassigned:
        true
      default: false
      }
    }.union(ScalarSet(0x5F)))

  /// The scalars of a general category by its name in `\p{..}`, short (`Lu`) or long (`Uppercase_Letter`); nil for other properties.
  static func category(named name: String) -> ScalarSet? {
    guard let categories = categories[name] else { return nil }
    return ScalarCategories.table.scalars { categories.contains($0) }
  }

  private static let categories: [String: Set<Unicode.GeneralCategory>] = {
    let letters: Set<Unicode.GeneralCategory> = [.uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter]
    let marks: Set<Unicode.GeneralCategory> = [.nonspacingMark, .spacingMark, .enclosingMark]
    let numbers: Set<Unicode.GeneralCategory> = [.decimalNumber, .letterNumber, .otherNumber]
    let punctuation: Set<Unicode.GeneralCategory> = [
      .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation, .finalPunctuation, .otherPunctuation,
    ]
    let symbols: Set<Unicode.GeneralCategory> = [.mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol]
    let separators: Set<Unicode.GeneralCategory> = [.spaceSeparator, .lineSeparator, .paragraphSeparator]
    let table: [(String, String, Set<Unicode.GeneralCategory>)] = [
      ("L", "Letter", letters), ("Lu", "Uppercase_Letter", [.uppercaseLetter]), ("Ll", "Lowercase_Letter", [.lowercaseLetter]),
      ("Lt", "Titlecase_Letter", [.titlecaseLetter]), ("Lm", "Modifier_Letter", [.modifierLetter]), ("Lo", "Other_Letter", [.otherLetter]),
      ("M", "Mark", marks), ("Mn", "Nonspacing_Mark", [.nonspacingMark]), ("Mc", "Spacing_Mark", [.spacingMark]), ("Me", "Enclosing_Mark", [.enclosingMark]),
      ("N", "Number", numbers), ("Nd", "Decimal_Number", [.decimalNumber]), ("Nl", "Letter_Number", [.letterNumber]), ("No", "Other_Number", [.otherNumber]),
      ("P", "Punctuation", punctuation), ("Pc", "Connector_Punctuation", [.connectorPunctuation]), ("Pd", "Dash_Punctuation", [.dashPunctuation]),
      ("Ps", "Open_Punctuation", [.openPunctuation]), ("Pe", "Close_Punctuation", [.closePunctuation]),
      ("Pi", "Initial_Punctuation", [.initialPunctuation]), ("Pf", "Final_Punctuation", [.finalPunctuation]),
      ("Po", "Other_Punctuation", [.otherPunctuation]), ("S", "Symbol", symbols), ("Sm", "Math_Symbol", [.mathSymbol]),
      ("Sc", "Currency_Symbol", [.currencySymbol]), ("Sk", "Modifier_Symbol", [.modifierSymbol]), ("So", "Other_Symbol", [.otherSymbol]),
      ("Z", "Separator", separators), ("Zs", "Space_Separator", [.spaceSeparator]), ("Zl", "Line_Separator", [.lineSeparator]),
      ("Zp", "Paragraph_Separator", [.paragraphSeparator]),
    ]
    var categories: [String: Set<Unicode.GeneralCategory>] = [:]
    for (short, long, members) in table {
      categories[short] = members
      categories[long] = members
    }
    return categories
  }()
}

/// The general category of every scalar, as runs: read once, when a pattern first asks for it.
struct ScalarCategories: Sendable {
  private var runs: [(range: ScalarSet.Range, category: Unicode.GeneralCategory)] = []

  static let table = ScalarCategories()

  private init() {
    for part in ScalarSet.everything.ranges {
      for value in part {
        guard let category = Unicode.Scalar(value)?.properties.generalCategory else { continue }
        if let last = runs.last, last.category == category, last.range.upperBound + 1 == value {
          runs[runs.count - 1].range = last.range.lowerBound...value
        } else {
          runs.append((value...value, category))
        }
      }
    }
  }

  func scalars(_ belongs: (Unicode.GeneralCategory) -> Bool) -> ScalarSet { ScalarSet(runs.filter { belongs($0.category) }.map(\.range)) }
}
