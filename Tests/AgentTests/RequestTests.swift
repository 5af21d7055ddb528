import Foundation
import Testing

extension WithBroker {
  /// `request/<verb>` and `response/<verb>`, and the words `accepted` and `draining`.
  @Suite(.serialized) struct Requests {
    private let requests = "sterna/test/request/"
    private let responses = "sterna/test/response/"

    /// Sends a request and waits for the answer that carries its transaction.
    private func ask(_ broker: Broker, _ listener: Listener, _ verb: String, _ members: String = "") throws -> Listener.Message {
      let transaction = UUID().uuidString
      try publish(broker, requests + verb, "{\"transaction\":\"\(transaction)\"\(members.isEmpty ? "" : "," + members)}")
      return try listener.first("the answer to \(verb)") { $0.topic == responses + verb && $0["transaction"] == .string(transaction) }
    }

    @Test func jobsAreListedFoundAndCancelled() throws {
      let broker = try Broker()
      let gate = Gate()
      let listener = try Listener(broker, "sterna/test/#")
      let agent = try RunningAgent(broker, engine: gate.engine)
      try listener.wait("online") { $0["state"] == "online" }
      for id in ["a", "b", "c", "d"] { try publish(broker, jobs + "classify", classify(id, more: ",\"meta\":{\"of\":\"\(id)\"}")) }
      try eventually("a job runs") { gate.count == 1 }
      try eventually("all are accepted") { try ask(broker, listener, "queue/list")["data.queue"] == 4 }
      let list = try ask(broker, listener, "queue/list", "\"limit\":3")
      #expect(list["status"] == "ok")
      guard case .array(let listed)? = list["data.jobs"] else { throw Late(description: list.payload) }
      #expect(listed.count == 3)
      // d waits in the queue, b at the engine's door, a runs.
      #expect(try ask(broker, listener, "job/get", "\"id\":\"d\"")["data.state"] == "queued")
      #expect(try ask(broker, listener, "job/cancel", "\"id\":\"d\"")["data.state"] == "queued")
      let d = try listener.first("the end of d") { $0.topic == results + "d" }
      #expect(d["error.code"] == "cancelled")
      #expect(d["error.http"] == 499)
      #expect(d["meta.of"] == "d")
      for id in ["b", "a"] {
        #expect(try ask(broker, listener, "job/cancel", "\"id\":\"\(id)\"")["data.state"] == "running")
        #expect(try listener.first("the end of \(id)") { $0.topic == results + id }["error.code"] == "cancelled")
      }
      gate.open()
      try listener.wait("the result of c") { $0.topic == results + "c" && $0["status"] == "ok" }
      let found = try ask(broker, listener, "job/get", "\"id\":\"c\"")
      #expect(found["data.state"] == "finished")
      #expect(found["data.result.result.label"] == "leak")
      #expect(try ask(broker, listener, "job/cancel", "\"id\":\"c\"")["data.state"] == "finished")
      #expect(try ask(broker, listener, "job/cancel", "\"id\":\"nobody\"")["data.state"] == "unknown")
      // A repeat of a cancelled job gets the same answer.
      try publish(broker, jobs + "classify", classify("d", more: ",\"meta\":{\"of\":\"d\"}"))
      let repeats = try listener.wait("the same answer", count: 2) { $0.topic == results + "d" }
      #expect(repeats[0].payload == repeats[1].payload)
      agent.stop()
    }

    @Test func aDrainingAgentFinishesWhatItHasAndSaysNoToClients() throws {
      let broker = try Broker()
      let gate = Gate()
      let listener = try Listener(broker, "#")
      let agent = try RunningAgent(broker, Tasks.toml, engine: gate.engine)
      try listener.wait("online") { $0["state"] == "online" }
      try publish(broker, jobs + "classify", classify("before"))
      try eventually("the job runs") { gate.count == 1 }
      #expect(try ask(broker, listener, "queue/drain")["data.draining"] == true)
      let state = try listener.first("draining") { $0["state"] == "draining" }
      #expect(state["reason"] != nil)
      try publish(broker, jobs + "classify", classify("no"))
      let refused = try listener.first("a refusal") { $0.topic == results + "no" }
      #expect(refused["error.code"] == "draining")
      #expect(refused["error.http"] == 503)
      #expect(refused["error.retry_after_ms"] != nil)
      gate.open()
      try listener.wait("what was accepted") { $0.topic == results + "before" && $0["status"] == "ok" }
      // The answer to a job from before may still be asked for.
      try publish(broker, jobs + "classify", classify("before"))
      try listener.wait("the stored answer", count: 2) { $0.topic == results + "before" && $0["status"] == "ok" }
      #expect(try ask(broker, listener, "queue/drain", "\"on\":false")["data.draining"] == false)
      try publish(broker, jobs + "classify", classify("no"))
      try listener.wait("the id was free") { $0.topic == results + "no" && $0["status"] == "ok" }
      #expect(listener.all.last { $0.topic.hasSuffix("/state") }?["state"] == "online")
      agent.stop()
    }

