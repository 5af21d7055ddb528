import Agent
import Basics
import Testing

/// Where a client may have its answer sent. The agent may write where clients may not, so each of these would have it do something for them.
@Suite struct ResponseTopics {
  /// - Returns: the topics that the answer goes to besides the agent's own.
  private func answered(_ topic: String, mqtt: String = "", tasks: String = "") throws -> [String] {
    let toml = "model.path = \"m\"\n[mqtt]\n\(mqtt)\n\(tasks)"
    let intake = Intake(try AgentConfiguration.parse(toml, name: "test", environment: [:]))
    let payload = Array(#"{"id":"a","input":"x","labels":["a","b"]}"#.utf8)
    let arrivals = intake.examine(.init(topic: "sterna/gateway/jobs/classify", payload: payload, size: payload.count, isRetained: false, responseTopic: topic, subscriptions: [1]))
    let outputs = try #require(arrivals.first).outputs
    #expect(arrivals.count == 1 && outputs.first == "sterna/gateway/results/a", "whatever the response topic is, the job is answered where it always is")
    return Array(outputs.dropFirst())
  }

  private static let longest = "sterna/clients/" + String(repeating: "x", count: 256 - "sterna/clients//replies".utf8.count) + "/replies"

  @Test(arguments: ["sterna/clients/line3/replies", "sterna/clients/line3/replies/7", "sterna/clients/line3/replies/a/b", "sterna/clients//replies", "sterna/clients/größe/replies", longest])
  func insideTheAllowListIsAnswered(topic: String) throws { #expect(try answered(topic) == [topic]) }

  @Test(arguments: [
    ("another tree", "plant/valve"), ("beside the list", "sterna/clients/line3/requests"), ("a level too few", "sterna/clients/replies"), ("a level too many", "sterna/clients/a/b/replies"),
    ("no levels", "sterna"), ("the list's own text", "sterna/clients/+/replies/#"), ("a wildcard for a level", "sterna/clients/+/replies"), ("a wildcard at the end", "sterna/clients/a/replies/#"),
    ("a wildcard inside a level", "sterna/clients/a+b/replies"), ("a NUL", "sterna/clients/a\u{0}/replies"), ("a NUL at the end", "sterna/clients/a/replies\u{0}"), ("nothing", ""),
    ("a byte too long", longest + "s"), ("much too long", "sterna/clients/a/replies/" + String(repeating: "x", count: 65_000)), ("in front of the list", "/sterna/clients/a/replies"),
    ("other letters", "Sterna/clients/a/replies"), ("dots", "sterna/clients/../../plant/replies"), ("the broker's own", "$SYS/broker/load"), ("a share", "$share/g/sterna/clients/a/replies"),
    ("a switch", "sterna/clients/a/replies/set"), ("the agent's jobs", "sterna/gateway/jobs/classify"), ("the agent's state", "sterna/gateway/state"), ("another agent's jobs", "sterna/other/jobs/classify"),
  ]) func anythingElseIsNot(name: String, topic: String) throws { #expect(try answered(topic).isEmpty, "\(name)") }

  /// An allow list as wide as can be does not open what must stay closed.
  @Test(arguments: [
    ("jobs", "sterna/gateway/jobs/classify"), ("requests", "sterna/gateway/request/drain"), ("results", "sterna/gateway/results/b"), ("state", "sterna/gateway/state"), ("the tree's root", "sterna/gateway"),
    ("an input of a task", "plant/7/alarm"), ("the broker's own", "$SYS/x"), ("a share", "$share/g/x"), ("a switch", "zigbee2mqtt/lamp/set"), ("discovery", "homeassistant/sensor/x/config"),
  ]) func aWideAllowListKeepsTheseClosed(name: String, topic: String) throws {
    let task = "[[tasks]]\nname = \"t\"\nkind = \"classify\"\ninput = \"plant/+/alarm\"\noutput = \"out\"\nlabels = [\"a\", \"b\"]"
    for list in ["[\"#\"]", "[\"+/#\", \"\(topic.contains("+") ? "x" : topic)\"]"] { #expect(try answered(topic, mqtt: "response_topics = \(list)", tasks: task).isEmpty, "\(name)") }
    #expect(try answered("panel/answers", mqtt: "response_topics = [\"#\"]", tasks: task) == ["panel/answers"])
  }

  @Test func anEmptyAllowListAnswersNobody() throws { #expect(try answered("sterna/clients/line3/replies", mqtt: "response_topics = []").isEmpty) }
}
