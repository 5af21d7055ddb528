import Basics
import Inference
import Tokenizer

/// The jobs under way, one pass over the weights after the other.
///
/// In a pass run: one step of every job that is answering, and with what is left of the pass the reading of task prompts and texts, piece by piece (`share`). A job's
/// answer does not depend on its company, so a job may also be thrown out when memory runs short, and begin again later.
package final class JobBatch {
  private let engine: JobEngine
  /// The more urgent ones first, else in the order in which they came.
  private var jobs: [RunningJob] = []
  private var loads: [PrefixLoad] = []
  /// Inputs without content that run for jobs, by ticket; tickets of callers are not negative.
  private var contentFree: [Int: (prior: LabelPrior, input: Int)] = [:]
  private var lastFreeTicket = 0
  private var finished: [(ticket: Int, outcome: Outcome)] = []

  init(_ engine: JobEngine) { self.engine = engine }

  var count: Int { jobs.count }

  func add(_ job: Job, ticket: Int) {
    do {
      let at = jobs.lastIndex { $0.job.options.priority >= job.options.priority }.map { $0 + 1 } ?? 0
      let running = try RunningJob(job, ticket: ticket, engine)
      var first: [RunningJob] = []
      if let key = running.priorKey {
        let (prior, needed) = try prior(key, of: job)
        running.divide(by: prior)
        first = needed
      }
      jobs.insert(contentsOf: first + [running], at: at)
    } catch { finished.append((ticket, Outcome(.failure(error)))) }
    collect()
  }

  /// A task's prior, and the jobs that must run for it: none when it is known, or on its way.
  private func prior(_ key: LabelPrior.Key, of job: Job) throws(SternaError) -> (LabelPrior, [RunningJob]) {
    if let known = engine.priors.find(key) ?? contentFree.values.first(where: { $0.prior.key == key && $0.prior.isPending })?.prior { return (known, []) }
    var runs: [RunningJob] = []
    for text in ContextualCalibration.inputs {
      var free = Job(input: text, work: job.work, options: job.options)
      free.options.contextual = false
      lastFreeTicket -= 1
      let run = try RunningJob(free, ticket: lastFreeTicket, engine)
      if !run.hasNothingToRead { runs.append(run) }
    }
    let prior = LabelPrior(key, inputs: runs.count)
    for (input, run) in runs.enumerated() { contentFree[run.ticket] = (prior, input) }
    return (prior, runs)
  }

  func takeFinished() -> [(ticket: Int, outcome: Outcome)] {
    defer { finished = [] }
    return finished
  }

  func cancel() {
    for job in jobs { job.fail(SternaError(.cancelled, "the job was cancelled")) }
    loads = []
    collect()
  }

  /// Ends the jobs whose answer comes too late for whoever asked, so that their place in the passes is for others.
  func drop(_ isOverdue: (_ ticket: Int) -> Bool) {
    for job in jobs where job.ticket >= 0 && isOverdue(job.ticket) { job.fail(.overdue(hasBegun: job.usage.forwardPasses > 0)) }
    loads.removeAll { load in !jobs.contains { $0.load === load } }
    collect()
  }

  /// One pass. False when there was nothing to run.
  func pass() -> Bool {
    place()
    let plan = compose()
    defer { collect() }
    guard !plan.isEmpty else { return false }
    do {
      let before = engine.network.expertCounters
      let states = try engine.network.forward(plan.flatMap(\.steps))
      let experts = before.flatMap { before in engine.network.expertCounters.map { $0 - before } }
      var row = 0
      for part in plan {
        for job in part.counted {
          job.usage.forwardPasses += 1
          if let experts { job.usage.experts = (job.usage.experts ?? ExpertCounters()) + experts }
        }
        switch part.owner {
        case .job(let job): job.take(states, from: row)
        case .load(let load): load.fed += part.steps.reduce(0) { $0 + $1.tokens.count }
        }
        row += part.rows
      }
    } catch {
      // Sequences may have grown by a part of their tokens: nothing of them can be used.
      for part in plan { for job in part.counted { job.fail(error) } }
    }
    for load in loads where load.isDone {
      let match = engine.prefixes.insert(load.sequence, tokens: load.prompt, isPrompt: true)
      for job in jobs where job.load === load { start(job, behind: match) }
    }
    loads.removeAll { load in load.isDone || !jobs.contains { $0.load === load } }
    return true
  }

  private func collect() {
    // Jobs without content stand in front of the first that needs them, and may end in the same pass.
    for job in jobs where job.outcome != nil {
      guard let (prior, input) = contentFree.removeValue(forKey: job.ticket) else { continue }
      prior.take(job.scores, for: input)
      if prior.isKnown { engine.priors.insert(prior) }
    }
    for job in jobs where job.isWaitingForPrior { job.conclude() }
    jobs.removeAll { job in
      guard let outcome = job.outcome else { return false }
      if job.ticket >= 0 { finished.append((job.ticket, outcome)) }
      return true
    }
  }

  // MARK: - Places in memory

  /// Gives memory to jobs that have none, the first first.
  private func place() {
    for job in jobs where !job.isPlaced && job.outcome == nil && !job.isWaitingForPrior {
      let prefix = job.prompt.prefix
      let known = engine.prefixes.find(prefix + job.reading, prompt: prefix.count)
      if known?.count ?? 0 >= prefix.count {
        start(job, behind: known)
      } else if let load = loads.first(where: { $0.prompt == prefix }) {
        job.load = load
      } else {
        let start = known?.count ?? 0
        _ = withRoom(for: job, tokens: prefix.count - start) { () throws(SternaError) in
          let load = PrefixLoad(prefix, try engine.network.sequence(after: known?.sequence, upTo: start, capacity: prefix.count - start), from: start)
          loads.append(load)
          job.load = load
        }
      }
      // Those behind would only take the room that this one waits for.
      if !job.isPlaced && job.outcome == nil { return }
    }
  }

  private func start(_ job: RunningJob, behind match: PrefixCache.Match?) {
    _ = withRoom(for: job, tokens: job.tokensToStart) { () throws(SternaError) in try job.start(behind: match) }
  }

  /// Runs `body` and, as long as it fails for want of memory, makes room: first the prompts that nobody uses now, then jobs behind this one.
  /// When there is nothing left to let go, the job waits for those before it, and fails if there are none.
  private func withRoom<T>(for job: RunningJob, tokens: Int, _ body: () throws(SternaError) -> T) -> T? {
    var hasEvicted = false
    while true {
      do {
        return try body()
      } catch where error.code == .kvFull {
        if !hasEvicted {
          hasEvicted = true
          if !engine.prefixes.makeRoom(bytes: engine.network.kvBytes(capacity: tokens)) { engine.prefixes.removeAll() }
          continue
        }
        if let last = jobs.last(where: { $0.isPlaced && $0.outcome == nil }), last !== job, let a = jobs.firstIndex(where: { $0 === last }),
          let b = jobs.firstIndex(where: { $0 === job }), a > b
        {
          last.withdraw()
          hasEvicted = false
          loads.removeAll { load in !jobs.contains { $0.load === load } }
          continue
        }
        if jobs.contains(where: { $0 !== job && $0.isPlaced && $0.outcome == nil }) {
          job.withdraw()
        } else {
          job.fail(
            SternaError(
              .inputTooLong, "the text and its answer do not fit the memory for keys and values", at: "input",
              found: "\(job.prompt.count) tokens and the answer's", cause: error.message))
        }
        return nil
      } catch {
        job.fail(error)
        return nil
      }
    }
  }

  // MARK: - Composing a pass

  private struct Part {
    enum Owner { case job(RunningJob), load(PrefixLoad) }
    var owner: Owner
    var steps: [Model.Step]
    /// Hidden states that come back.
    var rows: Int
    /// Whose pass this is.
    var counted: [RunningJob]
  }

  private func compose() -> [Part] {
    var plan: [Part] = []
    var budget = engine.network.batchTokens
    func add(_ job: RunningJob, atMost limit: Int) {
      guard let steps = withRoom(for: job, tokens: job.tokensToStep, { () throws(SternaError) in try job.steps(atMost: limit) }), !steps.isEmpty else { return }
      let rows = steps.reduce(0) { $0 + $1.want.count(of: $1.tokens.count) }
      plan.append(Part(owner: .job(job), steps: steps, rows: rows, counted: [job]))
      budget -= steps.reduce(0) { $0 + $1.tokens.count }
    }
    for job in jobs where job.isAnswering { add(job, atMost: budget) }
    let readers = readers()
    let shares = Self.share(max(0, budget), among: readers.map { ($0.priority, $0.left) })
    for (reader, share) in zip(readers, shares) where share > 0 {
      switch reader.owner {
      case .job(let job): add(job, atMost: share)
      case .load(let load):
        let tokens = Array(load.prompt[load.fed..<(load.fed + share)])
        plan.append(
          Part(
            owner: .load(load), steps: [Model.Step(sequence: load.sequence, tokens: tokens, want: .none)], rows: 0,
            counted: jobs.filter { $0.load === load }))
      }
    }
    // Whoever made room by withdrawing has no place in this pass.
    plan.removeAll { part in
      switch part.owner {
      case .job(let job): !job.isPlaced || job.outcome != nil
      case .load(let load): !loads.contains { $0 === load }
      }
    }
    return plan
  }

  /// Task prompts and texts that are not through the model yet, in the order of the jobs; a prompt stands where the first job that waits for it does.
  private func readers() -> [(owner: Part.Owner, priority: Int, left: Int)] {
    var readers: [(owner: Part.Owner, priority: Int, left: Int)] = []
    var seen: [PrefixLoad] = []
    for job in jobs {
      if job.isReading {
        readers.append((.job(job), job.job.options.priority, job.tokensToRead))
      } else if let load = job.load, !seen.contains(where: { $0 === load }) {
        seen.append(load)
        readers.append((.load(load), job.job.options.priority, load.prompt.count - load.fed))
      }
    }
    return readers
  }

  /// Divides a pass among those that read: the more urgent have all they can take before the others have anything. Among equals those that have least left go first, since
  /// it costs a long text little to wait for short ones, and them much to wait for it. A quarter is set aside for the one that came first, so that it gets on however many
  /// short ones keep coming.
  ///
  /// - Parameters:
  ///   - tokens: that the pass still takes.
  ///   - readers: the most urgent and oldest first; `left` is not negative.
  /// - Returns: tokens for each reader, together `tokens` or all that is left to read.
  package static func share(_ tokens: Int, among readers: [(priority: Int, left: Int)]) -> [Int] {
    var shares = [Int](repeating: 0, count: readers.count)
    var remaining = tokens
    func give(_ reader: Int, atMost limit: Int) {
      let share = min(readers[reader].left - shares[reader], limit)
      shares[reader] += share
      remaining -= share
    }
    var first = 0
    while first < readers.count, remaining > 0 {
      let end = readers[first...].firstIndex { $0.priority != readers[first].priority } ?? readers.count
      give(first, atMost: max(1, remaining / 4))
      for reader in (first..<end).sorted(by: { (readers[$0].left, $0) < (readers[$1].left, $1) }) { give(reader, atMost: remaining) }
      first = end
    }
    return shares
  }
}

/// A task prompt on its way into memory, and the jobs behind it wait.
final class PrefixLoad {
  let prompt: [TokenID]
  /// Holds the prompt's tokens, the first of them perhaps by an ancestor.
  let sequence: Inference.Sequence
  var fed: Int

  init(_ prompt: [TokenID], _ sequence: Inference.Sequence, from start: Int) {
    self.prompt = prompt
    self.sequence = sequence
    fed = start
  }

  var isDone: Bool { fed == prompt.count }
}
