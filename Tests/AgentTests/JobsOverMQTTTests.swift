import Agent
import Basics
import Foundation
import Jobs
import Testing

/// Everything that needs a broker, one test after the other: they are about order and processes, and two cores are few.
@Suite(.serialized, .disabled(if: Broker.isMissing, "needs mosquitto and mosquitto-clients: apt-get install mosquitto mosquitto-clients"))
struct WithBroker {}

extension WithBroker {
  @Suite(.serialized) struct JobsOverMQTT {
    @Test func aJobIsAnsweredOnTheResultsTopicWithItsProperties() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("job-1", more: ",\"meta\":{\"line\":3}"))
      let answer = try listener.first("the result")
      #expect(answer.topic == results + "job-1")
      #expect(!answer.isRetained)
      #expect(answer["status"] == "ok")
      #expect(answer["id"] == "job-1")
      #expect(answer["result.label"] == "leak")
      #expect(answer["meta.line"] == 3)
      #expect(answer["model.name"] == "fake")
      #expect(answer["agent"] == "test")
      let properties = answer.properties.compact
      #expect(properties.contains("application/json"), "\(properties)")
      #expect(properties.contains("status") && properties.contains("\"v\""), "\(properties)")
      agent.stop()
    }

    @Test func extractionWorksToo() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "extract", #"{"id":"x","input":"Lübeck is far","fields":["city"]}"#)
      let answer = try listener.first("the result")
      #expect(answer["result.fields.city"] == "Lübeck")
      #expect(answer["result.evidence.city.end_byte"] == 7)
      agent.stop()
    }

    @Test func theSubmitterGetsAnswersOnItsReplyTopic() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let submissions = (0..<50).map { Submitter.Submission(kind: "classify", job: ["id": "job-\($0)", "input": "it leaks", "labels": ["leak", "noise"]]) }
      var answers: [String: Submitter.Reply] = [:]
      try submitter(broker).submit(submissions) { answers[$0.id] = $1 }
      #expect(answers.count == 50)
      #expect(answers["job-7"]?.topic.hasPrefix("sterna/clients/") == true)
      agent.stop()
    }

    @Test func oldMQTTWorksWithoutResponseTopics() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, mqtt: "version = \"3.1.1\"")
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("old"), arguments: ["-V", "mqttv311"])
      #expect(try listener.first("the result")["status"] == "ok")
      var options = submitterOptions(broker)
      options.mqtt.version = .v311
      var count = 0
      try Submitter(options: options).submit([.init(kind: "classify", job: ["input": "it leaks", "labels": ["leak", "noise"]])]) { _, _ in count += 1 }
      #expect(count == 1)
      agent.stop()
    }

    @Test func correlationDataServesAsTheIdAndComesBack() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, "sterna/#")
      let arguments = ["-D", "publish", "response-topic", "sterna/clients/me/replies", "-D", "publish", "correlation-data", "c-17"]
      try publish(broker, jobs + "classify", classify(), arguments: arguments)
      let reply = try listener.first("the reply") { $0.topic == "sterna/clients/me/replies" }
      #expect(reply["id"] == "c-17")
      #expect(reply.properties.compact.contains("c-17"), "\(reply.properties.compact)")
      let copy = try listener.first("the result") { $0.topic == results + "c-17" }
      #expect(copy.payload == reply.payload)
      agent.stop()
    }

    @Test(arguments: ["elsewhere/replies", "sterna/test/jobs/classify", "homeassistant/light/set", "sterna/test/state"])
    func aResponseTopicOutsideTheAllowListGetsNothing(topic: String) throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, "#")
      try publish(broker, jobs + "classify", classify("r"), arguments: ["-D", "publish", "response-topic", topic])
      let answer = try listener.first("the result") { $0.topic == results + "r" }
      #expect(answer["status"] == "ok")
      // A second job behind it: had the first been answered elsewhere, that message would be here by now.
      try publish(broker, jobs + "classify", classify("s"))
      try listener.wait("the second result") { $0.topic == results + "s" }
      #expect(listener.all.filter { $0.topic == topic && $0["status"] == "ok" }.isEmpty)
      agent.stop()
    }

    @Test func withoutIdEveryDeliveryIsANewJob() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify())
      try publish(broker, jobs + "classify", classify())
      let answers = try listener.wait("two results", count: 2)
      #expect(answers[0].topic != answers[1].topic)
      agent.stop()
    }

    @Test func aRepeatGetsTheSameBytesAndAnotherPayloadAConflict() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("twice"))
      try listener.wait("the result")
      try publish(broker, jobs + "classify", classify("twice"))
      let both = try listener.wait("the result again", count: 2)
      #expect(both[0].payload == both[1].payload)
      try publish(broker, jobs + "classify", classify("twice", "another text"))
      let conflict = try listener.first("the conflict") { $0["status"] == "error" }
      #expect(conflict["error.code"] == "id_conflict")
      #expect(conflict["error.http"] == 409)
      agent.stop()
    }

    @Test func aRepeatAfterARestartGetsTheSameBytes() throws {
      let broker = try Broker()
      var agent = try RunningAgent(broker)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      try publish(broker, jobs + "classify", classify("twice"))
      try listener.wait("the result")
      agent.stop()
      agent = try RunningAgent(broker)
      try online(broker)
      try publish(broker, jobs + "classify", classify("twice"))
      let both = try listener.wait("the result again", count: 2)
      #expect(both[0].payload == both[1].payload)
      agent.stop()
    }

    @Test func aResultOverTheBrokersLimitIsSaid() throws {
      let broker = try Broker(settings: "allow_anonymous true\nmax_packet_size 3000")
      let agent = try RunningAgent(broker)
      try online(broker)
      let (listener, replies) = (try Listener(broker, results + "#"), try Listener(broker, "sterna/clients/#"))
      let long = String(repeating: "x", count: 2000)
      try publish(broker, jobs + "extract", #"{"id":"long","input":"\#(long)","fields":["a","b"]}"#, arguments: ["-D", "publish", "response-topic", "sterna/clients/me/replies"])
      for heard in [listener, replies] {
        let answer = try heard.first("what is wrong") { $0["id"] == "long" }
        #expect(answer["status"] == "error" && answer["error.code"] == "result_too_large" && answer["error.http"] == 413 && answer["task"] == "extract", "\(answer.payload)")
        #expect(answer.properties.compact.contains("result_too_large"))
      }
      try publish(broker, jobs + "classify", classify("short"))
      try listener.wait("the next one") { $0["id"] == "short" && $0["status"] == "ok" }
      agent.stop()
    }

    @Test func higherPrioritiesRunFirst() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, engine: gate.engine)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      for id in ["a", "b", "c"] { try publish(broker, jobs + "classify", classify(id)) }
      try publish(broker, jobs + "classify", classify("urgent", more: ",\"options\":{\"priority\":9}"))
      try listenHealth(broker, accepted: 4, agent)
      gate.open()
      let order = try listener.wait("all", count: 4).map { $0["id"] }
      // One runs and one is at hand when the urgent one comes.
      #expect(order == ["a", "b", "urgent", "c"])
      agent.stop()
    }

    @Test func jobsThatWaitTooLongExpire() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, engine: gate.engine)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      for id in ["a", "b"] { try publish(broker, jobs + "classify", classify(id)) }
      try publish(broker, jobs + "classify", classify("short", more: ",\"options\":{\"ttl_ms\":1}"))
      try publish(broker, jobs + "classify", classify("forgotten"), arguments: ["-D", "publish", "message-expiry-interval", "1"])
      try listenHealth(broker, accepted: 4, agent)
      usleep(1_100_000)  // the expiry of MQTT counts whole seconds
      gate.open()
      let answers = try listener.wait("all", count: 4)
      for id in ["short", "forgotten"] {
        #expect(answers.first { $0.topic == results + id }?["error.code"] == "expired")
      }
      #expect(answers.first { $0.topic == results + "a" }?["status"] == "ok")
      agent.stop()
    }

    @Test func aFullQueueSaysWhenToTryAgain() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, "[limits]\nqueue_jobs = 3", engine: gate.engine)
      try online(broker)
      let listener = try Listener(broker, results + "#")
      for i in 0..<6 { try publish(broker, jobs + "classify", classify("q\(i)")) }
      let refused = try listener.wait("three refusals", count: 3)
      for answer in refused {
        #expect(answer["error.code"] == "queue_full")
        #expect(answer["error.retryable"] == true)
        #expect(answer["error.retry_after_ms"] != nil)
      }
      gate.open()
      try listener.wait("three results", count: 3) { $0["status"] == "ok" }
      // What was refused may come again.
      try publish(broker, jobs + "classify", classify("q5"))
      try listener.wait("the refused one, later") { $0.topic == results + "q5" && $0["status"] == "ok" }
      agent.stop()
    }
  }
}

func submitterOptions(_ broker: Broker) -> Submitter.Options {
  var options = Submitter.Options()
  options.mqtt.port = broker.port
  options.agent = "test"
  return options
}

func submitter(_ broker: Broker) -> Submitter { Submitter(options: submitterOptions(broker)) }

/// Waits until an agent has accepted so many jobs.
func listenHealth(_ broker: Broker, accepted: Int, _ agent: RunningAgent) throws {
  try eventually("\(accepted) jobs accepted") { agent.log.count("accepted") >= accepted }
}
