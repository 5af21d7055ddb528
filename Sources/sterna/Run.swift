import Agent
import ArgumentParser
import Basics
import Glibc
import Inference
import Jobs
import ModelFile
import Synchronization

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run the agent: take jobs from MQTT topics, publish results.",
    discussion: """
      --check reads the configuration, opens the model and tries the broker, says what is wrong, and ends. A broker that is away is no failure: the agent would wait for it.

        sterna run --config device-config/x86-gateway.toml
      """)

  @Option(help: "The configuration, a TOML file.", completion: .file(extensions: ["toml"]))
  var config: String
  @Flag(help: "Only check the configuration and the model.")
  var check = false

  func run() throws {
    do { try start() } catch let error as SternaError where error.code == .badConfiguration {
      note("Error: \(error)")
      // EX_CONFIG: the unit does not start it again before somebody has put the file right.
      throw ExitCode(78)
    }
  }

  private func start() throws {
    let configuration = try AgentConfiguration.load(path: config, environment: processEnvironment())
    if check {
      let store = ModelStore(configuration.model)
      if let complaint = store.complaint { note("\(config): \(complaint)") }
      let choice = store.state.current
      try store.check(choice)
      let engine = try makeEngine(configuration, model: store.path(of: choice))
      printLine("\(config): fine; \(configuration.tasks.count) tasks, model \(engine.model.name)")
      printLine(memoryTable(engine.network.memory))
      do throws(SternaError) { try Agent.checkBroker(configuration) } catch { note("\(config): the broker: \(error)") }
      return
    }
    let facts = Mutex<(model: ModelIdentity, isContextual: Bool)?>(nil)
    let reloader: Agent.Reloader = { [config] () throws(SternaError) in
      let changed = try AgentConfiguration.load(path: config, environment: processEnvironment())
      if let facts = facts.withLock({ $0 }) {
        try changed.checkCalibrations { calibration, options throws(SternaError) in try calibration.check(facts.model, contextual: options.contextual ?? facts.isContextual) }
      }
      return changed
    }
    let agent = Agent(configuration: configuration, reloader: reloader) { path in
      let engine = try makeEngine(configuration, model: path)
      facts.withLock { $0 = (engine.model, engine.isContextual(Job.Options())) }
      return engine
    }
    try agent.run()
  }
}

/// The engine that a configuration asks for.
///
/// - Parameter path: of the model, which may be another than that of the configuration.
func makeEngine(_ configuration: AgentConfiguration, model path: String) throws -> JobEngine {
  let packed: PackedModel
  do { packed = try PackedModel.open(path) } catch {
    var error = error
    error.remedy = error.remedy ?? "see that model.path names a model, and that the agent may read it: under systemd it is a user of its own"
    throw error
  }
  var options = ModelOptions()
  options.threads = configuration.model.threads ?? usableCores
  options.kv = configuration.model.kv.flatMap(KVFormat.init(rawValue:)) ?? (configuration.memory.limitBytes == nil ? .f16 : .q8)
  options.contextLength = configuration.model.context
  options.kvBudgetBytes = configuration.memory.kvBytes
  options.memoryLimit = configuration.memory.limitBytes
  options.expertCacheBytes = configuration.experts.cacheBytes
  options.expertReaders = configuration.experts.readers
  options.expertReads = configuration.experts.reads.flatMap(RecordReads.init(rawValue:))
  options.reserved = [
    // Texts of waiting jobs are in the journal; in memory are their numbers, and what one turn of the loop reads.
    MemoryPlan.Entry("queue and messages", configuration.limits.queueJobs * 100 + 2 * configuration.limits.job.payloadBytes, "\(configuration.limits.queueJobs) jobs")
  ]
  let prefixes = configuration.prefixes
  let engine = try JobEngine(
    packed: packed, model: Model(packed, options: options),
    prefixFiles: prefixes.diskBytes == 0 ? nil : JobEngine.PrefixFiles(path: prefixes.path, budgetBytes: prefixes.diskBytes))
  try configuration.checkCalibrations(engine.check)
  // A limit of systemd's that is lower than what the agent takes would be found out by the kernel, in the middle of a job.
  if let group = ProcessMemory.group, engine.network.memory.total > group.limitBytes {
    throw SternaError(
      .badConfiguration, "does not fit under the memory limit of this service", at: "memory", expected: "at most \(group.limitBytes) bytes (MemoryMax of the unit)",
      found: "\(engine.network.memory.total) bytes", remedy: "set MemoryMax with: systemctl edit sterna; or choose a smaller memory.limit_mb or model.context")
  }
  return engine
}

extension AgentConfiguration {
  /// Checks that each task's calibration belongs to the model.
  fileprivate func checkCalibrations(_ check: (Calibration, Job.Options) throws(SternaError) -> Void) throws(SternaError) {
    for (i, task) in tasks.enumerated() {
      guard let calibration = task.calibration else { continue }
      do throws(SternaError) { try check(calibration, task.options) } catch { throw error.within("tasks[\(i)].calibration") }
    }
  }
}
