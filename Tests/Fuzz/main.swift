import Glibc

// libFuzzer over everything of ours that reads what strangers wrote: `Tests/Fuzz/run.sh TARGET SECONDS` (docs/security.md). Part of the package only with STERNA_FUZZ=1, since it needs libFuzzer's runtime.

@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
  _ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
  _ run: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// Chosen once, before the first input.
nonisolated(unsafe) private var chosen: (([UInt8]) throws -> Void)?

private func run(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
  // An error is what bad input should get; only a trap, a sanitizer's report or a time over the limit is a find.
  try? chosen?([UInt8](UnsafeBufferPointer(start: bytes, count: count)))
  return 0
}

private let names = targets.map(\.name).sorted().joined(separator: ", ")
guard CommandLine.arguments.count > 1, let target = targets.first(where: { $0.name == CommandLine.arguments[1] }) else {
  print("usage: fuzz TARGET [libFuzzer's arguments]; targets: \(names)")
  exit(2)
}
chosen = try target.prepare()
var count = CommandLine.argc - 1
var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv + 1
exit(runFuzzer(&count, &arguments, run))
