import Basics
import Foundation
import Inference
import ModelFile
import TestSupport
import Testing

/// Prompts on disk: the same bits after a restart, and nothing but those.
@Suite struct PrefixFileTests {
  private let prompt: [Int32]
  private let job: CachedJob

  init() {
    var random = SplitMix64(seed: 71)
    prompt = PrefixCacheTests.tokens(21, &random)
    job = CachedJob(prompt: prompt, text: PrefixCacheTests.tokens(9, &random), suffix: [3, 1, 4])
  }

  private func withFolder(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "prefixes-\(UUID().uuidString)"
    defer {
      chmod(path, 0o700)
      try? FileManager.default.removeItem(atPath: path)
    }
    try body(path)
  }

  private func files(_ folder: String) -> [String] { ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted() }

  private func contents(_ path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) }

  private func newCache(_ model: Model, _ folder: String, disk: Int = 1 << 30) -> PrefixCache {
    PrefixCache(model, budgetBytes: 1 << 24, directory: folder, diskBudgetBytes: disk)
  }

  /// Runs the job with a cache of its own, as after a restart, and writes what there is to write.
  @discardableResult
  private func run(_ model: Model, _ folder: String, writes: Bool = true) throws -> (values: [Float], statistics: PrefixCache.Statistics) {
    let cache = newCache(model, folder)
    let values = try job.run(model, cache)
    if writes { while try cache.persistOne() {} }
    return (values, cache.statistics)
  }

  // MARK: - Whole files

  @Test(arguments: KVFormat.allCases, ["bitnet-offline", "llama-yarn", "qwen3-group-ternary", "qwen2-moe", "deepseek-v3"])
  func aRestartFindsThePrompt(kv: KVFormat, name: String) throws {
    try withFolder { folder in
      let packed = try packed(name)
      let first = try model(packed, kv: kv)
      let want = try job.runAlone(first)
      let cold = try run(first, folder)
      #expect(cold.values == want && cold.statistics.filesWritten == 1 && cold.statistics.filesRead == 0)
      #expect(files(folder).count == 1)
      var status = stat()
      #expect(stat(folder + "/" + files(folder)[0], &status) == 0 && status.st_mode & 0o777 == 0o600)
      #expect(stat(folder, &status) == 0 && status.st_mode & 0o777 == 0o700)

      // Another number of threads, another batch, another context, the plain kernels.
      var options = ModelOptions()
      options.kv = kv
      for (threads, batch, context, kernel) in [(1, 128, nil, nil), (3, 5, 64, nil), (1, 128, 100, "scalar")] as [(Int, Int, Int?, String?)] {
        (options.threads, options.batchTokens, options.contextLength, options.kernel) = (threads, batch, context, kernel)
        let warm = try run(Model(packed, options: options), folder)
        #expect(warm.values == want && warm.statistics.filesRead == 1 && warm.statistics.promptsFound == 1)
        #expect(warm.statistics.filesWritten == 0 && warm.statistics.filesRefused == 0)
      }
    }
  }

  @Test(arguments: KVFormat.allCases) func allLengthsComeBack(kv: KVFormat) throws {
    var random = SplitMix64(seed: 73)
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"), kv: kv)
      for count in [1, 2, 3, 14, 15, 16, 17, 31, 32, 33, 100] {
        let job = CachedJob(prompt: PrefixCacheTests.tokens(count, &random), text: [5], suffix: [6])
        let want = try job.runAlone(model)
        for isSecond in [false, true] {
          let cache = newCache(model, folder)
          #expect(try job.run(model, cache) == want, "\(count) tokens")
          #expect(try !cache.persistOne())
          #expect(cache.statistics.filesRead == (isSecond ? 1 : 0) && cache.statistics.filesRefused == 0)
        }
      }
      #expect(files(folder).count == 11)
    }
  }

  /// What was computed behind another prompt's beginning, with memory that held something else before, is the same file.
  @Test(arguments: KVFormat.allCases) func equalPromptsAreEqualFiles(kv: KVFormat) throws {
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"), kv: kv)
      try run(model, folder + "")
      let want = try contents(folder + "/" + files(folder)[0])
      try withFolder { other in
        let cache = newCache(model, other)
        let stranger = CachedJob(prompt: Array(prompt[..<18]) + [9, 9, 9, 9, 9, 9], text: [], suffix: [1])
        _ = try stranger.run(model, cache)
        #expect(cache.find(job.tokens, prompt: 0)?.count == 18)
        _ = try job.run(model, cache)
        while try cache.persistOne() {}
        #expect(files(other).count == 2)
        #expect(try contents(other + "/" + files(folder)[0]) == want)
      }
    }
  }

  @Test func promptsAreWrittenAndTextsAreNot() throws {
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"), kv: .q8)
      let secret: [Int32] = (0..<40).map { 250 + $0 }
      let cache = newCache(model, folder)
      _ = try CachedJob(prompt: prompt, text: secret, suffix: [1]).run(model, cache)
      #expect(cache.statistics.texts == 1)
      while try cache.persistOne() {}
      #expect(files(folder).count == 1)
      // Nor do spare slots hold them: a copy of the first 21 tokens of a sequence that went on.
      let sequence = try model.sequence(capacity: 61)
      _ = try model.forward([Step(sequence: sequence, tokens: prompt + secret, want: .none)])
      let copied = newCache(model, folder + "-2")
      defer { try? FileManager.default.removeItem(atPath: folder + "-2") }
      copied.insert(sequence, tokens: prompt, isPrompt: true)
      while try copied.persistOne() {}
      #expect(try contents(folder + "-2/" + files(folder)[0]) == contents(folder + "/" + files(folder)[0]))
    }
  }

  @Test func aJobThatCameInStopsTheWriting() throws {
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"))
      let cache = newCache(model, folder)
      _ = try job.run(model, cache)
      #expect(try !cache.persistOne { true })
      #expect(files(folder).isEmpty)
      #expect(try !cache.persistOne { false })
      #expect(files(folder).count == 1 && cache.statistics.filesWritten == 1)
      #expect(try !cache.persistOne())
      // A second process with the same prompt leaves the file as it is.
      let other = newCache(model, folder)
      other.insert(try #require(cache.find(job.tokens, prompt: prompt.count)?.sequence), tokens: prompt, isPrompt: true)
      #expect(try !other.persistOne())
      #expect(other.statistics.filesWritten == 0)
    }
  }

  @Test func filesStayWithinTheirBudget() throws {
    var random = SplitMix64(seed: 79)
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"))
      let prompts = (0..<5).map { _ in PrefixCacheTests.tokens(20, &random) }
      func use(_ prompt: [Int32], disk: Int) throws -> PrefixCache.Statistics {
        let cache = newCache(model, folder, disk: disk)
        _ = try CachedJob(prompt: prompt, text: [], suffix: [1]).run(model, cache)
        while try cache.persistOne() {}
        usleep(5_000)  // times of use differ by a tick of the file system's clock
        return cache.statistics
      }
      #expect(try use(prompts[0], disk: 1 << 20).filesWritten == 1)
      let size = try Int(#require(FileManager.default.attributesOfItem(atPath: folder + "/" + files(folder)[0])[.size] as? Int))
      try Data("mine".utf8).write(to: URL(fileURLWithPath: folder + "/notes.kv"))
      for prompt in prompts[1..<3] { #expect(try use(prompt, disk: 3 * size).filesWritten == 1) }
      #expect(try use(prompts[0], disk: 3 * size).filesRead == 1)
      #expect(try use(prompts[3], disk: 3 * size).filesWritten == 1)
      #expect(files(folder).count == 4)
      // The second was used longest ago.
      #expect(try use(prompts[0], disk: 3 * size).filesRead == 1)
      #expect(try use(prompts[2], disk: 3 * size).filesRead == 1)
      #expect(try use(prompts[1], disk: 3 * size).filesRead == 0)
      // A smaller budget takes effect at the start; what is not ours stays.
      _ = newCache(model, folder, disk: 2 * size)
      #expect(files(folder).count == 3 && files(folder).contains("notes.kv"))
      let cache = newCache(model, folder, disk: size - 1)
      #expect(files(folder) == ["notes.kv"])
      _ = try CachedJob(prompt: prompts[0], text: [], suffix: [1]).run(model, cache)
      #expect(throws: SternaError.self) { try cache.persistOne() }
      #expect(files(folder) == ["notes.kv"])
    }
  }

  @Test func whatTheModelHasNoRoomForIsNotRead() throws {
    try withFolder { folder in
      let packed = try packed("bitnet-offline")
      try run(try model(packed), folder)
      let small = try model(packed, kvBudgetBytes: 60 * model(packed).kvBytesPerToken)
      let other = try small.sequence(capacity: 50)
      let cache = newCache(small, folder)
      #expect(cache.find(job.tokens, prompt: prompt.count) == nil && cache.statistics.filesRefused == 0)
      #expect(files(folder).count == 1)
      withExtendedLifetime(other) {}
    }
  }

  // MARK: - Wrong files

  @Test(arguments: KVFormat.allCases) func everyFlippedByteIsFound(kv: KVFormat) throws {
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"), kv: kv)
      let job = CachedJob(prompt: Array(prompt[..<3]), text: [4], suffix: [5])
      func write() throws -> (values: [Float], written: Int) {
        let cache = newCache(model, folder)
        let values = try job.run(model, cache)
        while try cache.persistOne() {}
        return (values, cache.statistics.filesWritten)
      }
      let values = try write().values
      let path = folder + "/" + files(folder)[0]
      let good = try contents(path)
      let cache = newCache(model, folder)
      for at in good.indices {
        var bad = good
        bad[at] ^= UInt8(1 << (at % 8))
        try Data(bad).write(to: URL(fileURLWithPath: path))
        guard cache.find(job.tokens, prompt: 3) == nil, files(folder).isEmpty else { Issue.record("byte \(at) of \(good.count), \(kv)"); return }
      }
      #expect(cache.statistics.filesRefused == good.count && model.kvBytesInUse == 0)
      // And written again.
      let again = try write()
      #expect(again.values == values && again.written == 1)
      #expect(try contents(path) == good)
    }
  }

  @Test func everyOtherLengthIsRefused() throws {
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"), kv: .q8)
      try run(model, folder)
      let path = folder + "/" + files(folder)[0]
      let good = try contents(path)
      let cache = newCache(model, folder)
      // Every length around the joints of the file, and some of all others.
      let joints = [0, 128, 128 + 4 * prompt.count, good.count - 32, good.count]
      for length in 0..<good.count + 40 where length != good.count && (length % 97 == 0 || joints.contains { abs($0 - length) < 40 }) {
        try Data(good.prefix(length) + [UInt8](repeating: 0, count: max(0, length - good.count))).write(to: URL(fileURLWithPath: path))
        guard cache.find(job.tokens, prompt: prompt.count) == nil, files(folder).isEmpty else { Issue.record("\(length) of \(good.count)"); return }
      }
      // A file of a terabyte costs neither memory nor time.
      try Data(good).write(to: URL(fileURLWithPath: path))
      #expect(truncate(path, 1 << 40) == 0)
      #expect(cache.find(job.tokens, prompt: prompt.count) == nil && files(folder).isEmpty)
      #expect(model.kvBytesInUse == 0)
    }
  }

  /// Another file of ours under the name that is asked for: another model's, another format's, another prompt's.
  @Test func anotherFileUnderTheNameIsRefused() throws {
    try withFolder { folder in
      let packed = try packed("bitnet-offline")
      let others: [(String, Model, [Int32])] = [
        ("format", try model(packed, kv: .q8), prompt),
        ("storage of the embedding", try model(InferenceTests.packed("bitnet-offline", embedding: .f16), kv: .f16), prompt),
        ("model", try model(InferenceTests.packed("bitnet-silu"), kv: .f16), prompt),
        ("prompt", try model(packed, kv: .f16), Array(prompt.dropLast()) + [0]), ("shorter", try model(packed, kv: .f16), Array(prompt.dropLast())),
      ]
      let model = try model(packed, kv: .f16)
      let values = try run(model, folder).values
      let name = files(folder)[0]
      for (what, otherModel, otherPrompt) in others {
        try withFolder { other in
          let cache = newCache(otherModel, other)
          _ = try CachedJob(prompt: otherPrompt, text: [1], suffix: [2]).run(otherModel, cache)
          while try cache.persistOne() {}
          #expect(files(other).count == 1 && files(other)[0] != name, "\(what)")
          try FileManager.default.removeItem(atPath: folder + "/" + name)
          try FileManager.default.copyItem(atPath: other + "/" + files(other)[0], toPath: folder + "/" + name)
        }
        let result = try run(model, folder)
        #expect(result.values == values && result.statistics.filesRead == 0, "\(what)")
        #expect(result.statistics.filesRefused == 1 && result.statistics.filesWritten == 1, "\(what)")
      }
    }
  }

  @Test func whatIsNoRegularFileIsNotFollowed() throws {
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"))
      let values = try run(model, folder).values
      let path = folder + "/" + files(folder)[0]
      let elsewhere = folder + "/elsewhere"
      try FileManager.default.moveItem(atPath: path, toPath: elsewhere)
      let good = try contents(elsewhere)

      #expect(symlink(elsewhere, path) == 0)
      var result = try run(model, folder)
      #expect(result.values == values && result.statistics.filesRead == 0 && result.statistics.filesWritten == 1)
      #expect(try contents(elsewhere) == good)
      // The link was replaced by a file, not written through.
      #expect(try FileManager.default.attributesOfItem(atPath: path)[.type] as? FileAttributeType == .typeRegular)

      unlink(path)
      #expect(mkfifo(path, 0o600) == 0)
      result = try run(model, folder)
      #expect(result.values == values && result.statistics.filesRead == 0 && result.statistics.filesRefused == 1 && result.statistics.filesWritten == 1)

      unlink(path)
      #expect(mkdir(path, 0o700) == 0)
      let cache = newCache(model, folder)
      #expect(try job.run(model, cache) == values)
      #expect(throws: SternaError.self) { try cache.persistOne() }
      #expect(files(folder).count == 2)
      // A temporary name that is a link is not written through either.
      rmdir(path)
      #expect(symlink(elsewhere, path + ".tmp") == 0)
      #expect(try run(model, folder).statistics.filesWritten == 1)
      #expect(try contents(elsewhere) == good)
      #expect(files(folder).count == 2)
    }
  }

  // MARK: - Disks that refuse

  @Test func whereNoFolderCanBeItIsSaidOnce() throws {
    let model = try model(packed("bitnet-offline"))
    let want = try job.runAlone(model)
    for folder in ["/proc/prefixes", "/dev/null", "/dev/null/prefixes", "", "/nonexistent/prefixes"] {
      let cache = newCache(model, folder)
      #expect(try job.run(model, cache) == want)
      do {
        _ = try cache.persistOne()
        Issue.record("written to \(folder)")
      } catch {
        #expect(error.code == .io && error.cause != nil && error.remedy != nil)
      }
      #expect(try !cache.persistOne())
      // Another prompt fails in silence, and stays in memory all the same.
      let other = CachedJob(prompt: [1, 2, 3, 4], text: [5], suffix: [6])
      _ = try other.run(model, cache)
      #expect(try !cache.persistOne())
      #expect(cache.statistics.prompts == 2 && cache.find(job.tokens, prompt: prompt.count) != nil)
    }
  }

  @Test func aFolderThatAnotherProcessWritesToIsLeftToIt() throws {
    try withFolder { folder in
      let model = try model(packed("bitnet-offline"))
      mkdir(folder, 0o700)
      let descriptor = open(folder, O_RDONLY | O_DIRECTORY)
      #expect(flock(descriptor, LOCK_EX) == 0)
      let leftover = folder + "/" + String(repeating: "a", count: 64) + ".kv.tmp"
      try Data([1]).write(to: URL(fileURLWithPath: leftover))
      let cache = newCache(model, folder)
      _ = try job.run(model, cache)
      #expect(try !cache.persistOne())
      #expect(files(folder).count == 1 && cache.statistics.filesWritten == 0)
      close(descriptor)
      #expect(try !cache.persistOne())
      #expect(files(folder).count == 1 && cache.statistics.filesWritten == 1 && !FileManager.default.fileExists(atPath: leftover))
    }
  }

  /// The agent may be anybody, and these tests root, for whom nothing is forbidden: so a process that is nobody looks.
  @Test func aFolderThatForbidsWritingIsRead() async throws {
    let path = NSTemporaryDirectory() + "prefixes-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }
    await #expect(processExitsWith: .success) { [path = path as String] in
      let tests = PrefixFileTests()
      let model = try model(packed("bitnet-offline"))
      mkdir(path, 0o700)
      if geteuid() == 0 { #expect(chown(path, 65534, 65534) == 0 && seteuid(65534) == 0) }
      let values = try tests.run(model, path).values
      #expect(tests.files(path).count == 1)
      chmod(path, 0o500)
      let cache = tests.newCache(model, path)
      #expect(try tests.job.run(model, cache) == values)
      #expect(cache.statistics.filesRead == 1)
      _ = try CachedJob(prompt: [1, 2], text: [3], suffix: [4]).run(model, cache)
      do {
        _ = try cache.persistOne()
        Issue.record("written")
      } catch let error as SternaError { #expect(error.cause == "Permission denied") }
      // Nor may it be read.
      chmod(path, 0o700)
      chmod(path + "/" + tests.files(path)[0], 0)
      let blind = try tests.run(model, path)
      #expect(blind.values == values && blind.statistics.filesRead == 0 && blind.statistics.filesWritten == 1)
      // Somebody else's file, whatever it holds.
      if getuid() == 0 {
        seteuid(0)
        let file = path + "/" + tests.files(path)[0]
        chown(file, 65533, 65533)
        chmod(file, 0o644)
        seteuid(65534)
        let foreign = try tests.run(model, path)
        #expect(foreign.values == values && foreign.statistics.filesRead == 0 && foreign.statistics.filesRefused == 1)
      }
    }
  }

  @Test func aFullDiskIsSaidOnceAndNothingStaysBehind() async throws {
    let path = NSTemporaryDirectory() + "prefixes-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }
    await #expect(processExitsWith: .success) { [path = path as String] in
      let tests = PrefixFileTests()
      let model = try model(packed("bitnet-offline"))
      let cache = tests.newCache(model, path)
      let values = try tests.job.run(model, cache)
      // A limit on the size of files stops a write in the middle, as a full disk does.
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit(rlim_cur: 3000, rlim_max: rlim_t.max)
      setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
      do {
        _ = try cache.persistOne()
        Issue.record("written")
      } catch let error as SternaError { #expect(error.cause == "File too large") }
      #expect(tests.files(path).isEmpty)
      _ = try CachedJob(prompt: [1, 2, 3, 4, 5, 6, 7, 8], text: [3], suffix: [4]).run(model, cache)
      #expect(try !cache.persistOne())
      #expect(tests.files(path).isEmpty)
      // Where there is room again the next prompt is written, and the next failure is said again.
      limit.rlim_cur = rlim_t.max
      setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
      _ = try CachedJob(prompt: [8, 8, 8, 8, 8, 8, 8, 8], text: [3], suffix: [4]).run(model, cache)
      #expect(try !cache.persistOne())
      #expect(tests.files(path).count == 1)
      limit.rlim_cur = 3000
      setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
      _ = try CachedJob(prompt: [9, 9, 9, 9, 9, 9, 9, 9, 9], text: [3], suffix: [4]).run(model, cache)
      #expect((try? cache.persistOne()) == nil)
      #expect(try tests.job.run(model, cache) == values)
    }
  }

  /// A real death in the middle of a file: the kernel kills at a limit on the size of files.
  @Test func whatADeathLeavesBehindIsSweptAway() async throws {
    let path = NSTemporaryDirectory() + "prefixes-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }
    await #expect(processExitsWith: .signal(SIGXFSZ)) { [path = path as String] in
      let tests = PrefixFileTests()
      let model = try model(packed("bitnet-offline"))
      let cache = tests.newCache(model, path)
      _ = try tests.job.run(model, cache)
      // Whoever started the tests may ignore the signal, and Swift's threads block it.
      signal(SIGXFSZ, SIG_DFL)
      var signals = sigset_t()
      sigemptyset(&signals)
      sigaddset(&signals, SIGXFSZ)
      pthread_sigmask(SIG_UNBLOCK, &signals, nil)
      var limits = rlimit(rlim_cur: 0, rlim_max: 0)
      setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limits)
      limits = rlimit(rlim_cur: 3000, rlim_max: rlim_t.max)
      setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limits)
      _ = try cache.persistOne()
    }
    #expect(files(path).count == 1 && files(path)[0].hasSuffix(".kv.tmp"))
    let restarted = try model(packed("bitnet-offline"))
    let cache = newCache(restarted, path)
    #expect(files(path).isEmpty)
    #expect(try job.run(restarted, cache) == job.runAlone(restarted))
    while try cache.persistOne() {}
    #expect(files(path).count == 1 && cache.statistics.filesWritten == 1)
  }
}
