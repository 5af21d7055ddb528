import Agent
import ArgumentParser
import Basics
import ModelFile

struct Sign: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Sign a packed model, so that gateways know whose it is when it comes on a stick.",
    discussion: """
      Writes MODEL.manifest.json and MODEL.manifest.sig beside the model; all three files travel together. Agents with model.require_signature take only models that
      a key of theirs has signed, and none older than they had.

        sterna sign --new-key keys/plant            # once: keys/plant.key stays with you, keys/plant.pub goes to the gateways
        sterna sign models/line3.gguf --key keys/plant.key
      """)

  @Argument(help: "The packed model.", completion: .file(extensions: ["gguf"]))
  var model: String?
  @Option(help: "The private key to sign with.", completion: .file(extensions: ["key"]))
  var key: String?
  @Option(help: "Make a key pair in place of signing: NAME.key and NAME.pub.")
  var newKey: String?
  @Option(help: "Name of the line of releases that the model belongs to. (default: the model's own)")
  var name: String?
  @Option(help: "Number of the release: higher than that of any before. (default: the time in UTC, as in 202611281240)")
  var release: Int?
  @Option(help: "The oldest Sterna that can use the model. (default: this one)")
  var minimumSterna = Agent.version

  func validate() throws {
    guard (newKey == nil) != (model == nil) else { throw ValidationError("give a model to sign, or --new-key NAME") }
    if model != nil, key == nil { throw ValidationError("--key is missing; sterna sign --new-key NAME makes one") }
    if let release, release < 1 { throw ValidationError("--release: expected 1 or more, found \(release)") }
  }

  func run() throws {
    if let newKey {
      let made = try SigningKey.make(newKey)
      printLine("\(newKey).key  private, signs models: keep it off the gateways")
      printLine("\(newKey).pub  public, \(made.id): copy it into the folder model.keys of every gateway")
      return
    }
    guard let model, let key else { return }
    let packed = try PackedModel.open(model)
    let now = Clock.text(Clock.wall)
    // `2026-11-28T12:40:00.000Z` is release 202611281240.
    let release = release ?? Int(now.filter(\.isWholeNumber).prefix(12)) ?? 1
    let manifest = try ModelManifest.sign(
      packed, name: name ?? packed.configuration.name, release: release, minimumVersion: minimumSterna, signedAt: now, with: SigningKey(file: key))
    printLine("\(model): \(manifest.name), release \(manifest.release), signed with \(key)")
    printLine("take along: \(ModelManifest.path(of: model)) and \(ModelManifest.signaturePath(of: model))")
  }
}

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check whose signature a model carries, and that it is the very file that was signed.",
    discussion: """
      Reads all of it: signature, checksum of the file, checksum of every tensor. Exit status 0 only when everything is right.

        sterna verify /media/stick/line3.gguf --keys /etc/sterna/keys
      """)

  @Argument(help: "The packed model, with its manifest and signature beside it.", completion: .file(extensions: ["gguf"]))
  var model: String
  @Option(help: "Folder of the public keys that you trust.", completion: .directory)
  var keys: String
  @OptionGroup var output: OutputOptions

  func run() throws {
    let signed = try ModelManifest.load(beside: model, trusting: TrustedKeys(folder: keys))
    try signed.manifest.check(model)
    let packed = try PackedModel.open(model)
    try packed.verify()
    let (manifest, key) = (signed.manifest, signed.key)
    if output.json {
      printLine(
        JSON.object([
          "name": .string(manifest.name), "release": .number(manifest.release), "bytes": .number(manifest.bytes), "sha256": .string(manifest.sha256),
          "fingerprint": .string(manifest.fingerprint), "minimum_sterna": .string(manifest.minimumVersion), "signed_at": .string(manifest.signedAt),
          "key": .string(key.id), "key_name": .string(key.name),
        ]).compact)
    } else {
      printLine("\(model): \(manifest.name), release \(manifest.release), as \(key.name) (\(key.id)) signed it on \(manifest.signedAt)")
    }
    try manifest.check(version: Agent.version)
  }
}
