import Basics
import Crypto
import Jobs

/// A message that wants an answer: a job, or the reason why it is none.
package struct Arrival {
  var entry: Journal.Entry
  package var job: Result<Job, SternaError>
  /// Whether a client sent it, who can be told to send it again; messages of tasks come from devices that cannot.
  var isFromClient: Bool

  /// Where the answer would go.
  package var outputs: [String] { [entry.output, entry.response].compactMap { $0 } }
}

/// Turns messages into jobs. Knows nothing of queue and journal, so the same message always gives the same job.
package struct Intake {
  let tasks: [AgentConfiguration.Task]
  let topics: Topics
  let limits: JobLimits
  private let filters: [[TopicFilter]]

  /// What to subscribe to, each filter once: the jobs of clients first, then requests. Each has an identifier (MQTT 5), with which a broker says why it delivers: filters may
  /// overlap, and then it delivers once for each.
  let subscriptions: [String]

  private static let clients = 1
  private static let requests = 2

  /// The identifier of a subscription. It depends on the filter alone: what the broker has queued was numbered by an earlier configuration.
  package func identifier(of filter: String) -> Int {
    switch filter {
    case subscriptions[0]: Self.clients
    case subscriptions[1]: Self.requests
    default: digest([Array(filter.utf8)]).prefix(4).reduce(0) { $0 << 8 | Int($1) } % (1 << 27) + 3
    }
  }

  package init(_ configuration: AgentConfiguration) {
    tasks = configuration.tasks
    topics = Topics(configuration)
    limits = configuration.limits.job
    filters = tasks.map { $0.inputs.map(TopicFilter.init) }
    var subscriptions = [topics.jobs + "+", topics.request + "#"]
    for input in tasks.flatMap(\.inputs) where !subscriptions.contains(input) { subscriptions.append(input) }
    self.subscriptions = subscriptions
  }

  /// What a message asks for. Several tasks may listen to one topic; nobody may want the message at all.
  package func examine(_ message: Session.Incoming, wall: Int = Clock.wall, uptime: Int = Clock.uptime) -> [Arrival] {
    if message.topic.hasPrefix(topics.jobs), message.subscriptions.isEmpty || message.subscriptions.contains(Self.clients) {
      return [client(message, kind: String(message.topic.dropFirst(topics.jobs.count)), wall, uptime)]
    }
    guard !isRequest(message) else { return [] }
    // A retained message is an old one: it would run again after every subscription.
    guard !message.isRetained else { return [] }
    return tasks.indices.filter { index in
      // Of several filters of a task that match, the first one counts: the task runs once.
      guard let filter = filters[index].first(where: { $0.matches(message.topic) }) else { return false }
      return message.subscriptions.isEmpty || message.subscriptions.contains(identifier(of: filter.text))
    }.map { device(message, tasks[$0], wall, uptime) }
  }

  /// Whether a message is for the agent itself.
  func isRequest(_ message: Session.Incoming) -> Bool {
    message.topic.hasPrefix(topics.request) && (message.subscriptions.isEmpty || message.subscriptions.contains(Self.requests))
  }

  /// The key of a job to which a client gave this id.
  static func key(id: String, scope: [[UInt8]] = []) -> [UInt8] { digest([Array("id".utf8), Array(id.utf8)] + scope) }

  // MARK: - Clients

  /// What a message asks for that was dealt to this agent as a member of a pool; nil for a topic of no pool.
  func examine(dealt message: Session.Incoming, wall: Int = Clock.wall, uptime: Int = Clock.uptime) -> Arrival? {
    guard message.topic.hasPrefix(topics.pools) else { return nil }
    let levels = message.topic.dropFirst(topics.pools.count).split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard levels.count == 3, levels[1] == "jobs" else { return nil }
    return client(message, kind: levels[2], pool: levels[0], wall, uptime)
  }

  private func client(_ message: Session.Incoming, kind: String, pool: String? = nil, _ wall: Int, _ uptime: Int) -> Arrival {
    let response = message.responseTopic.flatMap { topics.allowsResponse(to: $0) ? $0 : nil }
    var id: String?
    let job = Result { () throws(SternaError) -> Job in
      guard message.idOfOversized == nil, message.size <= limits.payloadBytes else {
        id = message.idOfOversized
        throw SternaError(
          .payloadTooLarge, "the message is too large", expected: "at most \(limits.payloadBytes) bytes", found: "\(message.size) bytes")
      }
      let parsed = Result { () throws(SternaError) in try JSON.parse(message.payload, limits: jsonLimits) }
      if case .success(.object(let object)) = parsed, case .string(let text)? = object["id"], Job.isValid(id: text) { id = text }
      guard !message.isRetained else {
        throw SternaError(.retainedJob, "a job must not be a retained message", remedy: "publish it without the retain flag, and clear the topic")
      }
      return try parse(try parsed.get(), kind: kind)
    }
    var entry = Journal.Entry(
      key: Randomness.bytes(16), id: id ?? Randomness.id(), hash: digest([Array(kind.utf8), message.payload]), kind: kind,
      payload: message.payload, received: wall, uptime: uptime, output: "", response: response,
      correlation: message.correlation)
    // An id sent to the agent itself and one sent to a pool have nothing to do with each other: their answers go to different topics.
    let scope = pool.map { [Array("pool".utf8), Array($0.utf8)] } ?? []
    if let id {
      entry.key = Self.key(id: id, scope: scope)
    } else if let correlation = message.correlation, !correlation.isEmpty {
      // Two clients may count their requests alike, so the topic of the answer belongs to the key.
      entry.key = digest([Array("correlation".utf8), Array((message.responseTopic ?? "").utf8), correlation] + scope)
      let text = String(validating: correlation, as: UTF8.self) ?? ""
      entry.id = Job.isValid(id: text) ? text : "c-" + hexadecimal(digest([correlation]))
    }
    entry.output = topics.result(entry.id, pool: pool)
    return arrival(entry, job, expiry: message.expiry, isFromClient: true)
  }

  var jsonLimits: JSON.Limits {
    var json = JSON.Limits()
    json.bytes = limits.payloadBytes
    json.depth = limits.depth
    return json
  }

  private func parse(_ json: JSON, kind: String) throws(SternaError) -> Job {
    guard let task = JobTask(rawValue: kind) else {
      throw SternaError(
        .unknownTask, "there is no such kind of job", at: "topic", expected: JobTask.allCases.map(\.rawValue).joined(separator: ", "),
        found: "\"\(kind.prefix(64))\"")
    }
    return try Job.parse(json, task: task, limits: limits, compilesLater: true)
  }

  // MARK: - Tasks

  private func device(_ message: Session.Incoming, _ task: AgentConfiguration.Task, _ wall: Int, _ uptime: Int) -> Arrival {
    var id: String?
    let job = Result { () throws(SternaError) -> Job in
      guard message.size <= limits.payloadBytes else {
        throw SternaError(
          .payloadTooLarge, "the message is too large", expected: "at most \(limits.payloadBytes) bytes", found: "\(message.size) bytes")
      }
      return try self.job(of: task, message.payload, source: message.topic, id: &id)
    }
    let key = id.map { digest([Array("task".utf8), Array(task.name.utf8), Array($0.utf8)]) } ?? Randomness.bytes(16)
    let entry = Journal.Entry(
      key: key, id: id ?? Randomness.id(), hash: digest([Array(task.name.utf8), message.payload]), kind: task.work.task.rawValue,
      task: task.name, source: message.topic, payload: message.payload, received: wall, uptime: uptime, output: task.output)
    return arrival(entry, job, expiry: message.expiry, isFromClient: false)
  }

  private func job(of task: AgentConfiguration.Task, _ payload: [UInt8], source: String?, id: inout String?) throws(SternaError) -> Job {
    let text: String
    if task.text == nil, task.id == nil {
      guard let whole = String(validating: payload, as: UTF8.self) else {
        throw SternaError(.badField, "the message is not UTF-8", at: "(the whole payload)", expected: "a text")
      }
      text = whole
    } else {
      let json = try JSON.parse(payload, limits: jsonLimits)
      if let pointer = task.id {
        let found: String? = switch pointer.find(in: json) {
        case .string(let text)?: text
        case .number(let number)?: number.text
        default: nil
        }
        guard let found, Job.isValid(id: found) else {
          throw SternaError(.badField, "there is no usable id", at: pointer.text, expected: "1 to 64 characters of A-Z, a-z, 0-9, . _ -")
        }
        id = found
      }
      let pointer = task.text
      guard case .string(let part)? = pointer == nil ? json : pointer?.find(in: json) else {
        throw SternaError(.badField, "there is no text", at: pointer?.text ?? "(the whole payload)", expected: "a string")
      }
      text = part
    }
    let job = Job(input: text, work: task.work, options: task.options, meta: source.map { ["topic": .string($0)] }, calibration: task.calibration)
    try job.validate(limits: limits)
    return job
  }

  // MARK: - Both

  /// Who is behind a job, for turns in the queue: its task; else the client, as far as its response topic tells; else all clients with jobs of this kind.
  func source(task: String?, kind: String, response: String?) -> String {
    if let task { return "task " + task }
    if let response, let client = topics.client(answeredOn: response) { return "client " + client }
    return "kind " + kind
  }

  private func arrival(_ entry: Journal.Entry, _ job: Result<Job, SternaError>, expiry: Int?, isFromClient: Bool) -> Arrival {
    var entry = entry
    var job = job
    if case .success(var named) = job {
      named.id = entry.id
      job = .success(named)
      entry.priority = named.options.priority
      // The broker counts what is left of the expiry down; a sensible one has at most years.
      entry.ttl = [named.options.ttlMilliseconds, expiry.map { $0 * 1000 }].compactMap { $0 }.min()
    }
    return Arrival(entry: entry, job: job, isFromClient: isFromClient)
  }

  /// The job of an entry that was accepted before, perhaps under another configuration.
  func job(of entry: Journal.Entry) -> Result<Job, SternaError> {
    Result { () throws(SternaError) -> Job in
      var job: Job
      if let name = entry.task {
        guard let task = tasks.first(where: { $0.name == name }) else {
          throw SternaError(.unknownTask, "the configuration does not have this task any more", found: "\"\(name)\"")
        }
        var id: String?
        job = try self.job(of: task, entry.payload, source: entry.source, id: &id)
      } else {
        job = try parse(try JSON.parse(entry.payload, limits: jsonLimits), kind: entry.kind)
      }
      job.id = entry.id
      return job
    }
  }
}

/// The first 16 bytes of a SHA-256 over parts, each with its length in front so that no two lists of parts look alike.
private func digest(_ parts: [[UInt8]]) -> [UInt8] {
  var hash = SHA256()
  for part in parts {
    withUnsafeBytes(of: UInt64(part.count).littleEndian) { hash.update(bufferPointer: $0) }
    part.withUnsafeBytes { hash.update(bufferPointer: $0) }
  }
  return Array(hash.finalize().prefix(16))
}
