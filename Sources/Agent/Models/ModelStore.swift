import Basics
import Glibc
import Jobs
import ModelFile

/// The models of one agent: that of its configuration, and those that were installed since, in a folder of its own.
///
/// `installed.json` in that folder says which one counts, which one was before, and the newest release of every name that was ever here. It is replaced as a whole,
/// and a model's file has its name only when it is complete and on stable storage: whenever the power goes, the next start finds a whole model. The order
/// is: check the signature, copy and compare checksums, fsync, rename, try the model out, and only then say that it counts.
public final class ModelStore: Sendable {
  /// A model in the folder.
  public struct Installed: Sendable, Equatable {
    /// Name of the file in the folder.
    public var file: String
    /// For people; with a signature, the name that was signed.
    public var name: String
    /// Nil for a model without signature.
    public var release: Int?
    /// Of the file.
    public var sha256: String
  }

  public enum Choice: Sendable, Equatable {
    /// `model.path`.
    case configured
    case installed(Installed)
  }

  public struct State: Sendable, Equatable {
    public var current = Choice.configured
    public var previous: Choice?
    /// The newest release of every name that was used here.
    public var releases: [String: Int] = [:]
    /// `model.path` when a model was installed: where the operator has changed it since, the configuration counts again.
    var configured = ""
  }

  public let folder: String
  private let configuration: AgentConfiguration.Model
  private let monitor: Monitor<State>
  private let claimed = Monitor<Int32>(-1)
  /// What an operator should hear of the state that was found.
  public let complaint: SternaError?

  /// Reads what was installed. Changes nothing but a state that cannot be read: that is set aside.
  public init(_ configuration: AgentConfiguration.Model) {
    self.configuration = configuration
    folder = configuration.store
    var state = State()
    var complaint: SternaError?
    do throws(SternaError) {
      if let found = try Self.read(folder + "/" + Self.stateName) { state = found }
    } catch {
      complaint = error
      rename(folder + "/" + Self.stateName, folder + "/" + Self.stateName + ".damaged")
    }
    if state.configured != configuration.path {
      if case .installed = state.current { (state.current, state.previous) = (.configured, state.current) }
      state.configured = configuration.path
    }
    self.complaint = complaint
    monitor = Monitor(state)
  }

  deinit { for lock in [claimed.quietly { $0 }] where lock >= 0 { close(lock) } }

  public var state: State { monitor.quietly { $0 } }

  public func path(of choice: Choice) -> String {
    switch choice {
    case .configured: configuration.path
    case .installed(let model): folder + "/" + model.file
    }
  }

  /// Makes this process the one that uses the folder, for as long as the store lives; false where another one does, or there can be no folder.
  public func claim() -> Bool {
    if claimed.quietly({ $0 >= 0 }) { return true }
    guard let lock = lock("agent.lock") else { return false }
    claimed.with { $0 = lock }
    sweep()
    return true
  }

  // MARK: - Checking

  /// Whether a model may be used: signature, checksum and release, as far as the configuration asks for them. Reads the whole file if so.
  ///
  /// - Parameter progress: called now and then.
  public func check(_ choice: Choice, progress: @Sendable () -> Void = {}) throws(SternaError) {
    guard let signed = try signature(beside: path(of: choice)) else { return }
    try signed.manifest.check(version: Agent.version)
    let found = try ModelManifest.sha256(ofFile: path(of: choice), atMost: signed.manifest.bytes) { (_: UnsafeRawBufferPointer) throws(SternaError) in progress() }
    try signed.manifest.check(found, of: path(of: choice))
    // An installed one was compared when it came; going back to it is the operator's right.
    guard choice == .configured else { return }
    try checkRelease(signed.manifest, at: configuration.path)
    try note(signed.manifest)
  }

  /// - Returns: nil where there is none, and none is asked for.
  private func signature(beside path: String) throws(SternaError) -> ModelManifest.Signed? {
    guard let keys = configuration.keys else { return nil }
    guard configuration.requiresSignature || access(ModelManifest.path(of: path), F_OK) == 0 else { return nil }
    return try ModelManifest.load(beside: path, trusting: TrustedKeys(folder: keys))
  }

  private func checkRelease(_ manifest: ModelManifest, at path: String) throws(SternaError) {
    guard let newest = state.releases[manifest.name], manifest.release < newest else { return }
    throw SternaError(
      .oldRelease, "this model is older than one that this agent had", at: path, expected: "\(manifest.name), release \(newest) or newer", found: "\(manifest.release)",
      remedy: "take the newest model; to undo an installation: sterna model rollback")
  }

