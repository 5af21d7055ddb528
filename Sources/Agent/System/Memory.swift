import Glibc

/// Bytes of memory that this process holds now; 0 where the kernel does not say. `/proc/self` is there under ProcSubset=pid, too.
func residentBytes() -> Int {
  guard let bytes = try? readWholeFile("/proc/self/statm", limit: 256) else { return 0 }
  let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
  return words.count > 1 ? (Int(words[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
}
