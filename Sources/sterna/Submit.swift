import Agent
import ArgumentParser
import Basics
import Jobs

struct Submit: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Send jobs to an agent, or a pool of them, over MQTT and print the results as they arrive.",
    discussion: """
      A job is sent again, with the same id, until its result is there.

        sterna submit classify --agent gateway --labels leak,fire,vibration \\
          --text "water under pump 7"
        sterna submit classify --pool line --labels leak,fire < notes.txt
        sterna submit extract --host broker.local --fields machine,place < notes.txt
        sterna submit classify --port 8883 --ca ca.pem --labels leak,fire < notes.txt
      """)

  @Argument(help: "classify or extract.")
  var task: String
  @Option(help: "The agent's id.")
  var agent = "gateway"
  @Option(help: "The name of a pool of agents, in place of one agent.")
  var pool: String?
  @Option(help: "Labels for classify: NAME or NAME=DESCRIPTION, separated by commas.")
  var labels: String?
  @Option(help: "Fields for extract: NAME or NAME:TYPE, separated by commas.")
  var fields: String?
  @Option(help: "For extract in place of fields: a file with a JSON Schema.", completion: .file())
  var schema: String?
  @Option(help: "Options of every job, as in its payload: '{\"multi\":true}'.")
  var options: String?
  @Option(help: "Seconds to wait for a result.")
  var timeout = 60.0
  @OptionGroup var broker: BrokerArguments
  @OptionGroup var texts: TextArguments
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard let task = JobTask(rawValue: task) else { throw ValidationError("the task is classify or extract, not \(task)") }
    guard (task == .classify ? labels : fields ?? schema) != nil else {
      throw ValidationError(task == .classify ? "--labels is missing" : "--fields or --schema is missing")
    }
    if fields != nil, schema != nil { throw ValidationError("--fields and --schema: one of them") }
    guard timeout > 0, timeout <= 1_000_000 else { throw ValidationError("--timeout: expected a number of seconds up to 1000000, found \(timeout)") }
  }

  func run() throws {
    var connection = Submitter.Options()
    connection.mqtt = try broker.connection()
    connection.base = broker.base
    connection.agent = agent
    connection.pool = pool
    connection.timeout = timeout
    var jobOptions = try options.map { text throws(SternaError) in
      do throws(SternaError) { return try JSON.parse(Array(text.utf8)) } catch { throw error.within("--options") }
    }

    // In a pool it matters who has a job: if that agent goes away, another one gets it.
    if pool != nil, case .object(var members) = jobOptions ?? .object([:]), members["ack"] == nil {
      members["ack"] = true
      jobOptions = .object(members)
    }
    let document = try schema.map { path throws(SternaError) in try readSchema(path) }

    var submissions: [Submitter.Submission] = []
    var textOfID: [String: String] = [:]
    texts.forEach { text in
      var job: JSON.Object = ["v": 1, "input": .string(text)]
      if let labels {
        job["labels"] = .array(
          parseLabels(labels).map { label in
            label.description.map { ["name": .string(label.name), "description": .string($0)] } ?? .string(label.name)
          })
      }
      if let fields { job["fields"] = .array(fields.split(separator: ",").map { .string(trimmed($0)) }) }
      if let document { job["schema"] = document }
      if let jobOptions { job["options"] = jobOptions }
      let submission = Submitter.Submission(kind: task, job: job)
      textOfID[submission.id] = text
      submissions.append(submission)
    }
    var failures = 0
    try Submitter(options: connection).submit(submissions) { submission, reply in
      if case .object(let message)? = reply.json, message["status"] == "error" { failures += 1 }
      if !output.json { printLine("\(task)  \(JSON.string(textOfID[submission.id] ?? "").compact)") }
      printLine(String(decoding: reply.payload, as: UTF8.self))
    }
    if failures > 0 { throw ExitCode(2) }
  }
}
