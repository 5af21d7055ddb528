import Basics
import Crypto
import Glibc

extension SternaError.Code {
  /// A model whose signature is missing, wrong or of nobody who is trusted.
  public static let badSignature: Self = "bad_signature"
}

/// The public half of a key pair: whoever has it can tell what was signed with the other half. One line of text in a file `NAME.pub`.
public struct VerifyingKey: Sendable, Equatable {
  public let name: String
  /// [32]
  public let bytes: [UInt8]

  /// What signatures name it by: the first 16 hexadecimal digits of its SHA-256.
  public var id: String { String(hexadecimal(SHA256.hash(data: bytes)).prefix(16)) }

  static let word = "sterna-ed25519-public"

  public init(file path: String) throws(SternaError) {
    let (bytes, name) = try readKey(path, word: Self.word)
    self.bytes = bytes
    self.name = name
  }

  init(name: String, bytes: [UInt8]) {
    self.name = name
    self.bytes = bytes
  }

  func accepts(_ signature: [UInt8], for message: [UInt8]) -> Bool {
    (try? Curve25519.Signing.PublicKey(rawRepresentation: bytes))?.isValidSignature(signature, for: message) ?? false
  }
}

/// The private half: it signs. One line of text in a file `NAME.key`, readable for its owner alone.
public struct SigningKey {
  public let name: String
  private let key: Curve25519.Signing.PrivateKey

  private static let word = "sterna-ed25519-private"

  /// - Throws: also when others than the owner may read the file.
  public init(file path: String) throws(SternaError) {
    var status = stat()
    guard stat(path, &status) == 0 else { throw SternaError(.io, "cannot be opened", at: path, cause: String(cString: strerror(errno))) }
    guard status.st_mode & 0o077 == 0 else {
      throw SternaError(.badSignature, "others on this machine can read this private key", at: path, remedy: "chmod 600 \(path); and make a new key if they did")
    }
    let (bytes, name) = try readKey(path, word: Self.word)
    guard let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: bytes) else { throw SternaError(.badFile, "this is no Ed25519 key", at: path) }
    self.key = key
    self.name = name
  }

  /// Makes a pair: `PATH.key` for whoever signs, `PATH.pub` for the machines that verify. Overwrites neither.
  @discardableResult
  public static func make(_ path: String) throws(SternaError) -> VerifyingKey {
    let name = String(path[(path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex)...])
    guard isPlainName(name) else { throw SternaError(.badField, "is no name for a key", at: path, expected: "1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot") }
    for file in ["\(path).key", "\(path).pub"] where access(file, F_OK) == 0 {
      throw SternaError(.io, "there is a key of this name already", at: file, remedy: "give the new one another name, and sign the next models with it")
    }
    let key = Curve25519.Signing.PrivateKey()
    try DurableFile.write(line(word, Array(key.rawRepresentation), name), to: "\(path).key", mode: 0o600)
    let publicKey = VerifyingKey(name: name, bytes: Array(key.publicKey.rawRepresentation))
    try DurableFile.write(line(VerifyingKey.word, publicKey.bytes, name), to: "\(path).pub")
    return publicKey
  }

  private static func line(_ word: String, _ bytes: [UInt8], _ name: String) -> [UInt8] { Array("\(word) \(hexadecimal(bytes)) \(name)\n".utf8) }

  public var verifying: VerifyingKey { VerifyingKey(name: name, bytes: Array(key.publicKey.rawRepresentation)) }

  func sign(_ message: [UInt8]) throws(SternaError) -> [UInt8] {
    do { return Array(try key.signature(for: message)) } catch { throw SternaError(.io, "the key does not sign", at: name, cause: "\(error)") }
  }
}

/// The keys that an operator trusts: every `*.pub` of a folder.
public struct TrustedKeys: Sendable {
  public let folder: String
  public let keys: [VerifyingKey]

  /// - Throws: when there is none, one is not a key, or anybody could add or change one.
  public init(folder: String) throws(SternaError) {
    var keys: [VerifyingKey] = []
    try Self.checkOwner(folder)
    for name in try namesInFolder(folder) where name.hasSuffix(".pub") {
      try Self.checkOwner("\(folder)/\(name)")
      keys.append(try VerifyingKey(file: "\(folder)/\(name)"))
    }
    guard !keys.isEmpty else {
      throw SternaError(
        .badSignature, "there is no public key in this folder", at: folder, expected: "at least one file NAME.pub",
        remedy: "copy there the .pub files of those who sign models; sterna sign --new-key NAME makes a pair")
    }
    self.folder = folder
    self.keys = keys
  }

  private static func checkOwner(_ path: String) throws(SternaError) {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & 0o002 != 0 else { return }
    throw SternaError(.badSignature, "anybody on this machine could put a key of their own here", at: path, remedy: "chmod o-w \(path)")
  }
}

/// 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot: nothing that could lead out of a folder.
func isPlainName(_ text: String) -> Bool {
  (1...64).contains(text.utf8.count) && !text.hasPrefix(".")
    && text.utf8.allSatisfy { 48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-") }
}

/// `WORD <64 hexadecimal digits> NAME`, on one line.
private func readKey(_ path: String, word: String) throws(SternaError) -> (bytes: [UInt8], name: String) {
  let parts = String(decoding: try readWholeFile(path, limit: 4096), as: UTF8.self).split(whereSeparator: \.isWhitespace).map(String.init)
  guard parts.count == 3, parts[0] == word, let bytes = bytes(hexadecimal: parts[1], count: 32), isPlainName(parts[2]) else {
    throw SternaError(.badFile, "this is not a key file of the expected kind", at: path, expected: "one line: \(word) <64 hexadecimal digits> NAME", found: parts.first.map { "\"\($0.prefix(40))\"" } ?? "nothing")
  }
  return (bytes, parts[2])
}
