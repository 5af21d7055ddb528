import Basics
import Foundation
import Glibc
import Jobs
import Testing

extension WithBroker {
  /// Home Assistant, Prometheus, and events of single jobs: all by choice.
  @Suite(.serialized) struct Manners {
    static let tasks = """
      [[tasks]]
      name = "alarms"
      kind = "classify"
      input = "plant/+/alarm"
      output = "out/alarms"
      labels = ["leak", "noise"]
      [[tasks]]
      name = "orders"
      kind = "extract"
      input = "plant/+/order"
      output = "out/orders"
      fields = ["machine", "it's"]
      """
    static let described = "homeassistant/device/sterna_test/config"

    func components(_ message: Listener.Message) throws -> JSON.Object {
      guard case .object(let components)? = message["cmps"] else { throw Late(description: "no components: \(message.payload)") }
      return components
    }

    @Test func homeAssistantLearnsOfTheAgentAndItsTasks() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, "[home_assistant]\ndiscovery = true\n" + Self.tasks)
      try online(broker)
      let listener = try Listener(broker, "homeassistant/#")
      let health = try Listener(broker, "sterna/test/health").first("health")
      let message = try listener.first("the description")
      #expect(message.topic == Self.described && message.isRetained)
      #expect(message["dev.ids"] == "sterna_test" && message["o.name"] == "sterna")
      var ids = Set<String>()
      let all = try components(message)
      for (key, component) in all.members {
        let reader = JSONReader(component)
        #expect(["sensor", "binary_sensor"].contains(try reader["p"].string()))
        #expect(ids.insert(try reader["unique_id"].string()).inserted, "\(key)")
        // A sensor of a number that is not in the message would be unknown for ever.
        let template = try reader["value_template"].string()
        if try reader["state_topic"].string() == "sterna/test/health", let name = template.firstMatch(of: /value_json\.(\w+)/) { #expect(health[String(name.1)] != nil, "\(template)") }
      }
      let keys = all.members.map(\.name)
      for key in ["state", "problem", "queue", "task_alarms", "task_orders_machine", "task_orders_it's"] { #expect(keys.contains(key), "\(keys)") }
      let quoted = try JSONReader(.object(all))["task_orders_it's"]["value_template"].string()
      #expect(quoted.contains(#"fields['it\'s']"#), "\(quoted)")

      // Home Assistant starts again: all is said again. Another word of it is no reason.
      try publish(broker, "homeassistant/status", "offline")
      try publish(broker, "homeassistant/status", "online")
      try listener.wait("it is said again", count: 2) { $0.topic == Self.described }

      // A task that goes takes its sensors with it.
      agent.reload(RunningAgent.toml(broker, "[home_assistant]\ndiscovery = true\n" + Self.tasks.components(separatedBy: "[[tasks]]\nname = \"orders\"")[0]))
      let third = try listener.wait("it is said once more", count: 3) { $0.topic == Self.described }[2]
      #expect(try JSONReader(.object(components(third)))["task_orders_machine"].value == ["p": "sensor"])
      agent.stop()

      // The same over a restart; and a task that comes back has its sensors again.
      for (tasks, isOff) in [("", true), (Self.tasks, false)] {
        let before = listener.all.count { $0.topic == Self.described }
        let next = try RunningAgent(broker, "[home_assistant]\ndiscovery = true\n" + tasks)
        let said = try listener.wait("the next start says it", count: before + 1) { $0.topic == Self.described }[before]
        for key in ["task_orders_machine", "task_alarms"] { #expect(try (JSONReader(.object(components(said)))[key].value == ["p": "sensor"]) == isOff, "\(key)") }
        next.stop()
      }
    }

    @Test func aBrokerThatForgotIsToldAgain() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, "[home_assistant]\ndiscovery = true")
      try online(broker)
      broker.kill()
      try broker.start()
      try online(broker)
      #expect(try Listener(broker, "homeassistant/#").first("the description").topic == Self.described)
      agent.stop()
    }

