import Basics
import Glibc
import Jobs
import ModelFile

extension SternaError.Code {
  /// The configuration file cannot be used as it is.
  public static let badConfiguration: Self = "bad_configuration"
}

extension AgentConfiguration {
  /// Reads and checks a configuration file.
  ///
  /// - Parameters:
  ///   - path: a TOML file; `device-config/` has examples.
  ///   - environment: secrets and places that systemd gives: `STERNA_MQTT_USERNAME`, `STERNA_MQTT_PASSWORD`, `STERNA_MQTT_PSK`, `CREDENTIALS_DIRECTORY`, `STATE_DIRECTORY`.
  /// - Throws: `SternaError` whose `place` is file, line and key path.
  public static func load(path: String, environment: [String: String]) throws(SternaError) -> AgentConfiguration {
    let bytes = try readWholeFile(path, limit: 1 << 20)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw SternaError(.badConfiguration, "is not UTF-8", at: path)
    }
    return try parse(text, name: path, environment: environment)
  }

  /// The same for a text. Relative paths inside it are left as they are.
  public static func parse(_ text: String, name: String, environment: [String: String]) throws(SternaError) -> AgentConfiguration {
    let source = try TOMLSource(text, name: name)
    do {
      var configuration = try read(JSONReader(source.root), environment)
      try configuration.resolve(environment)
      try configuration.checkTopics()
      try configuration.checkFleet()
      return configuration
    } catch {
      throw source.located(error)
    }
  }
}

// MARK: - Keys

extension AgentConfiguration {
  private static func read(_ root: JSONReader, _ environment: [String: String]) throws(SternaError) -> AgentConfiguration {
    try root.allow(["agent", "mqtt", "model", "memory", "experts", "limits", "journal", "prefixes", "pool", "tasks", "home_assistant", "prometheus"])
    var configuration = AgentConfiguration()

    let agent = root["agent"]
    try agent.allow(["id", "base", "log_level", "events"])
    if let id = agent["id"].optional {
      configuration.id = try id.string()
      guard isAgentID(configuration.id) else { throw id.error("is not an agent id", expected: "1 to 32 characters of a-z, 0-9 and -") }
    }
    if let base = agent["base"].optional {
      configuration.base = try base.topic()
    }
    try agent["log_level"].choose(&configuration.logLevel)
    if let events = agent["events"].optional { configuration.saysEvents = try events.bool() }

    try readMQTT(root["mqtt"], &configuration.mqtt, environment)

    let model = root["model"]
    try model.allow(["path", "threads", "context", "kv", "require_signature", "keys", "store", "import"])
    configuration.model.path = try model["path"].string(bytes: 1...4096)
    configuration.model.threads = try model["threads"].optional?.int(in: 1...256)
    configuration.model.context = try model["context"].optional?.int(in: 64...1_048_576)
    if let kv = model["kv"].optional {
      configuration.model.kv = try kv.string()
      guard let name = configuration.model.kv, ["q8", "f16", "f32"].contains(name) else {
        throw kv.error("is not a storage of keys and values", expected: "\"q8\", \"f16\" or \"f32\"")
      }
    }

    try readTrust(model, &configuration.model)

    let memory = root["memory"]
    try memory.allow(["limit_mb", "kv_mb"])
    configuration.memory.limitBytes = try memory["limit_mb"].optional.map { reader throws(SternaError) in try reader.int(in: 32...16_000_000) * 1_000_000 }
    configuration.memory.kvBytes = try memory["kv_mb"].optional.map { reader throws(SternaError) in try reader.int(in: 1...1_000_000) * 1_000_000 }

    let experts = root["experts"]
    try experts.allow(["cache_mb", "readers", "reads"])
    configuration.experts.cacheBytes = try experts["cache_mb"].optional.map { reader throws(SternaError) in try reader.int(in: 0...16_000_000) * 1_000_000 }
    if let readers = experts["readers"].optional { configuration.experts.readers = try readers.int(in: 1...64) }
    if let reads = experts["reads"].optional {
      let word = try reads.string()
      guard ["auto", "direct", "buffered"].contains(word) else { throw reads.error("is not a way to read experts", expected: "\"auto\", \"direct\" or \"buffered\"") }
      configuration.experts.reads = word == "auto" ? nil : word
    }

    let limits = root["limits"]
    try limits.allow(["payload_kb", "input_kb", "labels", "fields", "queue_jobs", "queue_mb", "in_flight"])
    // The packet limit told to the broker is 4 MiB: what is bigger never arrives, so the agent's own limit must be smaller.
    if let kb = limits["payload_kb"].optional { configuration.limits.job.payloadBytes = try kb.int(in: 1...3072) << 10 }
    if let kb = limits["input_kb"].optional { configuration.limits.job.inputBytes = try kb.int(in: 1...3072) << 10 }
    if let labels = limits["labels"].optional { configuration.limits.job.labels = try labels.int(in: 2...10_000) }
    if let fields = limits["fields"].optional { configuration.limits.job.fields = try fields.int(in: 1...1000) }
    if let jobs = limits["queue_jobs"].optional { configuration.limits.queueJobs = try jobs.int(in: 1...1_000_000) }
    if let mb = limits["queue_mb"].optional { configuration.limits.queueBytes = try mb.int(in: 1...16_384) * 1_000_000 }
    if let inFlight = limits["in_flight"].optional { configuration.limits.inFlight = try inFlight.int(in: 1...1000) }

    let prefixes = root["prefixes"]
    try prefixes.allow(["path", "disk_mb"])
    if let path = prefixes["path"].optional { configuration.prefixes.path = try path.string(bytes: 1...4096) }
    if let megabytes = prefixes["disk_mb"].optional { configuration.prefixes.diskBytes = try megabytes.int(in: 0...1_000_000) * 1_000_000 }

    let journal = root["journal"]
    try journal.allow(["path", "keep_hours", "keep_jobs", "max_mb"])
    if let path = journal["path"].optional { configuration.journal.path = try path.string(bytes: 1...4096) }
    if let hours = journal["keep_hours"].optional { configuration.journal.keepSeconds = Int(try hours.double(in: 0...8760) * 3600) }
    if let jobs = journal["keep_jobs"].optional { configuration.journal.keepJobs = try jobs.int(in: 0...10_000_000) }
    if let mb = journal["max_mb"].optional { configuration.journal.mostBytes = try mb.int(in: 1...1_000_000) * 1_000_000 }

    try readPool(root["pool"], &configuration.pool)

    configuration.homeAssistant = try readHomeAssistant(root["home_assistant"])
    configuration.metricsPath = try readPrometheus(root["prometheus"])

    if let tasks = root["tasks"].optional {
      for task in try tasks.array(count: 0...1000) { configuration.tasks.append(try readTask(task, configuration.limits.job)) }
    }
    for (i, task) in configuration.tasks.enumerated() where configuration.tasks[..<i].contains(where: { $0.name == task.name }) {
      throw root["tasks"].elements[i]["name"].error("is the name of another task already", expected: "a name of its own")
    }
    return configuration
  }

