import Agent
import ArgumentParser
import Basics

/// Which broker a client talks to, and as whom.
struct BrokerArguments: ParsableArguments {
  @Option(help: "The broker's host.")
  var host = "127.0.0.1"
  @Option(help: "The broker's port.")
  var port = 1883
  @Option(help: "User name; the password is taken from STERNA_MQTT_PASSWORD, or systemd's credential mqtt-password.")
  var username: String?
  @Option(help: "First levels of every topic.")
  var base = "sterna"
  @OptionGroup(title: "Transport security") var transport: TransportArguments

  func validate() throws {
    guard 1...65_535 ~= port else { throw ValidationError("--port: expected 1...65535, found \(port)") }
  }

  /// How to connect.
  func connection() throws(SternaError) -> AgentConfiguration.MQTT {
    var mqtt = AgentConfiguration.MQTT()
    (mqtt.host, mqtt.port, mqtt.sessionExpiry) = (host, port, 0)
    mqtt.username = if let username { username } else { try Secret.find("username", in: processEnvironment())?.text }
    mqtt.password = try Secret.find("password", in: processEnvironment())
    mqtt.tls = try transport.security()
    return mqtt
  }
}
