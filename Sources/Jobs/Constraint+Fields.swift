import Basics
import Decoding

extension Constraint {
  /// An object with these fields, each of which may be null.
  ///
  /// - Parameter spoken: the fields' names as the model reads and writes them.
  init(_ fields: [Job.Field], spoken: [String]) {
    self.init(nodes: [.literals([.null])], root: 0)
    var object = ObjectRule()
    for (field, spoken) in zip(fields, spoken) {
      var value = add(Constraint.node(field.kind))
      if field.isList {
        var list = ArrayRule()
        (list.items, list.minCount, list.isUnique, list.allowsBareElement) = (value, 1, true, true)
        value = add(.array(list))
      }
      object.properties.append(.init(name: field.name, spoken: spoken, node: add(.anyOf([value, 0])), isRequired: true))
    }
    root = add(.object(object))
  }

  private mutating func add(_ node: Node) -> NodeID {
    nodes.append(node)
    return nodes.count - 1
  }

  private static func node(_ kind: Job.Field.Kind) -> Node {
    var string = StringRule()
    var number = NumberRule()
    switch kind {
    case .string: return .string(string)
    case .number: return .number(number)
    case .integer:
      number.isInteger = true
      return .number(number)
    case .boolean: return .literals([.bool(true), .bool(false)])
    case .date: string.moment = .date
    case .time: string.moment = .time
    case .dateTime: string.moment = .dateTime
    case .oneOf(let choices): return .literals(choices.map { .string($0) })
    }
    return .string(string)
  }
}
