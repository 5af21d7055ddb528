import Basics
import Jobs
import Logging

// Requests to the agent itself: `request/<verb>` in, `response/<verb>` out, and a copy to the response topic where one is given and allowed.

extension Loop {
  /// What a request may ask for.
  enum Verb: String, CaseIterable {
    case healthCheck = "health_check"
    case getConfiguration = "config/get"
    case cancelJob = "job/cancel"
    case getJob = "job/get"
    case listQueue = "queue/list"
    case drainQueue = "queue/drain"
    case loadModel = "model/load"
    case rollBackModel = "model/rollback"
    case listModels = "model/list"

    /// Whether it does something when it says nothing.
    var actsUnasked: Bool { self == .drainQueue || self == .rollBackModel }
  }

  typealias Reply = (Result<JSON, SternaError>) -> Void

  /// Answers a request, now or when what it asks for is done. Requests are not in the journal: one that the agent dies over is sent again by whoever waits for the answer, and all
  /// of them may be done twice.
  func answer(request message: Session.Incoming) {
    // Who sends more requests than anybody can want answered gets no answers; and an empty retained message is what clears a topic, not a request.
    guard backlog < configuration.limits.queueJobs, !message.isRetained || message.size > 0 else { return }
    let verb = String(message.topic.dropFirst(topics.request.count))
    let parsed = Result { () throws(SternaError) -> JSON in
      guard message.idOfOversized == nil, message.size <= configuration.limits.job.payloadBytes else {
        throw SternaError(.payloadTooLarge, "the message is too large", expected: "at most \(configuration.limits.job.payloadBytes) bytes", found: "\(message.size) bytes")
      }
      return message.payload.isEmpty ? .object(JSON.Object()) : try JSON.parse(message.payload, limits: intake.jsonLimits)
    }
    var transaction: JSON?
    if case .success(.object(let object)) = parsed, let value = object["transaction"], value.compactBytes.count <= 1024 { transaction = value }
    let respond: Reply = { [weak self] in self?.respond($0, to: message, verb: verb, transaction) }
    do throws(SternaError) {
      let request = JSONReader(try parsed.get())
      _ = try request.object()
      // It would be done again with every subscription.
      guard !message.isRetained else {
        throw SternaError(.retainedJob, "a request must not be a retained message", remedy: "publish it without the retain flag, and clear the topic")
      }
      guard let known = Verb(rawValue: verb) else {
        throw SternaError(.notFound, "there is no such request", found: "\"\(verb.prefix(40))\"", remedy: "one of \(Verb.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      // Without the flag that MQTT 5 keeps, this may be somebody who clears the topic, as the refusal of a retained request advises.
      guard message.size > 0 || !known.actsUnasked || session?.version != .v311 else {
        throw SternaError(.badJSON, "an empty message also clears a retained one, and MQTT 3.1.1 does not tell them apart", expected: "a JSON object, {} at least", found: "nothing")
      }
      // `sterna top` asks every two seconds.
      logger.log(level: known == .healthCheck ? .debug : .info, "request \(verb)")
      switch known {
      case .healthCheck: respond(.success(healthCheck()))
      case .getConfiguration: respond(.success(configuration.json))
      case .cancelJob: try cancelJob(request, reply: respond)
      case .getJob: respond(.success(try getJob(request)))
      case .listQueue: respond(.success(try listQueue(request)))
      case .drainQueue: respond(.success(try drainQueue(request)))
      case .loadModel: loadModel(request, reply: respond)
      case .rollBackModel: models.rollBack(reply: respond)
      case .listModels: respond(.success(models.list(running: model)))
      }
    } catch { respond(.failure(error)) }
  }

  private func respond(_ result: Result<JSON, SternaError>, to message: Session.Incoming, verb: String, _ transaction: JSON?) {
    var object: JSON.Object = ["v": 1]
    var code: String?
    switch result {
    case .success(let data):
      object["status"] = "ok"
      object["data"] = data
    case .failure(let error):
      code = error.code.forClients.rawValue
      object["status"] = "error"
      object["error"] = ResultMessage.error(error)
    }
    if let transaction { object["transaction"] = transaction }
    object["agent"] = .string(configuration.id)
    let payload = JSON.object(object).compactBytes
    let properties = Self.properties(status: code == nil ? "ok" : "error", code: code)
    // A misspelt verb is answered beside the others; one that is no word at all only where the sender asked for it.
    if (1...64).contains(verb.utf8.count), verb.utf8.allSatisfy({ (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || [0x2D, 0x2F, 0x5F].contains($0) }) {
      outbox.append(.transient(.init(topic: topics.response + verb, payload: payload, correlation: message.correlation, properties: properties)))
    }
    if let topic = message.responseTopic, topics.allowsResponse(to: topic) {
      outbox.append(.transient(.init(topic: topic, payload: payload, correlation: message.correlation, properties: properties)))
    }
  }

  /// As `health`, with a verdict in front.
  private func healthCheck() -> JSON {
    var object: JSON.Object = ["healthy": .bool(journalFailure == nil), "state": .string(state.word)]
    if case .object(let health) = health(Clock.uptime) { for (name, value) in health.members { object[name] = value } }
    return .object(object)
  }
}
