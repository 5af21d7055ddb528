import Foundation
import Testing

/// `sterna schema`: 0 for a schema that compiles and a value it lets through, 1 for a value it does not, 2 for a schema that is refused.
@Suite struct SchemaCommandTests {
  private static let order = #"""
    {"type": "object", "properties": {"machine": {"type": "string", "maxLength": 9}, "count": {"type": "integer", "minimum": 1}, "a \"b\"": {"format": "date", "type": "string"}},
     "required": ["machine"], "vendor": 1}
    """#

  private func schema(_ schema: String, accepts value: String? = nil, _ more: [String] = []) throws -> SternaProcess {
    try withTemporaryFolder { folder in
      let (schemaFile, valueFile) = (folder.appendingPathComponent("schema.json"), folder.appendingPathComponent("value.json"))
      try Data(schema.utf8).write(to: schemaFile)
      try Data((value ?? "").utf8).write(to: valueFile)
      return try SternaProcess.run(["schema", schemaFile.path] + (value == nil ? [] : ["--accepts", valueFile.path]) + more)
    }
  }

  @Test func whatItCompilesToIsShown() throws {
    let shown = try schema(Self.order)
    #expect(shown.status == 0)
    #expect(shown.output == "object\n  machine: string of at most 9 characters\n  count?: integer at least 1\n  \"a \\\"b\\\"\"?: date\nnote: vendor: not a keyword of JSON Schema, ignored\n")
    let json = try schema(Self.order, ["--json"]).json()
    #expect((json["nodes"] as? [Any])?.count == 4 && json["root"] as? Int == 0 && (json["notes"] as? [String])?.count == 1)
    let recursive = try schema(##"{"type":"array","items":{"$ref":"#"}}"##)
    #expect(recursive.output == "array #1\n  each: as #1\n")
    #expect(try schema("{}").output == "any value\n")
  }

  @Test func valuesAreJudgedByTheExitCode() throws {
    for (value, status) in [
      (#"{"machine":"pump 7"}"#, 0), (#" { "count" : 2.0 , "machine" : "pump 7" } "#, 0), (#"{"count":2}"#, 1), (#"{"machine":"pump 7","count":0.5}"#, 1), (#"{"machine":"0123456789"}"#, 1),
      ("7", 1), ("", 1), ("{", 1), (#"{"machine":"a","machine":"a"}"#, 1), (#"{"machine":"\ud800"}"#, 1),
    ] as [(String, Int32)] {
      let judged = try schema(Self.order, accepts: value)
      #expect(judged.status == status && judged.output == (status == 0 ? "accepted\n" : "not accepted\n"), "\(value)")
    }
    #expect(try schema("true", accepts: "[1]", ["--json"]).json()["accepted"] as? Bool == true)
  }

  @Test func refusalsSayWhere() throws {
    for (text, words) in [(#"{"properties":{"a":{"not":{}}}}"#, "schema.json: properties.a.not: "), ("{", "schema.json: byte 1: "), (#"{"type":"string","minLength":2,"maxLength":1}"#, "schema.json: minLength: "), ("", "byte 0")] {
      for value in [nil, "1"] {
        let refused = try schema(text, accepts: value)
        #expect(refused.status == 2 && refused.errors.contains(words) && refused.output.isEmpty, "\(refused.errors)")
      }
    }
    #expect(try SternaProcess.run(["schema", "/nowhere/schema.json"]).status == 2)
    // Without the value there is no verdict.
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("schema.json")
      try Data("{}".utf8).write(to: file)
      #expect(try SternaProcess.run(["schema", file.path, "--accepts", "/nowhere/value.json"]).status == 2)
    }
  }
}
