import Basics
import Crypto
import ModelFile
import Tokenizer

/// What a file of keys and values must be for, to the byte: the beginning of that file.
///
/// Everything that decides the bits of the keys and values is here, and nothing else: not the instruction set, the threads, the batch or the length of the
/// context, which change none (docs/kernels.md). The model's fingerprint stands for weights, configuration and tokenizer.
struct PrefixKey {
  /// Raised with the layout of keys and values, and with whatever changes a bit of them.
  static let version: UInt32 = 1
  private static let suffix = ".kv"
  static let digestBytes = 32

  /// [magic, version, format, blocks, key-value heads, head size, tokens, fingerprint, SHA-256 of the rotations, token ids]
  let bytes: [UInt8]
  /// Of the file: the SHA-256 of `bytes`.
  let name: String
  let tokenCount: Int
  /// Keys and values.
  let payloadBytes: Int

  init(_ tokens: [TokenID], _ model: Model) {
    let layout = model.pool.layout
    var bytes = Array("STERNAKV".utf8)
    func append(_ number: UInt32) {
      withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }
    append(Self.version)
    append(layout.format.fileNumber)
    for size in [layout.blocks, layout.parts[0].heads, layout.parts[0].size, tokens.count] { append(UInt32(clamping: size)) }
    bytes += Array(model.packed.fingerprint.utf8)
    bytes += Self.rotations(model.rope, positions: tokens.count)
    for token in tokens { append(UInt32(bitPattern: token)) }
    self.bytes = bytes
    name = hexadecimal(SHA256.hash(data: bytes)) + Self.suffix
    tokenCount = tokens.count
    payloadBytes = layout.bytes(tokens.count)
  }

  /// Whether a file is one of ours, by its name: 64 hexadecimal digits and the suffix.
  static func isName(_ name: some StringProtocol) -> Bool {
    let digits = name.utf8.dropLast(suffix.utf8.count)
    return name.hasSuffix(suffix) && digits.count == 2 * digestBytes && digits.allSatisfy { 48...57 ~= $0 || 97...102 ~= $0 }
  }

  var fileBytes: Int { bytes.count + payloadBytes + Self.digestBytes }

  /// Cosines and sines come from the system's mathematics library, the only numbers here that do: another one may round another way.
  private static func rotations(_ rope: RopeTable, positions: Int) -> SHA256.Digest {
    var hash = SHA256()
    for table in [rope.cosines, rope.sines] { hash.update(bufferPointer: UnsafeRawBufferPointer(start: table.base, count: positions * rope.half * 4)) }
    return hash.finalize()
  }
}

extension KVFormat {
  fileprivate var fileNumber: UInt32 {
    switch self {
    case .f32: 0
    case .f16: 1
    case .q8: 2
    }
  }
}
