import Foundation
import Glibc
import Testing

private let canRun =
  ["/usr/sbin/mosquitto", "/usr/bin/mosquitto_sub"].allSatisfy { FileManager.default.isExecutableFile(atPath: $0) }
  && geteuid() == 0
  && (access("/sys/fs/cgroup/memory", W_OK) == 0
    || (try? String(contentsOfFile: "/sys/fs/cgroup/cgroup.subtree_control", encoding: .utf8))?.contains("memory") == true)

/// Agents under a hard limit, with the page cache charged, that answer jobs and do not thrash.
@Suite(.serialized, .enabled(if: canRun, "needs root, a memory controller and mosquitto")) struct MemoryTests {
  /// What Tests/memory-cap.sh says.
  private func report(_ megabytes: Int, model: String? = nil) throws -> [String: Int] {
    let process = Process()
    process.executableURL = SternaProcess.repository.appendingPathComponent("Tests/memory-cap.sh")
    process.arguments = [SternaProcess.executable.path, "\(megabytes)"] + (model.map { [$0] } ?? [])
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
    #expect(report["health_peak_bytes"] == report["peak_bytes"])
    #expect(report["health_pages_read_again"] == report["pages_read_again"])
    return report
  }

  /// The promise in Sterna's first sentence: two billion ternary weights in half a gigabyte.
  @Test func twoBillionWeightsAnswerJobsInHalfAGigabyte() throws {
    let report = try report(500)
    let peak = try #require(report["peak_bytes"])
    // Less would mean that the file was somebody else's in the page cache, and nothing was tested.
    #expect(peak > 400_000_000 && peak <= 500_000_000)
    #expect(try #require(report["pages_read_again"]) * 4096 < (try #require(report["file_bytes"])) / 50)
  }

  /// 450 MB of experts and 250 MB of everything else in 300 MB: experts come from the disk again and again, and push out nothing that every pass reads.
  @Test func expertsOnDiskStayInsideTheLimitAndLeaveTheTrunkAlone() throws {
    try withTemporaryFolder { folder in
      let model = folder.appendingPathComponent("mixture.gguf").path
      let made = try SternaProcess.run(["dummy", "olmoe", "--layers", "2", "-o", model])
      try #require(made.status == 0, "\(made.errors)")
      let report = try report(300, model: model)
      let peak = try #require(report["peak_bytes"])
      #expect(peak > 200_000_000 && peak <= 300_000_000)
      // More than all of them, several times.
      #expect(try #require(report["expert_bytes_read"]) > 2_000_000_000)
      // A third of them is there, and tokens that pass one by one find some; hardly a pass reads more than all of them.
      let experts = 2 * 64 * 3_538_944
      #expect(try #require(report["alone_expert_hits_in_10000"]) > 0)
      #expect(1...experts * (try #require(report["alone_passes"])) ~= (try #require(report["alone_expert_bytes_read"])))
      #expect(try #require(report["pages_read_again"]) * 4096 < 10_000_000)
    }
  }
}
