import Basics

/// A curve together with what it was fitted for: the file that `sterna eval --calibrate` writes and that a configured task names.
///
/// Probabilities mean the same only for the same question to the same model. So the file says which labels, in which order and with which descriptions, whether
/// several could be chosen, whether contextual calibration had been applied, and which model: what differs is refused.
public struct Calibration: Sendable, Equatable {
  public var curve: CalibrationCurve
  public var labels: [Job.Label]
  public var multi: Bool
  /// Whether the probabilities had been divided by those for content-free inputs.
  public var contextual: Bool
  public var model: ModelIdentity
  /// Labelled rows behind the curve.
  public var rows: Int

  public init(curve: CalibrationCurve, labels: [Job.Label], multi: Bool, contextual: Bool, model: ModelIdentity, rows: Int) {
    self.curve = curve
    self.labels = labels
    self.multi = multi
    self.contextual = contextual
    self.model = model
    self.rows = rows
  }

  public var json: JSON {
    [
      "sterna_calibration": 1, "model": ["name": .string(model.name), "sha256": .string(model.sha256)], "multi": .bool(multi), "contextual": .bool(contextual),
      "labels": .array(labels.map { Job.Label($0.name, description: $0.description).json }), "rows": .number(rows),
      "points": .array(curve.points.map { [.number($0.probability), .number($0.rate)] }),
    ]
  }

  /// A calibration from the bytes of its file.
  ///
  /// - Throws: `bad_json`, or `bad_field` with the place, for example `points[3]`.
  public static func parse(_ bytes: some Collection<UInt8>) throws(SternaError) -> Calibration {
    let reader = JSONReader(try JSON.parse(bytes))
    guard reader["sterna_calibration"].isPresent else {
      throw SternaError(.badField, "is not a calibration", expected: "a file that `sterna eval --calibrate` has written")
    }
    _ = try reader["sterna_calibration"].int(in: 1...1)
    var points: [CalibrationCurve.Point] = []
    for point in try reader["points"].array(count: 1...CalibrationCurve.mostPoints) {
      let pair = try point.array(count: 2...2)
      points.append(CalibrationCurve.Point(try pair[0].double(in: 0...1), try pair[1].double(in: 0...1)))
    }
    guard let curve = CalibrationCurve(points: points) else { throw reader["points"].error("is not a curve", expected: "ascending probabilities, rates that do not fall") }
    var labels: [Job.Label] = []
    for label in try reader["labels"].array(count: 1...10_000) { labels.append(try Job.Label.parse(label)) }
    return Calibration(
      curve: curve, labels: labels, multi: try reader["multi"].bool(), contextual: try reader["contextual"].bool(),
      model: ModelIdentity(name: try reader["model"]["name"].string(bytes: 0...1024), sha256: try reader["model"]["sha256"].string(bytes: 0...128)),
      rows: try reader["rows"].int(in: 0...Int.max))
  }

  /// Reads a calibration's file and checks that it was made for these labels.
  public static func load(_ path: String, for labels: [Job.Label], multi: Bool) throws(SternaError) -> Calibration {
    let bytes = try readWholeFile(path, limit: 4 << 20)
    do {
      let calibration = try parse(bytes)
      try calibration.check(labels, multi: multi)
      return calibration
    } catch { throw error.within(path) }
  }

  /// Checks that it was made for these labels, asked in this way.
  ///
  /// - Throws: `bad_field` that says what differs.
  public func check(_ labels: [Job.Label], multi: Bool) throws(SternaError) {
    guard self.multi == multi else {
      throw mismatch("belongs to another kind of question", expected: multi ? "a curve for labels of which several may fit" : "a curve for labels of which one fits")
    }
    for (i, (own, other)) in zip(self.labels, labels).enumerated() where own.name != other.name || own.description != other.description {
      let differs = own.name == other.name ? "the description of " : ""
      throw mismatch(
        "belongs to other labels", expected: "\(differs)\(own.json.compact) at labels[\(i)], as when it was fitted (names, order and descriptions)",
        found: Job.Label(other.name, description: other.description).json.compact)
    }
    guard self.labels.count == labels.count else {
      throw mismatch("belongs to other labels", expected: "the \(self.labels.count) labels it was fitted for", found: "\(labels.count)")
    }
  }

  /// Checks that it was made with this model, whose probabilities are calibrated against content-free inputs or not.
  ///
  /// - Throws: `bad_field` that says what differs.
  public func check(_ model: ModelIdentity, contextual: Bool) throws(SternaError) {
    guard self.model.sha256 == model.sha256 else {
      throw mismatch(
        "belongs to another model", expected: "\(self.model.name) (\(self.model.sha256.prefix(16)))", found: "\(model.name) (\(model.sha256.prefix(16)))")
    }
    guard self.contextual == contextual else {
      let word = { (isOn: Bool) in isOn ? "with contextual calibration" : "without contextual calibration" }
      throw mismatch("belongs to other probabilities", expected: "an evaluation \(word(contextual))", found: "one \(word(self.contextual))")
    }
  }

  private func mismatch(_ message: String, expected: String? = nil, found: String? = nil) -> SternaError {
    SternaError(.badField, message, expected: expected, found: found, remedy: "fit it again: sterna eval MODEL ROWS --task classify --calibrate FILE")
  }
}
