import Basics
import Foundation
import ModelFile
import Testing

/// The holes that readers of model files had, each by its name. The files are those of `GGUFTests` where they are there; docs/security.md has the whole table.
@Suite struct KnownFlawTests {
  private typealias G = HandMadeGGUF

  private func refusesGGUF(_ names: String...) throws {
    for name in names {
      let (_, place, file) = try #require(GGUFTests.badFiles.first { $0.0 == name }, "there is no bad file \"\(name)\"")
      let error = try failure(of: file.bytes)
      #expect(error?.place?.contains(place) == true, "\(name): \(error.map { "\($0)" } ?? "was accepted")")
    }
  }

  private func failure(of bytes: [UInt8]) throws -> SternaError? {
    let scratch = try Scratch()
    let path = try scratch.write(bytes, to: "x.gguf")
    return ModelFileTests.failure { _ = try GGUFFile(path) }
  }

  private func refusesSafetensors(_ header: String, data: Int = 0, place: String, length: UInt64? = nil) throws {
    let scratch = try Scratch()
    let folder = try scratch.copy("bitnet-offline")
    let bytes = G.int(length ?? UInt64(header.utf8.count)) + Array(header.utf8) + [UInt8](repeating: 0, count: data)
    try Data(bytes).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    let error = ModelFileTests.failure { _ = try HubFolder(folder) }
    #expect(error?.place?.contains(place) == true, "\(header.prefix(80)): \(error.map { "\($0)" } ?? "was accepted")")
  }

