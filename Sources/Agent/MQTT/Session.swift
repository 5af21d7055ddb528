import Basics
import CMosquitto
import Glibc
import Jobs

/// One connection to a broker, through libmosquitto, driven by the caller's own poll loop on one thread.
///
/// The order of calls is what the agent's guarantee rests on. With `mosquitto_threaded_set(true)` the library only *queues* the
/// acknowledgement of a message that `read` delivers; `write` puts it on the wire. Between the two the caller stores the messages. If that
/// fails it drops the session without calling `write`: the broker has no acknowledgement and delivers again.
///
/// A session serves one connection. After it a new one is made, so that no acknowledgement and no half-sent message survives in the
/// library's memory: what must survive is in the journal.
package final class Session {
  /// Bytes of the largest packet that the broker may send. Bigger than the agent's own limit, so that it can answer what is over that.
  static let maximumPacket = 4 << 20

  package struct Will: Sendable {
    var topic: String
    var payload: [UInt8]
    /// Seconds from the end of the connection; a new one before that stops it (MQTT 5 only).
    var delay = 0
    var isRetained = true
  }

  /// A message as it arrived.
  package struct Incoming {
    package var topic: String
    /// Empty when `size` is over the limit.
    var payload: [UInt8] = []
    var size: Int
    var isRetained: Bool
    var responseTopic: String?
    var correlation: [UInt8]?
    /// Seconds until the message is of no use.
    var expiry: Int?
    /// Of the subscriptions that this message belongs to; empty where the broker does not say (MQTT 3.1.1).
    var subscriptions: [Int] = []
    /// The `id` member of a payload that was too large to keep.
    var idOfOversized: String?

    package init(
      topic: String, payload: [UInt8] = [], size: Int, isRetained: Bool, responseTopic: String? = nil, correlation: [UInt8]? = nil, expiry: Int? = nil, subscriptions: [Int] = []
    ) {
      self.topic = topic
      self.payload = payload
      self.size = size
      self.isRetained = isRetained
      self.responseTopic = responseTopic
      self.correlation = correlation
      self.expiry = expiry
      self.subscriptions = subscriptions
    }
  }

  /// A message to send.
  struct Outgoing {
    var topic: String
    var payload: [UInt8]
    var isRetained = false
    /// 1, or 0 for what may be lost.
    var quality: Int32 = 1
    var responseTopic: String?
    var correlation: [UInt8]?
    var expiry: Int?
    var properties: [(name: String, value: String)] = []
  }

  /// What the library reported since the last look.
  package struct Events {
    /// CONNACK: 0, or a refusal (MQTT 5 reason codes from 128 on, 3.1.1 codes 1 to 5).
    var connected: Int32?
    /// Publications that the broker may have unacknowledged.
    var receiveMaximum: Int?
    package var messages: [Incoming] = []
    /// Bytes of `messages`.
    var bytes = 0
    var published: [(message: Int32, reason: Int32)] = []
    /// Granted QoS, or refusals from 128 on.
    package var subscribed: [(message: Int32, granted: [Int32])] = []
    /// How many ends of subscriptions the broker has confirmed.
    var unsubscribed = 0
    /// The broker's reason for ending the connection, from 128 on.
    var disconnected: Int32?
  }

  package let version: AgentConfiguration.MQTT.Version
  var events = Events()
  let handle: OpaquePointer
  let payloadLimit: Int
  private let tls: AgentConfiguration.TLS?
  /// What the library complained about; it tells OpenSSL's reasons nowhere else.
  var complaints = ""
  var isGreeted = false
  /// Whether the broker keeps retained messages, and whether it says of a message which subscription it is for.
  var keepsRetained = true
  var numbersSubscriptions = true
  /// Packets seen so far; the library says nothing else about whether `mosquitto_loop_read` found one.
  var packets = 0
  private var bytesAtLastPacket = 0

  private static let library: Void = { mosquitto_lib_init() }()

  /// - Parameters:
  ///   - version: `.v5` or `.v311`.
  ///   - payloadLimit: bytes; payloads over it are not kept.
  package init(
    _ configuration: AgentConfiguration.MQTT, clientID: String, version: AgentConfiguration.MQTT.Version, will: Will?, payloadLimit: Int
  ) throws(SternaError) {
    _ = Self.library
    guard let handle = mosquitto_new(clientID, configuration.sessionExpiry == 0, nil) else {
      throw SternaError(.io, "no MQTT session could be made", cause: String(cString: strerror(errno)))
    }
    self.handle = handle
    self.version = version
    self.payloadLimit = payloadLimit
    tls = configuration.tls
    mosquitto_user_data_set(handle, Unmanaged.passUnretained(self).toOpaque())
    mosquitto_threaded_set(handle, true)
    mosquitto_int_option(handle, MOSQ_OPT_PROTOCOL_VERSION, version == .v5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311)
    mosquitto_int_option(handle, MOSQ_OPT_RECEIVE_MAXIMUM, 100)
    mosquitto_int_option(handle, MOSQ_OPT_TCP_NODELAY, 1)
    if let username = configuration.username {
      try Self.check(mosquitto_username_pw_set(handle, username, configuration.password?.text), "user name and password")
    }
    if let tls = configuration.tls { try setTransport(tls) }
    if let will {
      var properties: OpaquePointer?
      if version == .v5, will.delay > 0 { mosquitto_property_add_int32(&properties, Int32(MQTT_PROP_WILL_DELAY_INTERVAL.rawValue), UInt32(will.delay)) }
      let code = mosquitto_will_set_v5(handle, will.topic, Int32(will.payload.count), will.payload, 1, will.isRetained, properties)
      // On success they are the library's.
      if code != MOSQ_ERR_SUCCESS.rawValue { mosquitto_property_free_all(&properties) }
      try Self.check(code, "the last will")
    }
    setCallbacks()
  }

  /// Closes the socket without a farewell: queued acknowledgements are lost, and the broker publishes the will.
  deinit { mosquitto_destroy(handle) }

  private func setTransport(_ tls: AgentConfiguration.TLS) throws(SternaError) {
    if let psk = tls.psk {
      try Self.check(mosquitto_tls_psk_set(handle, psk.key.text, psk.identity, nil), "mqtt.tls.psk_identity")
    } else {
      try Self.check(mosquitto_tls_set(handle, tls.ca, tls.ca == nil ? "/etc/ssl/certs" : nil, tls.certificate, tls.key, nil), "mqtt.tls")
    }
    if let alpn = tls.alpn { try Self.check(mosquitto_string_option(handle, MOSQ_OPT_TLS_ALPN, alpn), "mqtt.tls.alpn") }
  }

  private static func check(_ code: Int32, _ what: String) throws(SternaError) {
    guard code != MOSQ_ERR_SUCCESS.rawValue else { return }
    throw SternaError(.io, "\(what): the MQTT library refused", cause: text(code))
  }

  /// The library's words for one of its codes.
  static func text(_ code: Int32) -> String {
    let text = code == MOSQ_ERR_ERRNO.rawValue ? String(cString: strerror(errno)) : String(cString: mosquitto_strerror(code))
    return text.hasSuffix(".") ? String(text.dropLast()) : text
  }

  /// Why a connection is over, or is none.
  private func reason(_ code: Int32) -> String {
    let isBrokenOff = !isGreeted && (code == MOSQ_ERR_CONN_LOST.rawValue || code == MOSQ_ERR_ERRNO.rawValue && [EPROTO, ECONNRESET, EPIPE].contains(errno))
    let words = Self.text(code)
    guard let tls else { return words }
    let details = complaints.isEmpty ? "" : " (\(complaints))"
    return (explainTLS(complaints, isBrokenOff: isBrokenOff, tls) ?? words) + details
  }
}

