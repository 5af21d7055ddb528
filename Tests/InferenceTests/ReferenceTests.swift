import Inference
import ModelFile
import Testing

@Suite struct ReferenceTests {
  @Test(arguments: references) func logitsStoredExactlyAreTheReferences(name: String) throws {
    let model = try model(packed(name))
    var errors: [Float] = []
    for item in try ReferenceCase.all(name) {
      let hidden = try model.run(item.ids)
      for (position, want) in item.logits { errors.append(relativeError(try model.logits(hidden, row: position), want)) }
    }
    print("\(name): largest relative error \(errors.max() ?? 0), median \(errors.sorted()[errors.count / 2])")
    // A rounding to int8 can flip on the last bit of a float, and then a prompt differs visibly; most must not.
    #expect(errors.allSatisfy { $0 < 2e-2 })
    #expect(errors.filter { $0 < 1e-4 }.count * 2 > errors.count)
  }

  @Test(arguments: references) func logitsWithDefaultStorageAreClose(name: String) throws {
    let model = try model(packed(name, embedding: nil), kv: .f16)
    for item in try ReferenceCase.all(name) {
      let hidden = try model.run(item.ids)
      for (position, want) in item.logits { #expect(relativeError(try model.logits(hidden, row: position), want) < 3e-2) }
    }
  }

  /// The reference's own continuation is fed, so that one near tie does not decide all that follows.
  @Test(arguments: references) func greedyTokensAreTheReferencesWhereItWasSure(name: String) throws {
    let model = try model(packed(name))
    var sure = 0
    for item in try ReferenceCase.all(name) {
      let hidden = try model.run(item.ids + item.greedy)
      for (step, want) in item.greedy.enumerated() where item.margins[step] > 0.05 {
        sure += 1
        #expect(argmax(try model.logits(hidden, row: item.ids.count - 1 + step)) == want, "step \(step)")
      }
    }
    #expect(sure > 24)
  }

  @Test(arguments: [EmbeddingTable.Storage.f32, .f16, .q8]) func candidatesHaveTheLogitsOfTheWholeVocabulary(storage: EmbeddingTable.Storage) throws {
    let model = try model(packed("bitnet-offline", embedding: storage))
    let hidden = try model.run([0, 17, 4])
    let all = try model.logits(hidden, row: 2)
    let candidates: [Int32] = [319, 0, 5, 5, 77]
    #expect(try model.logits(hidden, row: 2, of: candidates) == candidates.map { all[Int($0)] })
  }

  /// Trained with float activations: two int8 parts leave nothing to flip, so all prompts agree closely, in both layouts.
  @Test(arguments: [TernaryMatrix.Layout.fast, .small]) func scalesAndActivationsByGroup(layout: TernaryMatrix.Layout) throws {
    let packed = try packed("qwen3-group-ternary", layout: layout)
    let narrow = try model(packed)
    for item in try ReferenceCase.all("qwen3-group-ternary") {
      let hidden = try narrow.run(item.ids)
      for (position, want) in item.logits { #expect(relativeError(try narrow.logits(hidden, row: position), want) < 1e-3) }
      for (threads, batch, kernel) in [(3, 7, nil), (1, 1, nil), (2, 128, "scalar")] {
        #expect(try model(packed, threads: threads, batchTokens: batch, kernel: kernel).run(item.ids).values == hidden.values)
      }
    }
  }
}
