import Basics
import Decoding
import Testing

/// The holes that grammars and schemas of clients opened, each by its name (docs/security.md). What is meant is that all of it ends, with an answer.
@Suite struct KnownFlawTests {
  /// - Returns: whether it compiled; an error is fine, too.
  @discardableResult private func compiles(_ text: String) throws -> Bool {
    let schema = try JSON.parse(text, limits: .file)
    do { _ = try JSONSchema(schema) } catch { return false }
    return true
  }

  /// Recursion as deep as the client likes ran out of stack.
  @Test func nestingOfSchemas_CVE_2025_58446_llama_cpp_22234() throws {
    for (open, close) in [(#"{"items":"#, "}"), (#"{"anyOf":["#, "]}"), (#"{"properties":{"a":"#, "}}"), (#"{"not":"#, "}")] {
      let deep = String(repeating: open, count: 20_000) + "{}" + String(repeating: close, count: 20_000)
      // As a message it is no JSON; and as deep as JSON may be it is a schema or none.
      #expect(throws: SternaError.self) { try JSON.parse(deep) }
      try compiles(String(repeating: open, count: 15) + "{}" + String(repeating: close, count: 15))
    }
    // Circles, with and without something in them.
    #expect(try compiles(##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##) == false)
    try compiles(##"{"$ref":"#/$defs/a","$defs":{"a":{"type":"object","properties":{"a":{"$ref":"#/$defs/a"}}}}}"##)
    // References that multiply: 2 to the 30th.
    let doubling = (0..<30).map { ##""d\##($0)":{"type":"object","properties":{"l":{"$ref":"#/$defs/d\##($0 + 1)"},"r":{"$ref":"#/$defs/d\##($0 + 1)"}}}"## }.joined(separator: ",")
    try compiles(##"{"$ref":"#/$defs/d0","$defs":{\##(doubling),"d30":{"type":"null"}}}"##)
    let branching = (0..<30).map { ##""d\##($0)":{"allOf":[{"anyOf":[{"$ref":"#/$defs/d\##($0 + 1)"},{"minimum":\##($0)}]},{"anyOf":[{"$ref":"#/$defs/d\##($0 + 1)"},{"maximum":\##($0)}]}]}"## }
    try compiles(##"{"$ref":"#/$defs/d0","$defs":{\##(branching.joined(separator: ",")),"d30":{"type":"null"}}}"##)
  }

  /// A pattern or a type of the wrong kind took the server down; patterns that backtrack for ever took its time.
  @Test func patternsAndTypes_CVE_2025_48944() throws {
    for schema in [
      #"{"type":"string","pattern":"("}"#, #"{"type":"string","pattern":"[z-a]"}"#, #"{"type":"string","pattern":"a{9999999999}"}"#, #"{"type":"string","pattern":"\\"}"#, #"{"type":5}"#,
      #"{"type":{"a":1}}"#, #"{"type":"string","pattern":["a"]}"#, #"{"type":"string","pattern":"(?<=a)b"}"#, #"{"type":"string","pattern":"(a)\\1"}"#,
    ] { #expect(try compiles(schema) == false, "\(schema)") }
    for pattern in ["(a+)+$", "(a|a)*b", "(a*)*", "((a{1,100}){1,100}){1,100}", "(x+x+)+y", ".*.*.*.*.*=.*", String(repeating: "(", count: 4000), "(.|\\\\n)*" + String(repeating: "a?", count: 1000)] {
      guard try compiles(#"{"type":"string","pattern":"\#(pattern)"}"#) else { continue }
      let constraint = try JSONSchema(JSON.parse(#"{"type":"string","pattern":"^\#(pattern)$"}"#)).constraint
      _ = constraint.accepts(.string(String(repeating: "a", count: 10_000) + "!"))
    }
  }
}
