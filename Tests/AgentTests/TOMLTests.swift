import Agent
import Basics
import Testing

/// The configuration's own parser of TOML 1.0.
@Suite struct TOMLTests {
  private func json(_ toml: String) throws -> JSON { try TOMLParser.parse(toml).root }

  @Test(arguments: [
    ("", "{}"), ("a = 1", #"{"a":1}"#), ("\u{FEFF}a=1\r\nb=2 # c", #"{"a":1,"b":2}"#), ("# c\n\n  a = true", #"{"a":true}"#), ("a = [ 1, 2.5, # c\n\n -3 , ]", #"{"a":[1,2.5,-3]}"#),
    ("a.b.c = 1\na.b.d = 2", #"{"a":{"b":{"c":1,"d":2}}}"#), ("[a.b]\nx = 1\n[a]\ny = 2", #"{"a":{"b":{"x":1},"y":2}}"#), ("[[t]]\nn = 1\n[t.o]\np = 2\n[[t]]", #"{"t":[{"n":1,"o":{"p":2}},{}]}"#),
    ("a = { b = 1, \"c d\" = [{}], e.f = 'x' }", #"{"a":{"b":1,"c d":[{}],"e":{"f":"x"}}}"#), ("a = 0x1F\nb = 0o17\nc = 0b11\nd = 1_000\ne = 1e3\nf = +2", #"{"a":31,"b":15,"c":3,"d":1000,"e":1000,"f":2}"#),
    (#"a = "x\ty\"z\\\u00e9\U0001F600""#, #"{"a":"x\ty\"z\\é😀"}"#), ("a = 'C:\\x'", #"{"a":"C:\\x"}"#), ("a = \"\"\"\nx\n  y \\\n   z\"\"\"\"", #"{"a":"x\n  y z\""}"#), ("a = '''x'y''z'''", #"{"a":"x'y''z"}"#),
    ("\"\" = 1\n'b.c' = 2", #"{"":1,"b.c":2}"#), ("a = [[1],[{b=2}]]", #"{"a":[[1],[{"b":2}]]}"#), ("1 = 2\n-_ = 3", #"{"1":2,"-_":3}"#),
  ]) func whatIsTOML(toml: String, expected: String) throws { #expect(try json(toml) == JSON.parse(expected)) }

  @Test(arguments: [
    "a", "a =", "= 1", "a = 1 2", "a = 1\na = 2", "a = [", "a = [}", "a = [,]", "a = [1,,2]", "a = {", "a = { b = 1,}", "a = { b = 1\n}", "a = {]", "[", "[]", "[a", "[a]]", "[[a]", "[@a]", "[[@a]]", "[a.]",
    "[a]\n[a]", "[a]\n[[a]]", "a = 1\n[a]", "a = 1\n[a.b]", "a = {}\n[a.b]", "a = [{}]\n[[a]]", "[a.b]\n[a]\nb.c = 1", "[a]\nb.c = 1\n[a.b]", "a.b = 1\na = 2", "a = \"x", "a = \"x\ny\"", "a = \"\\x\"", "a = \"\\ud800\"",
    "a = \"\\u00\"", "a = '''x''", "a = \"\"\"x", "a = 01", "a = 1_", "a = _1", "a = 1__0", "a = 1.", "a = .5", "a = 1e", "a = 0xG", "a = 0x", "a = +0x1", "a = 99999999999999999999", "a = 1e999", "a = True",
    "a = yes", "a\u{301} = 1", "a = 1 # \u{7}", "a = \"\u{1}\"", "a\rb = 1", "a = 3958-05-27 2", "a = \(String(repeating: "[", count: 100))", "[\(Array(repeating: "a", count: 100).joined(separator: "."))]",
  ]) func whatIsNot(toml: String) { #expect(throws: TOMLParser.Failure.self, "\(toml)") { try json(toml) } }

  @Test(arguments: [("a = 1979-05-27", "a"), ("[t]\na.b = [1, 07:32:00]", "t.a.b[1]"), ("x = { a = inf }", "x.a"), ("x = -nan", "x")]) func whatCannotBeUsed(toml: String, path: String) {
    let failure = #expect(throws: TOMLParser.Failure.self) { try json(toml) }
    #expect(failure?.path == path)
  }

  @Test func manyTablesAreNoWork() throws {
    let lists = String(repeating: "[[a]]\n", count: 100_000)
    guard case .object(let object) = try json(lists), case .array(let all)? = object["a"] else { throw TestError() }
    #expect(all.count == 100_000)
  }
  private struct TestError: Error {}
}
