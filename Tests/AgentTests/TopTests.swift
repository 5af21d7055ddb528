import Agent
import Basics
import Foundation
import Glibc
import Testing

private let sterna = buildFolder + "/sterna"

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
    #expect(rate(150, uptime: 61, at: 11_001) == 0, "two watchers ask at once")
    #expect(rate(2, uptime: 1, at: 12_000) == nil)  // it began anew
    #expect(rate(6, uptime: 3, at: 14_000) == 2)
  }

  @Test func ofAnAgentThatIsGoneOnlyItsQueueIsShown() throws {
    var view = FleetView(base: "sterna")
    // Retained messages come in any order.
    for _ in 0..<2 {
      view.take(topic: "sterna/a/health", payload: Self.health(7, uptime: 60), at: 0)
      view.take(topic: "sterna/a/state", payload: Array(#"{"state":"offline"}"#.utf8), at: 0)
      let agent = try #require(view.agents.first)
      #expect(agent.queue == 3 && agent.done == 7 && agent.residentBytes == nil && agent.uptimeSeconds == nil && agent.rate == nil)
    }
    view.take(topic: "sterna/a/state", payload: [], at: 0)
    #expect(view.agents.isEmpty, "its retained words were taken off the broker")
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
    view.take(topic: "sterna/b/health", payload: Array(#"{"uptime_s":1,"done":9223372036854775807,"failed":9223372036854775807}"#.utf8), at: 0)
    #expect(view.agents.allSatisfy { $0.done == nil })
  }
}

/// A pseudo terminal, seen from the side of the person in front of it.
private final class Terminal {
  private let master: FileHandle
  let name: String
  private(set) var seen = ""

  init(columns: UInt16 = 120) throws {
    let descriptor = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
    // TIOCSPTLCK and TIOCGPTN of asm-generic/ioctls.h: unlock it, and ask for its number.
    var (isLocked, number) = (Int32(0), UInt32(0))
    try #require(descriptor >= 0 && ioctl(descriptor, 0x4004_5431, &isLocked) == 0 && ioctl(descriptor, 0x8004_5430, &number) == 0)
    master = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    name = "/dev/pts/\(number)"
    resize(columns: columns)
  }

  func resize(columns: UInt16) {
    var size = winsize(ws_row: 20, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
    #expect(ioctl(master.fileDescriptor, UInt(TIOCSWINSZ), &size) == 0)
  }

  /// The last picture, without what is there for the terminal.
  var picture: String {
    seen.components(separatedBy: "\u{1B}[H").dropLast().last?.replacingOccurrences(of: "\u{1B}\\[[0-9?]*[a-zA-Z]", with: "", options: .regularExpression) ?? ""
  }

  func wait(_ what: String, _ condition: () -> Bool) throws {
    do {
      try eventually(what) {
        var descriptor = pollfd(fd: master.fileDescriptor, events: Int16(POLLIN), revents: 0)
        if poll(&descriptor, 1, 50) > 0, descriptor.revents & Int16(POLLIN) != 0 { seen += String(decoding: master.availableData, as: UTF8.self) }
        return condition()
      }
    } catch { throw Late(description: "\(error): \(picture)") }
  }
}

extension WithBroker {
  @Suite(.serialized) struct Top {
    @Test func onceShowsEveryAgentOrOneOnly() throws {
      let broker = try Broker()
      let agent = try RunningAgent(broker)
      defer { agent.stop() }
      try online(broker)
      try publish(broker, "sterna/other/state", #"{"state":"offline","reason":"x\u001b[2Jy"}"#, arguments: ["-r"])
      let arguments = ["top", "--port", "\(broker.port)", "--once"]
      let all = try execute(sterna, arguments + ["--json"])
      let agents = try all.output.split(separator: "\n").map { JSONReader(try JSON.parse(String($0))) }
      #expect(agents.map { $0["agent"].value } == ["other", "test"] && agents.map { $0["state"].value } == ["offline", "online"], "\(all.output)")
      #expect(agents[1]["queue"].value == 0 && agents[1]["model"].value == "fake abababab")
      let text = try execute(sterna, arguments)
      #expect(text.status == 0 && text.output.contains("fake abababab") && text.output.contains("x [2Jy") && !text.output.contains("\u{1B}"), "\(text.output)")
      #expect(text.output.contains("1 of 2 agents are here"))
      let one = try execute(sterna, arguments + ["--json", "--agent", "test"])
      #expect(one.output.split(separator: "\n").count == 1)
      let none = try execute(sterna, arguments + ["--agent", "nobody"])
      #expect(none.status == 1 && none.output.contains("no agent"))
      let wrong = try execute(sterna, ["top", "--port", "\(broker.port)", "--base", "a/#"])
      #expect(wrong.status == 1 && wrong.output.contains("is not a name for topics"), "\(wrong.output)")
      broker.kill()
      let away = try execute(sterna, arguments)
      #expect(away.status == 1 && away.output.contains("cannot connect"), "\(away.output)")
    }

    /// It waits for a broker that is away, and for one that went away; agents come and go; narrow terminals get less; Ctrl-C gives the terminal back.
    @Test func aTerminalShowsWhatIsAndIsGivenBack() throws {
      let broker = try Broker(isRunning: false)
      let terminal = try Terminal()
      let top = try Child(sterna, ["top", "--port", "\(broker.port)"], output: terminal.name)
      try terminal.wait("it says what is missing") { terminal.picture.contains("cannot connect to the broker") }
      try broker.start()
      try terminal.wait("nobody yet") { terminal.picture.contains("no agent has said anything yet") }
      let agent = try RunningAgent(broker)
      defer { agent.stop() }
      try terminal.wait("the agent, with a rate") { terminal.picture.contains("fake abababab") && terminal.picture.contains(" 0.0 ") }
      terminal.resize(columns: 30)
      try terminal.wait("what is least needed is left out") {
        let lines = terminal.picture.components(separatedBy: "\r\n")
        return lines.count > 3 && lines[2].hasPrefix("AGENT") && lines[2].contains("QUEUE") && !lines[2].contains("MODEL") && lines[2].count <= 30
      }
      let other = try RunningAgent(broker, journal: "other.sqlite", id: "other")
      try terminal.wait("another one") { terminal.picture.contains("2 of 2 agents") }
      other.stop()
      try terminal.wait("which stopped") { terminal.picture.contains("stopped") && terminal.picture.contains("1 of 2 agents") }
      broker.kill()
      try terminal.wait("no broker again") { terminal.picture.contains("trying again") }
      try broker.start()
      try terminal.wait("and here again") { terminal.picture.contains("online") }
      top.send(SIGINT)
      try terminal.wait("the end") { top.exit != nil && terminal.seen.hasSuffix("\u{1B}[?1049l") }
      #expect(top.exit == 128 + SIGINT && terminal.seen.hasPrefix("\u{1B}[?1049h"))
    }

    @Test func withoutATerminalEveryChangeIsALine() throws {
      let broker = try Broker()
      let gate = Gate()
      let agent = try RunningAgent(broker, engine: gate.engine)
      try online(broker)
      let output = broker.path("top")
      let top = try Child(sterna, ["top", "--port", "\(broker.port)"], output: output)
      func lines() -> [String] { (try? String(contentsOfFile: output, encoding: .utf8))?.split(separator: "\n").map(String.init) ?? [] }
      try eventually("the agent") { lines().last?.hasPrefix("test  online") ?? false }
      for i in 0..<3 { try publish(broker, jobs + "classify", classify("j\(i)")) }
      try eventually("its queue") { lines().last?.contains("queue 3") ?? false }
      gate.open()
      try eventually("its answers") { lines().last.map { $0.contains("queue 0") && $0.contains("done 3") } ?? false }
      agent.stop()
      try eventually("its end") { lines().last?.hasPrefix("test  stopped") ?? false }
      #expect(!lines().contains { $0.contains("\u{1B}") })
      top.kill()
      // A reader that has seen enough ends it.
      let piped = try execute("/bin/bash", ["-c", "timeout 60 '\(sterna)' top --port \(broker.port) --json | head -1; echo ${PIPESTATUS[0]}"])
      #expect(piped.output.hasPrefix("{\"agent\":\"test\"") && piped.output.hasSuffix("\n0\n"), "\(piped.output)")
    }
  }
}
