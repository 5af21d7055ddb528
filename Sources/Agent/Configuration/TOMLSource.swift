import Basics

/// A TOML text as a JSON tree, with the line of every key, so that a complaint can say where.
struct TOMLSource {
  let root: JSON
  /// Line (from 1) by path, for example `mqtt.port` or `tasks[1].output`.
  private let lines: [String: Int]
  private let name: String

  /// - Parameter name: what the text is called in messages, usually the path of its file.
  init(_ text: String, name: String) throws(SternaError) {
    self.name = name
    do throws(TOMLParser.Failure) { (root, lines) = try TOMLParser.parse(text) } catch {
      guard let path = error.path else { throw SternaError(.badConfiguration, "is not TOML", at: "\(name), line \(error.line), column \(error.column)", cause: error.message) }
      throw SternaError(.badConfiguration, error.message, at: "\(name), line \(error.line): \(path)", remedy: "put it in quotes if it is a text")
    }
  }

  /// The error with file and line in front of the key's path. An element inside an array gets the line of the array.
  func located(_ error: SternaError) -> SternaError {
    var error = error
    error.code = .badConfiguration
    guard let path = error.place else { return error.within(name) }
    var known = path[...]
    while !known.isEmpty, lines[String(known)] == nil {
      known = known.lastIndex { $0 == "." || $0 == "[" }.map { known[..<$0] } ?? ""
    }
    return error.within(lines[String(known)].map { "\(name), line \($0)" } ?? name)
  }
}
