import Basics
import Foundation
import Glibc
import Testing

private let clients = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../device-config/clients").standardized.path
private let hasPaho = (try? execute("/usr/bin/python3", ["-c", "import paho.mqtt.client"]).status) == 0

extension WithBroker {
  /// The examples that people start from, as they are.
  @Suite(.serialized) struct ClientExamples {
    @Test(.enabled(if: hasPaho, "needs python3-paho-mqtt")) func pahoGetsAnAnswerToEveryText() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      defer { agent.stop() }
      try online(broker)
      let (status, output) = try execute(
        "/usr/bin/python3", [clients + "/paho_client.py", "--port", "\(broker.port)", "--agent", "test", "--labels", "leak,noise", "a \"quoted\" text", "another"])
      #expect(status == 0, "\(output)")
      let answers = try output.split(separator: "\n").map { JSONReader(try JSON.parse(String($0))) }
      #expect(answers.count == 2 && answers.allSatisfy { $0["answer"]["label"].value == "leak" }, "\(output)")
      #expect(Set(try answers.map { try $0["text"].string() }) == ["a \"quoted\" text", "another"])
    }

    @Test func mosquittosToolsGetAnAnswer() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      defer { agent.stop() }
      try online(broker)
      let environment = ProcessInfo.processInfo.environment.merging(["STERNA_PORT": "\(broker.port)", "STERNA_AGENT": "test"]) { $1 }
      let (status, output) = try execute(clients + "/mosquitto.sh", ["water under pump 7", "leak", "noise"], environment: environment)
      #expect(status == 0, "\(output)")
      let answer = JSONReader(try JSON.parse(output.trimmingCharacters(in: .whitespacesAndNewlines)))
      #expect(answer["status"].value == "ok" && answer["result"]["label"].value == "leak", "\(output)")
    }

    /// Node-RED's part of the way is its nodes; the job in between is made by this function, as Node-RED would run it.
    @Test(.enabled(if: access("/usr/bin/node", X_OK) == 0, "needs nodejs")) func theNodeREDFunctionMakesAJobThatIsAnswered() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      defer { agent.stop() }
      try online(broker)
      let script = """
        const flow = JSON.parse(require('fs').readFileSync(process.argv[1])), node = flow.find(n => n.type === 'function');
        const made = new Function('msg', 'RED', 'Buffer', node.func)({topic: 'plant/7/alarm', payload: 'it is "leaking"'}, {util: {generateId: () => 'f00d'}}, Buffer);
        console.log(JSON.stringify({...made, correlationData: made.correlationData.toString()}));
        """
      let (status, output) = try execute("/usr/bin/node", ["-e", script, clients + "/node-red-flow.json"])
      #expect(status == 0, "\(output)")
      let made = JSONReader(try JSON.parse(output.trimmingCharacters(in: .whitespacesAndNewlines)))
      let (reply, correlation) = (try made["responseTopic"].string(), try made["correlationData"].string())
      let listener = try Listener(broker, reply)
      try publish(
        broker, try made["topic"].string().replacingOccurrences(of: "/gateway/", with: "/test/"), made["payload"].value?.compactBytes ?? [],
        arguments: ["-D", "publish", "response-topic", reply, "-D", "publish", "correlation-data", correlation])
      let answer = try listener.first("an answer")
      #expect(answer["status"] == "ok" && answer["id"] == .string(correlation) && answer["meta.from"] == "plant/7/alarm" && answer.properties.compact.contains(correlation), "\(answer.payload)")
    }

    /// Node-RED cannot be installed where tests run: what can be said without it.
    @Test func theNodeREDFlowIsWhole() throws {
      let flow = JSONReader(try JSON.parse(Array(Data(contentsOf: URL(fileURLWithPath: clients + "/node-red-flow.json")))))
      let nodes = try flow.array()
      let ids = Set(try nodes.map { try $0["id"].string() })
      #expect(ids.count == nodes.count)
      for node in nodes {
        for wire in try node["wires"].optional?.array().flatMap({ try $0.array() }) ?? [] { #expect(ids.contains(try wire.string())) }
        for name in ["z", "broker"] where node["type"].value != "mqtt-broker" {
          if let id = node[name].optional { #expect(ids.contains(try id.string())) }
        }
      }
      let reply = try #require(nodes.first { $0["name"].value == "answers" })["topic"].string()
      let code = try #require(nodes.first { $0["type"].value == "function" })["func"].string()
      #expect(code.contains("responseTopic: '\(reply)'") && code.contains("sterna/gateway/jobs/classify") && reply.hasPrefix("sterna/clients/"))
    }
  }
}
