import Basics
import Glibc

/// How often answers of a given probability are right: a monotone curve, fitted on labelled data, that turns a model's probabilities into frequencies.
///
/// Fitted by isotonic regression: pool adjacent violators gives the least-squares fit among all nondecreasing functions (Ayer et al. 1955; Zadrozny and Elkan 2002 for
/// classifiers). Each pool becomes one point at its mean probability, and the curve is linear between points and constant outside them: on the pocket model's held-out
/// rows this has a lower cross-validated Brier score than flat pools have, by 0 to 4 %. Pools of fewer than `smallestPool` observations join a neighbour, and rates are (right + 1/2) / (count + 1): thirty right
/// answers in a row do not make the next one certain.
public struct CalibrationCurve: Sendable, Equatable {
  public struct Point: Sendable, Equatable {
    /// What the model said, 0...1.
    public var probability: Double
    /// How often that was right, 0...1.
    public var rate: Double

    public init(_ probability: Double, _ rate: Double) {
      self.probability = probability
      self.rate = rate
    }
  }

  /// One answer whose truth is known.
  public struct Observation: Sendable, Equatable {
    public var probability: Float
    public var isRight: Bool

    public init(_ probability: Float, isRight: Bool) {
      self.probability = probability
      self.isRight = isRight
    }
  }

  /// Ascending in probability, nondecreasing in rate; at least one.
  public let points: [Point]

  /// The most points that a curve may have; fitting makes far fewer.
  public static let mostPoints = 1000
  /// The fewest observations to fit a curve on.
  public static let fewestObservations = 50
  private static let smallestPool = 20.0

  /// Nil unless there is a point, probabilities ascend, rates do not fall, and both lie within 0...1.
  public init?(points: [Point]) {
    guard (1...Self.mostPoints).contains(points.count), points.allSatisfy({ (0.0...1.0).contains($0.probability) && (0.0...1.0).contains($0.rate) }),
      zip(points, points.dropFirst()).allSatisfy({ $0.probability < $1.probability && $0.rate <= $1.rate })
    else { return nil }
    self.points = points
  }

  /// The curve of these observations, in whatever order they come.
  ///
  /// - Throws: `bad_field` for fewer than `fewestObservations`.
  public init(fitting observations: [Observation]) throws(SternaError) {
    guard observations.count >= Self.fewestObservations else {
      throw SternaError(
        .badField, "there are too few answers to fit a curve", expected: "at least \(Self.fewestObservations)", found: "\(observations.count)")
    }
    var pools: [Pool] = []
    for observation in observations.sorted(by: { $0.probability < $1.probability }) {
      let next = Pool(count: 1, right: observation.isRight ? 1 : 0, sum: Double(observation.probability), last: observation.probability)
      // Equal probabilities must get equal rates, so they are one pool from the beginning.
      if let top = pools.last, top.last == observation.probability { pools[pools.count - 1].join(next) } else { pools.append(next) }
    }
    pools = Self.pooled(pools) { $0.rate }
    var whole: [Pool] = []
    for pool in pools {
      if let last = whole.last, last.count < Self.smallestPool { whole[whole.count - 1].join(pool) } else { whole.append(pool) }
    }
    if whole.count > 1, let last = whole.last, last.count < Self.smallestPool {
      whole.removeLast()
      whole[whole.count - 1].join(last)
    }
    points = Self.pooled(whole) { $0.smoothedRate }.map { Point($0.sum / $0.count, $0.smoothedRate) }
  }

  private struct Pool {
    var count: Double
    var right: Double
    /// Of the probabilities.
    var sum: Double
    var last: Float
    var rate: Double { right / count }
    var smoothedRate: Double { (right + 0.5) / (count + 1) }

    mutating func join(_ next: Pool) {
      count += next.count
      right += next.right
      sum += next.sum
      last = next.last
    }
  }

  /// Pool adjacent violators: joins neighbours until no rate falls.
  private static func pooled(_ pools: [Pool], by rate: (Pool) -> Double) -> [Pool] {
    var result: [Pool] = []
    for pool in pools {
      result.append(pool)
      while result.count > 1, rate(result[result.count - 2]) >= rate(result[result.count - 1]) {
        let last = result.removeLast()
        result[result.count - 1].join(last)
      }
    }
    return result
  }

  /// How often an answer with this probability is right.
  public func rate(at probability: Double) -> Double {
    guard let first = points.first, let last = points.last else { return probability }
    if probability <= first.probability { return first.rate }
    if probability >= last.probability { return last.rate }
    var low = 0
    var high = points.count - 1
    while high - low > 1 {
      let middle = (low + high) / 2
      if points[middle].probability <= probability { low = middle } else { high = middle }
    }
    let (a, b) = (points[low], points[high])
    return a.rate + (b.rate - a.rate) * (probability - a.probability) / (b.probability - a.probability)
  }

  /// Probabilities of which the largest is what the curve says: all are raised to one power and normalised again.
  ///
  /// A power keeps the order of all labels, so that the answer never changes, and the sum 1. The largest of n cannot be under 1/n, whatever the curve says.
  /// - Parameter scores: probabilities that sum to 1.
  public func calibrated(_ scores: [Float]) -> [Float] {
    guard scores.count > 1, let top = scores.max(), top > 0 else { return scores }
    let wanted = max(rate(at: Double(top)), 1 / Double(scores.count))
    // A probability that was rounded to 0 is small, not impossible.
    let distances = scores.map { log(Double(max($0, .leastNormalMagnitude))) - log(Double(top)) }
    func sum(_ power: Double) -> Double { distances.reduce(0) { $0 + exp(power * $1) } }
    // The share of the largest, 1 / sum, grows with the power. 2^-14 flattens what a Float can hold to within a percent; 2^14 leaves nothing to the others.
    var (low, high) = (-14.0, 14.0)
    for _ in 0..<40 {
      let middle = (low + high) / 2
      if 1 / sum(exp2(middle)) < wanted { low = middle } else { high = middle }
    }
    let power = exp2((low + high) / 2)
    let total = sum(power)
    return distances.map { Float(exp(power * $0) / total) }
  }
}
