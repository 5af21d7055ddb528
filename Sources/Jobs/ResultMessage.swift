import Basics

/// The model that answered, as messages name it.
public struct ModelIdentity: Sendable, Equatable {
  public var name: String
  /// 64 hexadecimal digits; messages carry the first 16.
  public var sha256: String

  public init(name: String, sha256: String) {
    self.name = name
    self.sha256 = sha256
  }

  public var json: JSON { ["name": .string(name), "sha256": .string(String(sha256.prefix(16)))] }
}

/// The messages that an agent sends about a job: version 1 of the payloads.
///
/// `result` depends on the job and the model alone; everything else in a message is about this one run.
public struct ResultMessage: Sendable {
  public var id: String
  /// `classify`, `extract` or the name of a configured task.
  public var task: String
  public var model: ModelIdentity?
  public var agent: String?
  /// 1 for the first try.
  public var attempt: Int
  /// RFC 3339 in UTC.
  public var receivedAt: String?
  public var finishedAt: String?
  public var queuedMilliseconds: Int?
  public var runMilliseconds: Int?
  public var meta: JSON?

  public init(
    id: String, task: String, model: ModelIdentity? = nil, agent: String? = nil, attempt: Int = 1, receivedAt: String? = nil,
    finishedAt: String? = nil, queuedMilliseconds: Int? = nil, runMilliseconds: Int? = nil, meta: JSON? = nil
  ) {
    self.id = id
    self.task = task
    self.model = model
    self.agent = agent
    self.attempt = attempt
    self.receivedAt = receivedAt
    self.finishedAt = finishedAt
    self.queuedMilliseconds = queuedMilliseconds
    self.runMilliseconds = runMilliseconds
    self.meta = meta
  }

  /// The final message for an outcome, success or not.
  public func json(_ outcome: Outcome) -> JSON {
    switch outcome.result {
    case .success(let answer): success(answer, usage: outcome.usage, truncated: outcome.truncated)
    case .failure(let error): failure(error)
    }
  }

  /// `{"v":1,"id":..,"status":"ok","task":..,"result":{..},"timing":{..},"usage":{..},"truncated":..,"model":{..},...,"meta":..}`
  public func success(_ answer: Answer, usage: Usage, truncated: Bool) -> JSON {
    var object: JSON.Object = ["v": 1, "id": .string(id), "status": "ok", "task": .string(task), "result": answer.json]
    if let timing { object["timing"] = timing }
    var costs: JSON.Object = ["in": .number(usage.inputTokens), "out": .number(usage.outputTokens), "passes": .number(usage.forwardPasses)]
    if let experts = usage.experts { costs["experts"] = experts.json }
    object["usage"] = .object(costs)
    object["truncated"] = .bool(truncated)
    if let model { object["model"] = model.json }
    addTail(to: &object)
    return .object(object)
  }

  /// `{"v":1,"id":..,"status":"error","error":{"code":..,"http":..,"message":..,"field":..,"retryable":..,"retry_after_ms":..},...}`
  public func failure(_ error: SternaError, retryAfterMilliseconds: Int? = nil) -> JSON {
    var object: JSON.Object = ["v": 1, "id": .string(id), "status": "error", "task": .string(task)]
    object["error"] = Self.error(error, retryAfterMilliseconds: retryAfterMilliseconds)
    addTail(to: &object)
    return .object(object)
  }

  /// `{"v":1,"id":..,"status":"accepted",...}`: the job is on stable storage.
  public func accepted() -> JSON {
    var object: JSON.Object = ["v": 1, "id": .string(id), "status": "accepted", "task": .string(task)]
    addTail(to: &object)
    return .object(object)
  }

  /// The `error` member of messages.
  public static func error(_ error: SternaError, retryAfterMilliseconds: Int? = nil) -> JSON {
    let code = error.code.forClients
    var object: JSON.Object = ["code": .string(code.rawValue), "http": .number(code.httpStatus), "message": .string(sentence(error))]
    if let place = error.place { object["field"] = .string(place) }
    object["retryable"] = .bool(code.isRetryable)
    if let retryAfterMilliseconds { object["retry_after_ms"] = .number(retryAfterMilliseconds) }
    return .object(object)
  }

  /// The error on one line.
  private static func sentence(_ error: SternaError) -> String {
    var text = error.message
    if let expected = error.expected { text += "; expected \(expected)" }
    if let found = error.found { text += "; found \(found)" }
    if let remedy = error.remedy { text += "; \(remedy)" }
    return text
  }

  private var timing: JSON? {
    var object = JSON.Object()
    if let queuedMilliseconds { object["queued_ms"] = .number(queuedMilliseconds) }
    if let runMilliseconds { object["run_ms"] = .number(runMilliseconds) }
    return object.count > 0 ? .object(object) : nil
  }

  private func addTail(to object: inout JSON.Object) {
    if let agent { object["agent"] = .string(agent) }
    object["attempt"] = .number(attempt)
    if let receivedAt { object["received_at"] = .string(receivedAt) }
    if let finishedAt { object["finished_at"] = .string(finishedAt) }
    if let meta { object["meta"] = meta }
  }
}
