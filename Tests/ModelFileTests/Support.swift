import Basics
import Foundation
import ModelFile

let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures/models").path
let allModels = ["bitnet-offline", "bitnet-online", "bitnet-silu", "llama-bitlinear", "llama-autobitlinear", "llama-rmsnorm-bitlinear"]

/// A folder that is removed when the test is over.
final class Scratch {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("sterna-modelfile-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  subscript(name: String) -> String { path + "/" + name }

  @discardableResult
  func write(_ bytes: some Sequence<UInt8>, to name: String) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: self[name]))
    return self[name]
  }

  /// A packed reference model.
  func pack(_ model: String, options: PackOptions = PackOptions(embedding: .f32), to name: String = "model.gguf") throws -> String {
    try Packer.pack(HubFolder("\(fixtures)/\(model)"), to: self[name], options: options)
    return self[name]
  }

  /// A copy of a reference model, for changing.
  func copy(_ model: String, changing config: (inout [String: Any]) -> Void = { _ in }) throws -> String {
    let folder = self["copy-of-\(model)"]
    try FileManager.default.copyItem(atPath: "\(fixtures)/\(model)", toPath: folder)
    let configURL = URL(fileURLWithPath: folder + "/config.json")
    var object = try JSONSerialization.jsonObject(with: Data(contentsOf: configURL)) as? [String: Any] ?? [:]
    config(&object)
    try JSONSerialization.data(withJSONObject: object).write(to: configURL)
    return folder
  }
}

func contents(_ path: String) throws -> [UInt8] { try [UInt8](Data(contentsOf: URL(fileURLWithPath: path))) }

/// A safetensors file read the plain way, independently of the module under test.
struct PlainSafetensors {
  struct Entry { var type: String, shape: [Int], bytes: [UInt8] }
  var entries: [String: Entry] = [:]

  init() {}

  init(_ path: String) throws {
    let all = try contents(path)
    var length = 0
    for i in 0..<8 { length |= Int(all[i]) << (8 * i) }
    let header = try JSONSerialization.jsonObject(with: Data(all[8..<8 + length])) as? [String: [String: Any]] ?? [:]
    for (name, entry) in header where name != "__metadata__" {
      let offsets = entry["data_offsets"] as? [Int] ?? []
      entries[name] = Entry(
        type: entry["dtype"] as? String ?? "", shape: entry["shape"] as? [Int] ?? [],
        bytes: Array(all[8 + length + offsets[0]..<8 + length + offsets[1]]))
    }
  }

  func serialised() throws -> [UInt8] {
    var header: [String: Any] = [:]
    var data: [UInt8] = []
    for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
      header[name] = ["dtype": entry.type, "shape": entry.shape, "data_offsets": [data.count, data.count + entry.bytes.count]]
      data += entry.bytes
    }
    let json = try JSONSerialization.data(withJSONObject: header)
    let length: [UInt8] = (0..<8).map { UInt8(json.count >> (8 * $0) & 255) }
    return length + [UInt8](json) + data
  }

  func floats(_ name: String) -> [Float] {
    guard let entry = entries[name] else { return [] }
    let b = entry.bytes
    switch entry.type {
    case "F32":
      return stride(from: 0, to: b.count, by: 4).map { (i: Int) -> Float in
        var bits: UInt32 = 0
        for k in 0..<4 { bits |= UInt32(b[i + k]) << UInt32(8 * k) }
        return Float(bitPattern: bits)
      }
    case "BF16":
      return stride(from: 0, to: b.count, by: 2).map { (i: Int) -> Float in
        let bits = UInt32(b[i]) << 16 | UInt32(b[i + 1]) << 24
        return Float(bitPattern: bits)
      }
    default: return []
    }
  }
}

extension FloatVector {
  var array: [Float] { Array(UnsafeBufferPointer(start: pointer, count: count)) }
}

/// The error that a call ends with.
func failure(_ body: () throws -> Void) -> SternaError? {
  do {
    try body()
    return nil
  } catch {
    return error as? SternaError
  }
}
