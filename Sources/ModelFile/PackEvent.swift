/// What is told while a model is packed.
public enum PackEvent: Sendable {
  /// What a person should know: once, and whether or not they look at progress.
  case note(String)
  case progress(PackProgress)
}

/// How far packing is.
public struct PackProgress: Sendable {
  /// What is being done, for people.
  public var doing: String
  /// Of the file. Zero while the source is looked at and nothing is written.
  public var writtenBytes = 0
  /// Of the whole file.
  public var totalBytes = 0
  /// Of what is written, what an interrupted packing had done.
  public var resumedBytes = 0
}
