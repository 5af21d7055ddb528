import Basics

// Large models come split over files that are called `NAME-00001-of-00003.gguf`. Each is a GGUF file of its own, whose keys say which part it is; the metadata of
// the model are in the first, and its tensors in all of them, or in all but the first.

extension GGUFFile {
  private enum Key {
    /// From 0 on.
    static let number = "split.no"
    static let count = "split.count"
    /// Of all parts together.
    static let tensorCount = "split.tensors.count"
  }

  /// More than any published model has; each stays open while the model is read.
  private static let maximumParts = 512

  /// Opens a model that may be split: given any part of it, all others are looked for beside that one.
  /// - Throws: as `init`; `io` naming a part that is missing, `badFile` naming one that belongs to another model.
  public static func whole(_ path: String) throws(SternaError) -> GGUFFile {
    let given = try GGUFFile(path)
    guard let count = given.metadata[Key.count]?.int, count > 1 else { return given }
    guard count <= maximumParts else {
      throw SternaError(.badFile, "there are too many parts", at: "\(path): key \(Key.count)", expected: "at most \(maximumParts)", found: "\(count)")
    }
    func suffix(_ part: Int) -> String { "-\(padded(part + 1))-of-\(padded(count)).gguf" }
    guard let number = given.metadata[Key.number]?.int, 0..<count ~= number else {
      throw SternaError(.badFile, "does not say which part of a split model this is", at: "\(path): key \(Key.number)", expected: "0...\(count - 1)")
    }
    guard path.hasSuffix(suffix(number)) else {
      throw SternaError(
        .badFile, "this is one of \(count) parts of a model, but it is not called so: the others cannot be found", at: path, expected: "a name that ends with \(suffix(number))",
        remedy: "give the parts the names that they were published with")
    }
    let base = String(path.dropLast(suffix(number).count))
    var files: [GGUFFile] = []
    var names: [String: Int] = [:]
    for part in 0..<count {
      let place = base + suffix(part)
      guard isFile(place) else {
        throw SternaError(.io, "part \(part + 1) of \(count) of this model is missing", at: place, remedy: "download all parts into one folder")
      }
      let file = part == number ? given : try GGUFFile(place)
      func foreign(_ key: String, expected: String, found: String) -> SternaError {
        SternaError(.badFile, "this part belongs to another model", at: "\(place): \(key)", expected: expected, found: found, remedy: "download this part again")
      }
      for (key, expected) in [(Key.number, part), (Key.count, count), (Key.tensorCount, given.metadata[Key.tensorCount]?.int)] {
        guard let found = file.metadata[key]?.int, expected ?? found == found else {
          throw foreign("key \(key)", expected: expected.map { "\($0)" } ?? "a number", found: file.metadata[key]?.int.map { "\($0)" } ?? "none")
        }
      }
      for tensor in file.tensors {
        if let other = names.updateValue(part, forKey: tensor.name) {
          throw foreign("tensor \(tensor.name)", expected: "a tensor that no other part has", found: "one that part \(other + 1) has too")
        }
      }
      files.append(file)
    }
    guard names.count == given.metadata[Key.tensorCount]?.int else {
      throw SternaError(
        .badFile, "the parts do not hold as many tensors as the model has", at: "\(path): key \(Key.tensorCount)",
        expected: given.metadata[Key.tensorCount]?.int.map { "\($0)" }, found: "\(names.count)", remedy: "a part belongs to another model: download all parts again")
    }
    return GGUFFile(joining: files)
  }

  /// As five digits.
  private static func padded(_ number: Int) -> String {
    let digits = "\(number)"
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }
}
