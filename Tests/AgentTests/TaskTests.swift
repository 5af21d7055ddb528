import Basics
import Foundation
import Testing

extension WithBroker {
  @Suite(.serialized) struct Tasks {
    static let toml = """
      [[tasks]]
      name = "alarms"
      kind = "classify"
      input = ["plant/+/alarm", "plant/1/#"]
      output = "out/alarms"
      labels = ["leak", { name = "noise", description = "only loud" }]
      [[tasks]]
      name = "orders"
      kind = "extract"
      input = "plant/+/order"
      output = "out/orders"
      text = "/order/text"
      id = "/order/number"
      fields = ["machine", "hours:number"]
      """

    @Test func plainTextOnAnInputTopicIsAJob() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.toml)
      try online(broker)
      let listener = try Listener(broker, "out/#")
      try publish(broker, "plant/7/alarm", "oil on the floor")
      let answer = try listener.first("the result")
      #expect(answer["result.label"] == "leak")
      #expect(answer["task"] == "alarms")
      #expect(answer["meta.topic"] == "plant/7/alarm")
      agent.stop()
    }

    @Test func overlappingFiltersRunATaskOnce() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.toml)
      try online(broker)
      let listener = try Listener(broker, "out/#")
      try publish(broker, "plant/1/alarm", "first")  // both filters of the task match
      try publish(broker, "plant/2/alarm", "second")
      try listener.wait("the second") { $0["meta.topic"] == "plant/2/alarm" }
      #expect(listener.all.count == 2)
      agent.stop()
    }

    @Test func aPointerFindsTextAndIdInsideJSON() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.toml)
      try online(broker)
      let listener = try Listener(broker, "out/orders")
      let order = #"{"order":{"number":17,"text":"Grinder needs oil"}}"#
      try publish(broker, "plant/3/order", order)
      #expect(try listener.first("the result")["result.fields.machine"] == "Grinder")
      try publish(broker, "plant/3/order", order)
      let both = try listener.wait("the repeat", count: 2)
      #expect(both[0].payload == both[1].payload)
      #expect(both[0]["id"] == "17")
      agent.stop()
    }

    @Test(arguments: [
      ("plant/3/order", "no json", "bad_json"), ("plant/3/order", #"{"order":{"number":18}}"#, "bad_field"),
      ("plant/3/alarm", "", "bad_field"),
    ])
    func whatIsNoTextIsAnsweredOnTheOutputTopic(topic: String, payload: String, code: String) throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker, Self.toml)
      try online(broker)
      let listener = try Listener(broker, "out/#")
      // mosquitto_sub cannot print an empty correlation, so an empty payload goes out as a space.
      try publish(broker, topic, payload.isEmpty ? " " : payload)
      #expect(try listener.first("the error")["error.code"] == .string(code))
      agent.stop()
    }

    @Test func retainedReadingsAreNotJobs() throws {
      let broker = try Broker()
      try publish(broker, "plant/1/alarm", "old news", arguments: ["-r"])
      let agent = try RunningAgent(broker, Self.toml)
      try online(broker)
      let listener = try Listener(broker, "out/#")
      try publish(broker, "plant/2/alarm", "news")
      try listener.wait("the result") { $0["meta.topic"] == "plant/2/alarm" }
      #expect(listener.all.count == 1)
      agent.stop()
    }
  }
}
