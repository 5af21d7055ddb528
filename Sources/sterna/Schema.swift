import ArgumentParser
import Basics
import Decoding

struct Schema: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a JSON Schema compiles to, or whether it lets a value through.",
    discussion: """
      The constraint is what an extraction with this schema can write. --accepts exits with 0 when INSTANCE could be written (strings and numbers as if they
      stood in the text) and with 1 when it could not. A schema that is refused exits with 2, and says which part cannot be enforced.

        sterna schema order.json
        sterna schema order.json --accepts order-0815.json
      """)

  @Argument(help: "A JSON Schema, draft 2020-12.", completion: .file())
  var schema: String
  @Option(help: "A JSON value to judge.", completion: .file())
  var accepts: String?
  @OptionGroup var output: OutputOptions

  /// What is larger is no schema and no answer.
  private static let limits: JSON.Limits = {
    var limits = JSON.Limits()
    limits.bytes = 16 << 20
    limits.depth = 128
    limits.values = 1_000_000
    return limits
  }()

  private static func parse(_ bytes: [UInt8], _ file: String) throws(SternaError) -> JSON {
    do { return try JSON.parse(bytes, limits: limits) } catch { throw error.within(file) }
  }

  private func compile() throws(SternaError) -> JSONSchema {
    let document = try Self.parse(try readWholeFile(schema, limit: Self.limits.bytes), schema)
    do { return try JSONSchema(document) } catch { throw error.within(schema) }
  }

  func run() throws {
    let compiled = try refusing { () throws(SternaError) in try compile() }
    if let accepts {
      let bytes = try refusing { () throws(SternaError) in try readWholeFile(accepts, limit: Self.limits.bytes) }
      return try judge(bytes, by: compiled.constraint, accepts)
    }
    if output.json {
      printLine(
        JSON.object([
          "root": .number(compiled.constraint.root), "nodes": .array(compiled.constraint.nodes.map { $0.json }),
          "notes": .array(compiled.notes.map { .string($0) }),
        ]).compact)
    } else {
      printLine(ConstraintOutline(compiled.constraint).text)
      for text in compiled.notes { printLine("note: " + text) }
    }
  }

  private func judge(_ bytes: [UInt8], by constraint: Constraint, _ file: String) throws {
    var accepted = false
    do { accepted = constraint.accepts(try Self.parse(bytes, file)) } catch { note("\(error)") }  // what is no JSON value cannot be written either
    printLine(output.json ? JSON.object(["accepted": .bool(accepted)]).compact : accepted ? "accepted" : "not accepted")
    if !accepted { throw ExitCode(1) }
  }

  /// A refusal has an exit code of its own: 1 says that a value is not accepted.
  private func refusing<Result>(_ body: () throws(SternaError) -> Result) throws -> Result {
    do { return try body() } catch {
      note("Error: \(error)")
      throw ExitCode(2)
    }
  }
}