// MARK: - Driving it

extension Session {
  /// Looks the host up, connects and queues CONNECT. Takes as long as the network takes, so it belongs on a thread of its own; nothing
  /// else may use the session meanwhile.
  ///
  /// - Returns: nil, or why not.
  package func connect(_ configuration: AgentConfiguration.MQTT) -> String? {
    var properties: OpaquePointer?
    defer { mosquitto_property_free_all(&properties) }
    if version == .v5 {
      mosquitto_property_add_int32(&properties, Int32(MQTT_PROP_SESSION_EXPIRY_INTERVAL.rawValue), UInt32(configuration.sessionExpiry))
      mosquitto_property_add_int32(&properties, Int32(MQTT_PROP_MAXIMUM_PACKET_SIZE.rawValue), UInt32(Self.maximumPacket))
    }
    errno = 0
    let code = mosquitto_connect_bind_v5(handle, configuration.host, Int32(configuration.port), Int32(configuration.keepAlive), nil, properties)
    return code == MOSQ_ERR_SUCCESS.rawValue ? nil : reason(code)
  }

  var socket: Int32 { mosquitto_socket(handle) }
  var wantsToWrite: Bool { mosquitto_want_write(handle) }
  var speaksTLS: Bool { tls != nil }

  /// In words, why the broker refuses the connection.
  func refusal(_ code: Int32) -> String {
    var words = String(cString: version == .v5 ? mosquitto_reason_string(code) : mosquitto_connack_string(code))
    if words.last == "." { words.removeLast() }
    return words
  }

  /// Reads the packets that are there, into `events`: at most `messages` of them or `bytes`, and none behind a CONNACK, so that what has
  /// to be said first can be.
  ///
  /// - Returns: nil, or why the connection is over.
  package func read(messages: Int, bytes: Int) -> String? {
    while events.messages.count < messages, events.bytes < bytes {
      let before = packets
      let code = mosquitto_loop_read(handle, 1)
      guard code == MOSQ_ERR_SUCCESS.rawValue else { return reason(code) }
      if packets == before {
        // The library keeps no limit of its own: a broker gone mad could have it collect a packet of 256 MiB.
        return bytesRead - bytesAtLastPacket > Self.maximumPacket + 65_536 ? "the broker sends a packet of more than \(Self.maximumPacket) bytes" : nil
      }
      bytesAtLastPacket = bytesRead
      if events.connected != nil { return nil }
    }
    return nil
  }

