import Basics
import Foundation
import ModelFile
import Testing

/// Builds GGUF bytes by hand, right or wrong.
struct HandMadeGGUF {
  var magic: [UInt8] = Array("GGUF".utf8)
  var version: UInt32 = 3
  var tensorCount: UInt64?
  var keyCount: UInt64?
  var keys: [[UInt8]] = []
  var tensors: [[UInt8]] = []
  var data = [UInt8](repeating: 7, count: 256)
  var alignment = 32

  static func int(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
  static func text(_ text: String, count: UInt64? = nil) -> [UInt8] {
    let length: [UInt8] = int(count ?? UInt64(text.utf8.count))
    return length + Array(text.utf8)
  }
  static func key(_ name: String, type: UInt32, _ value: [UInt8]...) -> [UInt8] {
    var out = text(name)
    out += int(type)
    for part in value { out += part }
    return out
  }
  static func array(_ name: String, of type: UInt32, count: UInt64, _ value: [UInt8]...) -> [UInt8] {
    var out = key(name, type: 9, int(type), int(count))
    for part in value { out += part }
    return out
  }
  static func tensor(_ name: String, _ shape: [UInt64], type: UInt32 = 0, offset: UInt64 = 0) -> [UInt8] {
    var out = text(name)
    out += int(UInt32(shape.count))
    for size in shape { out += int(size) }
    out += int(type)
    out += int(offset)
    return out
  }

  var bytes: [UInt8] {
    var out = magic
    out += Self.int(version)
    out += Self.int(tensorCount ?? UInt64(tensors.count))
    out += Self.int(keyCount ?? UInt64(keys.count))
    for part in keys + tensors { out += part }
    out += [UInt8](repeating: 0, count: (alignment - out.count % alignment) % alignment)
    return out + data
  }
}

@Suite struct GGUFTests {
  @Test func everyKindOfValueIsRead() throws {
    typealias G = HandMadeGGUF
    var file = G()
    file.keys.append(G.key("u8", type: 0, [200]))
    file.keys.append(G.key("i8", type: 1, [200]))
    file.keys.append(G.key("u16", type: 2, G.int(UInt16(40000))))
    file.keys.append(G.key("i16", type: 3, G.int(Int16(-2))))
    file.keys.append(G.key("u32", type: 4, G.int(UInt32(5))))
    file.keys.append(G.key("i32", type: 5, G.int(Int32(-5))))
    file.keys.append(G.key("f32", type: 6, G.int(Float(0.5).bitPattern)))
    file.keys.append(G.key("b", type: 7, [1]))
    file.keys.append(G.key("s", type: 8, G.text("größe")))
    file.keys.append(G.key("u64", type: 10, G.int(UInt64.max)))
    file.keys.append(G.key("i64", type: 11, G.int(Int64.min)))
    file.keys.append(G.key("f64", type: 12, G.int(Double(0.25).bitPattern)))
    file.keys.append(G.array("as", of: 8, count: 2, G.text("a"), G.text("")))
    file.keys.append(G.array("ai", of: 5, count: 2, G.int(Int32(1)), G.int(Int32(-1))))
    file.keys.append(G.array("ab", of: 7, count: 2, [0, 1]))
    file.keys.append(G.array("aa", of: 9, count: 1, G.int(UInt32(6)), G.int(UInt64(1)), G.int(Float(2).bitPattern)))
    file.tensors = [G.tensor("a", [4, 2]), G.tensor("b", [32], type: 8, offset: 32)]
    let scratch = try Scratch()
    let gguf = try GGUFFile(scratch.write(file.bytes, to: "x.gguf"))
    #expect(gguf.metadata["u8"] == .uint8(200) && gguf.metadata["i8"] == .int8(-56) && gguf.metadata["u16"] == .uint16(40000))
    #expect(gguf.metadata["i16"] == .int16(-2) && gguf.metadata["u32"] == .uint32(5) && gguf.metadata["i32"] == .int32(-5))
    #expect(gguf.metadata["f32"] == .float32(0.5) && gguf.metadata["b"] == .bool(true) && gguf.metadata["s"] == .string("größe"))
    #expect(gguf.metadata["u64"] == .uint64(.max) && gguf.metadata["i64"] == .int64(.min) && gguf.metadata["f64"] == .float64(0.25))
    #expect(gguf.metadata["as"]?.strings == ["a", ""] && gguf.metadata["ai"]?.ints == [1, -1] && gguf.metadata["ab"] == .array(.bool([false, true])))
    #expect(gguf.metadata["aa"] == .array(.array([.float32([2])])))
    #expect(gguf.keys.first == "u8" && gguf.keys.count == 16 && gguf.alignment == 32)
    let b = try #require(gguf.tensor("b"))
    #expect(b.byteCount == 34 && b.type == .q8_0 && gguf.bytes(of: b).allSatisfy { $0 == 7 })
    #expect(gguf.tensor("c") == nil)
  }

