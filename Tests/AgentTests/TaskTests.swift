import Basics
import Foundation
import Jobs
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

    @Test func aTaskGivesItsOptionsAndItsCalibrationToTheEngine() throws {
      let folder = NSTemporaryDirectory() + "sterna-calibration-\(UUID().uuidString.prefix(8))"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let calibration = Calibration(
        curve: try #require(CalibrationCurve(points: [.init(0.5, 0.25)])), labels: ["leak", "noise"].map { Job.Label($0) }, multi: true, contextual: false,
        model: ModelIdentity(name: "m", sha256: "ab"), rows: 70)
      try calibration.json.compact.write(toFile: folder + "/c.json", atomically: true, encoding: .utf8)
      let broker = try Broker()
      let agent = try RunningAgent(
        broker,
        """
        [[tasks]]
        name = "alarms"
        kind = "classify"
        input = "plant/alarm"
        output = "out/alarms"
        labels = ["leak", { name = "noise", threshold = 0.25 }]
        options = { multi = true }
        calibration = "\(folder)/c.json"
        """
      ) {
        FakeEngine { job, _ in
          guard case .classify(let labels) = job.work, job.calibration?.rows == 70, job.options.multi else { return Outcome(.failure(SternaError(.internal, "no calibration"))) }
          var answer = Answer.Classification(scores: labels.map { ($0.name, 0.375) }, best: 0)
          answer.chosen = labels.indices.filter { 0.375 >= job.options.threshold(of: labels[$0]) }
          return Outcome(.success(.classification(answer)))
        }
      }
      try online(broker)
      let listener = try Listener(broker, "out/#")
      try publish(broker, "plant/alarm", "rattling")
      #expect(try listener.first("the result")["result"]?.compact == #"{"labels":["noise"],"scores":{"leak":0.375,"noise":0.375}}"#)
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
