import Basics
import Glibc

extension AgentConfiguration.TLS {
  /// Checks what can be checked before there is a connection.
  ///
  /// - Parameter name: what the operator calls a part: `{ "mqtt.tls." + $0 }` in a configuration, `{ "--" + $0 }` on a command line.
  public func check(name: (String) -> String) throws(SternaError) {
    func refuse(_ part: String, _ message: String, _ expected: String) -> SternaError {
      SternaError(.badConfiguration, message, at: name(part), expected: expected)
    }
    if (certificate == nil) != (key == nil) {
      throw refuse(key == nil ? "key" : "certificate", "a client certificate needs both parts", "certificate and key")
    }
    for (part, path) in [("ca", ca), ("certificate", certificate)] {
      guard let path else { continue }
      guard access(path, R_OK) == 0 else { throw refuse(part, "\(path) cannot be read: \(String(cString: strerror(errno)))", "a PEM file") }
    }
    if let key { try Secret.checkPrivate(key, at: name("key")) }
    if let alpn {
      guard (1...255).contains(alpn.utf8.count), alpn.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
        throw refuse("alpn", "is not the name of a protocol", "1 to 255 ASCII characters, for example \"mqtt\"")
      }
    }
    if let psk {
      guard ca == nil, certificate == nil else { throw refuse("psk_identity", "goes without certificates", "either a shared key, or ca, certificate and key") }
      guard (1...128).contains(psk.identity.utf8.count), !psk.identity.utf8.contains(0) else { throw refuse("psk_identity", "is not an identity", "1 to 128 bytes") }
      // libmosquitto holds 256 bytes; OpenSSL takes that many, too.
      guard (32...512).contains(psk.key.text.utf8.count), psk.key.text.utf8.count.isMultiple(of: 2), psk.key.text.utf8.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }) else {
        throw refuse("psk_file", "is not a key", "32 to 512 hexadecimal digits, an even number of them, as openssl rand -hex 32 prints them")
      }
    }
  }
}

/// What libmosquitto and OpenSSL say about a handshake that failed, in the operator's words: which key of the configuration to look at.
///
/// - Parameters:
///   - log: the library's complaints since the connection was begun.
///   - now: milliseconds since 1970, as far as this machine knows.
///   - isBrokenOff: the broker ended the connection before it said a word of MQTT. Of an alert that came with it the library does not always tell.
/// - Returns: nil when this is nothing that is known here.
package func explainTLS(_ log: String, isBrokenOff: Bool, _ tls: AgentConfiguration.TLS, now: Int = Clock.wall) -> String? {
  func has(_ parts: String...) -> Bool { parts.contains { log.contains($0) } }
  if has("host name verification failed") { return "mqtt.host is not a name in the broker's certificate" }
  if has("Unable to load CA") { return "mqtt.tls.ca holds no certificate in PEM" }
  if has("Unable to load client certificate") { return "mqtt.tls.certificate holds no certificate in PEM" }
  if has("key are inconsistent") { return "mqtt.tls.key does not belong to mqtt.tls.certificate" }
  if has("Unable to load client key") { return "mqtt.tls.key holds no private key in PEM without a passphrase, or not that of mqtt.tls.certificate" }
  if has("no application protocol") { return "the broker does not know the protocol of mqtt.tls.alpn" }
  if has("wrong version number", "packet length too long", "unexpected eof") { return "there is no TLS on mqtt.port; brokers have it on a port of its own, often 8883" }
  if tls.psk != nil, has("alert", "psk", "bad record mac", "decrypt") { return "the broker does not accept mqtt.tls.psk_identity with this key" }
  if has("certificate verify failed", "certificate is not yet valid"), now < Clock.firstCredible {
    return "this machine's clock says \(Clock.text(now)), when no certificate was valid yet; set it, or wait until the network does"
  }
  if has("certificate has expired", "alert certificate expired") { return "a certificate has expired, or this machine's clock is wrong" }
  if has("certificate verify failed") {
    return tls.ca == nil ? "the broker's certificate is signed by none that this system trusts; name its signer in mqtt.tls.ca" : "the broker's certificate is not signed by the one in mqtt.tls.ca, or has expired"
  }
  if tls.psk == nil, isBrokenOff || has("alert") {
    return "the broker breaks TLS off; most likely it "
      + (tls.certificate == nil
        ? "wants a client certificate: mqtt.tls.certificate and mqtt.tls.key. Or there is no TLS on mqtt.port" : "does not accept the certificate of mqtt.tls.certificate")
  }
  return nil
}
