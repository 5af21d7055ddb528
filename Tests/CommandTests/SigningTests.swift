import Foundation
import Glibc
import Testing

/// A folder with a key pair, `keys/plant.pub` trusted, and small models that it signed.
private struct Stick {
  let folder: URL
  func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  init(_ folder: URL) throws {
    self.folder = folder
    try FileManager.default.createDirectory(atPath: path("keys"), withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: path("state"), withIntermediateDirectories: true)
    #expect(try SternaProcess.run(["sign", "--new-key", path("plant")]).status == 0)
    try FileManager.default.copyItem(atPath: path("plant.pub"), toPath: path("keys/plant.pub"))
    try FileManager.default.copyItem(atPath: SternaProcess.pocket, toPath: path("first.gguf"))
  }

  /// A model of random weights.
  func make(_ name: String, seed: Int) throws {
    let made = try SternaProcess.run(["dummy", "pocket", "-o", path(name), "--seed", "\(seed)"])
    #expect(made.status == 0, "\(made.errors)")
  }

  func sign(_ model: String, release: Int, arguments: [String] = []) throws {
    let signed = try SternaProcess.run(["sign", path(model), "--key", path("plant.key"), "--name", "line", "--release", "\(release)"] + arguments)
    #expect(signed.status == 0, "\(signed.errors)")
  }

  func verify(_ model: String) throws -> SternaProcess { try SternaProcess.run(["verify", path(model), "--keys", path("keys"), "--json"]) }

  /// The configuration of an agent that starts with `model`.
  func configuration(_ model: String, requiresSignature: Bool = true) throws -> String {
    let file = path("agent.toml")
    try """
      [mqtt]
      port = 1
      [model]
      path = "\(path(model))"
      keys = "\(path("keys"))"
      require_signature = \(requiresSignature)
      [journal]
      path = "\(path("state/journal.sqlite"))"

      """.write(toFile: file, atomically: true, encoding: .utf8)
    return file
  }

  func run(_ arguments: [String], environment: [String: String] = [:]) throws -> SternaProcess {
    try SternaProcess.run(arguments + ["--config", path("agent.toml")], environment: environment)
  }
}

private func withStick(_ body: (Stick) throws -> Void) throws { try withTemporaryFolder { try body(Stick($0)) } }

@Suite struct SigningTests {
  @Test func whatWasSignedVerifiesAndTheKeyIsForItsOwnerAlone() throws {
    try withStick { stick in
      try stick.sign("first.gguf", release: 7)
      let facts = try stick.verify("first.gguf").json()
      let size = try #require(FileManager.default.attributesOfItem(atPath: stick.path("first.gguf"))[.size] as? Int)
      #expect(facts["name"] as? String == "line" && facts["release"] as? Int == 7 && facts["key_name"] as? String == "plant" && facts["bytes"] as? Int == size)
      let inspected = try SternaProcess.run(["inspect", stick.path("first.gguf"), "--json"]).json()
      #expect(facts["fingerprint"] as? String == inspected["fingerprint"] as? String)
      #expect(try FileManager.default.attributesOfItem(atPath: stick.path("plant.key"))[.posixPermissions] as? Int == 0o600)
      let again = try SternaProcess.run(["sign", "--new-key", stick.path("plant")])
      #expect(1..<128 ~= again.status && again.errors.contains("already"))
      chmod(stick.path("plant.key"), 0o640)
      let open = try SternaProcess.run(["sign", stick.path("first.gguf"), "--key", stick.path("plant.key")])
      #expect(1..<128 ~= open.status && open.errors.contains("others on this machine can read"))
      chmod(stick.path("keys"), 0o777)
      let writable = try stick.verify("first.gguf")
      #expect(1..<128 ~= writable.status && writable.errors.contains("anybody"))
    }
  }

