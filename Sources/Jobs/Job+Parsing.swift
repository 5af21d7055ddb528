import Basics
import Decoding

extension Job {
  /// A job from the payload of a message, checked completely.
  ///
  /// Unknown members of the payload are ignored, unknown options are not: a misspelt option would change the answer in silence.
  /// - Throws: `payload_too_large`, `bad_json` or `bad_field` with the place, for example `labels[3].name`.
  public static func parse(_ payload: some Collection<UInt8>, task: JobTask, limits: JobLimits = JobLimits()) throws(SternaError) -> Job {
    guard payload.count <= limits.payloadBytes else {
      throw SternaError(
        .payloadTooLarge, "the message is too large", expected: "at most \(limits.payloadBytes) bytes", found: "\(payload.count) bytes")
    }
    var json = JSON.Limits()
    json.bytes = limits.payloadBytes
    json.depth = limits.depth
    return try parse(try JSON.parse(payload, limits: json), task: task, limits: limits)
  }

  /// The same from a JSON value.
  /// - Parameter compilesLater: a schema is taken as it is, and its mistakes are found when the job runs.
  public static func parse(_ json: JSON, task: JobTask, limits: JobLimits = JobLimits(), compilesLater: Bool = false) throws(SternaError) -> Job {
    let reader = JSONReader(json)
    _ = try reader.object()
    if let version = reader["v"].optional, try version.int() != 1 { throw version.error("is a version that this agent does not speak", expected: "1") }
    if reader["profile"].isPresent { throw SternaError(.unknownProfile, "there are no profiles; send the job to the topic of a task", at: "profile") }
    var job = Job(input: try reader["input"].string(), work: try Work.parse(reader, task: task, limits: limits, compilesLater: compilesLater))
    job.id = try reader["id"].optional?.string()
    job.options = try Options.parse(reader["options"], limits: limits)
    if let meta = reader["meta"].value, meta != .null { job.meta = meta }
    try job.validate(limits: limits)
    return job
  }

  /// Checks a job that was not parsed: id, input, names, numbers of labels and fields, options, meta.
  public func validate(limits: JobLimits = JobLimits()) throws(SternaError) {
    if let id, !Job.isValid(id: id) {
      throw SternaError(.badField, "is not an id", at: "id", expected: "1 to 64 of the characters A-Z a-z 0-9 . _ -", found: "\"\(id.prefix(80))\"")
    }
    try Job.validate(input: input, limits: limits)
    try work.validate(limits: limits)
    try options.validate(limits: limits)
    try work.validate(with: options)
    if let meta, case let bytes = meta.compactBytes.count, bytes > limits.metaBytes {
      throw SternaError(.badField, "is too large", at: "meta", expected: "at most \(limits.metaBytes) bytes of JSON", found: "\(bytes) bytes")
    }
  }

  /// Ids become part of topics, so only characters that mean nothing there.
  public static func isValid(id: String) -> Bool {
    (1...64).contains(id.utf8.count)
      && id.utf8.allSatisfy {
        switch $0 {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
          UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
        default: false
        }
      }
  }

  static func validate(input: String, limits: JobLimits) throws(SternaError) {
    guard input.utf8.count <= limits.inputBytes else {
      throw SternaError(
        .payloadTooLarge, "the text is too large", at: "input", expected: "at most \(limits.inputBytes) bytes", found: "\(input.utf8.count) bytes")
    }
    guard input.unicodeScalars.contains(where: { !$0.properties.isWhitespace }) else {
      throw SternaError(.badField, "is empty", at: "input", expected: "a text")
    }
  }
}

