import Glibc

/// Choosing among permitted tokens. Sums run in the order of the candidates and in double precision, so that a choice depends on nothing but its logits.
enum Choice {
  /// Logarithms of the probabilities, renormalised over the candidates.
  static func logProbabilities(_ logits: [Float]) -> [Double] {
    guard let most = logits.max(), most.isFinite else {
      // Not a model's answer (NaN or infinity somewhere): nothing is known.
      return [Double](repeating: -log(Double(max(1, logits.count))), count: logits.count)
    }
    let shifted = logits.map { Double($0) - Double(most) }
    let total = log(shifted.reduce(0) { $0 + exp($1) })
    return shifted.map { $0 - total }
  }

  /// Index of the largest logit; the first of equal ones.
  static func best(_ logits: [Float]) -> Int {
    var best = 0
    for i in logits.indices where logits[i] > logits[best] { best = i }
    return best
  }
}
