import Basics

/// Metadata of a GGUF file, read by people who expect certain types.
struct MetadataReader {
  let values: [String: GGUFValue]

  func has(_ key: String) -> Bool { values[key] != nil }

  private func read<T>(_ key: String, _ expected: String, _ get: (GGUFValue) -> T?) throws(SternaError) -> T {
    guard let value = values[key] else { throw SternaError(.badFile, "is missing", at: "key \(key)", expected: expected) }
    guard let result = get(value) else { throw SternaError(.badFile, "has the wrong type or value", at: "key \(key)", expected: expected, found: value.kind) }
    return result
  }

  func string(_ key: String) throws(SternaError) -> String { try read(key, "a string") { $0.string } }
  func bool(_ key: String) throws(SternaError) -> Bool { try read(key, "a bool") { $0.bool } }
  func int(_ key: String) throws(SternaError) -> Int { try read(key, "an integer") { $0.int } }
  func int(_ key: String, in range: ClosedRange<Int>, otherwise: Int? = nil) throws(SternaError) -> Int {
    if let otherwise, !has(key) { return otherwise }
    let value = try int(key)
    guard range.contains(value) else {
      throw SternaError(.badField, "is out of range", at: "key \(key)", expected: "\(range.lowerBound) to \(range.upperBound)", found: "\(value)")
    }
    return value
  }
  func float(_ key: String) throws(SternaError) -> Float { try read(key, "a float32") { $0.float } }
  func strings(_ key: String) throws(SternaError) -> [String] { try read(key, "an array of strings") { $0.strings } }
  func bools(_ key: String) throws(SternaError) -> [Bool] {
    try read(key, "an array of bools") { if case .array(.bool(let values)) = $0 { values } else { nil } }
  }
  func words(_ key: String) throws(SternaError) -> [UInt64] {
    try read(key, "an array of uint64") { if case .array(.uint64(let values)) = $0 { values } else { nil } }
  }
  func ints(_ key: String) throws(SternaError) -> [Int] { try read(key, "an array of integers") { $0.ints } }
  func floats(_ key: String) throws(SternaError) -> [Float] { try read(key, "an array of float32") { $0.floats } }
  func token(_ key: String) throws(SternaError) -> Int32 { try read(key, "a token") { $0.int.flatMap { Int32(exactly: $0) } } }
  func tokens(_ key: String) throws(SternaError) -> [Int32] {
    try read(key, "an array of tokens") { value in
      value.ints.flatMap { ints in
        let tokens = ints.compactMap { Int32(exactly: $0) }
        return tokens.count == ints.count ? tokens : nil
      }
    }
  }
}
