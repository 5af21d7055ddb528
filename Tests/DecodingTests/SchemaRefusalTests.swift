import Basics
import Decoding
import Testing

/// What is refused, and where it says so.
@Suite struct SchemaRefusalTests {
  private func refusal(_ text: String, limits: JSONSchema.Limits = JSONSchema.Limits()) throws -> SternaError? {
    let schema = try JSON.parse(text, limits: .file)
    do {
      _ = try JSONSchema(schema, limits: limits)
      return nil
    } catch { return error }
  }

  @Test(arguments: [
    "not", "if", "then", "else", "patternProperties", "propertyNames", "minProperties", "maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "contains", "minContains",
    "maxContains", "unevaluatedItems", "unevaluatedProperties", "additionalItems", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "nullable", "id", "divisibleBy", "disallow",
    "extends", "$vocabulary",
  ]) func keywordsThatCannotBeEnforced(_ keyword: String) throws {
    for (schema, place) in [
      (#"{"\#(keyword)":{}}"#, keyword), (#"{"type":"object","properties":{"a":{"\#(keyword)":1}}}"#, "properties.a.\(keyword)"),
      (#"{"anyOf":[{},{"items":{"\#(keyword)":true}}]}"#, "anyOf[1].items.\(keyword)"), (##"{"$ref":"#/$defs/x","$defs":{"x":{"\##(keyword)":[]}}}"##, "$defs.x.\(keyword)"),
    ] {
      let error = try refusal(schema)
      #expect(error?.code == .unsupported && error?.place == place, "\(schema): \(error.map { "\($0)" } ?? "compiled")")
    }
    // As a name it is a name, and what is not referred to is not read.
    #expect(try refusal(#"{"properties":{"\#(keyword)":{}},"$defs":{"unused":{"\#(keyword)":{}}},"x-\#(keyword)":{},"default":{"\#(keyword)":1}}"#) == nil)
  }

  @Test(arguments: [
    (#"{"multipleOf":2}"#, "multipleOf"), (#"{"multipleOf":0.01}"#, "multipleOf"), (#"{"format":"hostname"}"#, "format"), (#"{"format":"uri"}"#, "format"), (#"{"format":"made-up"}"#, "format"),
    (#"{"items":[{}]}"#, "items"), (#"{"properties":{"a":{"$id":"b"}}}"#, "properties.a.$id"), (#"{"$schema":"http://json-schema.org/draft-04/schema#"}"#, "$schema"),
    (#"{"$schema":"https://example.com/own"}"#, "$schema"), (#"{"$ref":"other.json"}"#, "$ref"), (#"{"$ref":"https://example.com/a#/b"}"#, "$ref"),
    (#"{"$id":"https://example.com/a","$ref":"https://example.com/b#"}"#, "$ref"), (##"{"$ref":"#/$defs/a/$defs/b","$defs":{"a":{"$id":"x","$defs":{"b":{}}}}}"##, "$ref"),
    (##"{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"a":{"$ref":"#/$defs/a","maxLength":2}},"$defs":{"a":{}}}"##, "properties.a.maxLength"),
    (#"{"$schema":"http://json-schema.org/draft-07/schema#","prefixItems":[{}]}"#, "prefixItems"), (#"{"properties":{"a":{"$schema":"http://json-schema.org/draft-07/schema#"}}}"#, "properties.a.$schema"),
    (#"{"maxlength":3}"#, "maxlength"), (#"{"max_length":3}"#, "max_length"), (#"{"requierd":["a"]}"#, "requierd"), (#"{"item":{}}"#, "item"), (#"{"propertes":{}}"#, "propertes"), (#"{"ref":"a"}"#, "ref"),
  ]) func whatMeansMoreThanCanBeEnforced(_ schema: String, _ place: String) throws {
    let error = try refusal(schema)
    #expect(error?.code == .unsupported && error?.place == place, "\(error.map { "\($0)" } ?? "compiled")")
  }

  @Test(arguments: [
    ("1", "(the whole schema)"), ("[]", "(the whole schema)"), ("null", "(the whole schema)"), (#"{"properties":{"a":3}}"#, "properties.a"), (#"{"items":"string"}"#, "items"), (#"{"type":"any"}"#, "type"),
    (#"{"type":["string",3]}"#, "type[1]"), (#"{"type":[]}"#, "type"), (#"{"type":"String"}"#, "type"), (#"{"enum":[]}"#, "enum"), (#"{"enum":"a"}"#, "enum"), (#"{"minimum":"3"}"#, "minimum"),
    (#"{"exclusiveMinimum":true}"#, "exclusiveMinimum"), (#"{"minimum":1e9999999999}"#, "minimum"), (#"{"minLength":-1}"#, "minLength"), (#"{"maxLength":1.5}"#, "maxLength"), (#"{"minItems":"1"}"#, "minItems"),
    (#"{"uniqueItems":1}"#, "uniqueItems"), (#"{"pattern":3}"#, "pattern"), (#"{"format":null}"#, "format"), (#"{"properties":[]}"#, "properties"), (#"{"required":"a"}"#, "required"), (#"{"required":[1]}"#, "required[0]"),
    (#"{"anyOf":{}}"#, "anyOf"), (#"{"anyOf":[]}"#, "anyOf"), (#"{"allOf":[1]}"#, "allOf[0]"), (#"{"prefixItems":[]}"#, "prefixItems"), (#"{"$ref":3}"#, "$ref"), (##"{"$ref":"#/$defs/none"}"##, "$ref"),
    (##"{"$ref":"#nobody"}"##, "$ref"), (##"{"$ref":"#/a~2b"}"##, "$ref"), (##"{"$ref":"#/%zz"}"##, "$ref"), (##"{"$ref":"#/anyOf/01","anyOf":[{},{}]}"##, "$ref"), (##"{"$ref":"#/type/x","type":"null"}"##, "$ref"),
    (##"{"$ref":"#/title","title":"t"}"##, "title"), (##"{"$defs":{"a":{"$anchor":"x"},"b":{"$anchor":"x"}},"$ref":"#x"}"##, "$defs.a.$anchor"),
    (##"{"$ref":"#"}"##, "(the whole schema)"), (##"{"$defs":{"a":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/b"}]},"b":{"allOf":[{"$ref":"#/$defs/a"}]}},"items":{"$ref":"#/$defs/a"}}"##, "$defs.a"),
    (#"{"source":"model"}"#, "source"), (#"{"type":"object","source":"free"}"#, "source"), (#"{"description":7}"#, "description"), (#"{"$defs":7}"#, "$defs"), (#"{"$schema":7}"#, "$schema"),
  ]) func whatIsNoSchema(_ schema: String, _ place: String) throws {
    let error = try refusal(schema)
    #expect(error?.code == .badField && error?.place == place, "\(error.map { "\($0)" } ?? "compiled")")
  }

  @Test(arguments: [
    ("false", ""), (#"{"type":"string","minLength":3,"maxLength":2}"#, "minLength"), (#"{"type":"string","enum":[1,null]}"#, "enum"), (#"{"const":1,"enum":[2]}"#, "enum"),
    (#"{"type":"integer","minimum":0.5,"maximum":0.9}"#, "minimum"), (#"{"type":"number","minimum":2,"exclusiveMaximum":2}"#, "minimum"), (#"{"type":"number","allOf":[{"maximum":2},{"exclusiveMinimum":3}]}"#, "allOf[1].exclusiveMinimum"),
    (#"{"type":"array","minItems":2,"maxItems":1}"#, "minItems"), (#"{"type":"array","minItems":2,"prefixItems":[{}],"items":false}"#, "minItems"), (#"{"type":"array","minItems":1,"items":{"type":"null","const":0}}"#, "items.enum"),
    (#"{"type":"string","allOf":[{"type":"integer"}]}"#, "allOf[0].type"), (#"{"type":"string","anyOf":[{"type":"integer"},{"type":"null"}]}"#, "anyOf"),
    (#"{"type":"object","properties":{"a":{"type":"string","pattern":"^ab$","minLength":3}},"required":["a"]}"#, "properties.a.minLength"),
    (#"{"type":"object","properties":{"a":{"type":"string","pattern":"^ab$","format":"date"}},"required":["a"]}"#, "properties.a.pattern"),
    (#"{"type":"object","required":["b"],"additionalProperties":false}"#, "required"), (#"{"type":"object","required":["b"],"properties":{"b":false}}"#, "required"),
    (##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}"##, "properties.a"), (##"{"$ref":"#/$defs/l","$defs":{"l":{"type":"array","items":{"$ref":"#/$defs/l"},"minItems":1}}}"##, "$defs.l.items"),
    (#"{"type":"array","items":{"enum":["a","b"]},"uniqueItems":true,"minItems":3}"#, "uniqueItems"),
    (#"{"type":"array","prefixItems":[{"const":1},{"enum":[1,2]},{"enum":[1.0,2]}],"uniqueItems":true,"minItems":3}"#, "uniqueItems"),
    (#"{"type":"object","required":["a"],"properties":{"a":{"type":"array","items":{"type":"array","items":{"type":"boolean"},"uniqueItems":true},"uniqueItems":true,"minItems":6}}}"#, "properties.a.uniqueItems"),
  ]) func whatNothingSatisfies(_ schema: String, _ place: String) throws {
    let error = try refusal(schema)
    #expect(error?.code == .unsupported && error?.message.hasPrefix("no value satisfies this schema") == true, "\(error.map { "\($0)" } ?? "compiled")")
    #expect(error?.place == (place.isEmpty ? "(the whole schema)" : place), "\(schema): \(error.map { "\($0)" } ?? "")")
  }

  @Test(arguments: [
    (#"{"oneOf":[{"type":"integer"},{"type":"number"}]}"#, "oneOf"), (#"{"oneOf":[{"type":"integer"},{"minimum":2}]}"#, "oneOf"), (#"{"properties":{"a":{"oneOf":[{"type":"string"},{"maxLength":2}]}}}"#, "properties.a.oneOf"),
    (#"{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}]}"#, "oneOf"), (#"{"oneOf":[{"const":"a"},{"type":"string"}]}"#, "oneOf"), (#"{"oneOf":[{"type":"string","pattern":"^a"},{"type":"string","pattern":"b$"}]}"#, "oneOf"),
    (#"{"oneOf":[{"type":"object","properties":{"k":{"const":1}}},{"type":"object","properties":{"k":{"const":2}},"required":["k"]},{"type":"object","properties":{"k":{"const":3}}}]}"#, "oneOf"),
    (#"{"type":"array","oneOf":[{"items":{"type":"string"}},{"items":{"type":"integer"}}]}"#, "oneOf"),
  ]) func branchesThatMayHoldTogether(_ schema: String, _ place: String) throws {
    let error = try refusal(schema)
    #expect(error?.code == .unsupported && error?.place == place && error?.remedy?.contains("anyOf") == true, "\(error.map { "\($0)" } ?? "compiled")")
  }

  @Test(arguments: [
    #"{"oneOf":[{"type":"string","pattern":"^a"},{"type":"string","pattern":"^b"}]}"#, #"{"type":"array","minItems":1,"oneOf":[{"items":{"type":"string"}},{"items":{"type":"integer"}}]}"#,
    #"{"type":"string","oneOf":[{"minLength":4},{"maxLength":3}]}"#, #"{"oneOf":[{"type":"string","format":"date"},{"type":"string","format":"time"},{"type":"string","const":"x"}]}"#,
    #"{"oneOf":[{"type":"object","properties":{"k":{"const":1}},"required":["k"]},{"type":"object","properties":{"k":{"enum":[2,3]}},"required":["k"]},{"type":"array"}]}"#,
    ##"{"$ref":"#/$defs/n","$defs":{"n":{"oneOf":[{"type":"object","properties":{"k":{"const":"leaf"}},"required":["k"]},{"type":"object","properties":{"left":{"$ref":"#/$defs/n"},"k":{"const":"node"}},"required":["left","k"]}]}}}"##,
  ]) func branchesThatExcludeEachOther(_ schema: String) throws { #expect(try refusal(schema) == nil) }

  // MARK: Budgets

  private func repeated(_ count: Int, _ part: (Int) -> String) -> String { (0..<count).map(part).joined(separator: ",") }

  @Test func sizesAreBounded() throws {
    #expect(try refusal(#"{"enum":[\#(repeated(4_001) { "\($0)" })]}"#)?.place == "enum")
    #expect(try refusal(#"{"properties":{\#(repeated(4_000) { "\"p\($0)\":{}" })}}"#)?.message == "the schema is too large")
    #expect(try refusal(#"{"minLength":65537}"#)?.place == "minLength")
    #expect(try refusal(#"{"minItems":1e20}"#)?.place == "minItems")
    #expect(try refusal(#"{"properties":{\#(repeated(501) { #""p\#($0)":{"type":"string","pattern":"^\#($0)$"}"# })}}"#)?.place == "properties.p500.pattern")
    #expect(try refusal(#"{"allOf":[\#(repeated(12) { #"{"anyOf":[{"required":["a\#($0)"]},{"required":["b\#($0)"]}]}"# })]}"#)?.message == "allows too many kinds of values")
    let chain = { (count: Int) in ##"{"$ref":"#/$defs/c0","$defs":{\##(self.repeated(count) { ##""c\##($0)":{"$ref":"#/$defs/c\##($0 + 1)"}"## }),"c\##(count)":{}}}"## }
    #expect(try refusal(chain(60)) == nil)
    #expect(try refusal(chain(70))?.code == .unsupported)
  }

  @Test func workIsBounded() throws {
    // Two ways at each of 30 places: a billion.
    let doubling = ##"{"$ref":"#/$defs/d0","$defs":{\##(repeated(30) { ##""d\##($0)":{"anyOf":[{"$ref":"#/$defs/d\##($0 + 1)"},{"$ref":"#/$defs/d\##($0 + 1)"}]}"## }),"d30":{"type":"string"}}}"##
    var limits = JSONSchema.Limits()
    limits.steps = 50_000
    #expect(try refusal(doubling, limits: limits)?.message == "the schema takes too long to work out")
    // A value judged in two ways at each of 60 levels.
    let deep = String(repeating: "[", count: 60) + "1" + String(repeating: "]", count: 60)
    let judging = ##"{"$ref":"#/$defs/n","const":\##(deep),"$defs":{"n":{"anyOf":[{"items":{"$ref":"#/$defs/n"},"minItems":1,"type":"array"},{"items":{"$ref":"#/$defs/n"},"maxItems":3,"type":"array"},{"const":2}]}}}"##
    #expect(try refusal(judging, limits: limits)?.code == .unsupported)
    // Sets of subschemas that grow with every level, up to all subsets of 16.
    let subsets = ##"{"$ref":"#/$defs/s0","$defs":{\##(repeated(16) { ##""s\##($0)":{"type":"array","items":{"allOf":[{"$ref":"#/$defs/s\##(($0 * 3 + 1) % 16)"},{"$ref":"#/$defs/s\##(($0 * 7 + 5) % 16)"}]}}"## })}}"##
    limits.nodes = 100
    _ = try refusal(subsets, limits: limits)
    // Acceptance keeps what it found out.
    let tree = try JSONSchema(try JSON.parse(##"{"$ref":"#/$defs/n","$defs":{"n":{"anyOf":[{"items":{"$ref":"#/$defs/n"},"minItems":1,"type":"array"},{"items":{"$ref":"#/$defs/n"},"maxItems":3,"type":"array"},{"const":2}]}}}"##)).constraint
    #expect(tree.accepts(try JSON.parse(deep, limits: .file)) == false)
  }
}
