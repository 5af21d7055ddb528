import Basics
import Crypto
import Glibc

/// What was signed about a model file: which it is, to the byte, and where it stands among its releases. It lies beside the model as
/// `MODEL.manifest.json`, its signature as `MODEL.manifest.sig`.
public struct ModelManifest: Sendable, Equatable {
  /// Of the line of releases that the model belongs to.
  public var name: String
  /// Rises with every release of a name. An agent that had one takes no older one.
  public var release: Int
  public var bytes: Int
  /// Of the whole file, 64 hexadecimal digits.
  public var sha256: String
  /// Of the header; results name its first 16 digits.
  public var fingerprint: String
  /// The oldest Sterna that can use the model.
  public var minimumVersion: String
  /// For people: RFC 3339.
  public var signedAt: String

  public static func path(of model: String) -> String { model + ".manifest.json" }
  public static func signaturePath(of model: String) -> String { model + ".manifest.sig" }

  /// Signatures are over these words and the manifest: a signature that the same key made for another purpose is none.
  private static let purpose = Array("sterna model manifest 1\n".utf8)
  private static let signatureWord = "sterna-ed25519-signature"
  private static let limit = 64 << 10

  var json: JSON {
    [
      "v": 1, "name": .string(name), "release": .number(release), "bytes": .number(bytes), "sha256": .string(sha256), "fingerprint": .string(fingerprint),
      "minimum_sterna": .string(minimumVersion), "signed_at": .string(signedAt),
    ]
  }

  /// - Throws: `bad_file`, with the member that is wrong.
  public init(_ bytes: [UInt8], path: String) throws(SternaError) {
    do throws(SternaError) {
      let root = JSONReader(try JSON.parse(bytes))
      guard try root["v"].int() == 1 else { throw root["v"].error("is a manifest of another version", expected: "1") }
      name = try root["name"].string()
      guard isPlainName(name) else { throw root["name"].error("is no name for a model", expected: "1 to 64 of A-Z a-z 0-9 . _ -") }
      release = try root["release"].int(in: 1...Int.max)
      self.bytes = try root["bytes"].int(in: 1...Int.max)
      sha256 = try Self.digest(root["sha256"])
      fingerprint = try Self.digest(root["fingerprint"])
      minimumVersion = try root["minimum_sterna"].string(bytes: 1...32)
      guard minimumVersion.split(separator: ".", omittingEmptySubsequences: false).allSatisfy({ UInt16($0) != nil }) else {
        throw root["minimum_sterna"].error("is no version", expected: "for example 0.1.0")
      }
      signedAt = try root["signed_at"].string(bytes: 0...64)
    } catch {
      var error = error.within(path)
      error.code = .badFile
      throw error
    }
  }

  private static func digest(_ reader: JSONReader) throws(SternaError) -> String {
    let text = try reader.string()
    guard Basics.bytes(hexadecimal: text, count: 32) != nil else { throw reader.error("is no SHA-256", expected: "64 hexadecimal digits") }
    return text
  }

  // MARK: - Signing

  /// Describes a packed model and signs that: writes manifest and signature beside it.
  ///
  /// Reads the whole file and checks it: a model that is broken is not signed.
  public static func sign(_ model: PackedModel, name: String, release: Int, minimumVersion: String, signedAt: String, with key: SigningKey) throws(SternaError) -> ModelManifest {
    try model.verify()
    let manifest = try ModelManifest(
      JSON.object([
        "v": 1, "name": .string(name), "release": .number(release), "bytes": .number(model.fileBytes), "sha256": .string(try sha256(ofFile: model.path).sha256),
        "fingerprint": .string(model.fingerprint), "minimum_sterna": .string(minimumVersion), "signed_at": .string(signedAt),
      ]).compactBytes, path: model.path)
    let bytes = manifest.json.compactBytes + [UInt8(ascii: "\n")]
    let signature = hexadecimal(try key.sign(purpose + bytes))
    try DurableFile.write(bytes, to: path(of: model.path))
    try DurableFile.write(Array("\(signatureWord) \(key.verifying.id) \(signature)\n".utf8), to: signaturePath(of: model.path))
    return manifest
  }

  // MARK: - Verifying

