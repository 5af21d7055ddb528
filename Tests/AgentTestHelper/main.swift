import Agent
import Basics
import Glibc
import Jobs

// An agent in a process of its own, for tests that kill it. Usage: agent-test-helper CONFIG GATE
// Its engine answers as soon as the file GATE exists, with the first label and a score of one, or 0.4 where the text has "unsure" in it. It dies of the text "deadly", and writes the ids of jobs into GATE.runs as it begins them.

final class GatedEngine: JobRunner {
  let model = ModelIdentity(name: "gated", sha256: String(repeating: "0", count: 64))
  let gate: String

  init(gate: String) { self.gate = gate }

  func run(_ job: Job, control: RunControl) -> Outcome {
    let file = open(gate + ".runs", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    let line = Array("\(job.id ?? "-")\n".utf8)
    _ = write(file, line, line.count)
    close(file)
    while access(gate, F_OK) != 0 {
      if control.shouldStop?() == true { return Outcome(.failure(SternaError(.cancelled, "stopped"))) }
      usleep(5000)
    }
    if job.input == "deadly" { kill(getpid(), SIGKILL) }
    guard case .classify(let labels) = job.work else { return Outcome(.failure(SternaError(.unsupported, "only classify"))) }
    let best: Float = job.input.contains("unsure") ? 0.4 : 1
    return Outcome(.success(.classification(.init(scores: labels.map { ($0.name, $0.name == labels[0].name ? best : 0) }, best: 0))))
  }
}

guard CommandLine.arguments.count == 3 else { exit(64) }
let gate = CommandLine.arguments[2]
do {
  let configuration = try AgentConfiguration.load(path: CommandLine.arguments[1], environment: [:])
  try Agent(configuration: configuration) { GatedEngine(gate: gate) }.run()
} catch {
  print(error)
  exit(1)
}
