import Glibc
import Synchronization

/// Ctrl-C and kill while a command has something temporary on the disk.
enum Interruption {
  // Both are touched by a signal handler, so they are plain atomics, initialised without any code running.
  private static let isAsked = Atomic<Bool>(false)
  /// Address of the path; 0: none.
  private static let file = Atomic<Int>(0)
  private static let signals = [SIGINT, SIGTERM, SIGHUP]

  /// Runs `body`; a signal meanwhile removes the file and ends the process as it would have ended without us.
  static func removing<Result>(_ path: String, _ body: () throws -> Result) rethrows -> Result {
    let copy = strdup(path)
    file.store(Int(bitPattern: copy), ordering: .releasing)
    for number in signals {
      signal(number) { number in
        if let path = UnsafePointer<CChar>(bitPattern: Interruption.file.load(ordering: .acquiring)) { unlink(path) }
        signal(number, SIG_DFL)
        raise(number)
      }
    }
    defer {
      for number in signals { signal(number, SIG_DFL) }
      file.store(0, ordering: .releasing)
      free(copy)
    }
    return try body()
  }

  /// Runs `body`, which asks now and then whether a signal came, and cleans up; then the process ends as that signal wants it. A second signal ends it at once.
  static func noticed(_ body: (_ isAsked: @escaping () -> Bool) throws -> Void) throws {
    for number in signals {
      signal(number) { number in
        Interruption.isAsked.store(true, ordering: .releasing)
        signal(number, SIG_DFL)
      }
    }
    defer { for number in signals { signal(number, SIG_DFL) } }
    do { try body { isAsked.load(ordering: .acquiring) } } catch {
      guard isAsked.load(ordering: .acquiring) else { throw error }
    }
    if isAsked.load(ordering: .acquiring) { raise(SIGINT) }
  }
}
