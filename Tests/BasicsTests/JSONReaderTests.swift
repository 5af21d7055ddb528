import Basics
import Testing

private func failure(_ body: () throws -> Void) -> SternaError? {
  do {
    try body()
    return nil
  } catch { return error as? SternaError }
}

@Suite struct JSONReaderTests {
  let job = JSONReader(["id": "a", "labels": [["name": "x"], ["name": 3], "y"], "options": ["ttl": .number(2.5), "deep": nil], "n": 7, "ok": true])

  @Test func valuesAreRead() throws {
    #expect(try job["id"].string() == "a")
    #expect(try job["n"].int(in: 0...7) == 7)
    #expect(try job["n"].double() == 7)
    #expect(try job["options"]["ttl"].double(in: 2...3) == 2.5)
    #expect(try job["ok"].bool())
    #expect(try job["labels"].array(count: 3...3)[0]["name"].string(bytes: 1...1) == "x")
    let names = try job["options"].members().map { $0.name }
    #expect(names == ["ttl", "deep"])
    #expect(try job.object().count == 5)
  }

  @Test func missingAndNullAreAbsent() {
    #expect(!job["options"]["deep"].isPresent && job["options"]["deep"].optional == nil)
    #expect(!job["no"].isPresent && !job["no"]["such"].isPresent && !job["id"]["member"].isPresent)
    #expect(job["id"].isPresent)
  }

  @Test func complaintsNameThePath() {
    #expect(failure { _ = try job["labels"].array()[1]["name"].string() }?.place == "labels[1].name")
    #expect(failure { _ = try job["labels"].array()[2]["name"].string() }?.message == "is missing")
    let wrong = failure { _ = try job["labels"].array()[1]["name"].string() }
    #expect(wrong?.code == .badField && wrong?.expected == "a string" && wrong?.found == "the number 3")
    #expect(failure { _ = try job["id"].int() }?.found == "the string \"a\"")
    #expect(failure { _ = try job["n"].int(in: 8...9) }?.expected == "8...9")
    // One character of any number of scalars.
    #expect(failure { _ = try JSONReader(.string("e" + String(repeating: "\u{301}", count: 10_000))).int() }?.found?.utf8.count ?? 0 < 120)
    #expect(failure { _ = try job["options"]["ttl"].int() }?.place == "options.ttl")
    #expect(failure { _ = try job["n"].double(in: 0.0...1.0) }?.message == "is out of range")
    #expect(failure { _ = try job["id"].string(bytes: 2...4) }?.found == "1 bytes")
    #expect(failure { _ = try job["labels"].array(count: 0...2) }?.found == "3")
    #expect(failure { _ = try job["n"].bool() }?.expected == "true or false")
    #expect(failure { _ = try job["n"].object() }?.expected == "an object")
    #expect(failure { _ = try JSONReader(3).string() }?.place == "(the whole value)")
    #expect(failure { _ = try job["options"].members().map { try $0.value.string() } }?.place?.hasPrefix("options.") == true)
  }
}

@Suite struct SternaErrorTests {
  @Test func descriptionIsASmallTree() {
    let error = SternaError(.badFile, "was cut short", at: "byte 3", expected: "8", found: "3", remedy: "copy it", cause: "EOF").within("a.gguf")
    #expect(error.description == "a.gguf: byte 3: was cut short\n  expected  8\n  found     3\n  cause     EOF\n  do        copy it")
    #expect(SternaError(.io, "no").description == "no")
    #expect(SternaError(.io, "no").within("here").place == "here")
    #expect(SternaError(.io, "no", at: "b").within("a", separator: ".").place == "a.b")
  }

  /// Names of tensors and keys are those that a stranger's file has.
  @Test func aTerminalFindsNothingToObey() {
    let error = SternaError(.badFile, "is missing", at: "tensor \u{1B}[2J\u{9B}1m\u{7}", found: "a\r\nb", cause: "line one\nline two")
    #expect(error.description == "tensor  [2J 1m : is missing\n  found     a  b\n  cause     line one\nline two")
  }

  @Test func codesAreStableWords() {
    #expect(SternaError.Code.badFile.rawValue == "bad_file" && SternaError.Code.badJSON.rawValue == "bad_json")
    #expect(SternaError.Code("io") == .io && SternaError.Code(rawValue: "unsupported") == .unsupported)
  }
}
