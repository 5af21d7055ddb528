import Basics
import Jobs
import Logging

// What the agent does for those who watch it with tools of their own: Home Assistant, Prometheus, whoever follows single jobs. All of it by choice, none of it needed for an answer.

extension Loop {
  /// Describes the agent to Home Assistant, or has it forgotten. Sensors of tasks that are gone are taken back in every description from then on: there is no telling when Home Assistant
  /// is there to read it.
  func introduce() {
    guard let homeAssistant else { return }
    let sensors = homeAssistant.sensors(of: configuration.tasks)
    let gone = kept(.sensors).subtracting(sensors).sorted().prefix(Self.mostGoneSensors)
    keep(homeAssistant.birth == nil ? [] : sensors.union(gone), as: .sensors)
    say(homeAssistant.topic, homeAssistant.description(configuration, model, gone: gone))
  }

  private static var mostGoneSensors: Int { 200 }

  /// Home Assistant has started: it reads what is retained, but not always in time for what it knows by then.
  func greet(_ messages: [Session.Incoming]) {
    guard let homeAssistant, messages.contains(where: homeAssistant.isBirth) else { return }
    introduce()
    sayState()
  }

  /// For Prometheus, every 15 seconds and when the state changes.
  func writeMetrics() {
    lastMetrics = Clock.uptime
    guard let path = configuration.metricsPath else { return }
    let word = state.word
    let text = Metrics.text(
      agent: configuration.id, model: model.name, states: ["online", "degraded", "draining", "stopped"].map { ($0, $0 == word) }, isConnected: isUp,
      averageRunSeconds: counters.averageRun / 1000, health: health(lastMetrics))
    do throws(SternaError) {
      try Metrics.write(text, to: path)
      metricsComplaint = ""
    } catch {
      // Said once; the next attempt comes in any case.
      if "\(error)" != metricsComplaint { logger.warning("\(error)") }
      metricsComplaint = "\(error)"
    }
  }

  /// Says what became of a job, to whoever watches. Sent once and not repeated: the promise is the job's answer, not this.
  func report(_ event: String, _ entry: Journal.Entry, code: String? = nil) {
    guard configuration.saysEvents, case .up(let session) = link else { return }
    var object: JSON.Object = ["v": 1, "event": .string(event), "id": .string(entry.id), "task": .string(entry.task ?? entry.kind), "at": .string(Clock.text(Clock.wall))]
    if let code { object["code"] = .string(code) }
    _ = session.publish(.init(topic: topics.events, payload: JSON.object(object).compactBytes, quality: 0))
  }

  func report(_ effects: Effects) {
    guard configuration.saysEvents else { return }
    for (_, arrival) in effects.accepted { report("accepted", arrival.entry) }
    for work in effects.begun { if let job = running[work.sequence] { report("running", job.entry) } }
    for (sequence, answer) in finished { if let job = running[sequence] { report(answer.code == nil ? "done" : "failed", job.entry, code: answer.code) } }
  }
}
