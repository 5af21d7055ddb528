import Agent
import Basics
import Foundation
import Glibc
import Jobs
import Testing

@Suite struct Configuration {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../device-config").standardized.path

  @Test(arguments: ["arm-gateway.toml", "x86-gateway.toml", "large-box.toml", "expert-box.toml"])
  func theFilesInDeviceConfigLoad(name: String) throws {
    let path = Self.folder + "/" + name
    let configuration = try AgentConfiguration.load(path: path, environment: ["STATE_DIRECTORY": "/var/lib/sterna"])
    #expect(configuration.journal.path == "/var/lib/sterna/journal.sqlite")
    #expect(configuration.base == "sterna")
    // What is commented out must be right, too: people remove the "# " and nothing else.
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let tail = try #require(text.range(of: "# [[tasks]]"))
    let tasks = text[tail.lowerBound...].split(separator: "\n").map { $0.hasPrefix("# ") ? $0.dropFirst(2) : $0.dropFirst() }.joined(separator: "\n")
    let all = try AgentConfiguration.parse(text[..<tail.lowerBound] + tasks, name: name, environment: [:])
    #expect(all.tasks.map(\.name) == ["alarms", "work-orders"])
  }

  @Test func theConfigurationOfThePackagesLoadsAsItIsAndWithItsTask() throws {
    let text = try String(contentsOfFile: Self.folder + "/default.toml", encoding: .utf8)
    let plain = try AgentConfiguration.parse(text, name: "default.toml", environment: [:])
    #expect(plain.model.path == "/usr/share/sterna/models/pocket.gguf" && plain.tasks.isEmpty)
    let tail = try #require(text.range(of: "#[[tasks]]"))
    let tasks = text[tail.lowerBound...].split(separator: "\n").map { $0.dropFirst() }.joined(separator: "\n")
    #expect(try AgentConfiguration.parse(text[..<tail.lowerBound] + tasks, name: "default.toml", environment: [:]).tasks.map(\.name) == ["alarms"])
  }

  struct Wrong: CustomTestStringConvertible {
    var toml: String
    /// All of these must be in the message.
    var said: [String]
    var testDescription: String { toml }

    init(_ toml: String, _ said: String...) { (self.toml, self.said) = (toml, said) }
  }

