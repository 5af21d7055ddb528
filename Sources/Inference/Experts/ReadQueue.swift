import Basics

/// A few threads that read records into slots, several at a time and in any order: a disk gives its full rate only when it has several things to do.
///
/// What somebody waits for goes before what might be needed. Threads without work sleep.
final class ReadQueue: Sendable {
  // @unchecked: nobody else touches the target until the read is reported.
  struct Request: @unchecked Sendable {
    let slot: Int
    let place: RecordPlace
    /// Room for the record.
    let target: UnsafeMutableRawPointer
  }

  struct Completion: Sendable {
    let slot: Int
    let bytes: Int
    /// Nil: the record is there.
    let error: SternaError?
  }

  private struct Waiting {
    var demanded: [Request] = []
    var guessed: [Request] = []
    /// Requests that threads work on.
    var reading = (demanded: 0, guessed: 0)
    var retries = 0
    var stopped = false

    /// Guesses must not make somebody wait who knows what is needed: they have the disk only when nobody else does, and few at a time.
    static let guessesTogether = 2

    mutating func next() -> (request: Request, isGuess: Bool)? {
      if !demanded.isEmpty {
        reading.demanded += 1
        return (demanded.removeFirst(), false)
      }
      guard !guessed.isEmpty, reading.demanded == 0, reading.guessed < Self.guessesTogether else { return nil }
      reading.guessed += 1
      return (guessed.removeFirst(), true)
    }
  }

  private let waiting = Monitor(Waiting())
  private let done = Monitor<[Completion]>([])
  let threads: Int

  /// - Parameters:
  ///   - memory: what the slots lie in; kept until the last thread has ended.
  ///   - checksum: of a record; called on the threads.
  init(
    threads: Int, reader: any RecordReader, path: String, memory: SlotMemory, checksum: @escaping @Sendable (UnsafeRawPointer, Int) -> UInt64
  ) {
    var started = 0
    for _ in 0..<max(1, threads) {
      let runs = startThread { [waiting, done] in
        withExtendedLifetime(memory) {
          while let (request, isGuess) = waiting.wait({ $0.stopped ? .some(nil) : $0.next().map { .some($0) } }) {
            let error = reader.readRecord(request.place, into: request.target, path: path, checksum: checksum) { waiting.quietly { $0.retries += 1 } }
            waiting.with { if isGuess { $0.reading.guessed -= 1 } else { $0.reading.demanded -= 1 } }
            done.with { $0.append(Completion(slot: request.slot, bytes: request.place.bytes, error: error)) }
          }
        }
      }
      if runs { started += 1 }
    }
    self.threads = started
  }

  deinit { waiting.with { $0.stopped = true } }

  /// Readings that had to be repeated so far.
  var retries: Int { waiting.quietly { $0.retries } }

  func demand(_ requests: [Request]) {
    guard !requests.isEmpty else { return }
    waiting.with { $0.demanded += requests }
  }

  func guess(_ requests: [Request]) {
    guard !requests.isEmpty else { return }
    waiting.with { $0.guessed += requests }
  }

  /// Takes back the guesses that nobody has begun to read, but those for `needed` slots, which are demanded from now on. Returns the slots of the others.
  func settleGuesses(needed: (_ slot: Int) -> Bool) -> [Int] {
    waiting.with { waiting in
      let guessed = waiting.guessed
      waiting.guessed.removeAll(keepingCapacity: true)
      waiting.demanded += guessed.filter { needed($0.slot) }
      return guessed.lazy.map(\.slot).filter { !needed($0) }
    }
  }

  /// What was read since the last call; waits until there is something.
  func completions() -> [Completion] {
    done.wait { done in
      guard !done.isEmpty else { return nil }
      defer { done.removeAll(keepingCapacity: true) }
      return done
    }
  }

  /// The same without waiting.
  func finished() -> [Completion] {
    done.quietly { done in
      defer { done.removeAll(keepingCapacity: true) }
      return done
    }
  }
}
