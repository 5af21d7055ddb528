import Basics
import Foundation
import Glibc
import Testing

extension WithBroker {
  /// Killed or out of power at any call that an installation makes in the agent's folder of models: the next start has the model of before or the new one.
  @Suite(.serialized, .enabled(if: faultLibrary != nil, "needs a C compiler")) struct ModelFaults {
    /// A stick with a signed model, and the folders of one agent.
    private struct Box {
      let folder: String
      let stick: String
      var store: String { folder + "/state/models" }
      var durable: String { folder + "/durable" }
      var configuration: String { folder + "/agent.toml" }

      init(_ broker: Broker, _ name: String, stick: String) throws {
        folder = broker.path(name)
        self.stick = stick
        for path in [folder, store, durable] { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
        try """
          [agent]
          id = "\(name)"
          [mqtt]
          port = \(broker.port)
          reconnect_ms = 20
          [model]
          path = "\(repository)/Models/pocket.gguf"
          store = "\(store)"
          keys = "\(stick)/keys"
          import = ["\(stick)"]
          threads = 1
          [journal]
          path = "\(folder)/state/journal.sqlite"
          [prefixes]
          disk_mb = 0
          """.write(toFile: configuration, atomically: true, encoding: .utf8)
      }

      func environment(_ fault: Fault?, log: String) -> [String: String] {
        var environment = ProcessInfo.processInfo.environment
        guard let fault else { return environment }
        environment["LD_PRELOAD"] = faultLibrary
        environment["FAULT_FOLDER"] = store
        environment["FAULT_LOG"] = folder + "/" + log
        environment["FAULT_DURABLE"] = durable
        environment["FAULT_AT"] = "\(fault.at)"
        environment["FAULT_KIND"] = fault.kind
        return environment
      }

      func calls(_ log: String) -> [Substring] { ((try? String(contentsOfFile: folder + "/" + log, encoding: .utf8)) ?? "").split(separator: "\n") }

      func run(_ arguments: [String], _ fault: Fault? = nil) throws -> (status: Int32, output: String) {
        try execute(buildFolder + "/sterna", arguments + ["--config", configuration], environment: environment(fault, log: "calls"))
      }

      /// What was not synced is gone.
      func cutPower() throws {
        try FileManager.default.removeItem(atPath: store)
        try FileManager.default.copyItem(atPath: durable, toPath: store)
      }

      /// What is wrong with the model that the next start finds, and with the next installation.
      func complaint() throws -> String? {
        let check = try run(["run", "--check"])
        guard check.status == 0, check.output.contains("fine") else { return "the next start fails: \(check.output)" }
        let current = try run(["model", "list"]).output.prefix { $0 != "\n" }
        guard current.contains("pocket.gguf, of the configuration") || current.contains("line, release 2") else { return "the model is neither: \(current)" }
        let again = try run(["model", "install", stick + "/new.gguf"])
        guard again.status == 0, try run(["model", "list"]).output.contains("current   line, release 2") else { return "the next installation fails: \(again.output)" }
        let left = try FileManager.default.contentsOfDirectory(atPath: store).filter { $0.hasSuffix(".partial") || $0.hasSuffix(".gguf") }
        return left.count == 1 ? nil : "left behind: \(left)"
      }
    }

    private func makeStick(_ broker: Broker) throws -> String {
      let stick = broker.path("stick")
      let sterna = buildFolder + "/sterna"
      try FileManager.default.createDirectory(atPath: stick + "/keys", withIntermediateDirectories: true)
      for arguments in [
        ["sign", "--new-key", stick + "/plant"], ["dummy", "pocket", "-o", stick + "/new.gguf", "--seed", "2"],
        ["sign", stick + "/new.gguf", "--key", stick + "/plant.key", "--name", "line", "--release", "2"],
      ] {
        let (status, output) = try execute(sterna, arguments)
        guard status == 0 else { throw Late(description: output) }
      }
      try FileManager.default.copyItem(atPath: stick + "/plant.pub", toPath: stick + "/keys/plant.pub")
      return stick
    }

    @Test func anInstallationMayEndAtAnyCall() throws {
      nonisolated(unsafe) let broker = try Broker()  // its port and folder do not change
      let stick = try makeStick(broker)
      let dry = try Box(broker, "dry", stick: stick)
      #expect(try dry.run(["model", "install", stick + "/new.gguf"], Fault()).status == 0)
      let calls = dry.calls("calls")
      #expect(calls.count { $0.contains(" rename ") } >= 3, "\(calls)")
      // Of the many writes of one file the first and the last.
      let places = calls.indices.filter { i in !calls[i].contains(" write ") || i == 0 || !calls[i - 1].contains(" write ") || i + 1 == calls.count || !calls[i + 1].contains(" write ") }
      let cases = places.flatMap { i in
        ["kill", "after"].map { Fault(at: i + 1, kind: $0, aftermath: $0 == "after" ? .powerCut : .none) }
          // Who cannot lock the folder takes it that an agent has it, and asks that one.
          + (calls[i].contains("agent.lock") ? [] : [Fault(at: i + 1, kind: "eio")]) + (calls[i].contains(" write ") ? ["torn", "enospc"].map { Fault(at: i + 1, kind: $0) } : [])
      }
      let wrong = FaultyRuns.all(cases, lanes: 3) { i, fault in
        let box = try Box(broker, "c\(i)", stick: stick)
        let installed = try box.run(["model", "install", stick + "/new.gguf"], fault)
        let mayDie = ["kill", "after", "torn"].contains(fault.kind)
        guard installed.status == (mayDie ? SIGKILL : 1) || installed.status == 0 && !mayDie else { return "ended with \(installed.status): \(installed.output)" }
        if fault.aftermath == .powerCut { try box.cutPower() }
        return try box.complaint()
      }
      #expect(wrong == [])
      print("installations: \(calls.count) calls in the folder of models, \(cases.count) faults, \(wrong.count) wrong")
    }

    /// The same while the agent runs, by `request/model/load`.
    @Test func anAgentMayDieAtAnyCallOfAChange() throws {
      nonisolated(unsafe) let broker = try Broker()  // its port and folder do not change
      let stick = try makeStick(broker)
      let load = "{\"path\":\"\(stick)/new.gguf\"}"
      let said = try Listener(broker, "sterna/+/#")
      @Sendable func start(_ box: Box, _ fault: Fault?) throws -> Child {
        try Child(buildFolder + "/sterna", ["run", "--config", box.configuration], environment: box.environment(fault, log: "calls"), errors: box.folder + "/log")
      }
      @Sendable func isOnline(_ name: String, times: Int) -> Bool { said.all.count { $0.topic == "sterna/\(name)/state" && $0["state"] == "online" } >= times }
      let dry = try Box(broker, "dry", stick: stick)
      let first = try start(dry, Fault())
      try eventually("online") { isOnline("dry", times: 1) }
      let before = dry.calls("calls").count
      try publish(broker, "sterna/dry/request/model/load", load)
      #expect(try said.first("the answer") { $0.topic == "sterna/dry/response/model/load" }["data.current.name"] == "line")
      first.send(SIGTERM)
      try eventually("the end") { first.exit != nil }
      let calls = dry.calls("calls")
      let places = calls.indices.filter { i in i >= before && (!calls[i].contains(" write ") || !calls[i - 1].contains(" write ") || i + 1 < calls.count && !calls[i + 1].contains(" write ")) }
      let cases = places.map { Fault(at: $0 + 1, kind: "after", aftermath: .powerCut) }
      let wrong = FaultyRuns.all(cases, lanes: 3) { i, fault in
        let box = try Box(broker, "c\(i)", stick: stick)
        let child = try start(box, fault)
        try eventually("online") { isOnline("c\(i)", times: 1) }
        try publish(broker, "sterna/c\(i)/request/model/load", load)
        try eventually("it is dead") { child.exit != nil }
        guard child.exit == 128 + SIGKILL else { return "ended with \(child.exit ?? 0)" }
        try box.cutPower()
        let next = try start(box, nil)
        try eventually("online again, with its model") { isOnline("c\(i)", times: 2) && said.all.count { $0.topic == "sterna/c\(i)/info" } >= 2 }
        guard let info = said.all.last(where: { $0.topic == "sterna/c\(i)/info" }), let name = info["model.name"]?.compact else { return "no info" }
        next.send(SIGTERM)
        try eventually("the end") { next.exit != nil }
        let isChanged = try box.run(["model", "list"]).output.contains("current   line, release 2")
        let isNew = info["model.sha256"] != dryModel(said)
        guard isNew == isChanged else { return "runs \(name), and the list says otherwise" }
        return try box.complaint()
      }
      #expect(wrong == [])
      print("changes of model: \(calls.count - before) calls, \(cases.count) kills with power cuts, \(wrong.count) wrong")
    }

    /// The model of the configuration, as the first agent said it.
    private func dryModel(_ said: Listener) -> JSON? { said.all.first { $0.topic == "sterna/dry/info" }?["model.sha256"] }
  }
}
