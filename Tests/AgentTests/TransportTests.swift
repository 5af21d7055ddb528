import Agent
import Basics
import Foundation
import Glibc
import Testing

extension WithBroker {
  /// TLS in every form that a broker may demand, and what is said when it is not what the broker demands.
  @Suite(.serialized) struct Transport {
    /// A broker with a certificate for localhost, and what it takes to talk to it.
    private struct SecureBroker {
      let broker: Broker
      let certificates: Certificates

      init(names: String = "DNS:localhost,IP:127.0.0.1", _ settings: String) throws {
        let place = try Broker(isRunning: false)
        certificates = try Certificates(in: place.folder)
        try certificates.issue("broker", names: names)
        try certificates.issue("agent")
        broker = try Broker(
          settings: """
            user root
            cafile \(certificates["ca.pem"])
            certfile \(certificates["broker.pem"])
            keyfile \(certificates["broker.key"])
            \(settings)
            """)
        keeper = place
      }
      /// Whose folder holds the certificates.
      private let keeper: Broker

      var ca: String { "ca = \"\(certificates["ca.pem"])\"" }
      var identity: String { "certificate = \"\(certificates["agent.pem"])\"\nkey = \"\(certificates["agent.key"])\"" }
    }

    private static let open = "allow_anonymous true"
    private static let demanding = "require_certificate true\nuse_identity_as_username true\nallow_anonymous false"

    private func configuration(_ broker: Broker, _ tls: String, mqtt: String = "", environment: [String: String] = [:]) throws -> AgentConfiguration {
      try .parse(RunningAgent.toml(broker, mqtt: "\(mqtt)\n[mqtt.tls]\n\(tls)"), name: "test", environment: environment)
    }

    /// What is said about a broker that does not let us in; empty when it does.
    private func complaint(_ broker: Broker, _ tls: String, mqtt: String = "", environment: [String: String] = [:]) -> String {
      do {
        try Agent.checkBroker(configuration(broker, tls, mqtt: mqtt, environment: environment))
        return ""
      } catch { return "\(error)" }
    }

