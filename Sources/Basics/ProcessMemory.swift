import Glibc

/// What the kernel says about this process's memory, in bytes. Nothing here needs /proc/meminfo, which a sandbox may hide.
public enum ProcessMemory {
  /// Resident now; 0 where the kernel does not say.
  public static var residentBytes: Int {
    guard let bytes = try? readWholeFile("/proc/self/statm", limit: 256) else { return 0 }
    let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
    return words.count > 1 ? (Int(words[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
  }

  /// The most that ever was resident.
  public static var peakResidentBytes: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }

  /// What could be taken without pushing anything out that is in use: by the kernel's estimate, and no more than the control group has left.
  public static var availableBytes: Int {
    let pages = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
    // Hidden in a sandbox: then three quarters of what there is.
    let kernel = value(of: "MemAvailable:", in: "/proc/meminfo").map { $0 * 1024 } ?? pages / 4 * 3
    return group.map { min(kernel, $0.limitBytes - residentBytes) } ?? kernel
  }

  /// The control group that limits this process: what the kernel counts against the limit, page cache included.
  public struct Group: Sendable {
    public var limitBytes: Int
    public var currentBytes: Int
    /// The most that ever was charged; nil where the kernel (cgroup v2 before Linux 5.19) does not keep it.
    public var peakBytes: Int?
    /// Pages of files that were read again after they had been pushed out.
    public var refaults: Int?
  }

  /// Nil where no memory limit is set for the group itself.
  public static var group: Group? {
    guard let bytes = try? readWholeFile("/proc/self/cgroup", limit: 1 << 16) else { return nil }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      // hierarchy:controllers:path; version 2 has no controllers.
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      if parts[1].split(separator: ",").contains("memory") {
        let folder = "/sys/fs/cgroup/memory" + parts[2]
        // Version 1 writes a huge number where there is no limit.
        guard let limit = number(folder + "/memory.limit_in_bytes"), limit < 1 << 60 else { return nil }
        return Group(
          limitBytes: limit, currentBytes: number(folder + "/memory.usage_in_bytes") ?? 0, peakBytes: number(folder + "/memory.max_usage_in_bytes"),
          refaults: value(of: "workingset_refault_file", in: folder + "/memory.stat"))
      }
      if parts[1].isEmpty {
        let folder = "/sys/fs/cgroup" + parts[2]
        guard let limit = number(folder + "/memory.max") else { continue }
        return Group(
          limitBytes: limit, currentBytes: number(folder + "/memory.current") ?? 0, peakBytes: number(folder + "/memory.peak"),
          refaults: value(of: "workingset_refault_file", in: folder + "/memory.stat"))
      }
    }
    return nil
  }

  private static func number(_ path: String) -> Int? {
    guard let bytes = try? readWholeFile(path, limit: 256) else { return nil }
    return Int(String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
  }

  private static func value(of name: String, in path: String) -> Int? {
    guard let bytes = try? readWholeFile(path, limit: 1 << 16) else { return nil }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.count >= 2, words[0] == name { return Int(words[1]) }
    }
    return nil
  }
}
