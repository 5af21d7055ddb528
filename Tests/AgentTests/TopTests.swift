import Agent
import Basics
import Foundation
import Glibc
import Testing

private let sterna: String = {
  let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
  return URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent("sterna").path
}()

@Suite struct FleetViewTests {
  private static func health(_ answers: Int, uptime: Int) -> [UInt8] { Array(#"{"uptime_s":\#(uptime),"done":\#(answers),"failed":0,"queue":3,"rss_bytes":5000000}"#.utf8) }

  @Test func theRateIsWhatCameBetweenTwoReportsOfOneRun() throws {
    var view = FleetView(base: "plant/sterna")
    func rate(_ answers: Int, uptime: Int, at now: Int) -> Double? {
      view.take(topic: "plant/sterna/a/health", payload: Self.health(answers, uptime: uptime), at: now)
      return view.agents.first?.rate
    }
    #expect(rate(100, uptime: 50, at: 0) == nil)
    #expect(rate(150, uptime: 60, at: 10_000) == 5)
    #expect(rate(150, uptime: 61, at: 11_000) == 0)
    #expect(rate(2, uptime: 1, at: 12_000) == nil)  // it began anew
    #expect(rate(6, uptime: 3, at: 14_000) == 2)
  }

  @Test func whatIsNoReportIsNoAgent() throws {
    var view = FleetView(base: "sterna")
    for (topic, payload) in [
      ("sterna/Bad Name/state", #"{"state":"online"}"#), ("other/a/state", #"{"state":"online"}"#), ("sterna/a/results/1", #"{"state":"online"}"#), ("sterna/a/state", "offline"), ("sterna/a/state", "{}"),
    ] {
      view.take(topic: topic, payload: Array(payload.utf8), at: 0)
      #expect(view.agents.isEmpty, "\(topic)")
    }
    view.take(topic: "sterna/a/health", payload: Array(#"{"uptime_s":-1,"done":9223372036854775807,"failed":1e300}"#.utf8), at: 0)
    #expect(view.agents.first?.done == nil)
  }
}

extension WithBroker {
  @Suite(.serialized) struct Top {
    @Test func onceShowsEveryAgentAndOneOnly() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      defer { agent.stop() }
      try online(broker)
      try publish(broker, "sterna/other/state", #"{"state":"offline","reason":"x\u001b[2Jy"}"#, arguments: ["-r"])
      let all = try execute(sterna, ["top", "--port", "\(broker.port)", "--once", "--json"])
      let agents = try all.output.split(separator: "\n").map { JSONReader(try JSON.parse(String($0))) }
      #expect(agents.map { $0["agent"].value } == ["other", "test"] && agents.map { $0["state"].value } == ["offline", "online"], "\(all.output)")
      #expect(agents[1]["queue"].value == 0 && agents[1]["model"].value == "fake abababab")
      let text = try execute(sterna, ["top", "--port", "\(broker.port)", "--once"])
      #expect(text.status == 0 && text.output.contains("fake abababab") && text.output.contains("x [2Jy") && !text.output.contains("\u{1B}"), "\(text.output)")
      let one = try execute(sterna, ["top", "--port", "\(broker.port)", "--once", "--json", "--agent", "test"])
      #expect(one.output.split(separator: "\n").count == 1)
      let none = try execute(sterna, ["top", "--port", "\(broker.port)", "--once", "--agent", "nobody"])
      #expect(none.status == 1 && none.output.contains("no agent"))
      broker.kill()
      let away = try execute(sterna, ["top", "--port", "\(broker.port)", "--once"])
      #expect(away.status == 1 && away.output.contains("cannot connect"), "\(away.output)")
    }

    /// On a terminal it draws, waits for a broker that is away, and leaves the terminal as it was.
    @Test func onATerminalItWaitsDrawsAndCleansUp() throws {
      let broker = try Broker(isRunning: false)
      let master = posix_openpt(O_RDWR | O_NOCTTY)
      try #require(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0)
      let name = String(cString: try #require(ptsname(master)))
      let screen = FileHandle(fileDescriptor: master, closeOnDealloc: true)
      let process = Process()
      process.executableURL = URL(fileURLWithPath: sterna)
      process.arguments = ["top", "--port", "\(broker.port)"]
      process.standardOutput = try #require(FileHandle(forUpdatingAtPath: name))
      // A child inherits the signals that the thread has blocked.
      var all = sigset_t(), before = sigset_t()
      sigfillset(&all)
      pthread_sigmask(SIG_UNBLOCK, &all, &before)
      try process.run()
      pthread_sigmask(SIG_SETMASK, &before, nil)
      var seen = ""
      func read(until text: String) throws {
        try eventually("\(text) on the screen") {
          var descriptor = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
          if poll(&descriptor, 1, 50) > 0 { seen += String(decoding: screen.availableData, as: UTF8.self) }
          return seen.contains(text)
        }
      }
      try read(until: "cannot connect to the broker")
      try broker.start()
      try read(until: "no agent has said anything yet")
      let agent = try RunningAgent(broker)
      defer { agent.stop() }
      try read(until: "fake abababab")
      kill(process.processIdentifier, SIGINT)
      try read(until: "\u{1B}[?25h\u{1B}[?1049l")
      process.waitUntilExit()
      #expect(process.terminationStatus == 128 + SIGINT && seen.hasPrefix("\u{1B}[?1049h"))
    }
  }
}
