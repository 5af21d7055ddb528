import ArgumentParser
import Agent

@main
struct Sterna: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "sterna", abstract: "An agent that understands text at the edge.")
}
