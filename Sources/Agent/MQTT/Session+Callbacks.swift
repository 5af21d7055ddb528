import CMosquitto
import Glibc
import Jobs

/// What the library reports: all run inside `read`, on the caller's thread, and only take notes.
extension Session {
  func setCallbacks() {
    func session(_ pointer: UnsafeMutableRawPointer?) -> Session? {
      pointer.map { Unmanaged<Session>.fromOpaque($0).takeUnretainedValue() }
    }
    mosquitto_log_callback_set(handle) { _, me, level, text in
      guard let me = session(me) else { return }
      me.packets += 1
      guard level & Int32(MOSQ_LOG_ERR) != 0, let text, me.complaints.utf8.count < 1000 else { return }
      me.complaints += (me.complaints.isEmpty ? "" : "; ") + String(cString: text)
    }
    mosquitto_connect_v5_callback_set(handle) { _, me, code, _, properties in
      guard let me = session(me) else { return }
      me.events.connected = code
      me.isGreeted = true
      var maximum: UInt16 = 0
      if mosquitto_property_read_int16(properties, Int32(MQTT_PROP_RECEIVE_MAXIMUM.rawValue), &maximum, false) != nil {
        me.events.receiveMaximum = Int(maximum)
      }
      func has(_ feature: mqtt5_property) -> Bool {
        var isThere: UInt8 = 1
        _ = mosquitto_property_read_byte(properties, Int32(feature.rawValue), &isThere, false)
        return isThere != 0
      }
      me.keepsRetained = has(MQTT_PROP_RETAIN_AVAILABLE)
      me.numbersSubscriptions = has(MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE)
    }
    mosquitto_disconnect_v5_callback_set(handle) { _, me, code, _ in
      // Below 128 it is the library that noticed, and `read` says what.
      if code >= 128 { session(me)?.events.disconnected = code }
    }
    mosquitto_publish_v5_callback_set(handle) { _, me, number, reason, _ in session(me)?.events.published.append((number, reason)) }
    mosquitto_subscribe_v5_callback_set(handle) { _, me, number, count, granted, _ in
      let granted = (0..<Int(count)).compactMap { granted?[$0] }
      session(me)?.events.subscribed.append((number, granted))
    }
    mosquitto_unsubscribe_v5_callback_set(handle) { _, me, _, _ in session(me)?.events.unsubscribed += 1 }
    mosquitto_message_v5_callback_set(handle) { _, me, message, properties in
      guard let me = session(me), let message else { return }
      me.receive(message.pointee, properties)
    }
  }

  private func receive(_ message: mosquitto_message, _ properties: OpaquePointer?) {
    guard let topic = message.topic else { return }
    let payload = UnsafeRawBufferPointer(start: message.payload, count: message.payload == nil ? 0 : Int(message.payloadlen))
    var incoming = Incoming(topic: String(cString: topic), size: payload.count, isRetained: message.retain)
    if payload.count <= payloadLimit { incoming.payload = [UInt8](payload) } else { incoming.idOfOversized = topLevelID(in: payload) }
    if let properties {
      var text: UnsafeMutablePointer<CChar>?
      if mosquitto_property_read_string(properties, Int32(MQTT_PROP_RESPONSE_TOPIC.rawValue), &text, false) != nil, let text {
        incoming.responseTopic = String(cString: text)
        free(text)
      }
      var data: UnsafeMutableRawPointer?
      var count: UInt16 = 0
      if mosquitto_property_read_binary(properties, Int32(MQTT_PROP_CORRELATION_DATA.rawValue), &data, &count, false) != nil, let data {
        incoming.correlation = [UInt8](UnsafeRawBufferPointer(start: data, count: Int(count)))
        free(data)
      }
      var seconds: UInt32 = 0
      if mosquitto_property_read_int32(properties, Int32(MQTT_PROP_MESSAGE_EXPIRY_INTERVAL.rawValue), &seconds, false) != nil {
        incoming.expiry = Int(seconds)
      }
      var next: OpaquePointer? = properties
      var skip = false
      while let from = next {
        var identifier: UInt32 = 0
        next = mosquitto_property_read_varint(from, Int32(MQTT_PROP_SUBSCRIPTION_IDENTIFIER.rawValue), &identifier, skip)
        if next != nil { incoming.subscriptions.append(Int(identifier)) }
        skip = true
      }
    }
    events.bytes += incoming.payload.count
    events.messages.append(incoming)
  }
}

/// The `id` of a JSON object without parsing it: a payload over the limit is refused unread, but its sender should learn which one it was.
package func topLevelID(in bytes: UnsafeRawBufferPointer) -> String? {
  var depth = 0
  var at = 0
  var name: Range<Int>?
  while at < bytes.count {
    switch bytes[at] {
    case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
    case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
    case UInt8(ascii: ","): name = nil
    case UInt8(ascii: "\""):
      let start = at + 1
      at = start
      while at < bytes.count, bytes[at] != UInt8(ascii: "\"") { at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1 }
      guard at < bytes.count, depth == 1 else { break }
      if let known = name {
        if bytes[known].elementsEqual("id".utf8) {
          let id = String(decoding: bytes[start..<at], as: UTF8.self)
          return Job.isValid(id: id) ? id : nil
        }
      } else {
        name = start..<at
      }
    default: break
    }
    at += 1
  }
  return nil
}