  private static func readTrust(_ reader: JSONReader, _ model: inout Model) throws(SternaError) {
    if let required = reader["require_signature"].optional { model.requiresSignature = try required.bool() }
    if let folder = reader["keys"].optional {
      model.keys = try folder.string(bytes: 1...4096)
      // Now rather than at the first stick.
      do { _ = try TrustedKeys(folder: model.keys ?? "") } catch {
        throw SternaError(
          .badConfiguration, "\(error.place ?? ""): \(error.message)\(error.cause.map { ": " + $0 } ?? "")", at: folder.path, expected: error.expected ?? "a folder of public keys (NAME.pub)",
          found: error.found, remedy: error.remedy)
      }
    }
    guard model.keys != nil || !model.requiresSignature else {
      throw SternaError(
        .badConfiguration, "is missing, but models must be signed", at: "model.keys", expected: "the folder of the public keys of those who sign",
        remedy: "sterna sign --new-key NAME makes a pair of keys; copy NAME.pub into a folder such as /etc/sterna/keys")
    }
    if let folder = reader["store"].optional { model.store = try folder.string(bytes: 1...4096) }
    if let folders = reader["import"].optional {
      model.importFolders = []
      for folder in try folders.array(count: 0...100) {
        let path = try folder.string(bytes: 1...4096)
        guard path.hasPrefix("/") else { throw folder.error("is not a folder by its whole path", expected: "for example \"/media\"") }
        model.importFolders.append(path)
      }
    }
  }

