import Inference
import ModelFile
import Testing

/// Frequencies as `transformers` 5.23 computes them (`ROPE_INIT_FUNCTIONS`).
@Suite struct RopeTests {
  private func configuration(theta: Float, headSize: Int, _ scaling: ModelConfiguration.RopeScaling) -> ModelConfiguration {
    ModelConfiguration(
      architecture: "llama", name: "", vocabularySize: 8, hiddenSize: 64, blockCount: 1, queryHeads: 4, kvHeads: 2, headSize: headSize,
      feedForwardSize: 64, contextLength: 256, normEpsilon: 1e-5, activation: .silu, ropeTheta: theta, ropeScaling: scaling, hasSubNorms: false,
      tiedHead: true)
  }

  private func expectClose(_ got: [Float], _ want: [Float]) {
    #expect(got.count == want.count)
    for (a, b) in zip(got, want) { #expect(abs(a - b) <= 2e-6 * abs(b), "\(a) is not \(b)") }
  }

  @Test func yarn() {
    let (frequencies, factor) = RopeTable.frequencies(
      configuration(
        theta: 10000, headSize: 32,
        .yarn(factor: 4, originalContext: 64, betaFast: 32, betaSlow: 1, attentionFactor: 1.1386294, truncate: true)))
    #expect(factor == 1.1386294)
    expectClose(
      frequencies,
      [
        1.0, 0.47799012064933777, 0.22135943174362183, 0.09780536592006683, 0.03999999910593033, 0.014058532193303108, 0.007905694656074047,
        0.004445698577910662, 0.0024999999441206455, 0.0014058533124625683, 0.0007905694656074047, 0.00044456985779106617,
        0.0002500000118743628, 0.00014058532542549074, 7.905694656074047e-05, 4.4456985051510856e-05,
      ])
  }

  @Test func yarnWithBoundsThatAreNotRounded() {
    let (frequencies, _) = RopeTable.frequencies(
      configuration(
        theta: 1_000_000, headSize: 32,
        .yarn(factor: 8, originalContext: 4096, betaFast: 32, betaSlow: 1, attentionFactor: 1, truncate: false)))
    expectClose(
      frequencies,
      [
        1.0, 0.4216965138912201, 0.17782793939113617, 0.07498941570520401, 0.028112081810832024, 0.008947670459747314, 0.0025472883135080338,
        0.0005572194349952042, 0.0001250000059371814, 5.271206100587733e-05, 2.2228492525755428e-05, 9.373678039992228e-06,
        3.9528467823402025e-06, 1.6669017668391461e-06, 7.029266839708725e-07, 2.964217173939687e-07,
      ])
  }

  @Test func llama3() {
    let (frequencies, factor) = RopeTable.frequencies(
      configuration(theta: 500_000, headSize: 16, .llama3(factor: 8, lowFrequency: 1, highFrequency: 4, originalContext: 64)))
    #expect(factor == 1)
    expectClose(
      frequencies,
      [
        1.0, 0.07940301299095154, 0.004700753837823868, 0.0009115831344388425, 0.00017677668074611574, 3.428102354519069e-05,
        6.647869668086059e-06, 1.289173155782919e-06,
      ])
  }
}