    @Test func requestsThatAreNoneGetAClearError() throws {
      let broker = try Broker()
      let listener = try Listener(broker, "sterna/#")
      let agent = try RunningAgent(broker, environment: ["STERNA_MQTT_PASSWORD": "s3cret"], mqtt: "username = \"gateway\"")
      try listener.wait("online") { $0["state"] == "online" }
      let unknown = try ask(broker, listener, "job/cancle", "\"id\":\"a\"")
      #expect(unknown["status"] == "error")
      #expect(unknown["error.code"] == "not_found")
      guard case .string(let words)? = unknown["error.message"] else { throw Late(description: unknown.payload) }
      #expect(words.contains("job/cancel"))
      #expect(try ask(broker, listener, "job/cancel")["error.field"] == "id")
      #expect(try ask(broker, listener, "queue/list", "\"limit\":0")["error.code"] == "bad_field")
      try publish(broker, requests + "queue/list", "{")
      #expect(try listener.first("an answer") { $0["error.code"] == "bad_json" }["error.http"] == 400)
      // No payload at all, a topic for the answer, and one that is nobody's to choose.
      try publish(broker, requests + "health_check", "", arguments: ["-D", "publish", "response-topic", "sterna/clients/me/replies/1", "-D", "publish", "correlation-data", "seven"])
      let health = try listener.first("the answer where it was asked for") { $0.topic == "sterna/clients/me/replies/1" }
      #expect(health["data.healthy"] == true)
      #expect(health["data.queue"] == 0)
      try publish(broker, requests + "health_check", "", arguments: ["-D", "publish", "response-topic", "sterna/test/jobs/classify"])
      let configuration = try ask(broker, listener, "config/get")
      #expect(configuration["data.mqtt.username"] == "gateway")
      #expect(configuration["data.mqtt.has_password"] == true)
      #expect(!configuration.payload.contains("s3cret"))
      for key in ["agent.events", "model.store", "memory.limit_bytes", "experts.readers", "limits.fields", "journal.path", "prefixes.path", "pool.full_jobs", "home_assistant", "prometheus", "tasks"] {
        #expect(configuration["data.\(key)"] != nil, "\(key)")
      }
      #expect(!listener.all.contains { $0.topic == "sterna/test/jobs/classify" })
      agent.stop()
    }

    /// It would be done again with every subscription; and whoever clears such a topic, with an empty retained message, asks for nothing.
    @Test func aRetainedRequestIsRefusedAndClearingItIsNone() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, responses + "#")
      try publish(broker, requests + "queue/drain", #"{"transaction":1}"#, arguments: ["-r"])
      let refused = try listener.first("a refusal") { $0["transaction"] == 1 }
      #expect(refused["error.code"] == "retained_job" && refused.payload.contains("clear the topic"), "\(refused.payload)")
      try execute("/usr/bin/mosquitto_pub", ["-V", "mqttv5", "-p", "\(broker.port)", "-q", "1", "-t", requests + "queue/drain", "-r", "-n"])
      #expect(try ask(broker, listener, "queue/list")["data.draining"] == false)
      #expect(listener.all.count == 2)
      // Without the flag an empty message is a request.
      try execute("/usr/bin/mosquitto_pub", ["-V", "mqttv5", "-p", "\(broker.port)", "-q", "1", "-t", requests + "queue/drain", "-n"])
      try listener.wait("it drains") { $0["data.draining"] == true }
      let state = try Listener(broker, "sterna/test/state").first("the way back") { $0["state"] == "draining" }
      #expect(state["reason"]?.compact.contains("takes jobs again") == true)
      agent.stop()
    }

    /// There the broker passes the empty message on as any other.
    @Test func clearingARetainedRequestIsNoneInMQTT311Either() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, mqtt: "version = \"3.1.1\"")
      try online(broker)
      let listener = try Listener(broker, responses + "#")
      for verb in ["queue/drain", "model/rollback"] {
        try execute("/usr/bin/mosquitto_pub", ["-V", "mqttv311", "-p", "\(broker.port)", "-q", "1", "-t", requests + verb, "-r", "-n"])
        let refused = try listener.first("a refusal of \(verb)") { $0.topic == responses + verb }
        #expect(refused["error.code"] == "bad_json" && refused.payload.contains("{} at least"), "\(refused.payload)")
      }
      #expect(try ask(broker, listener, "queue/list")["data.draining"] == false)
      try publish(broker, requests + "queue/drain", "{}")
      try listener.wait("it drains") { $0["data.draining"] == true }
      agent.stop()
    }

    @Test func whoAsksForItHearsThatAJobIsAccepted() throws {
      let broker = try Broker()
      let gate = Gate()
      let listener = try Listener(broker, "sterna/#")
      let agent = try RunningAgent(broker, engine: gate.engine)
      try listener.wait("online") { $0["state"] == "online" }
      let job = classify("a", more: ",\"options\":{\"ack\":true},\"meta\":7")
      let reply = ["-D", "publish", "response-topic", "sterna/clients/me/replies/1", "-D", "publish", "correlation-data", "seven"]
      try publish(broker, jobs + "classify", job, arguments: reply)
      let accepted = try listener.wait("accepted, on both topics", count: 2) { $0["status"] == "accepted" }
      #expect(Set(accepted.map(\.topic)) == [results + "a", "sterna/clients/me/replies/1"])
      #expect(accepted[0]["meta"] == 7)
      #expect(accepted[0]["received_at"] != nil)
      try eventually("the job runs") { gate.count == 1 }
      try publish(broker, jobs + "classify", job, arguments: reply)
      let all = try listener.wait("said again", count: 4) { $0["status"] == "accepted" }
      #expect(Set(all.map(\.payload)).count == 1, "the same bytes")
      try publish(broker, jobs + "classify", classify("quiet"))
      gate.open()
      try listener.wait("the answers", count: 3) { $0["status"] == "ok" }
      #expect(!listener.all.contains { $0.topic == results + "quiet" && $0["status"] == "accepted" })
      let ofA = listener.all.filter { $0.topic == results + "a" }.map { $0["status"] }
      #expect(ofA == ["accepted", "accepted", "ok"])
      agent.stop()
    }
  }
}
