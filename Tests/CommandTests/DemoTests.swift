import Foundation
import Glibc
import Testing

private let tools = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto_pub", "/usr/bin/mosquitto_sub"]
private let canRun = tools.allSatisfy { FileManager.default.isExecutableFile(atPath: $0) }

@Suite(.enabled(if: canRun, "needs mosquitto and mosquitto-clients")) struct DemoTests {
  /// What `make demo` does behind the build: a broker, the agent, real messages, a clean end.
  @Test func demoAnswersEveryMessageAndLeavesNothingRunning() throws {
    let process = Process()
    process.executableURL = SternaProcess.repository.appendingPathComponent("device-config/demo/demo.sh")
    process.arguments = [SternaProcess.executable.path]
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try start(process)
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(output)")

    let results = output.split(separator: "\n").compactMap { line -> [String: Any]? in
      guard let brace = line.firstIndex(of: "{") else { return nil }
      return (try? JSONSerialization.jsonObject(with: Data(line[brace...].utf8))) as? [String: Any]
    }
    #expect(results.count == 8, "\(output)")
    #expect(results.allSatisfy { $0["status"] as? String == "ok" }, "\(output)")
    #expect(output.contains("ended cleanly"))
    let memory = try #require(output.firstMatch(of: /peak memory was (\d+) MB/))
    #expect(try #require(Int(memory.1)) < 40)
  }

  /// Stopped anywhere, it takes broker, agent and listener with it. SIGTERM to all of them, as SIGINT may be ignored where tests run; the script treats both alike.
  @Test(arguments: ["A private broker", "A task of the configuration"]) func stoppedInTheMiddleItLeavesNothingRunning(after text: String) throws {
    try withTemporaryFolder { folder in
      let process = Process()
      process.executableURL = SternaProcess.repository.appendingPathComponent("device-config/demo/demo.sh")
      process.arguments = [SternaProcess.executable.path]
      process.environment = ProcessInfo.processInfo.environment.merging(["TMPDIR": folder.path]) { $1 }
      let pipe = Pipe()
      process.standardOutput = pipe
      process.standardError = pipe
      try start(process)
      try #require(getpgid(process.processIdentifier) == process.processIdentifier, "Foundation gives a process a group of its own")
      var output = ""
      while !output.contains(text), case let data = pipe.fileHandleForReading.availableData, !data.isEmpty { output += String(decoding: data, as: UTF8.self) }
      kill(-process.processIdentifier, SIGTERM)
      // The pipe ends when its last writer has ended, whoever that is.
      output += String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(process.terminationStatus == 130, "\(output)")
      #expect(kill(-process.processIdentifier, 0) == -1 && errno == ESRCH, "something is left")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }
  }
}
