import Glibc

// libFuzzer over everything of ours that reads what strangers wrote: `Tests/Fuzz/run.sh TARGET SECONDS` (docs/security.md). Part of the package only with STERNA_FUZZ=1, since it needs libFuzzer's runtime.
// `main` is libFuzzer's.

/// Chosen once, before the first input.
nonisolated(unsafe) private var chosen: (([UInt8]) throws -> Void)?
/// Inputs that were no bad ones.
nonisolated(unsafe) private var accepted = 0

/// Takes the target's name off the command line, `fuzz TARGET [libFuzzer's arguments]`.
@_cdecl("LLVMFuzzerInitialize")
public func chooseTarget(_ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>) -> Int32 {
  let name = count.pointee > 1 ? arguments.pointee[1].map { String(cString: $0) } : nil
  guard let target = targets.first(where: { $0.name == name }) else {
    print("usage: fuzz TARGET [libFuzzer's arguments]; targets: \(targets.map(\.name).sorted().joined(separator: ", "))")
    exit(2)
  }
  do { chosen = try target.prepare() } catch {
    print("\(target.name): \(error)")
    exit(2)
  }
  // Whoever refuses everything has been tried with nothing.
  atexit {
    guard accepted == 0 else { return }
    print("ERROR: no input was accepted: is the corpus in order?")
    fflush(nil)
    _exit(3)
  }
  arguments.pointee[1] = arguments.pointee[0]
  arguments.pointee += 1
  count.pointee -= 1
  return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
public func run(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
  // An error is what bad input should get; only a trap, a sanitizer's report or a time over the limit is a find.
  do {
    try chosen?([UInt8](UnsafeBufferPointer(start: bytes, count: count)))
    accepted += 1
  } catch {}
  return 0
}
