import Foundation

/// Runs the built `sterna` the way a user would, and keeps what it said.
struct SternaProcess {
  let status: Int32
  let output: String
  let errors: String

  /// The folder that SwiftPM put the test bundle and the executable into.
  static let executable: URL = {
    let arguments = CommandLine.arguments
    let bundle = arguments.first { $0.hasSuffix(".xctest") } ?? arguments[0]
    return URL(fileURLWithPath: bundle).resolvingSymlinksInPath().deletingLastPathComponent().appendingPathComponent("sterna")
  }()

  static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  static func fixture(_ name: String) -> String { repository.appendingPathComponent("Tests/Fixtures/models/\(name)").path }
  static let pocket = repository.appendingPathComponent("Models/pocket.gguf").path
  static let pocketMixture = repository.appendingPathComponent("Models/pocket-moe.gguf").path

  @discardableResult
  static func run(_ arguments: [String], input: String = "", environment: [String: String] = [:]) throws -> SternaProcess {
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    // Files, not pipes: no reader is needed to keep the process from blocking.
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sterna-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let files = try ["out", "err"].map { name in
      let url = folder.appendingPathComponent(name)
      _ = FileManager.default.createFile(atPath: url.path, contents: nil)
      return (url, try FileHandle(forWritingTo: url))
    }
    process.standardOutput = files[0].1
    process.standardError = files[1].1
    let given = folder.appendingPathComponent("in")
    try input.write(to: given, atomically: true, encoding: .utf8)
    process.standardInput = try FileHandle(forReadingFrom: given)
    try start(process)
    process.waitUntilExit()
    let texts = try files.map { String(decoding: try Data(contentsOf: $0.0), as: UTF8.self) }
    return SternaProcess(status: process.terminationStatus, output: texts[0], errors: texts[1])
  }

  /// The one JSON object that a command with `--json` prints.
  func json() throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any] ?? [:]
  }
}

/// Starts a process with no signal blocked. Tests run on threads that block most signals, children inherit that, and a child that cannot be asked to end never does.
func start(_ process: Process) throws {
  var all = sigset_t()
  var before = sigset_t()
  sigfillset(&all)
  pthread_sigmask(SIG_UNBLOCK, &all, &before)
  defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
  try process.run()
}

/// A folder of its own for one test, removed at its end.
func withTemporaryFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sterna-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder)
}
