import Basics

/// How far probabilities are from frequencies: answers sorted by probability into 15 bins of equal width, in each of which the mean probability should be the share of right answers.
public struct Reliability: Sendable, Equatable {
  public struct Bin: Sendable, Equatable {
    public var count = 0
    public var right = 0
    var sum = 0.0

    /// The mean probability of the answers in this bin; 0 where there are none.
    public var confidence: Double { count == 0 ? 0 : sum / Double(count) }
    /// The share of them that is right.
    public var accuracy: Double { count == 0 ? 0 : Double(right) / Double(count) }
  }

  public static let binCount = 15
  /// Bin i holds probabilities in i/15 ..< (i+1)/15; the last one 1, too.
  public private(set) var bins = [Bin](repeating: Bin(), count: binCount)
  public var count: Int { bins.reduce(0) { $0 + $1.count } }

  public init(_ observations: some Swift.Sequence<CalibrationCurve.Observation>) {
    for observation in observations {
      let probability = min(max(Double(observation.probability), 0), 1)
      let bin = min(Self.binCount - 1, Int(probability * Double(Self.binCount)))
      bins[bin].count += 1
      bins[bin].right += observation.isRight ? 1 : 0
      bins[bin].sum += probability
    }
  }

  /// Expected calibration error (Naeini et al. 2015; Guo et al. 2017): the mean over all answers of their bin's distance between probability and accuracy.
  public var expectedCalibrationError: Double {
    count == 0 ? 0 : bins.reduce(0) { $0 + abs(Double($1.right) - $1.sum) } / Double(count)
  }

  /// The bins that hold answers: `[{"from":0.4,"to":0.466,"count":12,"probability":0.44,"right":0.41}, ...]`.
  public var json: JSON {
    .array(
      bins.indices.filter { bins[$0].count > 0 }.map { i in
        [
          "from": .number(Double(i) / Double(Self.binCount)), "to": .number(Double(i + 1) / Double(Self.binCount)), "count": .number(bins[i].count),
          "probability": .number(bins[i].confidence), "right": .number(bins[i].accuracy),
        ]
      })
  }
}