    @Test func turnedOffItIsForgottenAndWithoutTheSectionNothingIsSaid() throws {
      let broker = try Broker()
      let first = try RunningAgent(broker, "[home_assistant]\ndiscovery = true")
      try online(broker)
      first.stop()
      let silent = try RunningAgent(broker)
      try online(broker)
      silent.stop()
      #expect(try Listener(broker, "homeassistant/#").first("as it was").topic == Self.described, "who says nothing changes nothing")
      let listener = try Listener(broker, "homeassistant/#")
      try listener.wait("what is retained")
      let off = try RunningAgent(broker, "[home_assistant]\ndiscovery = false")
      try listener.wait("it is taken back") { $0.payload.isEmpty }
      off.stop()
      let late = try Listener(broker, "homeassistant/#")
      try publish(broker, "homeassistant/mark", "here")
      try late.wait("the mark")
      #expect(late.all.map(\.topic) == ["homeassistant/mark"])
    }

    @Test func prometheusFindsWholeFilesThatItMayRead() throws {
      let broker = try Broker()
      let before = umask(0o077)
      defer { umask(before) }
      let agent = try RunningAgent(broker, "[prometheus]\ntextfile = \"sterna.prom\"", environment: ["RUNTIME_DIRECTORY": broker.folder])
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("one"))
      try listener.wait("the result")
      let path = broker.path("sterna.prom")
      #expect(try String(contentsOfFile: path, encoding: .utf8).contains("sterna_state{agent=\"test\",state=\"online\"} 1\n"))
      var status = stat()
      #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o644)
      agent.stop()
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(text.hasSuffix("\n"))
      var described = Set<String>()
      for line in text.split(separator: "\n") {
        if let type = line.firstMatch(of: /^# TYPE (\w+) (counter|gauge)$/) {
          #expect(described.insert(String(type.1)).inserted, "\(line)")
          #expect(type.1.hasSuffix("_total") == (type.2 == "counter"), "\(line)")
        } else if !line.hasPrefix("# HELP ") {
          let series = try #require(line.wholeMatch(of: /(\w+)\{agent="test"(,\w+="[^"]*")*\} -?[0-9][0-9.e+-]*/), "\(line)")
          #expect(described.contains(String(series.1)), "\(line)")
        }
      }
      for line in ["sterna_jobs_accepted_total{agent=\"test\"} 1", "sterna_jobs_done_total{agent=\"test\"} 1", "sterna_state{agent=\"test\",state=\"stopped\"} 1"] {
        #expect(text.contains(line + "\n"), "\(text)")
      }
      #expect(access(path + ".new", F_OK) != 0)
    }

    @Test func aPlaceThatCannotBeWrittenIsSaidOnceAndHurtsNothing() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, "[prometheus]\ntextfile = \"/proc/none/sterna.prom\"")
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("one"))
      try listener.wait("the result")
      agent.stop()
      #expect(agent.log.count("/proc/none/sterna.prom") == 1)
    }

    @Test func everyJobsWayCanBeWatched() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker) { FakeEngine { job, _ in job.id == "bad" ? Outcome(.failure(SternaError(.noValidOutput, "none"))) : FakeEngine.firstLabel(job) } }
      try online(broker)
      let silent = try Listener(broker, "sterna/test/events/#")
      try publish(broker, jobs + "classify", classify("unwatched"))
      try Listener(broker, "sterna/test/health").wait("health")
      agent.stop()
      #expect(silent.all.isEmpty, "by choice only")

      let watched = try RunningAgent(toml: RunningAgent.toml(broker).replacingOccurrences(of: "[agent]", with: "[agent]\nevents = true")) {
        FakeEngine { job, _ in job.id == "bad" ? Outcome(.failure(SternaError(.noValidOutput, "none"))) : FakeEngine.firstLabel(job) }
      }
      try online(broker)
      let listener = try Listener(broker, "sterna/test/events/job")
      try publish(broker, jobs + "classify", classify("good"))
      try publish(broker, jobs + "classify", classify("bad"))
      try publish(broker, jobs + "translate", classify("wrong"))
      func way(_ id: String) -> [String] {
        listener.all.filter { $0["id"] == .string(id) }.map { message in
          guard case .string(let event)? = message["event"] else { return "" }
          if case .string(let code)? = message["code"] { return "\(event) \(code)" }
          return event
        }
      }
      try eventually("all ends are said") { way("good").count == 3 && way("bad").count == 3 && way("wrong").count == 1 }
      #expect(way("good") == ["accepted", "running", "done"])
      #expect(way("bad") == ["accepted", "running", "failed no_valid_output"])
      #expect(way("wrong") == ["refused unknown_task"])
      #expect(listener.all.allSatisfy { !$0.isRetained && !$0.payload.contains("leaks") }, "no texts")
      watched.stop()
    }
  }
}
