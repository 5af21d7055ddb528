import Glibc
import Synchronization

/// SIGTERM and SIGINT: the first asks the agent to stop, the second ends the process at once. SIGHUP asks it to read its configuration again. SIGBUS ends it, and says what that means.
enum Signals {
  // All are touched by a signal handler, so they are plain atomics, initialised without any code running.
  private static let count = Atomic<Int32>(0)
  private static let hangUp = Atomic<Bool>(false)
  private static let descriptor = Atomic<Int32>(-1)

  static var stopRequested: Bool { count.load(ordering: .acquiring) > 0 }
  /// Whether SIGHUP came since the last call.
  static func takeReload() -> Bool { hangUp.exchange(false, ordering: .acquiringAndReleasing) }

  private static let handled = [SIGTERM, SIGINT, SIGHUP]

  /// From now on signals ring `wake`.
  static func install(_ wake: Wake) {
    _ = (stopRequested, takeReload())  // initialises both before a handler can run
    descriptor.store(wake.descriptor, ordering: .releasing)
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { signal in
      if signal == SIGHUP {
        Signals.hangUp.store(true, ordering: .releasing)
      } else if Signals.count.add(1, ordering: .acquiringAndReleasing).newValue > 1 {
        _exit(128 + signal)
      }
      var one: UInt64 = 1
      _ = write(Signals.descriptor.load(ordering: .acquiring), &one, 8)
    }
    sigemptyset(&action.sa_mask)
    action.sa_flags = SA_RESTART
    for number in handled { sigaction(number, &action, nil) }
    // Who starts us may have had them blocked, and the mask is inherited.
    var ours = sigset_t()
    sigemptyset(&ours)
    for number in handled { sigaddset(&ours, number) }
    pthread_sigmask(SIG_UNBLOCK, &ours, nil)
    action.__sigaction_handler.sa_handler = { _ in
      let words: StaticString = "Error: a file that the agent has mapped cannot be read any more (SIGBUS): the model was cut short while in use, or its disk fails\n"
      _ = write(2, words.utf8Start, words.utf8CodeUnitCount)
      signal(SIGBUS, SIG_DFL)  // and back to where it happened, which ends the process
    }
    action.sa_flags = 0
    sigaction(SIGBUS, &action, nil)
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)  // a file size limit is an error like a full disk, no reason to die
  }

  /// Back to the usual meaning; `wake` may go.
  static func uninstall() {
    for number in handled + [SIGBUS] { signal(number, SIG_DFL) }
    descriptor.store(-1, ordering: .releasing)
    count.store(0, ordering: .releasing)
  }
}