extension Job.Work {
  /// `labels`, `fields` or `schema` of a payload or of a configured task.
  /// - Parameter compilesLater: a schema is taken as it is, and its mistakes are found when the job runs.
  public static func parse(_ reader: JSONReader, task: JobTask, limits: JobLimits = JobLimits(), compilesLater: Bool = false) throws(SternaError) -> Job.Work {
    let own = task == .classify ? "labels" : "fields"
    for other in task == .classify ? ["fields", "schema"] : ["labels"] where reader[other].isPresent {
      throw reader[other].error("does not belong in a job of the task \(task.rawValue)")
    }
    if let schema = reader["schema"].value {
      if reader["fields"].isPresent { throw reader["schema"].error("goes without `fields`") }
      if compilesLater { return .fill(Job.Schema(schema)) }
      do { return .fill(try Job.Schema(compiling: schema)) } catch { throw error.inSchema(at: reader["schema"].path) }
    }
    let most = task == .classify ? limits.labels : limits.fields
    var labels: [Job.Label] = []
    var fields: [Job.Field] = []
    for element in try reader[own].array(count: 1...max(1, most)) {
      if task == .classify { labels.append(try Job.Label.parse(element)) } else { fields.append(try Job.Field.parse(element)) }
    }
    let work: Job.Work = task == .classify ? .classify(labels) : .extract(fields)
    try work.validate(limits: limits, path: reader[own].path)
    return work
  }

  func validate(limits: JobLimits, path: String? = nil) throws(SternaError) {
    let items: [(name: String, description: String?)]
    let most: Int
    let path = path ?? (task == .classify ? "labels" : "fields")
    switch self {
    case .classify(let labels): (items, most) = (labels.map { ($0.name, $0.description) }, limits.labels)
    case .extract(let fields): (items, most) = (fields.map { ($0.name, $0.description) }, limits.fields)
    case .fill: return  // compiling it is the check
    }
    guard (1...max(1, most)).contains(items.count) else {
      throw SternaError(.badField, "has the wrong number of elements", at: path, expected: "1...\(most)", found: "\(items.count)")
    }
    var seen: [String: Int] = [:]
    for (i, item) in items.enumerated() {
      let bytes = item.name.utf8.count
      guard item.name.unicodeScalars.contains(where: { !$0.properties.isWhitespace }), bytes <= limits.nameBytes else {
        throw SternaError(
          .badField, bytes > limits.nameBytes ? "the name is too long" : "the name is empty", at: "\(path)[\(i)]",
          expected: "1...\(limits.nameBytes) bytes", found: "\(bytes) bytes")
      }
      if let description = item.description, description.utf8.count > limits.descriptionBytes {
        throw SternaError(
          .badField, "is too long", at: "\(path)[\(i)].description", expected: "at most \(limits.descriptionBytes) bytes",
          found: "\(description.utf8.count) bytes")
      }
      if case .classify(let labels) = self, let threshold = labels[i].threshold, !(0.0...1.0).contains(threshold) {
        throw SternaError(.badField, "is out of range", at: "\(path)[\(i)].threshold", expected: "0.0...1.0", found: "\(threshold)")
      }
      if let first = seen.updateValue(i, forKey: item.name) {
        throw SternaError(.badField, "is the same as \(path)[\(first)]", at: "\(path)[\(i)]", found: "\"\(item.name)\"")
      }
    }
  }
}

extension Job.Work {
  /// Checks what labels and options say about each other.
  ///
  /// - Parameter path: of the labels; the options stand beside them.
  public func validate(with options: Job.Options, path: String = "labels") throws(SternaError) {
    let beside = path.hasSuffix("labels") ? String(path.dropLast("labels".count)) + "options" : "options"
    func refuse(_ place: String, _ message: String, _ expected: String) throws(SternaError) {
      throw SternaError(.badField, message, at: place, expected: expected)
    }
    guard case .classify(let labels) = self else {
      for (name, isThere) in [("multi", options.multi), ("threshold", options.threshold != nil), ("contextual", options.contextual != nil)] where isThere {
        try refuse("\(beside).\(name)", "belongs to classifications", "nothing")
      }
      return
    }
    if options.multi {
      if options.abstainBelow != nil { try refuse(beside + ".abstain_below", "does not go with multi, where no label need be chosen", "threshold in its place") }
    } else {
      if options.threshold != nil { try refuse(beside + ".threshold", "belongs to multi", "\"multi\": true beside it, or abstain_below") }
      if let at = labels.firstIndex(where: { $0.threshold != nil }) {
        try refuse("\(path)[\(at)].threshold", "belongs to multi", "\"multi\": true in options, or abstain_below")
      }
    }
  }
}

