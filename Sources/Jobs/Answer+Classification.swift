import Basics

extension Answer.Classification {
  /// One label: `{"label":"leak","score":0.91,"abstained":false,"alternatives":[...],"scores":{...}}`; `label` is null after an abstention. Several: `{"labels":["leak"],"scores":{...}}`.
  /// Where labels form a hierarchy, `path` leads to the best one, and `groups` holds every inner node.
  public var json: JSON {
    var object = JSON.Object()
    let groups = self.groups
    if let chosen {
      object["labels"] = .array(chosen.sorted { (scores[$1].score, $0) < (scores[$0].score, $1) }.map { .string(scores[$0].label) })
    } else {
      object["label"] = abstained ? .null : .string(scores[best].label)
      object["score"] = .number(scores[best].score)
      object["abstained"] = .bool(abstained)
      if !groups.isEmpty, scores.indices.contains(best) {
        let label = scores[best].label
        let nodes = groups.filter { $0.labels.contains(best) && $0.name != label }.map { ($0.name, $0.score) } + [(label, scores[best].score)]
        object["path"] = .array(nodes.map { ["label": .string($0), "score": .number($1)] })
      }
    }
    if let alternatives {
      let others = scores.indices.filter { chosen?.contains($0) == false || chosen == nil && $0 != best }.sorted { (scores[$1].score, $0) < (scores[$0].score, $1) }
      object["alternatives"] = .array(others.prefix(alternatives).map { ["label": .string(scores[$0].label), "score": .number(scores[$0].score)] })
    }
    var all = JSON.Object()
    for (label, score) in scores { all[label] = .number(score) }
    object["scores"] = .object(all)
    if !groups.isEmpty {
      var inner = JSON.Object()
      for group in groups { inner[group.name] = .number(group.score) }
      object["groups"] = .object(inner)
    }
    if let listed { object["listed"] = .number(listed) }
    return .object(object)
  }

  /// An inner node of a hierarchy of labels.
  public struct Group: Sendable, Equatable {
    /// `alarm` of `alarm/fire`.
    public var name: String
    /// Indices of the labels under it, itself among them if it is one.
    public var labels: [Int]
    /// The sum of their scores; with `multi`, where labels do not exclude each other, the largest.
    public var score: Float
  }

  /// Parts of a name that is in a hierarchy. A bound, since every level repeats the names above it.
  private static let deepest = 8

  /// Every inner node, outer ones before those in them, in the order of the labels. A label is in a hierarchy when `/` stands between two to eight parts of its name, none of them empty.
  public var groups: [Group] {
    var members: [(name: String, labels: [Int])] = []
    var index: [[UInt8]: Int] = [:]
    for (i, score) in scores.enumerated() {
      let parts = score.label.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
      guard (2...Self.deepest).contains(parts.count), !parts.contains(where: \.isEmpty) else { continue }
      var name: [UInt8] = []
      for part in parts.dropLast() {
        if !name.isEmpty { name.append(UInt8(ascii: "/")) }
        name += part
        if let known = index[name] {
          members[known].labels.append(i)
        } else {
          index[name] = members.count
          members.append((String(decoding: name, as: UTF8.self), [i]))
        }
      }
    }
    for (i, score) in scores.enumerated() {
      if let known = index[Array(score.label.utf8)] { members[known].labels.append(i) }
    }
    return members.map { name, labels in
      let own = labels.map { scores[$0].score }
      return Group(name: name, labels: labels, score: chosen == nil ? Float(min(1, own.reduce(0) { $0 + Double($1) })) : own.max() ?? 0)
    }
  }
}