  /// The manifest beside a model, and whose signature it carries. Nothing of the manifest is read before the signature is right.
  ///
  /// - Returns: also the bytes of both files, as they were verified.
  /// - Throws: `bad_signature` when it is missing, wrong, or of a key that is not trusted.
  public static func load(beside model: String, trusting keys: TrustedKeys) throws(SternaError) -> Signed {
    let path = path(of: model), signaturePath = signaturePath(of: model)
    for file in [path, signaturePath] where access(file, F_OK) != 0 {
      throw SternaError(.badSignature, "this model is not signed", at: model, expected: "\(file)", found: "no such file", remedy: "copy it from where the model came from, or sign the model: sterna sign")
    }
    let bytes = try readWholeFile(path, limit: limit)
    let signature = try readWholeFile(signaturePath, limit: limit)
    let parts = String(decoding: signature, as: UTF8.self).split(whereSeparator: \.isWhitespace).map(String.init)
    guard parts.count == 3, parts[0] == signatureWord, let numbers = Basics.bytes(hexadecimal: parts[2], count: 64) else {
      throw SternaError(.badSignature, "this is not a signature", at: signaturePath, expected: "one line: \(signatureWord) <key> <128 hexadecimal digits>")
    }
    guard let key = keys.keys.first(where: { $0.id == parts[1] }) else {
      throw SternaError(
        .badSignature, "signed with a key that is not trusted here", at: signaturePath, expected: keys.keys.map { "\($0.id) (\($0.name))" }.joined(separator: ", "),
        found: String(parts[1].prefix(64)), remedy: "if you trust who signed, put their .pub file into \(keys.folder)")
    }
    guard key.accepts(numbers, for: purpose + bytes) else {
      throw SternaError(.badSignature, "the signature is not that of this manifest: one of the two was changed", at: path, found: "key \(key.id) (\(key.name))", remedy: "do not use this model; get it again from where it came from")
    }
    return Signed(manifest: try ModelManifest(bytes, path: path), key: key, manifestBytes: bytes, signatureBytes: signature)
  }

  public struct Signed: Sendable {
    public var manifest: ModelManifest
    public var key: VerifyingKey
    public var manifestBytes: [UInt8]
    public var signatureBytes: [UInt8]
  }

  /// Whether a file is the one that the manifest describes. Reads all of it.
  public func check(_ path: String) throws(SternaError) {
    try check(try Self.sha256(ofFile: path, atMost: bytes), of: path)
  }

  /// - Parameter found: of the bytes that were read of the file `path`.
  public func check(_ found: (bytes: Int, sha256: String), of path: String) throws(SternaError) {
    guard found.bytes == bytes else {
      throw SternaError(.badFile, "this file does not have the size that was signed", at: path, expected: "\(bytes) bytes", found: found.bytes > bytes ? "more" : "\(found.bytes)", remedy: "copy it again")
    }
    guard found.sha256 == sha256 else {
      throw SternaError(.badFile, "this file is not the one that was signed", at: path, expected: "SHA-256 \(sha256)", found: found.sha256, remedy: "copy it again")
    }
  }

  /// - Parameter version: of this Sterna, such as 0.1.0.
  public func check(version: String) throws(SternaError) {
    func numbers(_ text: String) -> [Int] { text.split(separator: ".").map { Int($0) ?? 0 } }
    guard numbers(version).lexicographicallyPrecedes(numbers(minimumVersion)) else { return }
    throw SternaError(.unsupported, "this model needs a newer Sterna", at: name, expected: "\(minimumVersion) or newer", found: version, remedy: "upgrade Sterna first")
  }

  /// Size and SHA-256 of a regular file.
  /// - Parameter limit: no more than this and one is read.
  /// - Parameter each: given the bytes as they are read, in order.
  public static func sha256(
    ofFile path: String, atMost limit: Int = .max - 1, each: (UnsafeRawBufferPointer) throws(SternaError) -> Void = { _ throws(SternaError) in }
  ) throws(SternaError) -> (bytes: Int, sha256: String) {
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    func refused(_ message: String) -> SternaError { SternaError(.io, message, at: path, cause: String(cString: strerror(errno))) }
    guard file >= 0 else { throw refused("cannot open this file") }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { throw SternaError(.io, "this is not a regular file", at: path) }
    posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { buffer.deallocate() }
    var hash = SHA256()
    var bytes = 0
    while bytes <= limit {
      let count = read(file, buffer.baseAddress, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw refused("cannot read this file") }
      if count == 0 { break }
      let part = UnsafeRawBufferPointer(rebasing: buffer[..<count])
      hash.update(bufferPointer: part)
      try each(part)
      bytes += count
    }
    return (bytes, hexadecimal(hash.finalize()))
  }
}
