import Basics
import Foundation
import Glibc

/// What clients heard: `mosquitto_sub` with a session of its own that writes into a file, so that nothing is missed while a broker or an agent is away.
final class Answers {
  private let child: Child
  private let tail: Tail
  /// Distinct final messages by job, on whatever topic. More than one breaks the promise that repeats are the same bytes.
  private(set) var byJob: [String: Set<String>] = [:]
  /// Final messages on the results topic.
  private var deliveries: [String: Int] = [:]
  /// Jobs that were turned away and may be sent again, in order of arrival; taken by whoever sends them again.
  var turnedAway: [String] = []

  /// - Parameter id: the client id; the session outlives the connection.
  init(_ broker: Broker, filters: [String], id: String = "answers") throws {
    let file = broker.path(id + ".txt")
    tail = Tail(file)
    let filters = filters.flatMap { ["-t", $0] }
    let session = ["-V", "mqttv5", "-p", "\(broker.port)", "-q", "1", "-c", "-x", "3600", "-i", id]
    guard try execute("/usr/bin/mosquitto_sub", session + filters + ["-E"]).status == 0 else { throw Late(description: "mosquitto_sub cannot subscribe") }
    child = try Child("/usr/bin/mosquitto_sub", session + filters + ["-F", "%t %p"], output: file)
  }

  /// Takes in what has arrived since the last call.
  func read() throws {
    for line in try tail.read() { take(line) }
  }

  private func take(_ line: String) {
    guard let space = line.firstIndex(of: " ") else { return }
    let topic = line[..<space]
    let payload = String(line[line.index(after: space)...])
    guard case .object(let object)? = try? JSON.parse(payload), case .string(let id)? = object["id"], object["status"] != "accepted" else { return }
    if case .object(let error)? = object["error"], error["retryable"] == .bool(true) { return turnedAway.append(id) }
    heard(id, payload)
    if topic.contains("/results/") { deliveries[id, default: 0] += 1 }
  }

  /// An answer that somebody else heard.
  func heard(_ id: String, _ payload: String) { byJob[id, default: []].insert(payload) }

  /// Final messages beyond the first of each job.
  var duplicates: Int { deliveries.values.reduce(0) { $0 + $1 - 1 } }

  /// Jobs with different answers.
  var contradictions: [String] { byJob.filter { $1.count != 1 }.keys.sorted() }
}
