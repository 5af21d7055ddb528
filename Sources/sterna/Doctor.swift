import ArgumentParser
import Basics
import Glibc
import Inference
import ModelFile

struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure this machine, and show where a model's memory would go.",
    discussion: """
      Says how fast memory is read, what each layout makes of it, and which layout and how many threads to use. With a model, also where
      every megabyte goes, under --memory-limit or without.

        sterna doctor model.gguf --memory-limit 500 --context 1024 --kv q8
      """)

  @Argument(help: "A packed model.", completion: .file())
  var file: String?
  @OptionGroup var running: RunArguments
  @OptionGroup var output: OutputOptions

  func run() throws {
    // First what can be wrong; measuring takes seconds.
    let memory = try file.map { try running.load(PackedModel.open($0)).memory }
    let cores = usableCores
    let counts = running.threads > 0 ? [running.threads] : Array(Set([1, 2, 4, 8, 16, 32, 64, cores].filter { $0 <= cores })).sorted()
    let probe = try BoxProbe(threads: counts)
    if output.json {
      printLine(json(probe, memory).compact)
      return
    }
    printLine("kernel \(probe.kernel), \(cores) cores\n")
    printLine(
      table(
        [["threads", "read GB/s", "int8 GMAC/s in cache"]]
          + zip(probe.bandwidth, probe.products).map { ["\($0.threads)", ($0.bytes / 1e9).formatted(1), ($1.rate / 1e9).formatted(0)] }) + "\n")
    printLine(
      table(
        [["layout", "threads", "decode GB/s", "decode GMAC/s", "prefill GMAC/s"]]
          + probe.rates.map {
            [
              $0.layout.rawValue, "\($0.threads)", ($0.decodeBytes / 1e9).formatted(1), ($0.decodeProducts / 1e9).formatted(0),
              ($0.prefillProducts / 1e9).formatted(0),
            ]
          }) + "\n")
    printLine("use \(probe.threads) threads and --layout \(probe.layout.rawValue)" + (probe.layout == .fast ? " where memory allows" : ""))
    if let memory { printLine("\n" + memoryTable(memory)) }
  }

  private func json(_ probe: BoxProbe, _ memory: MemoryPlan?) -> JSON {
    var object: JSON.Object = [
      "kernel": .string(probe.kernel), "cores": .number(probe.cores),
      "read_bytes_per_s": .object(JSON.Object(probe.bandwidth.map { ("\($0.threads)", .number($0.bytes)) })),
      "int8_products_per_s": .object(JSON.Object(probe.products.map { ("\($0.threads)", .number($0.rate)) })),
      "layouts": .array(
        probe.rates.map {
          [
            "layout": .string($0.layout.rawValue), "threads": .number($0.threads), "decode_bytes_per_s": .number($0.decodeBytes),
            "decode_products_per_s": .number($0.decodeProducts), "prefill_products_per_s": .number($0.prefillProducts),
          ]
        }),
      "threads": .number(probe.threads), "layout": .string(probe.layout.rawValue),
    ]
    if let memory { object["memory"] = memoryJSON(memory) }
    return .object(object)
  }
}

/// Where the memory goes, for people.
func memoryTable(_ plan: MemoryPlan) -> String {
  func megabytes(_ bytes: Int) -> String { (Double(bytes) / 1e6).formatted(1) + " MB" }
  var rows = plan.entries.map { [$0.name, megabytes($0.bytes), $0.reason] }
  rows.append(["together", megabytes(plan.total), plan.limit.map { "of \(megabytes($0)) allowed" } ?? "no limit set"])
  let widths = (0..<2).map { column in rows.map { $0[column].count }.max() ?? 0 }
  return rows.map { row in
    row[0] + String(repeating: " ", count: widths[0] - row[0].count + 2 + widths[1] - row[1].count) + row[1] + "  " + row[2]
  }.joined(separator: "\n")
}

/// The same for programs.
func memoryJSON(_ plan: MemoryPlan) -> JSON {
  var object: JSON.Object = ["parts": .array(plan.entries.map { ["name": .string($0.name), "bytes": .number($0.bytes), "reason": .string($0.reason)] })]
  object["bytes"] = .number(plan.total)
  if let limit = plan.limit { object["limit_bytes"] = .number(limit) }
  return .object(object)
}
