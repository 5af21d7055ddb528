import Basics

extension PromptTemplate {
  /// A template from its JSON text, as it stands in a model file or in a file for `sterna pack --template`.
  ///
  /// - Throws: `bad_json`, or `bad_field` with the place, for example `classify.prompt`.
  public static func parse(_ text: some Collection<UInt8>) throws(SternaError) -> PromptTemplate {
    let reader = JSONReader(try JSON.parse(text))
    try refuse(reader, except: JobTask.allCases.map(\.rawValue))
    return PromptTemplate(classify: try Pattern.parse(reader["classify"], .classify), extract: try Pattern.parse(reader["extract"], .extract))
  }

  public static func parse(_ text: String) throws(SternaError) -> PromptTemplate { try parse(Array(text.utf8)) }

  /// What `parse` reads back.
  public var json: JSON { ["classify": classify.json, "extract": extract.json] }

  fileprivate static func refuse(_ reader: JSONReader, except known: [String]) throws(SternaError) {
    for (name, member) in try reader.members() where !known.contains(name) {
      throw member.error("is not a part of a template", expected: known.joined(separator: ", "))
    }
  }
}

extension PromptTemplate.Pattern {
  static func parse(_ reader: JSONReader, _ task: JobTask) throws(SternaError) -> PromptTemplate.Pattern {
    _ = try reader.object()
    try PromptTemplate.refuse(
      reader, except: ["prompt", "item", "described", "separator", "names", "stop"] + (task == .classify ? ["contextual", "multi"] : []))
    var pattern = PromptTemplate.Pattern(
      prompt: try reader["prompt"].string(bytes: 1...65_536), separator: try reader["separator"].string(bytes: 1...1024),
      stop: try reader["stop"].string(bytes: 1...256))
    if let item = reader["item"].optional { pattern.item = try item.string(bytes: 1...1024) }
    pattern.described = try reader["described"].optional?.string(bytes: 1...1024)
    if let names = reader["names"].optional {
      guard let known = Names(rawValue: try names.string()) else { throw names.error("is no way to speak names", expected: "words or asis") }
      pattern.names = known
    }
    if let contextual = reader["contextual"].optional { pattern.contextual = try contextual.bool() }
    if let multi = reader["multi"].optional { pattern.multi = try Multi.parse(multi) }
    try pattern.check(task, path: reader.path)
    return pattern
  }

  /// Checks placeholders: each of those that are needed once, in order, and no others.
  func check(_ task: JobTask, path: String) throws(SternaError) {
    let items = Self.itemsPlaceholder(task)
    var found = try Self.split(prompt, at: path + ".prompt").compactMap { if case .placeholder(let name) = $0 { name } else { nil } }
    if found.first == "bos" { found.removeFirst() }
    guard found == [items, "text"] else {
      throw SternaError(
        .badField, "has the wrong placeholders", at: path + ".prompt", expected: "{{\(items)}} and behind it {{text}}, each once; {{bos}} at the beginning only",
        found: found.isEmpty ? "none" : found.map { "{{\($0)}}" }.joined(separator: ", "))
    }
    for (text, name, needed) in [(item, "item", ["name"]), (described, "described", ["name", "description"])] {
      guard let text else { continue }
      let found = try Self.split(text, at: "\(path).\(name)").compactMap { if case .placeholder(let name) = $0 { name } else { nil } }
      guard found.sorted() == needed.sorted() else {
        throw SternaError(
          .badField, "has the wrong placeholders", at: "\(path).\(name)", expected: needed.map { "{{\($0)}}" }.joined(separator: " and ") + ", each once",
          found: found.isEmpty ? "none" : found.map { "{{\($0)}}" }.joined(separator: ", "))
      }
    }
  }

  static func itemsPlaceholder(_ task: JobTask) -> String { task == .classify ? "labels" : "fields" }

  /// A part of a pattern's text.
  enum Part: Equatable {
    case literal(String)
    case placeholder(String)
  }

  /// Literals and `{{placeholders}}` in order.
  static func split(_ text: String, at path: String) throws(SternaError) -> [Part] {
    var parts: [Part] = []
    var rest = Substring(text)
    while let open = rest.firstRange(of: "{{") {
      if open.lowerBound > rest.startIndex { parts.append(.literal(String(rest[..<open.lowerBound]))) }
      let inside = rest[open.upperBound...]
      guard let close = inside.firstRange(of: "}}") else {
        throw SternaError(.badField, "has a placeholder without an end", at: path, expected: "}} behind {{", found: "\"{{\(inside.prefix(20))\"")
      }
      parts.append(.placeholder(String(inside[..<close.lowerBound])))
      rest = inside[close.upperBound...]
    }
    if !rest.isEmpty { parts.append(.literal(String(rest))) }
    return parts
  }

  var json: JSON {
    var object: JSON.Object = ["prompt": .string(prompt), "item": .string(item)]
    if let described { object["described"] = .string(described) }
    object["separator"] = .string(separator)
    object["names"] = .string(names.rawValue)
    object["stop"] = .string(stop)
    if contextual { object["contextual"] = true }
    if multi != .contrast("out of scope") { object["multi"] = multi.json }
    return .object(object)
  }
}

extension PromptTemplate.Pattern.Multi {
  /// `{"contrast":..}` or `{"prompt":..,"described":..,"yes":..,"no":..}`.
  static func parse(_ reader: JSONReader) throws(SternaError) -> Self {
    if reader["contrast"].isPresent {
      try PromptTemplate.refuse(reader, except: ["contrast"])
      return .contrast(try reader["contrast"].string(bytes: 1...128))
    }
    try PromptTemplate.refuse(reader, except: ["prompt", "described", "yes", "no"])
    let prompt = try reader["prompt"].string(bytes: 1...65_536)
    let described = try reader["described"].optional?.string(bytes: 1...1024)
    try check(prompt, ["text", "label"], reader["prompt"])
    if let described { try check(described, ["name", "description"], reader["described"]) }
    return .question(prompt: prompt, described: described, yes: try reader["yes"].string(bytes: 1...64), no: try reader["no"].string(bytes: 1...64))
  }

  private static func check(_ text: String, _ needed: [String], _ reader: JSONReader) throws(SternaError) {
    var found = try PromptTemplate.Pattern.split(text, at: reader.path).compactMap { if case .placeholder(let name) = $0 { name } else { nil } }
    if needed[0] == "text", found.first == "bos" { found.removeFirst() }
    guard found == needed else {
      throw reader.error("has the wrong placeholders", expected: "{{\(needed[0])}} and behind it {{\(needed[1])}}, each once")
    }
  }

  var json: JSON {
    switch self {
    case .contrast(let name): return ["contrast": .string(name)]
    case .question(let prompt, let described, let yes, let no):
      var object: JSON.Object = ["prompt": .string(prompt)]
      if let described { object["described"] = .string(described) }
      object["yes"] = .string(yes)
      object["no"] = .string(no)
      return .object(object)
    }
  }
}
