import Basics
import Jobs
import Logging

// SIGHUP: the tasks of the configuration are read again. Jobs, queue and connection go on.

extension Loop {
  /// Takes over the tasks of the file as it is now. What else has changed in it needs a restart, and is said; a file with a mistake changes nothing.
  func reload() {
    guard let reloader, case .running = phase else { return }
    notifier.send("RELOADING=1", "MONOTONIC_USEC=\(Clock.monotonicMicroseconds)")
    defer { notifier.send("READY=1") }
    do throws(SternaError) {
      let file = try reloader()
      var taken = configuration
      taken.tasks = file.tasks
      // They were checked against the file's own id and base, which need not be those that are in use.
      try taken.checkTopics()
      try taken.checkFleet()
      configurationFailure = nil
      apply(taken)
      let others = configuration.sections(differentFrom: file)
      if !others.isEmpty { logger.warning("the configuration was read again; what changed in \(others.joined(separator: ", ")) needs a restart: systemctl restart sterna") }
    } catch {
      configurationFailure = error
      logger.error("the changed configuration is not in use, the one before goes on:\n\(error)")
      notifier.send("STATUS=the changed configuration is not in use: \(error.place.map { $0 + ": " } ?? "")\(error.message)")
    }
    sayState()
  }

  private func apply(_ new: AgentConfiguration) {
    let before = session.map(filters(of:)) ?? []
    configuration = new
    topics = Topics(new)
    intake = Intake(new)
    homeAssistant = HomeAssistant(new, topics)
    // What was parsed for the engine before it has its turn was parsed for tasks as they were; the journal has it all.
    parsed = [:]
    if case .up(let session) = link { listen(session, known: before) }
    logger.info("the configuration was read again; \(new.tasks.count) tasks")
    notifier.send("STATUS=\(isUp ? "connected to" : "no connection to") \(broker)")
    say(topics.info, info)
    introduce()
  }
}

extension AgentConfiguration {
  /// Sections besides the tasks, as the file names them.
  fileprivate func sections(differentFrom other: AgentConfiguration) -> [String] {
    let changes = [
      ("agent", (id, base, logLevel, saysEvents) != (other.id, other.base, other.logLevel, other.saysEvents)), ("mqtt", mqtt != other.mqtt), ("model", model != other.model),
      ("memory", memory != other.memory), ("experts", experts != other.experts), ("limits", limits != other.limits), ("journal", journal != other.journal), ("prefixes", prefixes != other.prefixes),
      ("home_assistant", homeAssistant != other.homeAssistant), ("prometheus", metricsPath != other.metricsPath),
      ("pool", pool != other.pool),
    ]
    return changes.filter(\.1).map { "[\($0.0)]" }
  }
}