  /// A product of sizes that wraps around: little is allocated, much written.
  @Test func tensorSizeOverflow_CVE_2026_33298_CVE_2026_27940_CVE_2025_53630_CVE_2024_23496_CVE_2024_21802() throws {
    try refusesGGUF("elements overflow", "elements overflow to 4", "bytes overflow", "dimension -1", "offset overflowing", "array count overflowing", "array count -1", "key size -1", "name size -1")
    // The sum of two tensors that fit each for itself.
    var file = G()
    file.tensors = [G.tensor("t", [1 << 60]), G.tensor("u", [1 << 60], offset: 1 << 62)]
    #expect(try failure(of: file.bytes)?.place?.contains("tensor t") == true)
    try refusesSafetensors(#"{"a":{"dtype":"F32","shape":[281474976710656,281474976710656],"data_offsets":[0,0]}}"#, place: "shape")
    try refusesSafetensors(#"{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}}"#, place: "shape")
    try refusesSafetensors(#"{"a":{"dtype":"F64","shape":[1152921504606846976,2],"data_offsets":[0,0]}}"#, place: "shape")
  }

  /// Data said to lie behind the end of the file: what is in memory there would be read, and packed.
  @Test func dataBeyondTheFile_CVE_2026_7482() throws {
    try refusesGGUF("offset beyond the file", "data beyond the file", "no data", "offset -32", "alignment beyond the file", "tensor count over what is left")
    try refusesSafetensors(#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, data: 15, place: "data_offsets")
    try refusesSafetensors(#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#, data: 8, place: "data_offsets")
    try refusesSafetensors(#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, data: 8, place: "data_offsets")
    try refusesSafetensors("{}", place: "byte 0", length: 3)
    try refusesSafetensors("{}", place: "byte 0", length: .max)
  }

  /// Something is divided by what the file says is 0.
  @Test func divisionByZero_GHSA_3p75_pq92_q28f_CVE_2024_8063() throws {
    try refusesGGUF("alignment 0", "dimension 0", "0 dimensions", "part of a block", "removed type")
    for key in ["attention.head_count", "attention.head_count_kv", "embedding_length", "block_count", "feed_forward_length", "attention.key_length"] {
      let scratch = try Scratch()
      var file = TinyTernary("llama").gguf(.tq2_0)
      file.set("llama." + key, UInt32(0))
      let path = try scratch.write(file.bytes, to: "m.gguf")
      #expect(ModelFileTests.failure { try Packer.pack(GGUFSource(path), to: scratch["out.gguf"]) } != nil, "\(key)")
    }
  }

  /// A count that alone costs memory, a name twice, a name of nothing.
  @Test func countsAndNames() throws {
    try refusesGGUF("tensor count huge", "tensor count -1", "key count -1", "key count too large", "duplicate key", "duplicate name", "empty key", "no name", "nested too deep")
    let many = (0..<100_000).map { "\"t\($0)\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}" }.joined(separator: ",")
    try refusesSafetensors("{" + many + "}", data: 4, place: "tensor t")
    let entry = #"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#
    try refusesSafetensors("{\"a\":\(entry),\"a\":\(entry)}", data: 4, place: "header")
    try refusesSafetensors("{\"a\":\(entry),\"b\":\(entry)}", data: 4, place: "tensor")
    try refusesSafetensors(String(repeating: "[", count: 100_000), place: "header")
  }

  /// A template in the metadata is a program. Nothing here runs it, and it does not get into the packed file.
  @Test func templateInMetadata_CVE_2024_34359() throws {
    let scratch = try Scratch()
    var file = TinyTernary("llama").gguf(.tq2_0)
    file.set("tokenizer.chat_template", "{{ cycler.__init__.__globals__.os.popen('touch /tmp/owned').read() }}")
    let path = try scratch.write(file.bytes, to: "m.gguf")
    try Packer.pack(GGUFSource(path), to: scratch["out.gguf"])
    let text = String(decoding: try contents(scratch["out.gguf"]), as: UTF8.self)
    #expect(!text.contains("cycler") && !text.contains("chat_template"))
  }

  /// A name in an index that leads out of the folder, or to another machine.
  @Test func pathTraversal_CVE_2024_37032() throws {
    for name in ["../secret.safetensors", "/etc/passwd", "..", "a/b", "http://example.com/x", "x\u{0}y"] {
      let scratch = try Scratch()
      let folder = try scratch.copy("bitnet-offline")
      try JSONSerialization.data(withJSONObject: ["weight_map": ["t": name]]).write(to: URL(fileURLWithPath: folder + "/model.safetensors.index.json"))
      #expect(ModelFileTests.failure { _ = try HubFolder(folder) }?.message.contains("name of a file in this folder") == true, "\(name)")
    }
  }

  /// The names of llama.cpp's tests/test-gguf.cpp, as the least that a reader must refuse.
  @Test(arguments: [
    ("BAD_MAGIC", "magic"), ("BAD_VERSION_0", "version 0"), ("BAD_VERSION_1", "version 1"), ("BAD_VERSION_FUTURE", "version 4"), ("BAD_N_TENSORS", "tensor count -1"),
    ("BAD_N_KV", "key count -1"), ("BAD_KEY_SIZE", "key size -1"), ("EMPTY_KEY", "empty key"), ("BAD_TYPE", "value type"), ("DUPLICATE_KEY", "duplicate key"), ("BAD_ALIGN", "alignment 33"),
    ("WRONG_TYPE_ALIGN", "alignment of another type"), ("BAD_NAME_SIZE", "name size -1"), ("BAD_N_DIMS", "5 dimensions"), ("BAD_SHAPE", "dimension -1"), ("ZERO_DIM", "dimension 0"),
    ("NE_TOO_BIG", "elements overflow"), ("NBYTES_TOO_BIG", "bytes overflow"), ("BAD_TYPE of a tensor", "type -1"), ("BAD_OFFSET", "offset not aligned"), ("DUPLICATE_NAME", "duplicate name"),
    ("INCONSISTENT_ALIGN", "offset of another alignment"), ("NOT_ENOUGH_DATA", "no data"), ("MEM_SIZE_OVERFLOW", "offset overflowing"),
  ]) func llamaCppsListOfBadFiles(_ theirs: String, _ ours: String) throws { try refusesGGUF(ours) }
}
