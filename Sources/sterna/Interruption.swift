import Glibc
import Synchronization

/// Ctrl-C and kill while a command has something temporary on the disk.
enum Interruption {
  // Both are touched by a signal handler, so they are plain atomics, initialised without any code running.
  /// The signal that came; 0: none.
  private static let asked = Atomic<Int32>(0)
  /// Address of the paths, the last of which is nil; 0: there are none.
  private static let files = Atomic<Int>(0)
  private static let signals = [SIGINT, SIGTERM, SIGHUP]

  /// Runs `body`; a signal meanwhile removes the files and ends the process as it would have ended without us.
  static func removing<Result>(_ paths: [String], _ body: () throws -> Result) rethrows -> Result {
    let copies = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: paths.count + 1)
    for (i, path) in paths.enumerated() { (copies + i).initialize(to: strdup(path)) }
    (copies + paths.count).initialize(to: nil)
    files.store(Int(bitPattern: copies), ordering: .releasing)
    for number in signals {
      signal(number) { number in
        var next = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>(bitPattern: Interruption.files.load(ordering: .acquiring))
        while let path = next?.pointee {
          unlink(path)
          next = next?.successor()
        }
        signal(number, SIG_DFL)
        raise(number)
      }
    }
    defer {
      for number in signals { signal(number, SIG_DFL) }
      files.store(0, ordering: .releasing)
      for i in paths.indices { free(copies[i]) }
      copies.deallocate()
    }
    return try body()
  }

  /// Runs `body`, which asks now and then whether a signal came, and cleans up; then the process ends as that signal wants it. A second signal ends it at once.
  static func noticed(_ body: (_ isAsked: @escaping () -> Bool) throws -> Void) throws {
    for number in signals {
      signal(number) { number in
        Interruption.asked.store(number, ordering: .releasing)
        signal(number, SIG_DFL)
      }
    }
    defer { for number in signals { signal(number, SIG_DFL) } }
    var came: Int32 { asked.load(ordering: .acquiring) }
    do { try body { came != 0 } } catch {
      guard came != 0 else { throw error }
    }
    if came != 0 { raise(came) }
  }
}