  private static func readMQTT(_ reader: JSONReader, _ mqtt: inout MQTT, _ environment: [String: String]) throws(SternaError) {
    if reader["password"].isPresent {
      throw SternaError(
        .badConfiguration, "passwords do not belong into this file", at: reader["password"].path, found: "a password",
        remedy: "set STERNA_MQTT_PASSWORD, or mqtt.password_file, or systemd's LoadCredential=mqtt-password:FILE")
    }
    try reader.allow([
      "host", "port", "client_id", "username", "password_file", "keepalive_s", "version", "session_expiry_s", "response_topics",
      "reconnect_ms", "reconnect_max_ms", "tls",
    ])
    if let host = reader["host"].optional { mqtt.host = try host.string(bytes: 1...253) }
    if let port = reader["port"].optional { mqtt.port = try port.int(in: 1...65535) }
    if let client = reader["client_id"].optional { mqtt.clientID = try client.string(bytes: 1...128) }
    mqtt.username = try reader["username"].optional?.string(bytes: 1...1024)
    if let file = reader["password_file"].optional {
      mqtt.password = try Secret.read(try file.string(bytes: 1...4096), at: file.path)
    }
    if let seconds = reader["keepalive_s"].optional { mqtt.keepAlive = try seconds.int(in: 5...65535) }
    try reader["version"].choose(&mqtt.version)
    if let seconds = reader["session_expiry_s"].optional { mqtt.sessionExpiry = try seconds.int(in: 0...Int(UInt32.max) - 1) }
    if let topics = reader["response_topics"].optional {
      mqtt.responseTopics = []
      for topic in try topics.array(count: 0...100) { mqtt.responseTopics?.append(try topic.filter()) }
    }
    if let first = reader["reconnect_ms"].optional { mqtt.reconnectFirst = try first.int(in: 10...3_600_000) }
    if let longest = reader["reconnect_max_ms"].optional { mqtt.reconnectLongest = try longest.int(in: 10...3_600_000) }
    mqtt.reconnectLongest = max(mqtt.reconnectLongest, mqtt.reconnectFirst)
    if let tls = reader["tls"].optional {
      try tls.allow(["ca", "certificate", "key", "alpn", "psk_identity", "psk_file"])
      var transport = TLS()
      transport.ca = try tls["ca"].optional?.string(bytes: 1...4096)
      transport.certificate = try tls["certificate"].optional?.string(bytes: 1...4096)
      transport.key = try tls["key"].optional?.string(bytes: 1...4096)
      transport.alpn = try tls["alpn"].optional?.string()
      if let identity = tls["psk_identity"].optional {
        let file = try tls["psk_file"].optional?.string(bytes: 1...4096)
        guard let key = try Secret.read(file, orFind: "psk", in: environment, at: tls["psk_file"].path) else { throw tls["psk_file"].error("is missing, and there is neither STERNA_MQTT_PSK nor the credential mqtt-psk", expected: "the shared key") }
        transport.psk = SharedKey(identity: try identity.string(), key: key)
      } else if tls["psk_file"].isPresent {
        throw tls["psk_identity"].error("is missing", expected: "the name that belongs to the shared key")
      }
      try transport.check { "mqtt.tls." + $0 }
      mqtt.tls = transport
    }
  }

  private static func readTask(_ reader: JSONReader, _ limits: JobLimits) throws(SternaError) -> Task {
    try reader.allow(["name", "kind", "input", "output", "text", "id", "labels", "fields", "schema", "options", "calibration", "escalate"])
    let name = try reader["name"].string()
    guard Job.isValid(id: name) else { throw reader["name"].error("is not a name", expected: "1 to 64 characters of A-Z, a-z, 0-9, . _ -") }
    guard let kind = JobTask(rawValue: try reader["kind"].string()) else {
      throw reader["kind"].error("is not a kind of job", expected: JobTask.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", "))
    }
    var inputs: [String] = []
    if case .array? = reader["input"].value {
      for input in try reader["input"].array(count: 1...100) { inputs.append(try input.filter()) }
    } else {
      inputs.append(try reader["input"].filter())
    }
    let work: Job.Work
    if let schema = reader["schema"].optional, case .string(let path)? = schema.value, kind == .extract, !reader["fields"].isPresent {
      do { work = .fill(try Job.Schema(compiling: try JSON.parse(try readWholeFile(path, limit: limits.payloadBytes)))) } catch {
        // The place stays the key, so that its line is found.
        throw SternaError(.badConfiguration, "\(path): \(error.place.map { $0 + ": " } ?? "")\(error.message)", at: schema.path, expected: error.expected, found: error.found, remedy: error.remedy)
      }
    } else {
      work = try Job.Work.parse(reader, task: kind, limits: limits)
    }
    var task = Task(
      name: name, inputs: inputs, output: try reader["output"].topic(), text: try reader["text"].optional?.pointer(),
      id: try reader["id"].optional?.pointer(), work: work,
      options: try Job.Options.parse(reader["options"], limits: limits))
    try task.work.validate(with: task.options, path: reader["labels"].path)
    if let escalate = reader["escalate"].optional { task.escalation = try readEscalation(escalate, task: reader, limits: limits) }
    if let file = reader["calibration"].optional {
      guard case .classify(let labels) = task.work else { throw file.error("belongs to classifications", expected: "nothing") }
      let path = try file.string(bytes: 1...4096)
      do { task.calibration = try Calibration.load(path, for: labels, multi: task.options.multi) } catch {
        // The place stays the key, so that its line is found.
        var error = error
        error.message = "\(error.place ?? path): \(error.message)"
        error.place = file.path
        throw error
      }
    }
    return task
  }

  // MARK: - What depends on more than one key

  private mutating func resolve(_ environment: [String: String]) throws(SternaError) {
    if let password = try Secret.find("password", in: environment), mqtt.password == nil || environment["STERNA_MQTT_PASSWORD"]?.isEmpty == false { mqtt.password = password }
    if mqtt.username == nil { mqtt.username = try Secret.find("username", in: environment)?.text }
    guard mqtt.password == nil || mqtt.username != nil else {
      throw SternaError(
        .badConfiguration, "is missing, but there is a password", at: "mqtt.username", expected: "the name that belongs to the password, here, in STERNA_MQTT_USERNAME or in the credential mqtt-username")
    }
    // With several directories systemd separates them by colons; the first one is ours.
    if !journal.path.hasPrefix("/"), let state = environment["STATE_DIRECTORY"]?.split(separator: ":").first {
      journal.path = state + "/" + journal.path
    }
    if let path = metricsPath, !path.hasPrefix("/"), let runtime = environment["RUNTIME_DIRECTORY"]?.split(separator: ":").first {
      metricsPath = runtime + "/" + path
    }
    if let end = journal.path.lastIndex(of: "/") {
      if !prefixes.path.hasPrefix("/") { prefixes.path = journal.path[...end] + prefixes.path }
      if !model.store.hasPrefix("/") { model.store = journal.path[...end] + model.store }
    }
  }

  func checkTopics() throws(SternaError) {
    let own = "\(base)/\(id)"
    for (i, task) in tasks.enumerated() {
      for input in task.inputs {
        for topic in ["\(own)/results/x", "\(own)/state", "\(own)/info", "\(own)/health", "\(own)/response/x"] where TopicFilter(input).matches(topic) {
          throw SternaError(
            .badConfiguration, "would feed the agent's own messages back to it", at: "tasks[\(i)].input", expected: "a filter outside \(own)/#",
            found: "\"\(input)\", which matches \(topic)")
        }
      }
      for filter in tasks.flatMap(\.inputs) + ["\(own)/jobs/+", "\(own)/request/#"] where TopicFilter(filter).matches(task.output) {
        throw SternaError(
          .badConfiguration, "would feed results back into the agent", at: "tasks[\(i)].output", expected: "a topic that no input matches",
          found: "\"\(task.output)\", which \"\(filter)\" matches")
      }
    }
  }
}