  /// The classes of llama.cpp's list of bad files, and more.
  @Test(arguments: GGUFTests.badFiles.indices) func badFilesAreRefusedNamingThePlace(_ i: Int) throws {
    let (name, place, file): (String, String, HandMadeGGUF) = GGUFTests.badFiles[i]
    let scratch = try Scratch()
    let error = failure { _ = try GGUFFile(scratch.write(file.bytes, to: "x.gguf")) }
    let found = try #require(error, "\(name) was accepted")
    #expect(found.place?.contains(place) == true, "\(name): \(found)")
    #expect(found.code == .badFile || found.code == .unsupported)
  }

  static let badFiles: [(String, String, HandMadeGGUF)] = {
    typealias G = HandMadeGGUF
    func file(_ change: (inout G) -> Void) -> G {
      var file = G()
      file.keys = [G.key("general.name", type: 8, G.text("x"))]
      file.tensors = [G.tensor("t", [4])]
      change(&file)
      return file
    }
    func alignment(_ value: UInt32) -> [UInt8] { G.key("general.alignment", type: 4, G.int(value)) }
    func tensors(_ tensors: [UInt8]...) -> G { file { $0.tensors = tensors } }
    var nested: [UInt8] = []
    for _ in 0..<5 { nested += G.int(UInt32(9)) + G.int(UInt64(1)) }
    nested += [UInt8](repeating: 0, count: 12)
    func arrayOf(_ type: UInt32, _ count: UInt64) -> G { file { $0.keys = [G.array("a", of: type, count: count)] } }
    var all: [(String, String, HandMadeGGUF)] = []
    func add(_ name: String, _ place: String, _ bad: G) { all.append((name, place, bad)) }
    func add(_ name: String, _ place: String, _ change: (inout G) -> Void) { all.append((name, place, file(change))) }
    add("magic", "x.gguf") { $0.magic = Array("FUGG".utf8) }
    add("version 0", "byte 4") { $0.version = 0 }
    add("version 1", "byte 4") { $0.version = 1 }
    add("version 4", "byte 4") { $0.version = 4 }
    add("big endian", "byte 4") { $0.version = 3 << 24 }
    add("tensor count -1", "byte 8") { $0.tensorCount = .max }
    add("tensor count huge", "byte 8") { $0.tensorCount = 100_000 }
    add("tensor count over what is left", "header") { $0.tensorCount = 9; $0.keys = []; $0.data = [] }
    add("key count -1", "byte 16") { $0.keyCount = .max }
    add("key count too large", "key") { $0.keyCount = 6 }
    add("key size -1", "metadata key 0") { $0.keys = [G.text("a", count: .max)] }
    add("empty key", "metadata key 0") { $0.keys = [G.key("", type: 4, G.int(UInt32(1)))] }
    add("key not UTF-8", "metadata key 0") { $0.keys = [[1, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0, 0, 0, 0, 1]] }
    add("value type", "key k") { $0.keys = [G.key("k", type: 13, [])] }
    add("element type", "key a", arrayOf(13, 0))
    add("array count -1", "key a", arrayOf(4, .max))
    add("array count overflowing", "key a", arrayOf(10, 1 << 61))
    add("array of texts too long", "key a", arrayOf(8, 1 << 40))
    add("text not UTF-8", "key k") { $0.keys = [G.key("k", type: 8, [2, 0, 0, 0, 0, 0, 0, 0, 0xC0, 0x80])] }
    add("boolean 2", "key k") { $0.keys = [G.key("k", type: 7, [2])] }
    add("nested too deep", "key k") { $0.keys = [G.key("k", type: 9, nested)] }
    add("duplicate key", "key general.name") { $0.keys.append($0.keys[0]) }
    add("alignment 0", "general.alignment") { $0.keys = [alignment(0)] }
    add("alignment 33", "general.alignment") { $0.keys = [alignment(33)] }
    add("alignment of another type", "general.alignment") { $0.keys = [G.key("general.alignment", type: 10, G.int(UInt64(32)))] }
    add("alignment beyond the file", "x.gguf") { $0.keys = [alignment(1 << 20)] }
    add("name size -1", "tensor 0") { $0.tensors = [G.text("t", count: .max)] }
    add("no name", "tensor 0", tensors(G.tensor("", [4])))
    add("0 dimensions", "tensor t", tensors(G.tensor("t", [])))
    add("5 dimensions", "tensor t", tensors(G.tensor("t", [1, 1, 1, 1, 1])))
    add("dimension 0", "tensor t", tensors(G.tensor("t", [4, 0])))
    add("dimension -1", "tensor t", tensors(G.tensor("t", [.max])))
    add("elements overflow", "tensor t", tensors(G.tensor("t", [1 << 32, 1 << 32])))
    add("elements overflow to 4", "tensor t", tensors(G.tensor("t", [(1 << 62) + 1, 4])))
    add("bytes overflow", "tensor t", tensors(G.tensor("t", [1 << 61])))
    add("part of a block", "tensor t", tensors(G.tensor("t", [33], type: 8)))
    add("removed type", "tensor t", tensors(G.tensor("t", [32], type: 4)))
    add("type -1", "tensor t", tensors(G.tensor("t", [32], type: .max)))
    add("offset not aligned", "tensor t", tensors(G.tensor("t", [4], offset: 16)))
    add("offset of another alignment", "tensor t") { $0.keys = [alignment(64)]; $0.alignment = 64; $0.tensors = [G.tensor("t", [4], offset: 32)] }
    add("offset -32", "tensor t", tensors(G.tensor("t", [4], offset: UInt64.max - 31)))
    add("offset overflowing", "tensor t", tensors(G.tensor("t", [4], offset: (1 << 63) - 32)))
    add("offset beyond the file", "tensor t", tensors(G.tensor("t", [4], offset: 1 << 30)))
    add("data beyond the file", "tensor t", tensors(G.tensor("t", [65])))
    add("duplicate name", "tensor t", tensors(G.tensor("t", [4]), G.tensor("t", [4], offset: 32)))
    add("overlap", "tensor u", tensors(G.tensor("t", [16]), G.tensor("u", [4], offset: 32)))
    add("same place", "tensor", tensors(G.tensor("t", [4]), G.tensor("u", [4])))
    add("no data", "tensor t") { $0.data = [] }
    return all
  }()

