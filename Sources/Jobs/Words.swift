/// A name as people say it: `timeRange`, `time_range` and `Time-Range` become `time range`.
///
/// `_`, `-`, `.`, `/` and white space separate words. A word also begins where an ASCII lower-case letter or digit meets an ASCII
/// upper-case letter, and at the last capital of a run that a lower-case letter follows: `HTTPError2` becomes `http error2`. Other letters are lowered but never
/// split. The pocket model's training follows the same rule (`training/names.py`).
public func words(_ name: String) -> String {
  let scalars = Array(name.unicodeScalars)
  var out = String.UnicodeScalarView()
  var gap = false
  for (i, scalar) in scalars.enumerated() {
    if "_-./".unicodeScalars.contains(scalar) || scalar.properties.isWhitespace {
      gap = !out.isEmpty
      continue
    }
    if i > 0, scalar.isUpper {
      let before = scalars[i - 1]
      let beginsWord = before.isLower || before.isDigit || before.isUpper && i + 1 < scalars.count && scalars[i + 1].isLower
      if beginsWord { gap = !out.isEmpty }
    }
    if gap { out.append(" ") }
    gap = false
    out.append(scalar)
  }
  return String(out).lowercased()
}

extension Unicode.Scalar {
  fileprivate var isUpper: Bool { "A"..."Z" ~= self }
  fileprivate var isLower: Bool { "a"..."z" ~= self }
  fileprivate var isDigit: Bool { "0"..."9" ~= self }
}
