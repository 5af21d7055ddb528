/// Hidden states behind the final norm, one row for each position that was asked for, in the order of the steps.
public struct HiddenStates: Sendable {
  /// Values a row.
  public let width: Int
  /// [count, width]
  public internal(set) var values: [Float] = []

  init(width: Int) { self.width = width }

  public var count: Int { width == 0 ? 0 : values.count / width }
}
