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
    try PromptTemplate.refuse(reader, except: ["prompt", "item", "described", "separator", "names", "stop"])
    var pattern = PromptTemplate.Pattern(
      prompt: try reader["prompt"].string(bytes: 1...65_536), separator: try reader["separator"].string(bytes: 1...1024),
      stop: try reader["stop"].string(bytes: 1...256))
    if let item = reader["item"].optional { pattern.item = try item.string(bytes: 1...1024) }
    pattern.described = try reader["described"].optional?.string(bytes: 1...1024)
    if let names = reader["names"].optional {
      guard let known = Names(rawValue: try names.string()) else { throw names.error("is no way to speak names", expected: "words or asis") }
      pattern.names = known
    }
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
    return .object(object)
  }
}
