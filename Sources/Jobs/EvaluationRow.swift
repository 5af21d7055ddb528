import Basics

/// One labelled text of a data file: `{"text":..,"label":..,"spans":[{"field":..,"text":..,"start":..,"end":..}]}`, one a line. In place of `label` may stand `labels`, all that fit.
public struct EvaluationRow: Sendable, Equatable {
  /// A value that an annotator marked. Offsets in Unicode scalars.
  public struct Span: Sendable, Equatable {
    public var field: String
    public var text: String
    public var start: Int
    public var end: Int

    public init(field: String, text: String, start: Int, end: Int) {
      self.field = field
      self.text = text
      self.start = start
      self.end = end
    }
  }

  public var text: String
  /// The first of `labels`; empty where there are none.
  public var label: String { labels.first ?? "" }
  /// All labels that fit the text.
  public var labels: [String]
  public var spans: [Span]

  public init(text: String, label: String, spans: [Span] = []) { self.init(text: text, labels: label.isEmpty ? [] : [label], spans: spans) }

  public init(text: String, labels: [String], spans: [Span] = []) {
    self.text = text
    self.labels = labels
    self.spans = spans
  }

  /// All rows of a file's bytes. Empty lines are passed over; members that are not needed, too.
  ///
  /// - Parameter name: of the file, for messages.
  /// - Throws: `bad_json` or `bad_field` with `name:line: place`.
  public static func parse(_ bytes: [UInt8], from name: String) throws(SternaError) -> [EvaluationRow] {
    var rows: [EvaluationRow] = []
    for (number, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      guard line.contains(where: { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: "\t") }) else { continue }
      do {
        let reader = JSONReader(try JSON.parse(line))
        var row = EvaluationRow(text: try reader["text"].string(), label: try reader["label"].optional?.string() ?? "")
        if let labels = reader["labels"].optional {
          row.labels = []
          for label in try labels.array() { row.labels.append(try label.string(bytes: 1...Int.max)) }
        }
        for span in try reader["spans"].optional?.array() ?? [] {
          row.spans.append(
            Span(field: try span["field"].string(), text: try span["text"].string(), start: try span["start"].int(), end: try span["end"].int()))
        }
        rows.append(row)
      } catch {
        throw error.within("\(name):\(number + 1)")
      }
    }
    return rows
  }

  /// The labels of the rows, each once, in alphabetical order.
  public static func labels(of rows: [EvaluationRow]) -> [String] {
    Set(rows.flatMap(\.labels)).sorted()
  }

  /// The fields that occur with each label, in alphabetical order.
  public static func fields(of rows: [EvaluationRow]) -> [String: [String]] {
    var fields: [String: Set<String>] = [:]
    for row in rows { fields[row.label, default: []].formUnion(row.spans.map(\.field)) }
    return fields.mapValues { $0.sorted() }
  }
}
