import Basics
import Glibc

/// Times. Deadlines count on the clock that runs since boot, asleep or not, because gateways start with wrong wall clocks.
package enum Clock {
  /// Milliseconds since 1970.
  package static var wall: Int { milliseconds(CLOCK_REALTIME) }
  /// Milliseconds since boot.
  package static var uptime: Int { milliseconds(CLOCK_BOOTTIME) }

  /// As systemd compares reloads with each other.
  static var monotonicMicroseconds: Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int(time.tv_sec) * 1_000_000 + Int(time.tv_nsec) / 1000
  }

  private static func milliseconds(_ clock: clockid_t) -> Int {
    var time = timespec()
    clock_gettime(clock, &time)
    return Int(time.tv_sec) * 1000 + Int(time.tv_nsec) / 1_000_000
  }

  /// Milliseconds since 1970 of a moment before any message of this program: a wall clock that says less has not been set.
  static let firstCredible = 1_767_225_600_000  // 2026

  /// Names this boot of the machine, so that times since boot can be told from those of another.
  static let bootID: String = {
    let bytes = (try? readWholeFile("/proc/sys/kernel/random/boot_id", limit: 64)) ?? []
    let text = String(decoding: bytes.filter { $0 > 0x20 && $0 < 0x7F }, as: UTF8.self)
    // Under ProcSubset=pid the file is hidden; the moment of boot does nearly as well.
    return text.isEmpty ? "boot-\((wall - uptime) / 60_000)" : text
  }()

  /// RFC 3339 in UTC with milliseconds.
  package static func text(_ milliseconds: Int) -> String {
    var seconds = time_t(milliseconds / 1000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    func padded(_ value: Int, _ width: Int = 2) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    return "\(padded(Int(parts.tm_year) + 1900, 4))-\(padded(Int(parts.tm_mon) + 1))-\(padded(Int(parts.tm_mday)))T"
      + "\(padded(Int(parts.tm_hour))):\(padded(Int(parts.tm_min))):\(padded(Int(parts.tm_sec))).\(padded(milliseconds % 1000, 3))Z"
  }
}

/// Lets the thread rest.
func pause(milliseconds: Int) {
  var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
  nanosleep(&time, nil)
}
