import CTernary
import Inference
import ModelFile
import TestSupport
import Testing

/// The choice of experts, against the same rules written with sorted lists in double precision.
@Suite struct RouterTests {
  typealias Rules = ModelConfiguration.Router

  private func choose(_ rules: Rules, _ logits: [Float], bias: [Float]? = nil) throws -> (ids: [Int32], weights: [Float]) {
    let router = Router(configuration: rules, kernels: try #require(ct_select(nil)).pointee)
    var logits = logits
    var scratch = [Float](repeating: 0, count: 2 * rules.experts)
    var ids = [Int32](repeating: -1, count: rules.chosen)
    var weights = [Float](repeating: -1, count: rules.chosen)
    if let bias {
      bias.withUnsafeBufferPointer { router.choose(&logits, bias: $0.baseAddress, scratch: &scratch, ids: &ids, weights: &weights) }
    } else {
      router.choose(&logits, bias: nil, scratch: &scratch, ids: &ids, weights: &weights)
    }
    return (ids, weights)
  }

  private func expected(_ rules: Rules, _ logits: [Float], bias: [Float]?) -> [Int: Double] {
    func softmax(_ x: [Double]) -> [Double] {
      let powers = x.map { $0.exponential }
      return powers.map { $0 / powers.reduce(0, +) }
    }
    let z = logits.map(Double.init)
    let scores =
      switch rules.score {
      case .softmax: softmax(z)
      case .sigmoid: z.map { 1 / (1 + (-$0).exponential) }
      case .identity: z
      }
    let worth = scores.indices.map { scores[$0] + Double(bias?[$0] ?? 0) }
    let size = rules.experts / rules.groups
    let groups = (0..<rules.groups).sorted { a, b in
      func value(_ group: Int) -> Double {
        let best = worth[group * size..<(group + 1) * size].sorted(by: >)
        return rules.groupScore == .largest ? best[0] : best[0] + best[1]
      }
      return (value(a), b) > (value(b), a)
    }.prefix(rules.keptGroups)
    let chosen = worth.indices.filter { groups.contains($0 / size) }.sorted { (worth[$0], $1) > (worth[$1], $0) }.prefix(rules.chosen)
    var weights =
      switch rules.weights {
      case .scores: chosen.map { scores[$0] }
      case .softmaxOfChosen: softmax(chosen.map { z[$0] })
      case .sigmoidOfChosen: chosen.map { 1 / (1 + (-z[$0]).exponential) }
      }
    let sum = weights.reduce(0, +)
    if rules.normalises { weights = weights.map { $0 / sum } }
    return Dictionary(uniqueKeysWithValues: zip(chosen, weights.map { $0 * Double(rules.scale) }))
  }

  static let rules = [
    Rules(experts: 8, chosen: 2, score: .softmax, normalises: true), Rules(experts: 60, chosen: 4, score: .softmax, normalises: false),
    Rules(experts: 16, chosen: 4, score: .sigmoid, hasBias: true, groups: 4, keptGroups: 2, normalises: true, scale: 2.5),
    Rules(experts: 64, chosen: 6, score: .softmax, groups: 8, keptGroups: 3, groupScore: .largest, normalises: false, scale: 16),
    Rules(experts: 32, chosen: 4, score: .identity, weights: .softmaxOfChosen, normalises: false),
    Rules(experts: 16, chosen: 1, score: .identity, weights: .sigmoidOfChosen, normalises: false, target: .input),
  ]

  @Test(arguments: rules) func choosesAndWeighsAsTheRulesSay(rules: Rules) throws {
    var random = SplitMix64(seed: 3)
    for _ in 0..<200 {
      let logits = (0..<rules.experts).map { _ in Float.random(in: -4...4, using: &random) }
      let bias = rules.hasBias ? (0..<rules.experts).map { _ in Float.random(in: -0.3...0.3, using: &random) } : nil
      let want = expected(rules, logits, bias: bias)
      let got = try choose(rules, logits, bias: bias)
      #expect(got.ids.map(Int.init) == want.keys.sorted())
      for (id, weight) in zip(got.ids, got.weights) { #expect(abs(Double(weight) - (want[Int(id)] ?? .nan)) < 1e-5 * max(1, abs(Double(weight)))) }
    }
  }

  @Test(arguments: rules) func ofEqualsTheFirstAreTaken(rules: Rules) throws {
    let got = try choose(rules, [Float](repeating: 0.5, count: rules.experts))
    #expect(got.ids == Array(0..<Int32(rules.chosen)))
  }

  /// Weights may be damaged; then the result is nonsense, but the experts are experts, each once.
  @Test(arguments: rules, [Float.nan, .infinity, -.infinity]) func whateverTheLogitsAreTheExpertsExist(rules: Rules, bad: Float) throws {
    var random = SplitMix64(seed: 4)
    for round in 0..<50 {
      let share = round == 0 ? 1 : Double.random(in: 0...1, using: &random)
      let logits = (0..<rules.experts).map { _ in Double.random(in: 0..<1, using: &random) < share ? bad : Float.random(in: -1...1, using: &random) }
      let ids = try choose(rules, logits).ids
      #expect(Set(ids).count == rules.chosen && ids == ids.sorted() && ids.allSatisfy { 0..<Int32(rules.experts) ~= $0 })
    }
  }
}

extension Double {
  fileprivate var exponential: Double {
    // A series is enough for -4...4, and is not the function under test.
    var (sum, term) = (1.0, 1.0)
    for k in 1..<60 {
      term *= self / Double(k)
      sum += term
    }
    return sum
  }
}