  static let wrong: [Wrong] = [
    Wrong("[mqtt]\nport = 99999", "line 4: mqtt.port", "1...65535", "99999"),
    Wrong("[mqtt]\nport = \"1883\"", "mqtt.port", "an integer", "the string \"1883\""),
    Wrong("[experts]\nreads = \"mmap\"", "experts.reads", "direct", "mmap"),
    Wrong("[experts]\nreaders = 0", "experts.readers", "1...64", "0"),
    Wrong("[mqtt]\nprot = 1883", "line 4: mqtt.prot", "not a known key", "did you mean port?"),
    Wrong("[mqqt]\nport = 1883", "mqqt", "did you mean mqtt?"),
    Wrong("[mqtt]\npassword = \"x\"", "line 4: mqtt.password", "STERNA_MQTT_PASSWORD"),
    Wrong("[mqtt]\npassword_file = \"/does/not/exist\"\nusername = \"u\"", "mqtt.password_file", "No such file"),
    Wrong("[mqtt]\nversion = \"4\"", "mqtt.version", "\"auto\", \"5\", \"3.1.1\"", "\"4\""),
    Wrong("[mqtt]\nresponse_topics = [\"a/#\", \"a/#/b\"]", "line 4: mqtt.response_topics[1]", "not a topic filter"),
    Wrong("[mqtt.tls]\ncertificate = \"/dev/null\"", "mqtt.tls.key", "certificate and key"),
    Wrong("[mqtt.tls]\nca = \"/does/not/exist\"", "mqtt.tls.ca", "No such file"),
    Wrong("[agent]\nid = \"Gate Way\"", "line 4: agent.id", "a-z"),
    Wrong("[agent]\nbase = \"sterna/#\"", "agent.base", "no wildcards"),
    Wrong("[limits]\npayload_kb = 5000", "limits.payload_kb", "1...3072", "5000"),
    Wrong("[journal]\nkeep_hours = -1", "journal.keep_hours", "the number -1"),
    Wrong("[journal]\nkeep_hours = 1979-05-27", "journal.keep_hours", "dates"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"translate\"", "line 5: tasks[0].kind", "\"classify\", \"extract\""),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"a\"\noutput = \"b\"\nlabels = [\n  \"x\",\n  3,\n]", "line 8: tasks[0].labels[1]"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"a\"\noutput = \"b\"", "tasks[0].labels", "is missing"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"a/#\"\noutput = \"a/b\"\nlabels = [\"x\", \"y\"]", "line 7: tasks[0].output", "feed results back"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"#\"\noutput = \"a/b\"\nlabels = [\"x\", \"y\"]", "tasks[0].input"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"a\"\noutput = \"b\"\nlabels = [\"x\", \"y\"]\ntext = \"message\"", "line 9: tasks[0].text", "JSON pointer"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"a\"\noutput = \"b\"\nlabels = [\"x\", \"y\"]\ncalibration = \"/does/not/exist\"", "line 9: tasks[0].calibration", "/does/not/exist"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"extract\"\ninput = \"a\"\noutput = \"b\"\nfields = [\"x\"]\ncalibration = \"/dev/null\"", "tasks[0].calibration", "belongs to classifications"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"a\"\noutput = \"b\"\nlabels = [\"x\", { name = \"y\", threshold = 0.5 }]", "tasks[0].labels[1].threshold", "multi"),
    Wrong("[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"a\"\noutput = \"b\"\nlabels = [\"x\"]\noptions = { threshold = 0.5 }", "line 9: tasks[0].options.threshold", "multi"),
    Wrong("[mqtt]\nport = = 1", "line 4", "not TOML"),
    Wrong("[mqtt]\nport = 1\nport = 2", "not TOML"),
    Wrong("[agent]\nid = \"a\\u0000b\"", "NUL"),
    // The TOML parser ends the process over these.
    Wrong("[[@tasks]]\n", "line 3", "not TOML"),
    Wrong("[ =]\n", "line 3", "not TOML"),
    Wrong("[limits]\nlabels = [}\n", "line 4", "not TOML"),
    Wrong("[limits]\nlabels = [1, { a = 1 ]\n", "line 4", "not TOML"),
    Wrong("[\n", "line 3", "not TOML"),
    Wrong("[[ \r\na = 1", "line 3", "not TOML"),
    Wrong("[\u{301}a]\n", "line 3", "not TOML"),
    Wrong("require_signature = true", "model.keys", "models must be signed", "sterna sign --new-key"),
    Wrong("keys = \"/does/not/exist\"", "line 3: model.keys", "/does/not/exist", "No such file"),
    Wrong("keys = \"/usr/share\"", "line 3: model.keys", "no public key", "NAME.pub"),
    Wrong("import = [\"media\"]", "line 3: model.import[0]", "whole path"),
  ]

  @Test(arguments: wrong) func mistakesAreNamedWithPathAndLine(wrong: Wrong) throws {
    let error = try #require(throws: SternaError.self) {
      try AgentConfiguration.parse("[model]\npath = \"m.gguf\"\n" + wrong.toml, name: "box.toml", environment: [:])
    }
    for part in wrong.said + ["box.toml"] { #expect(error.description.contains(part), "\(error)") }
  }

  @Test func aTaskTakesItsSchemaFromAFile() throws {
    let folder = NSTemporaryDirectory() + "sterna-schema-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    func work(_ schema: String?, kind: String = "extract", more: String = "") throws -> Job.Work? {
      try schema?.write(toFile: folder + "/s.json", atomically: true, encoding: .utf8)
      let toml = "model.path = \"m\"\n[[tasks]]\nname = \"t\"\nkind = \"\(kind)\"\ninput = \"a\"\noutput = \"b\"\n\(more)schema = \"\(folder)/\(schema == nil ? "none" : "s").json\""
      return try AgentConfiguration.parse(toml, name: "box.toml", environment: [:]).tasks.first?.work
    }
    let schema = #"{"type":"object","properties":{"place":{"type":"string"}}}"#
    #expect(try work(schema) == .fill(Job.Schema(JSON.parse(schema))))
    let wrong: [(schema: String?, kind: String, more: String, said: [String])] = [
      (nil, "extract", "", ["none.json"]), ("{", "extract", "", ["s.json"]), (#"{"properties":{"a":{"not":{}}}}"#, "extract", "", ["s.json", "properties.a.not"]),
      (#"{"properties":{"a":{"minLength":-1}}}"#, "extract", "", ["s.json", "properties.a.minLength"]), (schema, "classify", "labels = [\"x\", \"y\"]\n", ["does not belong"]),
      (schema, "extract", "fields = [\"x\"]\n", ["fields"]),
    ]
    for (schema, kind, more, said) in wrong {
      let error = #expect(throws: SternaError.self) { try work(schema, kind: kind, more: more) }
      for part in said + ["box.toml", "line \(more.isEmpty ? 7 : 8): tasks[0].schema"] { #expect(error?.description.contains(part) == true, "\(error.map(\.description) ?? "")") }
    }
  }

  @Test func aTaskTakesTheCalibrationOfItsLabels() throws {
    let folder = NSTemporaryDirectory() + "sterna-calibration-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let curve = try #require(CalibrationCurve(points: [.init(0.5, 0.25), .init(1, 0.75)]))
    let calibration = Calibration(
      curve: curve, labels: ["x", "y"].map { Job.Label($0) }, multi: false, contextual: false, model: ModelIdentity(name: "m", sha256: "ab"), rows: 70)
    try calibration.json.compact.write(toFile: folder + "/c.json", atomically: true, encoding: .utf8)
    func tasks(_ labels: String) throws -> [AgentConfiguration.Task] {
      try AgentConfiguration.parse(
        "model.path = \"m\"\n[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"a\"\noutput = \"b\"\nlabels = \(labels)\ncalibration = \"\(folder)/c.json\"", name: "box.toml",
        environment: [:]
      ).tasks
    }
    #expect(try tasks(#"["x", "y"]"#).map(\.calibration) == [calibration])
    let error = #expect(throws: SternaError.self) { try tasks(#"["y", "x"]"#) }
    for part in ["line 8: tasks[0].calibration", "c.json", "other labels", "labels[0]", "--calibrate"] { #expect(error?.description.contains(part) == true, "\(error.map(\.description) ?? "")") }
  }

  @Test func theModelMustBeNamed() throws {
    let error = try #require(throws: SternaError.self) { try AgentConfiguration.parse("", name: "box.toml", environment: [:]) }
    #expect(error.place == "box.toml: model.path")
  }

  @Test func aFileThatIsNotThereIsNamed() throws {
    let error = try #require(throws: SternaError.self) { try AgentConfiguration.load(path: "/does/not/exist.toml", environment: [:]) }
    #expect(error.description.contains("/does/not/exist.toml"))
  }

  @Test func aModelThatIsNotThereIsNamedWithItsKey() throws {
    let folder = NSTemporaryDirectory() + "sterna-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let file = folder + "/sterna.toml"
    try "model.path = \"/does/not/exist.gguf\"\njournal.path = \"\(folder)/journal.sqlite\"".write(toFile: file, atomically: true, encoding: .utf8)
    for arguments in [[], ["--check"]] {
      let (status, output) = try execute(buildFolder + "/sterna", ["run", "--config", file] + arguments)
      #expect(status == 1)
      for part in ["/does/not/exist.gguf", "No such file", "see that model.path"] { #expect(output.contains(part), "\(output)") }
    }
  }

  @Test func thePasswordComesFromEnvironmentFileOrCredential() throws {
    let folder = NSTemporaryDirectory() + "sterna-credentials-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try "from-credential\n".write(toFile: folder + "/mqtt-password", atomically: true, encoding: .utf8)
    chmod(folder + "/mqtt-password", 0o600)
    let toml = "model.path = \"m\"\n[mqtt]\nusername = \"u\""
    func password(_ toml: String, _ environment: [String: String]) throws -> String? {
      try AgentConfiguration.parse(toml, name: "t", environment: environment).mqtt.password?.text
    }
    #expect(try password(toml, ["STERNA_MQTT_PASSWORD": "from-environment", "CREDENTIALS_DIRECTORY": folder]) == "from-environment")
    #expect(try password(toml, ["CREDENTIALS_DIRECTORY": folder]) == "from-credential")
    #expect(try password(toml + "\npassword_file = \"\(folder)/mqtt-password\"", [:]) == "from-credential")
    #expect(try password(toml, [:]) == nil)
  }
}
