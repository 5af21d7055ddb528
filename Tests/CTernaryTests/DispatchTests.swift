import CTernary
import Foundation
import Testing

@Suite(.serialized) struct DispatchTests {
  @Test func theBestPathIsChosenAndTheReferenceIsAlwaysThere() throws {
    let names = Path.all.map(\.name)
    #expect(names.last == "scalar")
    #expect(Set(names).count == names.count)
    let best = try #require(ct_select(nil))
    #expect(String(cString: best.pointee.name) == names.first)
    #expect(ct_available(nil, 0) == names.count)
  }

  @Test func everyAvailablePathCanBeSelectedByNameAndOthersCannot() throws {
    for path in Path.all {
      let selected = try #require(ct_select(path.name))
      #expect(String(cString: selected.pointee.name) == path.name)
    }
    #expect(ct_select("mmx") == nil)
    #expect(ct_select("") == nil)
  }

  @Test func aPathWithWrongIntegersFailsItsSelfTest() {
    var wrong = ct_scalar().pointee
    #expect(ct_self_test(&wrong))
    wrong.fast_matmul = { weights, blocks, columns, x, xStride, sums, tokens, out, outStride in
      ct_scalar().pointee.fast_matmul(weights, blocks, columns, x, xStride, sums, tokens, out, outStride)
      if tokens == 15 { out[14 * outStride + 31] += 1 }
    }
    #expect(!ct_self_test(&wrong))
    wrong = ct_scalar().pointee
    wrong.small_matmul = { weights, blocks, columns, x, xStride, sums, tokens, out, outStride in
      ct_scalar().pointee.small_matmul(weights, blocks, columns, x, xStride, sums, tokens, out, outStride)
      if tokens == 1 { out[47] -= 1 }
    }
    #expect(!ct_self_test(&wrong))
  }

  @Test func aPathWithScaledSumsOneBitOffFailsItsSelfTest() {
    var wrong = ct_scalar().pointee
    wrong.fast_grouped = { weights, scales, blocks, groups, x, xStride, sums, xScales, tokens, out, outStride in
      ct_scalar().pointee.fast_grouped(weights, scales, blocks, groups, x, xStride, sums, xScales, tokens, out, outStride)
      if tokens == 4 { out[3 * outStride + 5] = out[3 * outStride + 5].nextUp }
    }
    #expect(!ct_self_test(&wrong))
    wrong = ct_scalar().pointee
    wrong.quantize_groups = { x, q, n, stride, sums, scales in
      ct_scalar().pointee.quantize_groups(x, q, n, stride, sums, scales)
      scales[0] = scales[0].nextDown
    }
    #expect(!ct_self_test(&wrong))
  }

  @Test func aPathWithAFloatOneBitOffFailsItsSelfTest() {
    var wrong = ct_scalar().pointee
    wrong.dot_f32 = { ct_scalar().pointee.dot_f32($0, $1, $2).nextUp }
    #expect(!ct_self_test(&wrong))
  }

  @Test func anIllegalInstructionFailsTheSelfTestAndTheOldHandlerComesBack() throws {
    #if arch(x86_64)
    let instruction: [UInt8] = [0x0f, 0x0b]  // ud2
    #else
    let instruction: [UInt8] = [0, 0, 0, 0]  // udf #0
    #endif
    let page = try #require(mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    try #require(page != MAP_FAILED)
    page.copyMemory(from: instruction, byteCount: instruction.count)
    try #require(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0)

    let mine: @convention(c) (Int32) -> Void = { _ in }
    let before = signal(SIGILL, mine)
    var broken = ct_scalar().pointee
    typealias Matmul = @convention(c) (
      UnsafePointer<UInt8>, Int, Int, UnsafePointer<Int8>, Int, UnsafePointer<Int32>, Int, UnsafeMutablePointer<Int32>, Int
    ) -> Void
    broken.fast_matmul = unsafeBitCast(page, to: Matmul.self)
    for _ in 0..<3 { #expect(!ct_self_test(&broken)) }
    broken = ct_scalar().pointee
    broken.softmax = unsafeBitCast(page, to: (@convention(c) (UnsafeMutablePointer<Float>, Int) -> Void).self)
    #expect(!ct_self_test(&broken))
    let after = signal(SIGILL, before)
    #expect(unsafeBitCast(after, to: Int.self) == unsafeBitCast(mine, to: Int.self))
    munmap(page, 4096)
  }
}
