import Agent
import Basics
import Glibc
import Inference
import Jobs
import ModelFile
import Tokenizer
import Crypto

/// A folder in memory, removed at the end.
final class Scratch {
  let path: String

  init() throws {
    path = "/dev/shm/sterna-fuzz-\(getpid())"
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw SternaError(.io, "cannot be made", at: path) }
    atexit { remove("/dev/shm/sterna-fuzz-\(getpid())/input") }
  }

  /// - Parameter size: zeros follow up to this size.
  @discardableResult
  func write(_ bytes: some Collection<UInt8>, to name: String = "input", paddedTo size: Int = 0) throws -> String {
    let file = open(path + "/" + name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw SternaError(.io, "cannot be written", at: path) }
    defer { close(file) }
    let all = Array(bytes)
    guard Glibc.write(file, all, all.count) == all.count, ftruncate(file, max(size, all.count)) == 0 else { throw SternaError(.io, "cannot be written", at: path) }
    return path + "/" + name
  }
}

/// What a broker sends, byte by byte, to a client that has just connected: through libmosquitto, the callbacks and the intake.
final class RogueBroker {
  private let listener: Int32
  private var configuration = AgentConfiguration.MQTT()

  init() throws {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, size) == 0 && listen(listener, 16) == 0 && getsockname(listener, $0, &size) == 0 }
    }
    guard isBound else { throw SternaError(.io, "no port to listen on", cause: String(cString: strerror(errno))) }
    configuration.port = Int(UInt16(bigEndian: address.sin_port))
  }

  /// - Returns: the messages that came out of it.
  func send(_ bytes: [UInt8], version: AgentConfiguration.MQTT.Version) throws -> [Session.Incoming] {
    let session = try Session(configuration, clientID: "fuzz", version: version, will: nil, payloadLimit: 4096)
    guard session.connect(configuration) == nil else { return [] }
    let peer = accept(listener, nil, nil)
    guard peer >= 0 else { return [] }
    // Without this every input would leave a port behind for a minute.
    var reset = linger(l_onoff: 1, l_linger: 0)
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, socklen_t(MemoryLayout<linger>.size))
    defer { close(peer) }
    _ = Glibc.send(peer, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    shutdown(peer, Int32(SHUT_WR))
    var messages: [Session.Incoming] = []
    for _ in 0..<64 {
      let end = session.read(messages: 64, bytes: 1 << 20)
      messages += session.takeEvents().messages
      if end != nil || session.write() != nil { break }
    }
    return messages
  }
}

/// What a broker might send over MQTT 5: PUBLISH packets whose topics, properties and payloads come from an input, in frames that are right. Any bytes would end in libmosquitto before 2.1,
/// which takes a property that it does not know for a mistake of its own and ends the process (docs/security.md).
func publications(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
  var rest = bytes
  func take(_ count: Int) -> [UInt8] {
    defer { rest = rest.dropFirst(count) }
    return Array(rest.prefix(count))
  }
  func byte() -> UInt8 { rest.popFirst() ?? 0 }
  func counted(_ bytes: [UInt8]) -> [UInt8] { [UInt8(truncatingIfNeeded: bytes.count >> 8), UInt8(truncatingIfNeeded: bytes.count)] + bytes }
  func variable(_ number: Int) -> [UInt8] { number < 128 ? [UInt8(number)] : [UInt8(number & 127) | 128] + variable(number >> 7) }

  var packets: [UInt8] = [0x20, 3, 0, 0, 0]
  while !rest.isEmpty, packets.count < 1 << 16 {
    let flags = byte()
    var body = counted(take(Int(byte())))
    if flags & 0b110 != 0 { body += [byte(), byte()] }
    var properties: [UInt8] = []
    for _ in 0..<byte() & 15 {
      switch byte() % 8 {
      case 0: properties += [0x01, byte()]
      case 1: properties += [0x02, byte(), byte(), byte(), byte()]
      case 2: properties += [0x03] + counted(take(Int(byte())))
      case 3: properties += [0x08] + counted(take(Int(byte())))
      case 4: properties += [0x09] + counted(take(Int(byte())))
      case 5: properties += [0x0B] + variable(Int(byte()) << 8 | Int(byte()))
      case 6: properties += [0x26] + counted(take(Int(byte()))) + counted(take(Int(byte())))
      default: properties += [0x23, byte(), byte()]
      }
    }
    body += variable(properties.count) + properties + take(Int(byte()) << 8 | Int(byte()))
    packets += [0x30 | flags & 15] + variable(body.count) + body
  }
  return packets
}

/// Has the model write the file of a prompt.
func makePrefix(_ model: Model, _ folder: Scratch, _ prompt: [TokenID]) throws -> (name: String, bytes: [UInt8]) {
  let cache = PrefixCache(model, budgetBytes: 1 << 22, directory: folder.path, diskBudgetBytes: 1 << 24)
  let sequence = try model.sequence(capacity: prompt.count)
  _ = try model.forward([Step(sequence: sequence, tokens: prompt, want: .none)])
  cache.insert(sequence, tokens: prompt, isPrompt: true)
  while try cache.persistOne() {}
  guard let stream = opendir(folder.path) else { throw SternaError(.io, "no folder", at: folder.path) }
  defer { closedir(stream) }
  while let entry = readdir(stream) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
    if name.hasSuffix(".kv") { return (name, try readWholeFile(folder.path + "/" + name, limit: 1 << 24)) }
  }
  throw SternaError(.io, "no prompt was written", at: folder.path)
}

/// A prompt's file with other keys and values, and the checksum that belongs to them: as if someone had written it on purpose.
/// - Parameter header: bytes in front of them.
func resealed(_ whole: [UInt8], header: Int, with values: ArraySlice<UInt8>) -> [UInt8] {
  var bytes = Array(whole.dropLast(32))
  for (at, value) in zip(header..<bytes.count, values) { bytes[at] = value }
  return bytes + Array(SHA256.hash(data: bytes))
}

/// Reads every page, and the ends.
func touch(_ bytes: UnsafeRawBufferPointer) {
  var sum: UInt8 = 0
  for at in stride(from: 0, to: bytes.count, by: 4096) { sum &+= bytes[at] }
  if let last = bytes.last { sum &+= last }
  withExtendedLifetime(sum) {}
}