// MARK: - Reading helpers

extension JSONReader {
  /// Refuses keys that are not known here, with the nearest one that is.
  func allow(_ known: [String]) throws(SternaError) {
    guard value != nil else { return }
    for (name, member) in try members() where !known.contains(name) {
      let nearest = nearestWord(to: name, in: known)
      throw SternaError(
        .badConfiguration, "is not a known key", at: member.path, expected: known.sorted().joined(separator: ", "), found: "\"\(name)\"",
        remedy: nearest.map { "did you mean \($0)?" })
    }
  }

  /// Sets `choice` to the case with this raw value, when the key is there.
  fileprivate func choose<Choice: RawRepresentable & CaseIterable>(_ choice: inout Choice) throws(SternaError) where Choice.RawValue == String {
    guard isPresent else { return }
    let text = try string()
    guard let chosen = Choice(rawValue: text) else {
      throw error("is not one of the choices", expected: Choice.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", "))
    }
    choice = chosen
  }

  func topic() throws(SternaError) -> String {
    let text = try string()
    guard isPublishTopic(text), !text.hasPrefix("/"), !text.hasSuffix("/") else {
      throw error("is not a topic to publish to", expected: "1 to 256 bytes, no wildcards, not starting with $, no / at the ends")
    }
    return text
  }

  fileprivate func filter() throws(SternaError) -> String {
    let text = try string()
    guard TopicFilter.isValid(text) else {
      throw error("is not a topic filter", expected: "1 to 256 bytes; + stands for one level, # for all that follow and comes last")
    }
    return text
  }

  fileprivate func pointer() throws(SternaError) -> JSONPointer {
    guard let pointer = JSONPointer(try string()) else { throw error("is not a JSON pointer", expected: "for example \"/alarm/text\"") }
    return pointer
  }

  /// Elements without complaint: empty where this is not an array.
  fileprivate var elements: [JSONReader] { (try? array()) ?? [] }
}

/// The word with the fewest changed letters, when that is at most a third of them.
func nearestWord(to word: String, in known: [String]) -> String? {
  let a = Array(word.utf8)
  let best = known.map { ($0, editDistance(a, Array($0.utf8))) }.min { $0.1 < $1.1 }
  return best.flatMap { $0.1 <= max(2, a.count / 3) ? $0.0 : nil }
}

private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var row = Array(0...b.count)
  for (i, x) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, y) in b.enumerated() {
      let above = row[j + 1]
      row[j + 1] = min(diagonal + (x == y ? 0 : 1), above + 1, row[j] + 1)
      diagonal = above
    }
  }
  return row[b.count]
}
