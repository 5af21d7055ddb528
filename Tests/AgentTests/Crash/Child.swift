import Foundation
import Glibc
import TestSupport

/// A program in a process of its own, which can be killed at any moment. No shell, no pipes that somebody must read.
final class Child {
  let id: pid_t
  private var status: Int32?

  /// - Parameters:
  ///   - environment: all of it; nil: that of the tests.
  ///   - input: a descriptor; nil: /dev/null.
  ///   - output, errors: files that are appended to; nil: /dev/null.
  init(_ path: String, _ arguments: [String], environment: [String: String]? = nil, input: Int32? = nil, output: String? = nil, errors: String? = nil) throws {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    if let input { posix_spawn_file_actions_adddup2(&actions, input, 0) } else { posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) }
    for (descriptor, file) in [(Int32(1), output), (2, errors)] {
      posix_spawn_file_actions_addopen(&actions, descriptor, file ?? "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0o600)
    }
    // Tests run on threads that block most signals, and a child that inherits that cannot be asked to end.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    let words = ([path] + arguments).map { strdup($0) } + [nil]
    let variables = (environment ?? ProcessInfo.processInfo.environment).map { strdup("\($0)=\($1)") } + [nil]
    defer { (words + variables).forEach { free($0) } }
    var id: pid_t = 0
    let code = posix_spawn(&id, path, &actions, &attributes, words, variables)
    guard code == 0 else { throw Late(description: "\(path) cannot be started: \(String(cString: strerror(code)))") }
    self.id = id
  }

  deinit { kill() }

  /// 128 and the signal's number for a process that a signal ended; nil while it runs.
  var exit: Int32? {
    if status == nil { wait(WNOHANG) }
    return status
  }

  func send(_ signal: Int32) { if status == nil { Glibc.kill(id, signal) } }

  func kill() {
    guard exit == nil else { return }
    Glibc.kill(id, SIGKILL)
    wait(0)
  }

  private func wait(_ options: Int32) {
    var word: Int32 = 0
    guard waitpid(id, &word, options) == id else { return }
    status = word & 0x7F == 0 ? word >> 8 & 0xFF : 128 + word & 0x7F
  }
}

/// The folder that holds the tests, and what was built with them.
let buildFolder: String = {
  let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
  return URL(fileURLWithPath: own).deletingLastPathComponent().path
}()

/// The folder of Package.swift.
let repository = URL(fileURLWithPath: #filePath).pathComponents.dropLast(4).joined(separator: "/").replacingOccurrences(of: "//", with: "/")

/// Random numbers that can be had again, and the seed that does it.
struct Seeded: RandomNumberGenerator {
  let seed: UInt64
  private var generator: SplitMix64

  init(_ seed: UInt64) { (self.seed, generator) = (seed, SplitMix64(seed: seed)) }

  mutating func next() -> UInt64 { generator.next() }

  /// From the environment, or a new one; printed, so that a failure can be looked for again.
  static func announced(_ name: String) -> Seeded {
    let seed = ProcessInfo.processInfo.environment["STERNA_CRASH_SEED"].flatMap(UInt64.init) ?? UInt64.random(in: 0..<1_000_000)
    print("\(name): STERNA_CRASH_SEED=\(seed)")
    return Seeded(seed)
  }
}
