import CMosquitto
import Glibc

/// A POSIX thread with a name, joined once. Swift's own pool would put long inference beside short tasks.
struct Thread: Sendable {
  private let id: pthread_t

  /// - Parameter name: at most 15 bytes, as the kernel shows it.
  init(_ name: String, _ body: @escaping @Sendable () -> Void) {
    final class Box: Sendable {
      let name: String
      let body: @Sendable () -> Void
      init(_ name: String, _ body: @escaping @Sendable () -> Void) { (self.name, self.body) = (name, body) }
    }
    var id = pthread_t()
    let box = Unmanaged.passRetained(Box(name, body))
    let code = pthread_create(
      &id, nil,
      { argument in
        guard let argument else { return nil }
        let box = Unmanaged<Box>.fromOpaque(argument).takeRetainedValue()
        cmosquitto_name_thread(box.name)
        box.body()
        return nil
      }, box.toOpaque())
    precondition(code == 0, "no thread could be made: \(String(cString: strerror(code)))")
    self.id = id
  }

  func join() { pthread_join(id, nil) }
  func detach() { pthread_detach(id) }
}

/// A value behind a lock, with a way to wait for it to change. Waiting costs nothing: no thread wakes up before somebody changes the value.
final class Monitor<Value>: @unchecked Sendable {
  // Sendable: `value` is touched only between lock and unlock, and the pointers never change.
  private var value: Value
  private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init(_ value: sending Value) {
    self.value = value
    lock.initialize(to: pthread_mutex_t())
    changed.initialize(to: pthread_cond_t())
    pthread_mutex_init(lock, nil)
    pthread_cond_init(changed, nil)
  }

  deinit {
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(lock)
    changed.deallocate()
    lock.deallocate()
  }

  /// Changes the value and wakes who waits for it.
  func with<Result>(_ body: (inout Value) -> Result) -> Result {
    pthread_mutex_lock(lock)
    defer {
      pthread_cond_broadcast(changed)
      pthread_mutex_unlock(lock)
    }
    return body(&value)
  }

  /// Changes or reads the value in a way that nobody waits for, and wakes nobody.
  func quietly<Result>(_ body: (inout Value) -> Result) -> Result {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return body(&value)
  }

  /// Waits until `body` gives something.
  func wait<Result>(_ body: (inout Value) -> Result?) -> Result {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while true {
      if let result = body(&value) { return result }
      pthread_cond_wait(changed, lock)
    }
  }
}
