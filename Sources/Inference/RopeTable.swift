import Glibc
import ModelFile

/// Cosines and sines of rotary position embedding (RoFormer, arXiv 2104.09864) for every position of the context.
///
/// The formulas of the scalings are those of `transformers`' `modeling_rope_utils`; all steps are rounded to float32 where it does.
package struct RopeTable {
  /// Half of what is rotated of a head: the number of pairs.
  let half: Int
  /// [context, half]
  let cosines: FloatBuffer
  /// [context, half]
  let sines: FloatBuffer

  init(_ configuration: ModelConfiguration, contextLength: Int) {
    half = configuration.ropeSize / 2
    cosines = FloatBuffer(count: contextLength * half)
    sines = FloatBuffer(count: contextLength * half)
    let (frequencies, factor) = RopeTable.frequencies(configuration)
    for position in 0..<contextLength {
      for i in 0..<half {
        let angle = Double(Float(position) * frequencies[i])
        cosines[position * half + i] = Float(cos(angle)) * factor
        sines[position * half + i] = Float(sin(angle)) * factor
      }
    }
  }

  /// Radians a position for each pair [half], and what cosines and sines are multiplied by.
  package static func frequencies(_ configuration: ModelConfiguration) -> ([Float], Float) {
    let size = configuration.ropeSize
    let theta = Double(configuration.ropeTheta)
    let periods = (0..<size / 2).map { Float(pow(theta, Double(Float(2 * $0) / Float(size)))) }
    let plain = periods.map { 1 / $0 }
    switch configuration.ropeScaling {
    case .none:
      return (plain, 1)
    case .llama3(let factor, let lowFrequency, let highFrequency, let originalContext):
      let context = Float(originalContext)
      return (
        plain.map { frequency in
          let wavelength = 2 * Float.pi / frequency
          if wavelength < context / highFrequency { return frequency }
          if wavelength > context / lowFrequency { return frequency / factor }
          let smooth = (context / wavelength - lowFrequency) / (highFrequency - lowFrequency)
          return (1 - smooth) * frequency / factor + smooth * frequency
        }, 1
      )
    case .yarn(let factor, let originalContext, let betaFast, let betaSlow, let attentionFactor, let truncate):
      // The dimension whose wavelength makes this many rotations within the original context.
      func dimension(rotations: Float) -> Double {
        Double(size) * log(Double(originalContext) / (Double(rotations) * 2 * .pi)) / (2 * log(theta))
      }
      var low = dimension(rotations: betaFast)
      var high = dimension(rotations: betaSlow)
      if truncate { (low, high) = (low.rounded(.down), high.rounded(.up)) }
      low = max(low, 0)
      high = min(high, Double(size - 1))
      if low == high { high += 0.001 }
      return (
        plain.indices.map { i in
          let ramp = Float(min(1, max(0, (Double(i) - low) / (high - low))))
          let kept = 1 - ramp
          return 1 / (factor * periods[i]) * (1 - kept) + plain[i] * kept
        }, attentionFactor
      )
    }
  }
}
