import Basics

/// Ids and keys that nobody can guess or repeat.
enum Randomness {
  static func bytes(_ count: Int) -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
  }

  static func id() -> String { hexadecimal(bytes(16)) }
}
