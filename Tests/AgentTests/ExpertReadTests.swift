import Agent
import Basics
import Foundation
import Glibc
import Inference
import Jobs
import ModelFile
import Testing

private let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures/models/mixtral").path

extension WithBroker {
  @Suite(.serialized) struct ExpertReads {
    /// A disk that cannot give an expert costs the jobs that need it, with a reason, and nobody else anything.
    @Test func jobsFailWhileExpertsCannotBeReadAndTheAgentGoesOn() throws {
      let broker = try Broker()
      let path = broker.path("mixture.gguf")
      let packing = try execute(buildFolder + "/sterna", ["pack", fixture, "-o", path])
      try #require(packing.status == 0, "\(packing.output)")
      let places = try PackedModel.open(path).weights.expertPlaces.compactMap { $0 }.flatMap { $0 }
      let agent = try RunningAgent(toml: RunningAgent.toml(broker)) { _ in
        var options = ModelOptions()
        options.expertCacheBytes = 0  // every pass reads its experts
        return try JobEngine(PackedModel.open(path), options: options)
      }
      defer { agent.stop() }
      try online(broker)
      let answers = try Listener(broker, results + "#")
      func answer(_ id: String) throws -> Listener.Message {
        try publish(broker, jobs + "classify", classify(id))
        return try answers.first("an answer to \(id)") { $0["id"] == .string(id) }
      }
      func flip() throws {
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        defer { try? file.close() }
        for place in places {
          try file.seek(toOffset: UInt64(place.offset + 300))
          let byte = try #require(try file.read(upToCount: 1)?.first)
          try file.seek(toOffset: UInt64(place.offset + 300))
          try file.write(contentsOf: Data([byte ^ 1]))
        }
      }

      let before = try answer("before")
      #expect(before["status"] == "ok", "\(before.payload)")
      guard case .number? = before["usage.experts.bytes_read"] else { throw Late(description: "no costs of experts: \(before.payload)") }
      try flip()
      for id in ["during-1", "during-2"] {
        let failed = try answer(id)
        #expect(failed["status"] == "error" && failed["error.code"] == "model_io" && failed["error.retryable"] == true, "\(failed.payload)")
      }
      try flip()
      let after = try answer("after")
      #expect(after["status"] == "ok" && after["result"] == before["result"], "\(after.payload)")
      #expect(agent.log.count("thrown") == 0)
      let state = try Listener(broker, "sterna/test/state")
      try state.wait("still there") { $0["state"] == "online" }
    }
  }
}
