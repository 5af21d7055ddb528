import Agent
import ArgumentParser
import Basics

/// How the connection to the broker is protected. Secrets come from files or the environment: what stands on a command line everybody can read.
struct TransportArguments: ParsableArguments {
  @Flag(help: "Speak TLS, and trust the certificates of this system; the options below imply it.")
  var tls = false
  @Option(help: "Who signed the broker's certificate, a PEM file.", completion: .file())
  var ca: String?
  @Option(help: "The client's own certificate, a PEM file.", completion: .file())
  var certificate: String?
  @Option(help: "The key of that certificate, a PEM file.", completion: .file())
  var key: String?
  @Option(help: "The protocol to ask for where one port serves several: mqtt.")
  var alpn: String?
  @Option(help: "The name of a key shared with the broker; the key itself is taken from --psk-file, STERNA_MQTT_PSK, or systemd's credential mqtt-psk.")
  var pskIdentity: String?
  @Option(help: "The shared key in hexadecimal digits, a file.", completion: .file())
  var pskFile: String?

  /// Nil: no TLS.
  func security() throws(SternaError) -> AgentConfiguration.TLS? {
    guard tls || ca != nil || certificate != nil || key != nil || alpn != nil || pskIdentity != nil || pskFile != nil else { return nil }
    var transport = AgentConfiguration.TLS()
    transport.ca = ca
    transport.certificate = certificate
    transport.key = key
    transport.alpn = alpn
    if let pskIdentity {
      guard let key = try Secret.read(pskFile, orFind: "psk", in: processEnvironment(), at: "--psk-file") else {
        throw SternaError(.badConfiguration, "is missing, and there is no STERNA_MQTT_PSK either", at: "--psk-file", expected: "the shared key")
      }
      transport.psk = .init(identity: pskIdentity, key: key)
    } else if pskFile != nil {
      throw SternaError(.badConfiguration, "is missing", at: "--psk-identity", expected: "the name that belongs to the shared key")
    }
    try transport.check { "--" + $0.replacing("_", with: "-") }
    return transport
  }
}