  private func note(_ manifest: ModelManifest) throws(SternaError) {
    guard state.releases[manifest.name] ?? 0 < manifest.release else { return }
    var next = state
    next.releases[manifest.name] = manifest.release
    try save(next)
  }

  // MARK: - Installing

  /// Brings a model into the folder: what is there afterwards under the returned name is whole, on stable storage, and signed where that is asked for.
  /// Nothing uses it yet.
  ///
  /// - Parameters:
  ///   - mustBeSigned: whatever the configuration says.
  ///   - progress: told how many bytes were copied, of how many.
  public func stage(_ source: String, mustBeSigned: Bool = false, progress: (Int, Int) -> Void = { _, _ in }) throws(SternaError) -> Installed {
    guard let lock = lock("install.lock") else { throw busy }
    defer { close(lock) }
    let signed = try signature(beside: source)
    guard signed != nil || !mustBeSigned else {
      throw SternaError(.badSignature, "this model is not signed", at: source, remedy: "sign it (sterna sign), and name the folder of your public keys as model.keys")
    }
    var model = Installed(file: "", name: source.split(separator: "/").last.map(String.init) ?? source, sha256: "")
    var bytes = 0
    if let manifest = signed?.manifest {
      try manifest.check(version: Agent.version)
      try checkRelease(manifest, at: source)
      (model.name, model.release, model.sha256, bytes) = (manifest.name, manifest.release, manifest.sha256, manifest.bytes)
    } else {
      (bytes, model.sha256) = try ModelManifest.sha256(ofFile: source)
    }
    model.file = model.sha256.prefix(16) + Self.suffix
    let path = folder + "/" + model.file
    // What was here before may be what is installed again.
    if let there = try? ModelManifest.sha256(ofFile: path, atMost: bytes), there == (bytes, model.sha256) {
      progress(bytes, bytes)
    } else {
      try copy(source, to: path, bytes: bytes, sha256: model.sha256, signed, progress)
    }
    if let signed {
      try DurableFile.write(signed.manifestBytes, to: ModelManifest.path(of: path), mode: 0o600)
      try DurableFile.write(signed.signatureBytes, to: ModelManifest.signaturePath(of: path), mode: 0o600)
      giveToOwner(ModelManifest.path(of: path))
      giveToOwner(ModelManifest.signaturePath(of: path))
    }
    return model
  }

  private func copy(_ source: String, to path: String, bytes: Int, sha256: String, _ signed: ModelManifest.Signed?, _ progress: (Int, Int) -> Void) throws(SternaError) {
    let file = try DurableFile(path, bytes: bytes, mode: 0o600)
    let found = try ModelManifest.sha256(ofFile: source, atMost: bytes) { (part: UnsafeRawBufferPointer) throws(SternaError) in
      try file.append(part)
      progress(file.position, bytes)
    }
    if let signed { try signed.manifest.check(found, of: source) }
    guard found == (bytes, sha256) else { throw SternaError(.badFile, "this file changed while it was read", at: source, remedy: "is the stick in order?") }
    try file.finish()
    giveToOwner(path)
  }

  /// A model that was staged before, by the name that `stage` gave.
  public func staged(_ name: String) throws(SternaError) -> Installed {
    guard Self.isModelName(name), access(folder + "/" + name, R_OK) == 0 else {
      throw SternaError(.notFound, "there is no such model in the agent's folder", at: name, remedy: "sterna model install FILE brings it there")
    }
    var model = Installed(file: name, name: name, sha256: "")
    if let manifest = try signature(beside: folder + "/" + name)?.manifest {
      try manifest.check(version: Agent.version)
      try checkRelease(manifest, at: name)
      (model.name, model.release, model.sha256) = (manifest.name, manifest.release, manifest.sha256)
    } else {
      model.sha256 = try ModelManifest.sha256(ofFile: folder + "/" + name).sha256
    }
    return model
  }

  /// From now on, and after every start, this is the model; the one before is kept.
  public func commit(_ choice: Choice) throws(SternaError) {
    var next = state
    if next.current != choice { (next.current, next.previous) = (choice, next.current) }
    if case .installed(let model) = choice, let release = model.release { next.releases[model.name] = max(next.releases[model.name] ?? 0, release) }
    try save(next)
    sweep()
  }

  /// The model to go back to.
  public func previous() throws(SternaError) -> Choice {
    guard let previous = state.previous else { throw SternaError(.notFound, "there is no previous model", at: folder, remedy: "sterna model list shows what there is") }
    return previous
  }

