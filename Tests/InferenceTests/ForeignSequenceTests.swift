import Basics
import Inference
import Testing

/// Two models' caches differ in shape, so one must never write or read the other's.
@Suite struct ForeignSequenceTests {
  @Test func aSequenceOfAnotherModelIsRefused() throws {
    let (own, other) = (try model(packed("bitnet-silu")), try model(packed("bitnet-offline")))
    let foreign = try other.sequence(capacity: 4)
    #expect(throws: SternaError.self) { try own.forward([Step(sequence: foreign, tokens: [0], want: .last)]) }
    #expect(throws: SternaError.self) { try own.sequence(after: foreign, capacity: 1) }
    #expect(foreign.count == 0)
    #expect(try other.forward([Step(sequence: foreign, tokens: [0], want: .last)]).count == 1)
  }
}
