import CTernary
import ModelFile

/// Chooses the experts of one token.
///
/// Everything is decided in one order that depends on nothing but the logits; of equal values the one of the lower number is taken.
package struct Router {
  let configuration: ModelConfiguration.Router
  let kernels: ct_kernels

  package init(configuration: ModelConfiguration.Router, kernels: ct_kernels) {
    self.configuration = configuration
    self.kernels = kernels
  }

  /// - Parameters:
  ///   - logits: of all experts; becomes their scores.
  ///   - bias: of all experts, or nil.
  ///   - scratch: room for two values for each expert.
  ///   - ids: the chosen, ascending. [chosen]
  ///   - weights: theirs. [chosen]
  package func choose(
    _ logits: UnsafeMutablePointer<Float>, bias: UnsafePointer<Float>?, scratch: UnsafeMutablePointer<Float>, ids: UnsafeMutablePointer<Int32>,
    weights: UnsafeMutablePointer<Float>
  ) {
    let c = configuration
    let worth = scratch
    let kept = scratch + c.experts  // the logits, where weights come from them
    kept.update(from: logits, count: c.experts)
    score(logits, c.experts, c.score)
    for e in 0..<c.experts { worth[e] = numbered(logits[e] + (bias?[e] ?? 0)) }
    if c.keptGroups < c.groups { excludeGroups(worth) }

    // The best first; insertion keeps them in the order of their numbers.
    for count in 0..<c.chosen {
      let best = Int32(largest(worth, c.experts))
      worth[Int(best)] = .nan
      var at = count
      while at > 0, ids[at - 1] > best {
        ids[at] = ids[at - 1]
        at -= 1
      }
      ids[at] = best
    }
    switch c.weights {
    case .scores: for i in 0..<c.chosen { weights[i] = logits[Int(ids[i])] }
    case .softmaxOfChosen, .sigmoidOfChosen:
      for i in 0..<c.chosen { weights[i] = kept[Int(ids[i])] }
      score(weights, c.chosen, c.weights == .softmaxOfChosen ? .softmax : .sigmoid)
    }
    if c.normalises {
      var sum: Float = 0
      for i in 0..<c.chosen { sum += weights[i] }
      for i in 0..<c.chosen { weights[i] /= sum + 1e-20 }
    }
    if c.scale != 1 { for i in 0..<c.chosen { weights[i] *= c.scale } }
  }

  private func score(_ x: UnsafeMutablePointer<Float>, _ count: Int, _ function: ModelConfiguration.Router.Score) {
    switch function {
    case .identity: break
    case .softmax: kernels.softmax(x, count)
    case .sigmoid:
      for i in 0..<count { x[i] = -x[i] }
      kernels.exp(x, x, count)
      for i in 0..<count { x[i] = 1 / (1 + x[i]) }
    }
  }

  /// Leaves experts of the best groups; those of the others are worth nothing.
  private func excludeGroups(_ worth: UnsafeMutablePointer<Float>) {
    let c = configuration
    let size = c.experts / c.groups
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * c.groups) { buffer in
      guard let groups = buffer.baseAddress else { return }
      let isKept = groups + c.groups
      for group in 0..<c.groups {
        let first = worth + group * size
        let best = largest(first, size)
        groups[group] = first[best]
        isKept[group] = 0
        guard c.groupScore == .twoLargest else { continue }
        let value = first[best]
        first[best] = .nan
        groups[group] = numbered(value + first[largest(first, size)])
        first[best] = value
      }
      for _ in 0..<c.keptGroups {
        let best = largest(groups, c.groups)
        groups[best] = .nan
        isKept[best] = 1
      }
      for e in 0..<c.experts where isKept[e / size] == 0 { worth[e] = -.infinity }
    }
  }
}

/// Where the largest value is, the first of equal ones. NaN stands for what was taken already: there must be another value.
private func largest(_ x: UnsafePointer<Float>, _ count: Int) -> Int {
  var best = 0
  for i in 1..<max(1, count) where x[i] > x[best] || x[best].isNaN && !x[i].isNaN { best = i }
  return best
}

/// NaN is worth nothing.
private func numbered(_ x: Float) -> Float { x.isNaN ? -.infinity : x }