  /// One bit anywhere in model, manifest or signature, a file missing, a key that is not trusted.
  @Test func whatWasChangedIsRefused() throws {
    try withStick { stick in
      try stick.sign("first.gguf", release: 7)
      for file in ["first.gguf", "first.gguf.manifest.json", "first.gguf.manifest.sig"] {
        let good = try Data(contentsOf: URL(fileURLWithPath: stick.path(file)))
        for place in [0, good.count / 2, good.count - 2] {
          var bad = good
          bad[place] ^= 1
          try bad.write(to: URL(fileURLWithPath: stick.path(file)))
          let result = try stick.verify("first.gguf")
          #expect(1..<128 ~= result.status, "\(file), byte \(place): \(result.output)")
        }
        for bad in [Data(), good + good, good.prefix(good.count / 2)] {
          try bad.write(to: URL(fileURLWithPath: stick.path(file)))
          #expect(try 1..<128 ~= stick.verify("first.gguf").status)
        }
        try FileManager.default.removeItem(atPath: stick.path(file))
        #expect(try 1..<128 ~= stick.verify("first.gguf").status)
        try good.write(to: URL(fileURLWithPath: stick.path(file)))
      }
      #expect(try stick.verify("first.gguf").status == 0)

      try SternaProcess.run(["sign", "--new-key", stick.path("stranger")])
      try SternaProcess.run(["sign", stick.path("first.gguf"), "--key", stick.path("stranger.key"), "--release", "9"])
      let strange = try stick.verify("first.gguf")
      #expect(1..<128 ~= strange.status && strange.errors.contains("not trusted") && strange.errors.contains("(plant)"))
      // The right key's name on the wrong key's signature.
      let ids = try ["plant.pub", "stranger.pub"].map { name in
        try FileManager.default.copyItem(atPath: stick.path(name), toPath: stick.path("keys/\(name).pub"))
        return try String(contentsOfFile: stick.path("first.gguf.manifest.sig"), encoding: .utf8)
      }
      #expect(try stick.verify("first.gguf").status == 0)
      let key = try stick.verify("first.gguf").json()["key"] as? String
      try stick.make("second.gguf", seed: 5)
      try stick.sign("second.gguf", release: 1)
      let plant = try #require(stick.verify("second.gguf").json()["key"] as? String)
      try ids[0].replacingOccurrences(of: try #require(key), with: plant).write(toFile: stick.path("first.gguf.manifest.sig"), atomically: true, encoding: .utf8)
      let forged = try stick.verify("first.gguf")
      #expect(1..<128 ~= forged.status && forged.errors.contains("was changed"))
    }
  }

  @Test func anAgentThatAsksForSignaturesStartsWithNothingElse() throws {
    try withStick { stick in
      _ = try stick.configuration("first.gguf")
      let unsigned = try stick.run(["run", "--check"])
      #expect(1..<128 ~= unsigned.status && unsigned.errors.contains("not signed"))
      try stick.sign("first.gguf", release: 7)
      let signed = try stick.run(["run", "--check"])
      #expect(signed.status == 0, "\(signed.errors)")
      // An older release of the same name in its place.
      try stick.sign("first.gguf", release: 6)
      let older = try stick.run(["run", "--check"])
      #expect(1..<128 ~= older.status && older.errors.contains("older than one that this agent had") && older.errors.contains("release 7"))
      try stick.sign("first.gguf", release: 8, arguments: ["--minimum-sterna", "99.0"])
      let newer = try stick.run(["run", "--check"])
      #expect(1..<128 ~= newer.status && newer.errors.contains("needs a newer Sterna"))

      try FileManager.default.removeItem(atPath: stick.path("keys/plant.pub"))
      let keyless = try stick.run(["run", "--check"])
      #expect(1..<128 ~= keyless.status && keyless.errors.contains("model.keys") && keyless.errors.contains("no public key"))
      try FileManager.default.removeItem(atPath: stick.path("keys"))
      let folderless = try stick.run(["run", "--check"])
      #expect(1..<128 ~= folderless.status && folderless.errors.contains("model.keys") && folderless.errors.contains("No such file"))
    }
  }
}

@Suite struct InstallingTests {
  @Test func aModelIsInstalledRolledBackAndNeverReplacedByAnOlderOne() throws {
    try withStick { stick in
      try stick.sign("first.gguf", release: 1)
      for (name, seed) in [("second.gguf", 2), ("third.gguf", 3)] {
        try stick.make(name, seed: seed)
        try stick.sign(name, release: seed)
      }
      _ = try stick.configuration("first.gguf")
      func current() throws -> String { String(try stick.run(["model", "list"]).output.split(separator: "\n")[0]) }
      #expect(try current().contains("first.gguf, of the configuration"))
      for name in ["second.gguf", "third.gguf"] {
        let result = try stick.run(["model", "install", stick.path(name)])
        #expect(result.status == 0, "\(result.errors)")
      }
      #expect(try current().contains("line, release 3"))
      let older = try stick.run(["model", "install", stick.path("second.gguf")])
      #expect(1..<128 ~= older.status && older.errors.contains("older than one that this agent had"), "\(older.errors)")
      #expect(try stick.run(["model", "rollback"]).status == 0)
      #expect(try current().contains("line, release 2"))
      #expect(try stick.run(["run", "--check"]).output.contains("fine"))
      #expect(try stick.run(["model", "rollback"]).status == 0)
      #expect(try current().contains("line, release 3"))

      // One bit wrong on the stick: what is there stays, and nothing of the copy is left.
      try stick.make("fourth.gguf", seed: 4)
      try stick.sign("fourth.gguf", release: 4)
      var bytes = try Data(contentsOf: URL(fileURLWithPath: stick.path("fourth.gguf")))
      bytes[bytes.count / 2] ^= 1
      try bytes.write(to: URL(fileURLWithPath: stick.path("fourth.gguf")))
      let before = try FileManager.default.contentsOfDirectory(atPath: stick.path("state/models")).sorted()
      let broken = try stick.run(["model", "install", stick.path("fourth.gguf")])
      #expect(1..<128 ~= broken.status && broken.errors.contains("not the one that was signed"), "\(broken.errors)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: stick.path("state/models")).sorted() == before)
      #expect(try current().contains("line, release 3"))
      // Another model in the configuration: that is the operator's word.
      try stick.sign("first.gguf", release: 5)
      try FileManager.default.copyItem(atPath: stick.path("first.gguf"), toPath: stick.path("other.gguf"))
      for end in [".manifest.json", ".manifest.sig"] { try FileManager.default.copyItem(atPath: stick.path("first.gguf" + end), toPath: stick.path("other.gguf" + end)) }
      _ = try stick.configuration("other.gguf")
      #expect(try current().contains("other.gguf, of the configuration"))
    }
  }