  /// Bytes taken from the socket since the connection was made, TLS included: what the kernel received but for what still waits there.
  private var bytesRead: Int {
    // `tcpi_bytes_received` of linux/tcp.h, from Linux 4.1 on; glibc's struct ends before it.
    let offset = 128
    var information = [UInt8](repeating: 0, count: offset + 8)
    var size = socklen_t(information.count)
    var waiting: Int32 = 0
    guard
      getsockopt(socket, Int32(IPPROTO_TCP), TCP_INFO, &information, &size) == 0, Int(size) == information.count, ioctl(socket, UInt(FIONREAD), &waiting) == 0
    else { return 0 }
    let received = information.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    return max(0, Int(truncatingIfNeeded: received) - Int(waiting))
  }

  /// Writes what is queued: acknowledgements, publications.
  package func write() -> String? {
    let code = mosquitto_loop_write(handle, 1)
    return code == MOSQ_ERR_SUCCESS.rawValue ? nil : reason(code)
  }

  /// Keep-alive; to be called once a second.
  package func tick() -> String? {
    let code = mosquitto_loop_misc(handle)
    return code == MOSQ_ERR_SUCCESS.rawValue ? nil : reason(code)
  }

  /// What happened since the last call.
  package func takeEvents() -> Events {
    defer { events = Events() }
    return events
  }

  /// Subscribes with QoS 1.
  ///
  /// - Parameters:
  ///   - options: MQTT 5 subscription options besides the QoS; 3.1.1 has none.
  ///   - identifier: comes back with every message of this subscription (MQTT 5), from 1.
  /// - Returns: the number that the broker's answer will carry.
  @discardableResult
  func subscribe(_ filter: String, options: UInt32 = 0, identifier: Int = 1) -> Int32 {
    var number: Int32 = 0
    guard version == .v5 else {
      mosquitto_subscribe(handle, &number, filter, 1)
      return number
    }
    var properties: OpaquePointer?
    defer { mosquitto_property_free_all(&properties) }
    if numbersSubscriptions {
      mosquitto_property_add_varint(&properties, Int32(MQTT_PROP_SUBSCRIPTION_IDENTIFIER.rawValue), UInt32(identifier))
    }
    mosquitto_subscribe_v5(handle, &number, filter, 1, Int32(options), properties)
    return number
  }

  func unsubscribe(_ filter: String) {
    mosquitto_unsubscribe_v5(handle, nil, filter, nil)
  }

  /// Queues a message.
  ///
  /// - Returns: the number that its acknowledgement will carry, or the library's error.
  func publish(_ message: Outgoing) -> Result<Int32, MosquittoError> {
    var properties: OpaquePointer?
    defer { mosquitto_property_free_all(&properties) }
    if version == .v5 {
      mosquitto_property_add_byte(&properties, Int32(MQTT_PROP_PAYLOAD_FORMAT_INDICATOR.rawValue), 1)
      mosquitto_property_add_string(&properties, Int32(MQTT_PROP_CONTENT_TYPE.rawValue), "application/json")
      if let topic = message.responseTopic {
        mosquitto_property_add_string(&properties, Int32(MQTT_PROP_RESPONSE_TOPIC.rawValue), topic)
      }
      if let correlation = message.correlation, let count = UInt16(exactly: correlation.count) {
        mosquitto_property_add_binary(&properties, Int32(MQTT_PROP_CORRELATION_DATA.rawValue), correlation, count)
      }
      if let expiry = message.expiry.flatMap({ UInt32(exactly: $0) }) {
        mosquitto_property_add_int32(&properties, Int32(MQTT_PROP_MESSAGE_EXPIRY_INTERVAL.rawValue), expiry)
      }
      for property in message.properties {
        mosquitto_property_add_string_pair(&properties, Int32(MQTT_PROP_USER_PROPERTY.rawValue), property.name, property.value)
      }
    }
    var number: Int32 = 0
    let code = mosquitto_publish_v5(
      handle, &number, message.topic, Int32(message.payload.count), message.payload, message.quality, message.isRetained && keepsRetained, properties)
    return code == MOSQ_ERR_SUCCESS.rawValue ? .success(number) : .failure(MosquittoError(code: code))
  }

  struct MosquittoError: Error {
    var code: Int32
    var text: String { Session.text(code) }
    /// The broker's limit on packets is smaller than this message.
    var isOversize: Bool { code == MOSQ_ERR_OVERSIZE_PACKET.rawValue || code == MOSQ_ERR_PAYLOAD_SIZE.rawValue }
  }

  /// Queues the farewell: the broker drops the will.
  func disconnect() {
    mosquitto_disconnect_v5(handle, 0, nil)
  }
}
