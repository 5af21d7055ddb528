import Agent
import Basics
import Decoding
import Glibc
import Inference
import Jobs
import ModelFile
import Tokenizer

/// Something that reads bytes from outside.
struct Target: Sendable {
  let name: String
  /// What happens once, and returns what happens with every input.
  let prepare: @Sendable () throws -> ([UInt8]) throws -> Void
}

let targets = [
  Target(name: "gguf") {
    let file = try Scratch()
    return { bytes in
      let gguf = try GGUFFile(try file.write(bytes))
      // What was accepted can be read, to the last byte.
      for tensor in gguf.tensors { touch(gguf.bytes(of: tensor)) }
      _ = try? Tokenizer.pack(gguf: gguf)
    }
  },
  // The header of a packed model, as much as the input has of it, in front of weights that are 0.
  Target(name: "packed") {
    let file = try Scratch()
    let size = try readWholeFile(pocket, limit: 1 << 24).count
    return { bytes in
      let model = try PackedModel.open(try file.write(bytes, paddedTo: size))
      for tensor in model.gguf.tensors { touch(model.gguf.bytes(of: tensor)) }
      _ = try? Tokenizer(model)
    }
  },
  // A whole tokenizer section: tables of offsets into each other.
  Target(name: "tables") {
    return { bytes in
      let tokenizer = try Tokenizer(tables: bytes)
      let tokens = tokenizer.encode("Pumpe 7: leak at 3.5 bar, größer als gestern\n<s>")
      _ = tokenizer.decode(tokens)
    }
  },
  Target(name: "tokenizer-json") {
    let folder = try Scratch()
    return { bytes in
      try folder.write(bytes, to: "tokenizer.json")
      let tokenizer = try Tokenizer.load(folder.path)
      _ = tokenizer.decode(tokenizer.encode("Pumpe 7: leak at 3.5 bar, größer als gestern\n<s>"))
    }
  },
  // The first byte says whether the rest is the whole file or a header in front of data that is 0.
  Target(name: "safetensors") {
    let folder = try Scratch()
    let model = fixtures + "/models/bitnet-offline"
    try folder.write(try readWholeFile(model + "/config.json", limit: 1 << 20), to: "config.json")
    let size = try readWholeFile(model + "/model.safetensors", limit: 1 << 24).count
    return { bytes in
      guard let first = bytes.first else { return }
      try folder.write(Array(bytes.dropFirst()), to: "model.safetensors", paddedTo: first & 1 == 0 ? 0 : size)
      try Packer.pack(HubFolder(folder.path), to: folder.path + "/packed.gguf", options: PackOptions(embedding: .q8))
    }
  },
  Target(name: "config-json") {
    let folder = try Scratch()
    try folder.write([2, 0, 0, 0, 0, 0, 0, 0] + Array("{}".utf8), to: "model.safetensors")
    return { bytes in
      try folder.write(bytes, to: "config.json")
      _ = try HubFolder(folder.path)
    }
  },
  Target(name: "job") {
    return { bytes in
      for task in JobTask.allCases {
        guard let job = try? Job.parse(bytes, task: task) else { continue }
        // What is accepted can be said, and read again.
        guard try Job.parse(job.json.compactBytes, task: task) == job else { fatalError("a job is not what it was when it is written and read") }
      }
    }
  },
  Target(name: "schema") {
    return { bytes in
      let document = try JSON.parse(bytes)
      let schema = try JSONSchema(document)
      _ = schema.constraint.accepts(document)
    }
  },
  Target(name: "toml") {
    return { bytes in
      guard let text = String(validating: bytes, as: UTF8.self) else { return }
      _ = try AgentConfiguration.parse(text, name: "fuzz.toml", environment: [:])
    }
  },
  // The file of a prompt. After a first byte of 0 the input is the file; else it is the keys and values in a file that is right in all else.
  Target(name: "prefix") {
    let model = try Model(PackedModel.open(pocket), options: ModelOptions())
    let folder = try Scratch()
    let prompt = (0..<12).map { TokenID(300 + $0) }
    let all = prompt + [5, 6]
    let (name, whole) = try makePrefix(model, folder, prompt)
    // Magic, six numbers, fingerprint, a digest, the tokens.
    let header = 8 + 6 * 4 + model.packed.fingerprint.utf8.count + 32 + 4 * prompt.count
    return { bytes in
      try folder.write(bytes.first == 0 ? Array(bytes.dropFirst()) : resealed(whole, header: header, with: bytes.dropFirst()), to: name)
      let cache = PrefixCache(model, budgetBytes: 1 << 22, directory: folder.path, diskBudgetBytes: 1 << 24)
      guard let match = cache.find(all, prompt: prompt.count) else { return }
      let sequence = try model.sequence(after: match.sequence, upTo: match.count, capacity: all.count - match.count)
      _ = try model.forward([Step(sequence: sequence, tokens: Array(all[match.count...]), want: .last)])
    }
  },
  // A message with everything that a stranger chooses about it: the parts stand behind each other, each with its length in one byte, the payload is the rest.
  Target(name: "intake") {
    let intake = Intake(try AgentConfiguration.parse(configuration, name: "fuzz", environment: [:]))
    return { bytes in
      var rest = bytes[...]
      func part() -> [UInt8] {
        let count = Int(rest.popFirst() ?? 0)
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
      }
      let flags = rest.popFirst() ?? 0
      let topic = String(decoding: part(), as: UTF8.self)
      let response = String(decoding: part(), as: UTF8.self)
      let correlation = part()
      let message = Session.Incoming(
        topic: flags & 1 == 0 ? "sterna/gateway/jobs/" + (topic.isEmpty ? "classify" : topic) : topic, payload: Array(rest), size: rest.count, isRetained: flags & 2 != 0,
        responseTopic: flags & 4 != 0 ? response : nil, correlation: flags & 8 != 0 ? correlation : nil, expiry: flags & 16 != 0 ? Int(UInt32.max) : nil,
        subscriptions: flags & 32 != 0 ? [Int(flags >> 6)] : [])
      check(intake.examine(message))
      _ = rest.withUnsafeBytes { topLevelID(in: $0) }
    }
  },
  // After an odd byte any bytes, as MQTT 3.1.1.
  Target(name: "mqtt") {
    let broker = try RogueBroker()
    let intake = Intake(try AgentConfiguration.parse(configuration, name: "fuzz", environment: [:]))
    return { bytes in
      guard let first = bytes.first else { return }
      let isOld = first & 1 == 1
      for message in try broker.send(isOld ? Array(bytes.dropFirst()) : publications(bytes.dropFirst()), version: isOld ? .v311 : .v5) { check(intake.examine(message)) }
    }
  },
]

private let configuration = """
  model.path = "none"
  [[tasks]]
  name = "alarms"
  kind = "classify"
  input = ["plant/+/alarm", "plant/#"]
  output = "classified/alarms"
  labels = ["leak", "fire", "noise"]
  text = "/alarm/text"
  id = "/alarm/id"
  """

/// Answers go where they may go, whatever the message says.
private func check(_ arrivals: [Arrival]) {
  for arrival in arrivals {
    let isAllowed = arrival.outputs.allSatisfy { topic in
      !topic.utf8.contains { [0, UInt8(ascii: "+"), UInt8(ascii: "#")].contains($0) }
        && (topic.hasPrefix("sterna/gateway/results/") && !topic.dropFirst("sterna/gateway/results/".count).contains("/") || topic == "classified/alarms"
          || topic.hasPrefix("sterna/clients/") && topic.contains("/replies"))
    }
    guard isAllowed else { fatalError("an answer would go to \(arrival.outputs)") }
  }
}

private let here = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2).joined(separator: "/")
private let fixtures = here + "/Fixtures"
private let pocket = here + "/../Models/pocket.gguf"