  /// Killed at any moment of an installation, the next start has a whole model, and the next installation works.
  @Test func killedAtAnyMomentItLeavesAWholeModel() throws {
    try withStick { stick in
      try stick.sign("first.gguf", release: 1)
      for (name, seed) in [("second.gguf", 2), ("third.gguf", 3)] {
        try stick.make(name, seed: seed)
        try stick.sign(name, release: 2)
      }
      _ = try stick.configuration("first.gguf")
      var finished = 0
      var killed = 0
      var states = Set<String>()
      for step in 0..<40 {
        let process = Process()
        process.executableURL = SternaProcess.executable
        process.arguments = ["model", "install", stick.path(step % 2 == 0 ? "second.gguf" : "third.gguf"), "--config", stick.path("agent.toml")]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try start(process)
        usleep(UInt32(step) * 4000)
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        if process.terminationReason == .uncaughtSignal { killed += 1 } else { finished += 1 }
        let check = try stick.run(["run", "--check"])
        #expect(check.status == 0 && check.output.contains("fine"), "\(step): \(check.errors)")
        states.insert(String(try stick.run(["model", "list"]).output.split(separator: "\n")[0]))
      }
      #expect(killed > 0, "\(finished) finished, \(killed) killed; \(states)")
      let last = try stick.run(["model", "install", stick.path("third.gguf")])
      #expect(last.status == 0, "\(last.errors)")
      let left = try FileManager.default.contentsOfDirectory(atPath: stick.path("state/models"))
      #expect(!left.contains { $0.hasSuffix(".partial") } && left.count { $0.hasSuffix(".gguf") } <= 2, "\(left)")
    }
  }
}