    private func expect(_ complaint: String, names parts: String...) {
      for part in parts { #expect(complaint.contains(part), "\(part): \(complaint.isEmpty ? "was let in" : complaint)") }
    }

    /// An agent answers a job of `Submitter`, both through TLS.
    private func runsAJob(_ broker: Broker, _ tls: String, mqtt: String = "", environment: [String: String] = [:]) throws {
      let agent = try RunningAgent(toml: RunningAgent.toml(broker, mqtt: "\(mqtt)\n[mqtt.tls]\n\(tls)"), environment: environment) { FakeEngine() }
      defer { agent.stop() }
      try eventually("connected") { agent.log.text.contains("connected to") }
      var options = Submitter.Options()
      options.mqtt = try configuration(broker, tls, mqtt: mqtt, environment: environment).mqtt
      options.mqtt.sessionExpiry = 0
      options.agent = "test"
      options.timeout = 20
      var answers: [JSON?] = []
      try Submitter(options: options).submit([.init(kind: "classify", job: ["input": "the pump leaks", "labels": ["leak", "noise"]])]) { answers.append($1.json) }
      guard case .object(let answer)?? = answers.first else { throw Late(description: "no answer: \(answers)") }
      #expect(answer["status"] == "ok")
    }

    @Test func anAuthorityOfOnesOwn() throws {
      let secure = try SecureBroker(Self.open)
      try runsAJob(secure.broker, secure.ca)
      // Without TLS, or against a broker without it.
      let plain = try Broker()
      expect(complaint(plain, secure.ca), names: "no TLS on mqtt.port")
      let plainly = #expect(throws: SternaError.self) { try Agent.checkBroker(.parse(RunningAgent.toml(secure.broker), name: "t", environment: [:])) }
      #expect(plainly?.remedy?.contains("[mqtt.tls]") == true)
    }

    @Test func anotherAuthorityIsRefused() throws {
      let secure = try SecureBroker(Self.open)
      let other = try Broker(isRunning: false)
      let stranger = try Certificates(in: other.folder)
      expect(complaint(secure.broker, "ca = \"\(stranger["ca.pem"])\""), names: "mqtt.tls.ca", "not signed by")
      expect(complaint(secure.broker, ""), names: "mqtt.tls.ca", "this system trusts")
      try Data("no certificate".utf8).write(to: URL(fileURLWithPath: other.path("bad.pem")))
      expect(complaint(secure.broker, "ca = \"\(other.path("bad.pem"))\""), names: "mqtt.tls.ca", "PEM")
      // An agent says so once and goes on trying; the connection is never used.
      let agent = try RunningAgent(toml: RunningAgent.toml(secure.broker, mqtt: "[mqtt.tls]\nca = \"\(stranger["ca.pem"])\"")) { FakeEngine() }
      try eventually("a complaint") { agent.log.text.contains("not signed by the one in mqtt.tls.ca") }
      agent.stop()
      #expect(agent.log.count("not signed by the one in mqtt.tls.ca; trying") <= 1 && !agent.log.text.contains("connected to"))
    }

    @Test func aBrokerOfAnotherNameIsRefused() throws {
      let secure = try SecureBroker(names: "DNS:broker.example", Self.open)
      expect(complaint(secure.broker, secure.ca), names: "mqtt.host", "certificate")
    }

    /// Gateways without a battery start in 1970, when no certificate is valid; nobody thinks of the clock then.
    @Test(.enabled(if: clockLibrary != nil, "needs a C compiler")) func aClockThatIsNotSetIsNamed() throws {
      let secure = try SecureBroker(Self.open)
      let toml = RunningAgent.toml(secure.broker, mqtt: "[mqtt.tls]\n\(secure.ca)").replacingOccurrences(of: "path = \"none\"", with: "path = \"\(repository)/Models/pocket.gguf\"")
      try toml.write(toFile: secure.broker.path("agent.toml"), atomically: true, encoding: .utf8)
      func check(offset: Int) throws -> String {
        try "\(offset)".write(toFile: secure.broker.path("offset"), atomically: true, encoding: .utf8)
        let environment = ProcessInfo.processInfo.environment.merging(["LD_PRELOAD": clockLibrary ?? "", "CLOCK_OFFSET": secure.broker.path("offset")]) { $1 }
        return try execute(buildFolder + "/sterna", ["run", "--check", "--config", secure.broker.path("agent.toml")], environment: environment).output
      }
      let said = try check(offset: -55 * 365 * 86400)
      #expect(said.contains("this machine's clock says 19") && said.contains("set it"), "\(said)")
      #expect(try !check(offset: 0).contains("the broker:"))
    }

    @Test func clientCertificates() throws {
      let secure = try SecureBroker(Self.demanding)
      try runsAJob(secure.broker, secure.ca + "\n" + secure.identity)
      expect(complaint(secure.broker, secure.ca), names: "wants a client certificate", "mqtt.tls.certificate")
      let other = try Broker(isRunning: false)
      let stranger = try Certificates(in: other.folder)
      try stranger.issue("agent")
      let foreign = "certificate = \"\(stranger["agent.pem"])\"\nkey = \"\(stranger["agent.key"])\""
      expect(complaint(secure.broker, secure.ca + "\n" + foreign), names: "does not accept the certificate", "mqtt.tls.certificate")
      let mixed = "certificate = \"\(secure.certificates["agent.pem"])\"\nkey = \"\(stranger["agent.key"])\""
      expect(complaint(secure.broker, secure.ca + "\n" + mixed), names: "mqtt.tls.key")
    }

    @Test func sharedKeys() throws {
      let key = String(repeating: "0123456789abcdef", count: 4)
      let place = try Broker(isRunning: false)
      try "gateway:\(key)\n".write(toFile: place.path("psk"), atomically: true, encoding: .utf8)
      let broker = try Broker(settings: "user root\npsk_hint sterna\npsk_file \(place.path("psk"))\nuse_identity_as_username true\nallow_anonymous false")
      try (key + "\n").write(toFile: place.path("key"), atomically: true, encoding: .utf8)
      chmod(place.path("key"), 0o600)
      let right = "psk_identity = \"gateway\"\npsk_file = \"\(place.path("key"))\""
      try runsAJob(broker, right)
      // The key from the environment, or among systemd's credentials.
      try FileManager.default.copyItem(atPath: place.path("key"), toPath: place.path("mqtt-psk"))
      for environment in [["STERNA_MQTT_PSK": key], ["CREDENTIALS_DIRECTORY": place.folder]] {
        #expect(complaint(broker, "psk_identity = \"gateway\"", environment: environment).isEmpty)
      }
      expect(complaint(broker, "psk_identity = \"stranger\"", environment: ["STERNA_MQTT_PSK": key]), names: "mqtt.tls.psk_identity")
      let wrong = complaint(broker, "psk_identity = \"gateway\"", environment: ["STERNA_MQTT_PSK": String(key.reversed())])
      expect(wrong, names: "mqtt.tls.psk_identity")
      #expect(!wrong.contains(String(key.reversed())))
    }

    /// Where one port serves several protocols, 443 say, the broker picks by ALPN. mosquitto does not ask for it, openssl's server does.
    @Test func aProtocolByName() throws {
      let secure = try SecureBroker(Self.open)
      #expect(complaint(secure.broker, secure.ca + "\nalpn = \"mqtt\"").isEmpty)
      let port = try Broker(isRunning: false).port
      let server = Process()
      server.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
      server.arguments = [
        "s_server", "-accept", "127.0.0.1:\(port)", "-alpn", "x-mqtt", "-cert", secure.certificates["broker.pem"], "-key", secure.certificates["broker.key"], "-naccept", "2",
      ]
      let (input, output) = (Pipe(), Pipe())
      (server.standardInput, server.standardOutput, server.standardError) = (input, output, output)
      try server.run()
      defer { kill(server.processIdentifier, SIGKILL) }
      var said = ""
      while !said.contains("ACCEPT") { said += String(decoding: output.fileHandleForReading.availableData, as: UTF8.self) }
      func toml(_ alpn: String) -> String { RunningAgent.toml(secure.broker, mqtt: "[mqtt.tls]\n\(secure.ca)\nalpn = \"\(alpn)\"").replacingOccurrences(of: "port = \(secure.broker.port)", with: "port = \(port)") }
      let refused = #expect(throws: SternaError.self) { try Agent.checkBroker(.parse(toml("mqtt"), name: "t", environment: [:])) }
      #expect(refused?.description.contains("mqtt.tls.alpn") == true, "\(String(describing: refused))")
      let agent = try RunningAgent(toml: toml("x-mqtt")) { FakeEngine() }
      while !said.contains("ALPN protocols selected: x-mqtt") {
        let more = output.fileHandleForReading.availableData
        guard !more.isEmpty else { break }
        said += String(decoding: more, as: UTF8.self)
      }
      #expect(said.contains("ALPN protocols selected: x-mqtt"), "\(said)")
      kill(server.processIdentifier, SIGKILL)
      agent.stop()
    }

    @Test func userAndPasswordFromCredentialsAndNowhereElse() throws {
      let place = try Broker(isRunning: false)
      try execute("/usr/bin/mosquitto_passwd", ["-b", "-c", place.path("passwords"), "gateway", "hush-hush"])
      let secure = try SecureBroker("allow_anonymous false\npassword_file \(place.path("passwords"))")
      for (name, text) in [("mqtt-username", "gateway\n"), ("mqtt-password", "hush-hush\n")] {
        try text.write(toFile: place.path(name), atomically: true, encoding: .utf8)
        chmod(place.path(name), 0o400)
      }
      let environment = ["CREDENTIALS_DIRECTORY": place.folder]
      try runsAJob(secure.broker, secure.ca, environment: environment)
      let configuration = try configuration(secure.broker, secure.ca, environment: environment)
      #expect(configuration.mqtt.username == "gateway" && configuration.mqtt.password == Secret("hush-hush"))
      var dumped = ""
      dump(configuration, to: &dumped)
      for text in [dumped, "\(configuration)", String(reflecting: configuration)] { #expect(!text.contains("hush") && text.contains("secret")) }

      let wrong = complaint(secure.broker, secure.ca, environment: ["STERNA_MQTT_USERNAME": "gateway", "STERNA_MQTT_PASSWORD": "wrong-one"])
      expect(wrong, names: "the broker refused", "user name", "mqtt.password_file")
      #expect(!wrong.contains("wrong-one"))
      let agent = try RunningAgent(
        toml: RunningAgent.toml(secure.broker, mqtt: "username = \"gateway\"\n[mqtt.tls]\n\(secure.ca)"), environment: ["STERNA_MQTT_PASSWORD": "wrong-one"]
      ) { FakeEngine() }
      try eventually("a complaint") { agent.log.text.contains("does not let user \"gateway\" in") && agent.log.text.contains("mqtt.password_file") }
      agent.stop()
      #expect(!agent.log.text.contains("wrong-one"))
    }

    @Test func filesThatAreNotWhatTheyShouldBeAreNamed() throws {
      let place = try Broker(isRunning: false)
      let certificates = try Certificates(in: place.folder)
      try certificates.issue("agent")
      try "0123".write(toFile: place.path("short"), atomically: true, encoding: .utf8)
      try "".write(toFile: place.path("empty"), atomically: true, encoding: .utf8)
      for name in ["short", "empty"] { chmod(place.path(name), 0o600) }
      try "pass".write(toFile: place.path("open"), atomically: true, encoding: .utf8)
      chmod(place.path("open"), 0o644)
      chmod(certificates["agent.key"], 0o644)
      let pair = "certificate = \"\(certificates["agent.pem"])\"\nkey = "
      let cases: [(tls: String, mqtt: String, said: [String])] = [
        ("ca = \"/does/not/exist\"", "", ["mqtt.tls.ca", "/does/not/exist", "No such file"]),
        (pair + "\"/does/not/exist\"", "", ["mqtt.tls.key", "No such file"]),
        (pair + "\"\(certificates["agent.key"])\"", "", ["mqtt.tls.key", "everybody", "mode 644", "chmod 600"]),
        (pair + "\"\(place.folder)\"", "", ["mqtt.tls.key", "not a regular file"]),
        ("key = \"/dev/null\"", "", ["mqtt.tls.certificate", "both parts"]),
        ("alpn = \"\"", "", ["mqtt.tls.alpn"]),
        ("alpn = \"a b\"", "", ["mqtt.tls.alpn"]),
        ("alpn = \"\(String(repeating: "a", count: 256))\"", "", ["mqtt.tls.alpn"]),
        ("psk_identity = \"x\"", "", ["mqtt.tls.psk_file", "STERNA_MQTT_PSK"]),
        ("psk_file = \"\(place.path("short"))\"", "", ["mqtt.tls.psk_identity", "missing"]),
        ("psk_identity = \"x\"\npsk_file = \"\(place.path("short"))\"", "", ["mqtt.tls.psk_file", "hexadecimal"]),
        ("psk_identity = \"x\"\npsk_file = \"\(place.path("empty"))\"", "", ["mqtt.tls.psk_file", "empty"]),
        ("psk_identity = \"x\"\npsk_file = \"\(place.path("nothing"))\"", "", ["mqtt.tls.psk_file", "No such file"]),
        ("", "username = \"u\"\npassword_file = \"\(place.path("open"))\"", ["mqtt.password_file", "everybody", "chmod 600"]),
        ("", "username = \"u\"\npassword_file = \"\(place.path("empty"))\"", ["mqtt.password_file", "empty"]),
        ("", "username = \"u\"\npassword_file = \"\(place.folder)\"", ["mqtt.password_file", "not a regular file"]),
      ]
      for (tls, mqtt, said) in cases {
        let text = complaint(place, tls, mqtt: mqtt)
        for part in said + ["test, line"] { #expect(text.contains(part), "\(tls) \(mqtt): \(part): \(text)") }
      }
      let both = complaint(place, "ca = \"\(certificates["ca.pem"])\"\npsk_identity = \"x\"", environment: ["STERNA_MQTT_PSK": String(repeating: "ab", count: 16)])
      expect(both, names: "mqtt.tls.psk_identity", "without certificates")
    }
  }
}
