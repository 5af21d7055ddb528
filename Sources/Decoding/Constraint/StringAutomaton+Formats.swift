import Basics

/// The formats of JSON Schema that are enforced, narrower than their standards where readers disagree (docs/jobs.md, "Patterns and formats").
extension StringAutomaton {
  /// Their names.
  public static let formats = ["date", "time", "date-time", "uuid", "ipv4", "email"]

  /// The strings of a format; nil for names that are not among `formats`.
  public static func format(_ name: String) throws(SternaError) -> StringAutomaton? {
    switch name {
    case "date": return try pattern("^\(Form.date)$")
    case "time": return try pattern("^\(Form.time)$")
    case "date-time": return try pattern("^\(Form.date)T\(Form.time)$")
    case "uuid": return try pattern("^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")
    case "ipv4": return try pattern("^\(Form.octet)(?:\\.\(Form.octet)){3}$")
    case "email": return try pattern("^\(Form.dotAtom)@\(Form.domain)$").intersection(pattern("^[^@]{1,64}@[^@]{1,63}$"))
    default: return nil
    }
  }

  private enum Form {
    /// RFC 3339 full-date: days that exist, years 0001 to 9999 (Python's dates begin there).
    static let date = "(?:\(year)-(?:\(monthAndDay))|\(leapYear)-02-29)"
    private static let year = "(?:000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})"
    /// Days that every year has.
    private static let monthAndDay =
      "(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8])"
    /// Divisible by 4, and by 400 where by 100; not 0000.
    private static let leapYear = "(?:\\d\\d\(fourth)|\(fourth)00)"
    private static let fourth = "(?:0[48]|[2468][048]|[13579][26])"

    /// RFC 3339 full-time without leap seconds.
    static let time = "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"

    static let octet = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"

    /// RFC 5321 Dot-string.
    static let dotAtom = "\(atom)(?:\\.\(atom))*"
    private static let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
    /// RFC 5321 Domain, the last label beginning with a letter, as all top-level domains do.
    static let domain = "(?:\(label)\\.)*[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    private static let label = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
  }
}
