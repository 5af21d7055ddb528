import Foundation
import Glibc
import Testing

private let canRun =
  ["/usr/sbin/mosquitto", "/usr/bin/mosquitto_sub"].allSatisfy { FileManager.default.isExecutableFile(atPath: $0) }
  && geteuid() == 0
  && (access("/sys/fs/cgroup/memory", W_OK) == 0
    || (try? String(contentsOfFile: "/sys/fs/cgroup/cgroup.subtree_control", encoding: .utf8))?.contains("memory") == true)

/// The promise in Sterna's first sentence: two billion ternary weights in half a gigabyte, with the page cache charged, and no thrashing.
@Suite(.enabled(if: canRun, "needs root, a memory controller and mosquitto")) struct MemoryTests {
  @Test func twoBillionWeightsAnswerJobsInHalfAGigabyte() throws {
    let process = Process()
    process.executableURL = SternaProcess.repository.appendingPathComponent("Tests/memory-cap.sh")
    process.arguments = [SternaProcess.executable.path, "500"]
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.standardError
    try start(process)
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    try #require(process.terminationStatus == 0, "\(output)")
    print("memory: \(output)")
    let report = try #require(try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Int])

    #expect(report["classified"] == 20 && report["extracted"] == 20)
    #expect(try #require(report["text_tokens"]) >= 290)
    let peak = try #require(report["peak_bytes"])
    // Less would mean that the file was somebody else's in the page cache, and nothing was tested.
    #expect(peak > 400_000_000 && peak <= 500_000_000)
    #expect(try #require(report["pages_read_again"]) * 4096 < (try #require(report["file_bytes"])) / 50)
    #expect(report["health_peak_bytes"] == peak)
    #expect(report["health_pages_read_again"] == report["pages_read_again"])
  }
}
