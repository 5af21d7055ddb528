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
