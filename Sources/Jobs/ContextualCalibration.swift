import Basics

/// Takes out what a model prefers before it has read anything (Zhao et al. 2021, "Calibrate Before Use"): label probabilities for inputs without content are what the prompt,
/// the labels' wording and their order alone bring about. The probabilities for a text are divided by them and normalised again.
public enum ContextualCalibration {
  /// What stands in place of the text. Empty, or a word for something that is missing.
  public static let inputs = ["N/A", "", "[MASK]"]

  /// The share of an even distribution that is mixed into a prior. Without it a label that seems impossible without a text could win with any: with it no label gains more than
  /// 1 + 1/smoothing over an even prior.
  private static let smoothing = 0.01

  /// The mean of the distributions for the content-free inputs, each over the labels in their order.
  public static func prior(_ distributions: [[Float]]) -> [Double] {
    guard let first = distributions.first else { return [] }
    var prior = [Double](repeating: smoothing / Double(first.count), count: first.count)
    for distribution in distributions {
      for (i, probability) in distribution.enumerated() where i < prior.count { prior[i] += Double(probability) / Double(distributions.count) }
    }
    return prior.map { $0 / (1 + smoothing) }
  }

  /// Probabilities divided by their prior, normalised.
  public static func apply(_ prior: [Double], to scores: [Float]) -> [Float] {
    let quotients = zip(scores, prior).map { Double($0) / $1 }
    let total = quotients.reduce(0, +)
    guard quotients.count == scores.count, total > 0, total.isFinite else { return scores }
    return quotients.map { Float($0 / total) }
  }
}
