import Basics
import Glibc

/// A text that must not be seen: printing it, or whatever holds it, shows a placeholder.
public struct Secret: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// The text itself, for whom it is meant.
  public let text: String

  public init(_ text: String) { self.text = text }

  public var description: String { "(secret)" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

extension Secret {
  /// Where secrets come from: `STERNA_MQTT_PASSWORD` in the environment, else the file `mqtt-password` among the credentials that systemd hands over (`LoadCredential=`).
  ///
  /// - Parameter name: `password`, `username`, `psk`.
  /// - Returns: nil where neither is there.
  public static func find(_ name: String, in environment: [String: String]) throws(SternaError) -> Secret? {
    if let text = environment["STERNA_MQTT_\(name.uppercased())"], !text.isEmpty { return Secret(text) }
    guard let directory = environment["CREDENTIALS_DIRECTORY"] else { return nil }
    let path = "\(directory)/mqtt-\(name)"
    return access(path, F_OK) == 0 ? try read(path, at: path) : nil
  }

  /// - Parameter place: what errors name: a key of the configuration, or an option.
  /// - Throws: when the file cannot be read, is not a text, or can be read by everybody.
  public static func read(_ path: String, at place: String) throws(SternaError) -> Secret {
    try checkPrivate(path, at: place)
    let bytes: [UInt8]
    do { bytes = try readWholeFile(path, limit: 4096) } catch {
      throw SternaError(.badConfiguration, "\(path) \(error.message)", at: place, expected: error.expected ?? "a readable file", cause: error.cause)
    }
    guard let text = String(validating: bytes, as: UTF8.self), !text.utf8.contains(0) else {
      throw SternaError(.badConfiguration, "\(path) is not UTF-8 without NUL", at: place, expected: "a text of one line")
    }
    // Editors and echo end a file with a line break, which is not part of the secret.
    let line = text.last?.isNewline == true ? String(text.dropLast()) : text
    guard !line.isEmpty else { throw SternaError(.badConfiguration, "\(path) is empty", at: place, expected: "a text of one line") }
    return Secret(line)
  }

  /// The secret in a file, where one is named, else what `find` finds.
  public static func read(_ path: String?, orFind name: String, in environment: [String: String], at place: String) throws(SternaError) -> Secret? {
    if let path { return try read(path, at: place) }
    return try find(name, in: environment)
  }

  /// Refuses a file that is a secret and not kept as one.
  static func checkPrivate(_ path: String, at place: String) throws(SternaError) {
    var status = stat()
    guard stat(path, &status) == 0, access(path, R_OK) == 0 else {
      throw SternaError(
        .badConfiguration, "\(path) cannot be read", at: place, expected: "a file that this user may read", remedy: "see that it is there; a service gets it with systemd's LoadCredential=",
        cause: String(cString: strerror(errno)))
    }
    guard status.st_mode & S_IFMT == S_IFREG else { throw SternaError(.badConfiguration, "\(path) is not a regular file", at: place) }
    guard status.st_mode & 0o007 == 0 else {
      throw SternaError(
        .badConfiguration, "\(path) can be read by everybody on this machine", at: place, expected: "mode 600, or 640", found: "mode \(String(status.st_mode & 0o777, radix: 8))",
        remedy: "chmod 600 \(path)")
    }
  }
}
