import Basics
import Inference
import Testing

/// Budgets hold, and what goes over them is an error that says so; the model works on.
@Suite struct LimitTests {
  private func code(_ body: () throws -> Void) -> SternaError.Code? {
    do { try body() } catch { return (error as? SternaError)?.code }
    return nil
  }

  @Test func budgetOfKeysAndValuesHolds() throws {
    let packed = try packed("bitnet-offline")
    let bytesPerToken = try model(packed).kvBytesPerToken
    let model = try model(packed, kvBudgetBytes: 10 * bytesPerToken)
    var first: Sequence? = try model.sequence(capacity: 6)
    #expect(first?.room == 6)
    #expect(code { _ = try model.sequence(capacity: 5) } == .kvFull)
    #expect(model.kvBytesInUse == 6 * bytesPerToken)
    first = nil
    #expect(model.kvBytesInUse == 0)
    #expect(try model.sequence(capacity: 10).room == 10)
  }

  @Test func contextHolds() throws {
    let model = try model(packed("bitnet-offline"))
    #expect(code { _ = try model.sequence(capacity: model.contextLength + 1) } == .contextFull)
    let parent = try model.sequence(capacity: 4)
    _ = try model.forward([Step(sequence: parent, tokens: [0, 1, 2], want: .none)])
    #expect(code { _ = try model.sequence(after: parent, capacity: model.contextLength - 2) } == .contextFull)
    #expect(code { _ = try model.forward([Step(sequence: parent, tokens: [1, 1], want: .last)]) } == .contextFull)
    #expect(parent.count == 3)
    #expect(try model.run(Array(repeating: 7, count: model.contextLength)).count == model.contextLength)
  }

  @Test(arguments: [Int32(-1), 320, .max, .min]) func tokenOutsideTheVocabularyIsNamed(token: Int32) throws {
    let model = try model(packed("bitnet-offline"))
    let sequence = try model.sequence(capacity: 3)
    do {
      _ = try model.forward([Step(sequence: sequence, tokens: [0, token], want: .last)])
      Issue.record("accepted \(token)")
    } catch {
      #expect(error.code == .badToken && error.place == "steps[0].tokens[1]")
    }
    #expect(sequence.count == 0)
  }

  @Test func parentIsFrozenWhileItHasChildren() throws {
    let model = try model(packed("bitnet-offline"))
    let parent = try model.sequence(capacity: 4)
    _ = try model.forward([Step(sequence: parent, tokens: [0], want: .none)])
    do {
      let child = try model.sequence(after: parent, capacity: 1)
      #expect(parent.isFrozen)
      parent.truncate(to: 0)
      #expect(parent.count == 1)
      #expect(throws: SternaError.self) { try model.forward([Step(sequence: parent, tokens: [1], want: .none)]) }
      withExtendedLifetime(child) {}
    }
    #expect(!parent.isFrozen)
    #expect(throws: SternaError.self) { try model.forward([Step(sequence: parent, tokens: [1], want: .none), Step(sequence: parent, tokens: [1], want: .none)]) }
    _ = try model.forward([Step(sequence: parent, tokens: [1], want: .none)])
    #expect(parent.count == 2)
  }

  @Test func unknownKernelAndTooLongContextAreRefused() throws {
    let packed = try packed("bitnet-offline")
    #expect(throws: SternaError.self) { try model(packed, kernel: "sse9") }
    var options = ModelOptions()
    options.contextLength = packed.configuration.contextLength + 1
    #expect(throws: SternaError.self) { try Model(packed, options: options) }
  }
}