  // MARK: - The folder

  private static let stateName = "installed.json"
  private static let suffix = ".gguf"

  private var busy: SternaError { SternaError(.busy, "another installation is under way, or this folder cannot be written", at: folder, remedy: "wait for it; else look at the folder's owner") }

  /// 16 hexadecimal digits and the suffix.
  private static func isModelName(_ name: String) -> Bool { name.hasSuffix(suffix) && bytes(hexadecimal: name.dropLast(suffix.count), count: 8) != nil }

  /// An open file with the lock on it, nil where somebody else has that or there can be none.
  private func lock(_ name: String) -> Int32? {
    mkdir(folder, 0o700)  // what else is wrong, opening says
    let file = open(folder + "/" + name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard file >= 0 else { return nil }
    giveToOwner(folder + "/" + name)
    guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
      close(file)
      return nil
    }
    return file
  }

  /// What root puts here, the agent must be able to use: it belongs to whom the folder belongs to.
  private func giveToOwner(_ path: String) {
    var status = stat()
    guard geteuid() == 0, stat(folder, &status) == 0, status.st_uid != 0 else { return }
    lchown(path, status.st_uid, status.st_gid)
  }

  private func save(_ next: State) throws(SternaError) {
    mkdir(folder, 0o700)
    let path = folder + "/" + Self.stateName
    try DurableFile.write(next.json.compactBytes + [UInt8(ascii: "\n")], to: path, mode: 0o600)
    giveToOwner(path)
    monitor.with { $0 = next }
  }

  /// Removes models that are neither used nor kept, and what interrupted installations left behind.
  private func sweep() {
    guard let lock = lock("install.lock") else { return }
    defer { close(lock) }
    let state = state
    let kept = [state.current, state.previous].compactMap { if case .installed(let model)? = $0 { model.file } else { nil } }
    for name in (try? namesInFolder(folder)) ?? [] {
      let isOfModel = Self.isModelName(String(name.prefix(16)) + Self.suffix) && name.dropFirst(16).hasPrefix(Self.suffix)
      guard isOfModel && !kept.contains(String(name.prefix(16)) + Self.suffix) || name.hasSuffix(".partial") else { continue }
      unlink(folder + "/" + name)
    }
  }
}

// MARK: - As JSON

extension ModelStore.Installed {
  var json: JSON {
    var object: JSON.Object = ["file": .string(file), "name": .string(name)]
    if let release { object["release"] = .number(release) }
    object["sha256"] = .string(sha256)
    return .object(object)
  }

  init(_ reader: JSONReader) throws(SternaError) {
    file = try reader["file"].string()
    guard !file.contains("/"), !file.hasPrefix(".") else { throw reader["file"].error("is no name of a file") }
    name = try reader["name"].string()
    release = try reader["release"].optional?.int(in: 1...Int.max)
    sha256 = try reader["sha256"].string(bytes: 64...64)
  }
}

extension ModelStore.Choice {
  var json: JSON { if case .installed(let model) = self { model.json } else { "configured" } }

  init(_ reader: JSONReader) throws(SternaError) {
    self = reader.value == "configured" ? .configured : .installed(try ModelStore.Installed(reader))
  }
}

extension ModelStore.State {
  var json: JSON {
    var object: JSON.Object = ["v": 1, "configured": .string(configured), "current": current.json]
    if let previous { object["previous"] = previous.json }
    object["releases"] = .object(JSON.Object(releases.sorted { $0.key < $1.key }.map { ($0.key, .number($0.value)) }))
    return .object(object)
  }
}

extension ModelStore {
  private static func read(_ path: String) throws(SternaError) -> State? {
    guard access(path, F_OK) == 0 else { return nil }
    do throws(SternaError) {
      let root = JSONReader(try JSON.parse(try readWholeFile(path, limit: 1 << 20)))
      guard try root["v"].int() == 1 else { throw root["v"].error("is of another version", expected: "1") }
      var state = State()
      state.configured = try root["configured"].string()
      state.current = try Choice(root["current"])
      state.previous = try root["previous"].optional.map { reader throws(SternaError) in try Choice(reader) }
      for (name, release) in try root["releases"].members() { state.releases[name] = try release.int(in: 1...Int.max) }
      return state
    } catch {
      throw SternaError(
        .badFile, "what was installed cannot be read; it is set aside, and the model of the configuration is used", at: path, remedy: "install the model again",
        cause: error.description)
    }
  }
}
