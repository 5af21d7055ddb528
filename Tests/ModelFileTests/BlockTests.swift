import Basics
import Foundation
import ModelFile
import Testing

/// Tensors that other programs wrote, beside the values they stand for (Tests/Fixtures/gguf/make_blocks.py).
let blocksFile = URL(fileURLWithPath: fixtures).deletingLastPathComponent().appendingPathComponent("gguf/blocks.gguf").path

@Suite struct BlockTests {
  private func floats(_ gguf: GGUFFile, _ name: String) throws -> [Float] {
    let tensor = try #require(gguf.tensor(name))
    return gguf.bytes(of: tensor).withMemoryRebound(to: Float.self) { Array($0) }
  }

  /// Everything of a matrix through the reader, as values.
  private func values(_ blocks: TernaryBlocks, rows: Int, columns: Int) throws -> [Float] {
    let scale = try blocks.scale()
    var weights = [Int8](repeating: 77, count: rows * columns)
    let perRow = scale == .groups ? columns / 128 : 1
    var scales = [Float](repeating: .nan, count: rows * perRow)
    try blocks.ternaryRows(scale).read(0..<rows, &weights, &scales)
    return weights.enumerated().map { i, weight in
      switch scale {
      case .tensor(let value): Float(weight) * value
      case .rows, .groups: Float(weight) * scales[i / columns * perRow + i % columns * perRow / columns]
      }
    }
  }

  @Test(arguments: GGUFBlocks.matrixTypes) func valuesAreThoseOfTheGGUFPackage(_ type: GGUFTensorType) throws {
    let gguf = try GGUFFile(blocksFile)
    let tensor = try #require(gguf.tensor(type.label))
    #expect(tensor.type == type)
    let expected = try floats(gguf, type.label + ".expected")
    var found = [Float](repeating: .nan, count: expected.count)
    GGUFBlocks.floats(type, from: try #require(gguf.bytes(of: tensor).baseAddress), blocks: expected.count / type.block.elements, into: &found)
    #expect(found.elementsEqual(expected) { $0.bitPattern == $1.bitPattern || $0 == 0 && $1 == 0 })
    #expect(Set(found).count > (TernaryBlocks.types.contains(type) ? 10 : 100))
  }

  @Test(arguments: [GGUFTensorType.tq1_0, .tq2_0]) func ternaryValuesAreThoseOfTheGGUFPackage(_ type: GGUFTensorType) throws {
    let gguf = try GGUFFile(blocksFile)
    let tensor = try #require(gguf.tensor(type.label))
    let blocks = try TernaryBlocks(gguf, tensor, rows: 3, columns: 512, layout: .x86)
    #expect(try blocks.scale() == .groups)
    #expect(try values(blocks, rows: 3, columns: 512) == floats(gguf, type.label + ".expected"))
  }

  @Test(arguments: TernaryBlocks.types) func matricesOfTheEnginesAreThoseOfTheHubFolder(_ type: GGUFTensorType) throws {
    let gguf = try GGUFFile(blocksFile)
    let codes = gguf.bytes(of: try #require(gguf.tensor("engine.codes"))).map { Int8(bitPattern: $0) }
    var scale = try #require(floats(gguf, "engine.scale").first)
    // llama.cpp's blocks have half-precision factors.
    if type != .i2_s { scale = Float(Float16(scale)) }
    let blocks = try TernaryBlocks(gguf, #require(gguf.tensor("engine.\(type.label)")), rows: 128, columns: 256, layout: .x86)
    #expect(try blocks.scale() == .tensor(scale))
    #expect(try values(blocks, rows: 128, columns: 256) == codes.map { Float($0) * scale })
    // The other layout is another matrix: the option is not without effect.
    if type == .i2_s {
      let arm = try TernaryBlocks(gguf, #require(gguf.tensor("engine.I2_S")), rows: 128, columns: 256, layout: .arm)
      #expect(try values(arm, rows: 128, columns: 256) != codes.map { Float($0) * scale })
    }
  }

  /// All bytes: the 243 that are numbers of five digits decode as the definition says, the 13 others are refused.
  @Test func everyByteOfTQ1IsReadOrRefused() throws {
    var digits: [UInt8: [Int]] = [:]
    for number in 0..<243 {
      let byte = UInt8((Double(number) * 256 / 243).rounded(.up))
      digits[byte] = [number / 81, number / 27 % 3, number / 9 % 3, number / 3 % 3, number % 3].map { $0 - 1 }
    }
    #expect(digits.count == 243)
    let scratch = try Scratch()
    for byte in 0...255 {
      var block = [UInt8](repeating: 128, count: 54)  // 11111 in base 3: zeros
      for i in 48..<52 { block[i] = 127 }  // 11110
      block[3] = UInt8(byte)
      block[52...53] = [0, 0x3C]  // 1 in half precision
      var file = HandMadeGGUF()
      file.tensors = [HandMadeGGUF.tensor("t", [256, 1], type: 34)]
      file.data = block
      let gguf = try GGUFFile(scratch.write(file.bytes, to: "b.gguf"))
      let blocks = try TernaryBlocks(gguf, #require(gguf.tensor("t")), rows: 1, columns: 256, layout: .x86)
      if let expected = digits[UInt8(byte)] {
        let found = try values(blocks, rows: 1, columns: 256)
        for k in 0..<5 { #expect(found[32 * k + 3] == Float(expected[k])) }
        #expect(found.enumerated().allSatisfy { i, value in value == 0 || i % 32 == 3 && i < 160 })
      } else {
        #expect(failure { _ = try values(blocks, rows: 1, columns: 256) }?.place?.hasSuffix("tensor t, row 0") == true)
      }
    }
  }
}
