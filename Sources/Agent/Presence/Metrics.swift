import Basics
import Glibc

/// The numbers of `health` as Prometheus reads them, in a file for the textfile collector of node_exporter. Nobody has to reach the agent over the network for that.
enum Metrics {
  private static let help: [(key: String, name: String, type: String, help: String)] = [
    ("uptime_s", "sterna_uptime_seconds", "gauge", "Seconds since the agent started."),
    ("queue", "sterna_queue_jobs", "gauge", "Accepted jobs without an answer."),
    ("queue_bytes", "sterna_queue_bytes", "gauge", "Bytes of their messages."),
    ("unsent", "sterna_unsent_messages", "gauge", "Results that the broker does not have yet."),
    ("accepted", "sterna_jobs_accepted_total", "counter", "Jobs written to the journal."),
    ("done", "sterna_jobs_done_total", "counter", "Jobs answered with a result."),
    ("failed", "sterna_jobs_failed_total", "counter", "Jobs answered with an error after they were accepted."),
    ("refused", "sterna_jobs_refused_total", "counter", "Jobs that were not accepted."),
    ("repeated", "sterna_jobs_repeated_total", "counter", "Deliveries of a job that was known already."),
    ("unheard", "sterna_messages_unheard_total", "counter", "Messages that had no listener at the broker."),
    ("denied", "sterna_results_denied_total", "counter", "Results that the broker's access rules did not let through."),
    ("journal_bytes", "sterna_journal_bytes", "gauge", "Size of the journal on disk."),
    ("rss_bytes", "sterna_resident_memory_bytes", "gauge", "Resident memory."),
    ("peak_rss_bytes", "sterna_peak_resident_memory_bytes", "gauge", "The most that ever was resident."),
    ("memory_limit_bytes", "sterna_memory_limit_bytes", "gauge", "Limit of the agent's control group."),
    ("memory_bytes", "sterna_memory_charged_bytes", "gauge", "What the kernel charges against it, page cache included."),
    ("pages_read_again", "sterna_pages_read_again_total", "counter", "File pages that were pushed out and needed again."),
  ]

  /// The text format of Prometheus, one series a line.
  ///
  /// - Parameters:
  ///   - health: the message on `health`; numbers that it does not have are left out.
  ///   - states: every state that there is, and which one holds.
  static func text(agent: String, model: String, states: [(name: String, holds: Bool)], isConnected: Bool, averageRunSeconds: Double, health: JSON) -> String {
    let reader = JSONReader(health)
    let label = "agent=\"\(escaped(agent))\""
    var lines: [String] = []
    func add(_ name: String, _ type: String, _ help: String, _ series: [(labels: String, value: String)]) {
      lines += ["# HELP \(name) \(help)", "# TYPE \(name) \(type)"] + series.map { "\(name){\(label)\($0.labels)} \($0.value)" }
    }
    add("sterna_info", "gauge", "What runs; always 1.", [(",version=\"\(Agent.version)\",model=\"\(escaped(model))\"", "1")])
    add("sterna_state", "gauge", "1 for the state that the agent is in.", states.map { (",state=\"\($0.name)\"", $0.holds ? "1" : "0") })
    add("sterna_connected", "gauge", "Whether the broker is there.", [("", isConnected ? "1" : "0")])
    add("sterna_run_seconds", "gauge", "Moving average of the time that a job runs.", [("", "\(averageRunSeconds)")])
    for entry in help {
      guard case .number(let number)? = reader[entry.key].value else { continue }
      add(entry.name, entry.type, entry.help, [("", number.text)])
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func escaped(_ text: String) -> String {
    var result = ""
    for character in text.unicodeScalars {
      switch character {
      case "\\", "\"": result += "\\\(character)"
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }

  /// Puts the text in place of the file in one step: whoever reads it never sees half of it. Readable for everybody, unlike all else that the agent writes.
  static func write(_ text: String, to path: String) throws(SternaError) {
    let beside = path + ".new"
    let descriptor = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard descriptor >= 0 else { throw failure(beside) }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      guard count > 0 else {
        let error = failure(beside)
        close(descriptor)
        unlink(beside)
        throw error
      }
      bytes = bytes.dropFirst(count)
    }
    fchmod(descriptor, 0o644)
    close(descriptor)
    guard rename(beside, path) == 0 else {
      let error = failure(path)
      unlink(beside)
      throw error
    }
  }

  private static func failure(_ path: String) -> SternaError {
    SternaError(.io, "cannot be written", at: path, remedy: "prometheus.textfile must be in a folder that the service may write to", cause: String(cString: strerror(errno)))
  }
}
