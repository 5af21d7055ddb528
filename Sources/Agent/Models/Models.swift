import Basics
import Jobs
import Logging

/// Loads the model of the start, and puts another one in its place while the agent runs. Used by the loop; the work is done on other threads.
///
/// The way of a new model: its signature is checked, it is copied into the store on a thread of its own, while jobs are answered as always; then the inference
/// thread ends the jobs under way, drops the model that it has, loads the new one and tries it out; only what passes is committed. Jobs that wait meanwhile are in the
/// journal as ever. If anything fails the model of before comes back.
final class Models {
  let store: ModelStore
  private let load: Agent.EngineLoader
  private let inference: InferenceThread
  private let logger: Logger
  private var step = Step.idle
  /// When neither a new model nor the one before can be loaded: the process must begin anew, and does so with the model that was committed last.
  private(set) var lost: SternaError?
  /// The file of the model in use, as it was when it was loaded.
  private let file = Monitor<FileMark?>(nil)

  typealias Reply = (Result<JSON, SternaError>) -> Void

  private enum Step {
    case idle
    case staging(Staging, Reply)
    case changing(Reply)
  }

  /// A copy under way on a thread of its own.
  private final class Staging: Sendable {
    let outcome = Monitor<Result<ModelStore.Installed, SternaError>?>(nil)

    init(_ wake: Wake, _ body: @escaping @Sendable () -> Result<ModelStore.Installed, SternaError>) {
      Thread("install") {
        let result = body()
        self.outcome.with { $0 = result }
        wake.ring()
      }.detach()
    }
  }

  init(_ store: ModelStore, load: @escaping Agent.EngineLoader, inference: InferenceThread, logger: Logger) {
    self.store = store
    self.load = load
    self.inference = inference
    self.logger = logger
  }

  /// Makes the engine of the start: with the model that counts, or with the one before if an installed one cannot be used.
  var engineOfStart: Agent.EngineFactory {
    { [store, logger, engine] in
      if let complaint = store.complaint { logger.error("\(complaint)") }
      if !store.claim() { logger.info("models cannot be installed: \(store.folder) is in use or cannot be written") }
      let state = store.state
      do { return try engine(state.current) } catch {
        guard case .installed = state.current, let previous = state.previous else { throw error }
        logger.error("the installed model cannot be used, going on with the one before: \(error)")
        return try engine(previous)
      }
    }
  }

  /// Checks and loads one of the store's models. On the inference thread.
  private var engine: @Sendable (ModelStore.Choice) throws -> any JobRunner {
    { [store, load, inference, file] choice in
      let mark = FileMark(store.path(of: choice))
      try store.check(choice, progress: inference.progressed)
      let engine = try load(store.path(of: choice))
      file.with { $0 = mark }
      return engine
    }
  }

  /// Why the model in use is none any more. It is mapped, so whoever writes into its file writes into the model.
  var spoilt: SternaError? {
    guard let mark = file.quietly({ $0 }), mark.isChanged else { return nil }
    return SternaError(
      .badFile, "the model's file was changed while in use, so what it answers is worth nothing", at: mark.path,
      remedy: "the agent starts anew with the file as it is then; to change a model use sterna model install, or rename the new file into place")
  }

  // MARK: - Requests

  /// Brings a model in and changes to it; `reply` is called once, later, with what came of it.
  ///
  /// - Parameter source: a path under one of the folders to import from, or the name of a model that is in the store already.
  func install(_ source: Source, wake: Wake, reply: @escaping Reply) {
    do throws(SternaError) {
      try begin()
      switch source {
      case .staged(let name): change(to: .installed(try store.staged(name)), reply)
      case .path(let path):
        logger.info("installing the model \(path)")
        step = .staging(Staging(wake) { [store] in Result { () throws(SternaError) in try store.stage(path, mustBeSigned: true) } }, reply)
      }
    } catch { reply(.failure(error)) }
  }

  enum Source {
    case staged(String)
    case path(String)
  }

  /// Changes to the model of before.
  func rollBack(reply: @escaping Reply) {
    do throws(SternaError) {
      try begin()
      change(to: try store.previous(), reply)
    } catch { reply(.failure(error)) }
  }

  private func begin() throws(SternaError) {
    guard case .idle = step else { throw SternaError(.busy, "another model is being installed", remedy: "wait for it") }
    guard store.claim() else { throw SternaError(.busy, "models cannot be installed: another agent uses this folder, or it cannot be written", at: store.folder, remedy: "give each agent its own model.store") }
  }

  private func change(to choice: ModelStore.Choice, _ reply: @escaping Reply) {
    let current = store.state.current
    step = .changing(reply)
    let (engine, inference, store) = (engine, inference, store)
    inference.change {
      let made = try engine(choice)
      try SelfTest.run(made, control: inference.control)
      try store.commit(choice)
      return made
    } orRestore: {
      try engine(current)
    }
  }

  /// Looks whether something is ready for the next step.
  ///
  /// - Returns: the model, when another one is in place now.
  func advance() -> ModelIdentity? {
    switch step {
    case .idle: break
    case .staging(let staging, let reply):
      guard let outcome = staging.outcome.quietly({ $0 }) else { break }
      step = .idle
      switch outcome {
      case .success(let model): change(to: .installed(model), reply)
      case .failure(let error): refuse(error, reply)
      }
    case .changing(let reply):
      guard let changed = inference.takeChanged() else { break }
      step = .idle
      switch changed {
      case .done(let identity):
        logger.info("model \(identity.name) \(identity.sha256.prefix(16)) is in place")
        reply(.success(list(running: identity)))
        return identity
      case .refused(let error): refuse(error, reply)
      case .lost(let error):
        let why = error as? SternaError ?? SternaError(.io, "\(error)")
        refuse(why, reply)
        lost = why
      }
    }
    return nil
  }

  private func refuse(_ error: SternaError, _ reply: Reply) {
    logger.error("the model stays as it is: \(error)")
    var error = error
    if error.code == .badFile { error.code = .badModel }
    reply(.failure(error))
  }

  /// What there is, for answers.
  func list(running identity: ModelIdentity) -> JSON {
    let state = store.state
    var object: JSON.Object = ["model": identity.json, "current": state.current.json]
    if let previous = state.previous { object["previous"] = previous.json }
    return .object(object)
  }
}