  @Test func blockSizesOverflowNowhere() {
    for type in GGUFTensorType.allCases {
      let (elements, bytes) = type.block
      #expect(type.bytes(shape: [elements * 2, 3]) == bytes * 6 + (type == .i2_s ? 32 : 0))
      #expect(type.bytes(shape: [Int.max / elements * elements, Int.max]) == nil)
      #expect(type.bytes(shape: []) == nil && type.bytes(shape: [0]) == nil && type.bytes(shape: [-elements]) == nil)
    }
    #expect(GGUFTensorType.q4_K.label == "Q4_K" && GGUFTensorType.bf16.label == "BF16" && GGUFTensorType.iq2_xxs.label == "IQ2_XXS")
  }

  @Test func onlyRegularFilesAreMapped() throws {
    let scratch = try Scratch()
    #expect(failure { _ = try MappedFile(scratch["missing"]) }?.code == .io)
    #expect(failure { _ = try MappedFile(scratch.path) }?.message == "this is not a regular file")
    #expect(failure { _ = try MappedFile("/dev/null") }?.message == "this is not a regular file")
    #expect(mkfifo(scratch["pipe"], 0o600) == 0)
    #expect(failure { _ = try MappedFile(scratch["pipe"]) }?.message == "this is not a regular file")
    #expect(try MappedFile(scratch.write([], to: "empty")).bytes.isEmpty)
    #expect(failure { _ = try GGUFFile(scratch["empty"]) }?.code == .badFile)
  }

  @Test(.enabled(if: FileManager.default.fileExists(atPath: "../shared/tokenizers"), "needs ../shared/tokenizers"))
  func filesOfOtherToolsAreRead() throws {
    for name in ["deepseek-llm", "falcon", "llama-bpe", "llama-spm", "qwen2"] {
      let file = try GGUFFile("../shared/tokenizers/\(name).gguf")
      #expect((file.metadata["tokenizer.ggml.tokens"]?.strings?.count ?? 0) > 30_000)
    }
    for name in ["i2_s", "tq1_0", "tq2_0"] { #expect(try GGUFFile("../shared/reference/gguf/\(name).gguf").tensors.count > 10) }
  }
}
