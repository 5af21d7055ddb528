import Basics
import Jobs

/// Two small jobs that any model answers: whether one that was just installed works on this machine at all.
enum SelfTest {
  private static let text = "Water on the floor under pump 7."
  private static let jobs = [
    Job(input: text, work: .classify([.init("leak"), .init("fire"), .init("noise")])),
    Job(input: text, work: .extract([.init("place")])),
  ]

  /// - Throws: what is wrong with the answers.
  static func run(_ engine: any JobRunner, control: RunControl) throws(SternaError) {
    for job in jobs {
      // The second time parts of the work come from caches, and the answer must not change.
      let first = try answer(job, engine, control)
      let second = try answer(job, engine, control)
      guard first == second else { throw failure("gives two answers to one job") }
      guard case .classification(let answer) = first else { continue }
      let scores = answer.scores.map(\.score)
      guard scores.allSatisfy(\.isFinite), abs(scores.reduce(0, +) - 1) < 0.01 else { throw failure("gives scores that are none", found: "\(scores)") }
    }
  }

  private static func answer(_ job: Job, _ engine: any JobRunner, _ control: RunControl) throws(SternaError) -> Answer {
    do { return try engine.run(job, control: control).result.get() } catch { throw failure("does not answer its test jobs", cause: error.description) }
  }

  private static func failure(_ message: String, found: String? = nil, cause: String? = nil) -> SternaError {
    SternaError(.badModel, "the model \(message)", found: found, remedy: "this model is not for this machine, or it is broken; the one before stays", cause: cause)
  }
}

extension ModelStore {
  /// Installs a model while no agent uses the folder: everything that the agent would do, in this process.
  ///
  /// - Parameters:
  ///   - load: makes the engine with which the model is tried out.
  ///   - progress: told how many bytes were copied, of how many.
  public func install(_ source: String, load: Agent.EngineLoader, progress: (Int, Int) -> Void) throws -> Installed {
    let model = try stage(source, progress: progress)
    try change(to: .installed(model), load: load)
    return model
  }

  /// Back to the model of before, in the same way.
  public func rollBack(load: Agent.EngineLoader) throws -> Choice {
    let choice = try previous()
    try change(to: choice, load: load)
    return choice
  }

  private func change(to choice: Choice, load: Agent.EngineLoader) throws {
    try check(choice)
    try SelfTest.run(try load(path(of: choice)), control: RunControl())
    try commit(choice)
  }
}
