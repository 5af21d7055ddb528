import Foundation
import Testing

private let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("arm-kernels.sh")

/// Whether a command can be found, as the script itself will look for it.
private func isInstalled(_ tool: String) -> Bool {
  (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").contains {
    FileManager.default.isExecutableFile(atPath: "\($0)/\(tool)")
  }
}

@Suite struct ArmTests {
  @Test(
    .enabled(
      if: isInstalled("aarch64-linux-gnu-gcc") && isInstalled("qemu-aarch64-static") && isInstalled("clang"),
      "needs clang and the packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"))
  func armKernelsGiveTheSameResultsUnderEmulationWithAndWithoutDotAndMatrixProducts() throws {
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [script.path]
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(text)")
    for cpu in ["cortex-a53", "cortex-a76", "max"] {
      #expect(text.contains("\(cpu): ok results have the same bits"), "\(text)")
    }
  }
}