extension Job.Label {
  /// `"name"` or `{"name":..,"description":..,"threshold":..}`.
  static func parse(_ reader: JSONReader) throws(SternaError) -> Job.Label {
    guard case .object? = reader.value else {
      guard case .string(let name)? = reader.value else { throw reader.error("is not a label", expected: "a name, or {\"name\":..,\"description\":..,\"threshold\":..}") }
      return Job.Label(name)
    }
    try reader.refuseMembers(except: ["name", "description", "threshold"])
    return Job.Label(
      try reader["name"].string(), description: try reader["description"].optional?.string(), threshold: try reader["threshold"].optional?.double(in: 0.0...1.0))
  }
}

extension Job.Field {
  /// `"name"`, `"name:number"`, `"name[]"`, `"name:date[]"`, `"state:open|closed"` or `{"name":..,"type":..,"enum":[..],"list":true,"description":..}`. In the object form a
  /// name may contain colons.
  static func parse(_ reader: JSONReader) throws(SternaError) -> Job.Field {
    if case .string(var text)? = reader.value {
      let isList = text.hasSuffix("[]")
      if isList { text.removeLast(2) }
      guard let colon = text.lastIndex(of: ":") else { return Job.Field(text, isList: isList) }
      let word = String(text[text.index(after: colon)...])
      let choices = word.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
      return Job.Field(
        String(text[..<colon]), kind: choices.count > 1 ? try oneOf(choices, reader) { _ in reader } : try kind(word, reader), isList: isList)
    }
    guard case .object? = reader.value else {
      throw reader.error("is not a field", expected: "a name, \"name:number\", \"name[]\", or {\"name\":..,\"type\":..,\"description\":..}")
    }
    try reader.refuseMembers(except: ["name", "type", "enum", "list", "description"])
    var field = Job.Field(try reader["name"].string(), description: try reader["description"].optional?.string())
    if let type = reader["type"].optional { field.kind = try kind(try type.string(), type) }
    if let list = reader["enum"].optional {
      guard field.kind == .string else { throw reader["type"].error("does not go with enum", expected: "string, or no type") }
      let elements = try list.array(count: 1...1000)
      var choices: [String] = []
      for element in elements { choices.append(try element.string()) }
      field.kind = try oneOf(choices, list) { elements[$0] }
    }
    if let isList = reader["list"].optional { field.isList = try isList.bool() }
    return field
  }

  private static func kind(_ word: String, _ reader: JSONReader) throws(SternaError) -> Kind {
    guard let kind = Kind.words.first(where: { $0.word == word })?.kind else {
      throw reader.error("the type \"\(word.prefix(40))\" is not supported", expected: Kind.words.map(\.word).joined(separator: ", ") + ", or choices: open|closed")
    }
    return kind
  }

  private static func oneOf(_ choices: [String], _ reader: JSONReader, at place: (Int) -> JSONReader) throws(SternaError) -> Kind {
    for (index, choice) in choices.enumerated() {
      guard choice.utf8.contains(where: { $0 != UInt8(ascii: " ") }), choice.utf8.count <= 128 else { throw place(index).error("is not a choice", expected: "1...128 bytes") }
      if choices[..<index].contains(where: { $0.utf8.elementsEqual(choice.utf8) }) { throw place(index).error("is there twice") }
    }
    return .oneOf(choices)
  }
}

extension Job.Options {
  /// The `options` of a payload or of a configured task; a missing object gives the defaults.
  public static func parse(_ reader: JSONReader, limits: JobLimits = JobLimits()) throws(SternaError) -> Job.Options {
    var options = Job.Options()
    guard reader.isPresent else { return options }
    for (name, value) in try reader.members() {
      guard value.isPresent || Self.names.contains(name) else { throw unknown(value) }
      guard value.isPresent else { continue }
      switch name {
      case "max_tokens": options.maxTokens = try value.int(in: 1...limits.maxTokens)
      case "priority": options.priority = try value.int(in: 0...9)
      case "ttl_ms": options.ttlMilliseconds = try value.int(in: 1...limits.ttlMilliseconds)
      case "alternatives": options.alternatives = try value.int(in: 0...limits.labels)
      case "evidence": options.evidence = try value.bool()
      case "ack": options.acknowledge = try value.bool()
      case "abstain_below": options.abstainBelow = try value.double(in: 0.0...1.0)
      case "multi": options.multi = try value.bool()
      case "threshold": options.threshold = try value.double(in: 0.0...1.0)
      case "contextual": options.contextual = try value.bool()
      default: throw unknown(value)
      }
    }
    return options
  }

  private static let names = ["max_tokens", "priority", "ttl_ms", "alternatives", "evidence", "ack", "abstain_below", "multi", "threshold", "contextual"]
  private static func unknown(_ reader: JSONReader) -> SternaError {
    reader.error("is not an option", expected: names.joined(separator: ", "))
  }

  func validate(limits: JobLimits) throws(SternaError) {
    func check(_ value: Int?, _ range: ClosedRange<Int>, _ name: String) throws(SternaError) {
      guard let value, !range.contains(value) else { return }
      throw SternaError(.badField, "is out of range", at: "options.\(name)", expected: "\(range)", found: "\(value)")
    }
    try check(maxTokens, 1...limits.maxTokens, "max_tokens")
    try check(priority, 0...9, "priority")
    try check(ttlMilliseconds, 1...limits.ttlMilliseconds, "ttl_ms")
    try check(alternatives, 0...limits.labels, "alternatives")
    for (name, share) in [("abstain_below", abstainBelow), ("threshold", threshold)] {
      guard let share, !(0.0...1.0).contains(share) else { continue }
      throw SternaError(.badField, "is out of range", at: "options.\(name)", expected: "0.0...1.0", found: "\(share)")
    }
  }
}

extension JSONReader {
  /// Refuses members that this version does not know: ignoring them would weaken what was asked.
  fileprivate func refuseMembers(except known: [String]) throws(SternaError) {
    for (name, member) in try members() where !known.contains(name) {
      throw member.error("is not supported", expected: known.joined(separator: ", "))
    }
  }
}

extension Job {
  /// The payload that a client sends for this job; `parse` reads it back.
  public var json: JSON {
    var object: JSON.Object = ["v": 1]
    if let id { object["id"] = .string(id) }
    object["input"] = .string(input)
    switch work {
    case .classify(let labels): object["labels"] = .array(labels.map(\.json))
    case .extract(let fields): object["fields"] = .array(fields.map(\.json))
    case .fill(let schema): object["schema"] = schema.document
    }
    if options != Options() { object["options"] = options.json }
    if let meta { object["meta"] = meta }
    return .object(object)
  }
}

extension Job.Label {
  var json: JSON {
    guard description != nil || threshold != nil else { return .string(name) }
    var object: JSON.Object = ["name": .string(name)]
    if let description { object["description"] = .string(description) }
    if let threshold { object["threshold"] = .number(threshold) }
    return .object(object)
  }
}

extension Job.Field {
  var json: JSON {
    if kind == .string, description == nil, !name.contains(":"), !name.hasSuffix("[]") { return .string(name + (isList ? "[]" : "")) }
    var object: JSON.Object = ["name": .string(name)]
    if let word = kind.word { object["type"] = .string(word) }
    if case .oneOf(let choices) = kind { object["enum"] = .array(choices.map { .string($0) }) }
    if isList { object["list"] = true }
    if let description { object["description"] = .string(description) }
    return .object(object)
  }
}

extension Job.Options {
  var json: JSON {
    var object = JSON.Object()
    if let maxTokens { object["max_tokens"] = .number(maxTokens) }
    if priority != 0 { object["priority"] = .number(priority) }
    if let ttlMilliseconds { object["ttl_ms"] = .number(ttlMilliseconds) }
    if let alternatives { object["alternatives"] = .number(alternatives) }
    if !evidence { object["evidence"] = false }
    if acknowledge { object["ack"] = true }
    if let abstainBelow { object["abstain_below"] = .number(abstainBelow) }
    if multi { object["multi"] = true }
    if let threshold { object["threshold"] = .number(threshold) }
    if let contextual { object["contextual"] = .bool(contextual) }
    return .object(object)
  }
}
