import Basics
import Foundation
import Jobs
import TestSupport
import Testing

#if canImport(FoundationXML)
  import FoundationXML
#endif

@Suite struct CalibrationCurveTests {
  private func observations(_ count: Int, seed: UInt64, distinct: Int = 1 << 20, truth: (Double) -> Double) -> [CalibrationCurve.Observation] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in
      let probability = Double(Int.random(in: 0...distinct, using: &random)) / Double(distinct)
      return .init(Float(probability), isRight: Double.random(in: 0..<1, using: &random) < truth(probability))
    }
  }

  @Test func aCurveAscendsWhateverTheData() throws {
    for (seed, distinct) in [(1, 1 << 20), (2, 7), (3, 1), (4, 100)] {
      for truth in [{ $0 }, { $0 * $0 }, { 1 - $0 }, { _ in 0 }, { _ in 1 }] as [(Double) -> Double] {
        let data = observations(700, seed: UInt64(seed), distinct: distinct, truth: truth)
        let curve = try CalibrationCurve(fitting: data)
        #expect(CalibrationCurve(points: curve.points) == curve)
        #expect(try CalibrationCurve(fitting: data.reversed().shuffled()) == curve)
        var last = 0.0
        for i in 0...1000 {
          let rate = curve.rate(at: Double(i) / 1000)
          #expect(rate >= last && rate > 0 && rate < 1)
          last = rate
        }
      }
    }
  }

  /// The least-squares isotonic fit has a closed form: at each point the largest, over beginnings before it, of the smallest mean up to an end behind it. With pools of
  /// hundreds, which neither the smallest pool nor the smoothing changes by more than a little, the curve must agree with it.
  @Test func aCurveIsTheIsotonicFit() throws {
    let levels = 8
    var data: [CalibrationCurve.Observation] = []
    let right = [300, 250, 400, 380, 100, 700, 650, 990]  // of 1,000 each; violators at 1, 3, 4 and 6
    for level in 0..<levels { data += (0..<1000).map { .init(Float(level) / 8, isRight: $0 < right[level]) } }
    let curve = try CalibrationCurve(fitting: data)
    for point in 0..<levels {
      var best = 0.0
      for from in 0...point {
        var least = 1.0
        for to in point..<levels { least = min(least, Double(right[from...to].reduce(0, +)) / Double(1000 * (to - from + 1))) }
        best = max(best, least)
      }
      // A pool of several levels is one point, at their mean, so only pools of one level are met exactly.
      let own = Double(right[point]) / 1000
      if abs(best - own) < 1e-12 { #expect(abs(curve.rate(at: Double(point) / 8) - best) < 2e-3, "\(point)") }
    }
    // Four pools: levels 0 and 1, 2 to 4, 5 and 6, and 7 alone.
    #expect(curve.points.count == 4)
    #expect(zip(curve.points, [0.275, 0.293_33, 0.675, 0.99]).allSatisfy { abs($0.rate - $1) < 2e-3 })
  }

  @Test func itFindsTheTruthBehindOverconfidence() throws {
    let curve = try CalibrationCurve(fitting: observations(20_000, seed: 5) { 0.2 + 0.6 * $0 })
    for probability in [0.1, 0.3, 0.5, 0.7, 0.9] { #expect(abs(curve.rate(at: probability) - (0.2 + 0.6 * probability)) < 0.05) }
  }

  @Test func calibratedScoresKeepTheirOrderAndSumTo1() throws {
    var random = SplitMix64(seed: 6)
    let curves = try [{ $0 * 0.3 }, { $0 }, { 0.5 + $0 / 2 }].map { try CalibrationCurve(fitting: observations(2000, seed: 7, truth: $0)) }
    for round in 0..<300 {
      let count = Int.random(in: 2...40, using: &random)
      var weights = (0..<count).map { _ in exp(Double.random(in: -30...0, using: &random)) }
      if round % 7 == 0 { weights[0] = 1e30 }  // the others round to nothing
      if round % 11 == 0 { weights = weights.map { _ in 1 } }
      let total = weights.reduce(0, +)
      let scores = weights.map { Float($0 / total) }
      for curve in curves {
        let calibrated = curve.calibrated(scores)
        #expect(abs(calibrated.reduce(0) { $0 + Double($1) } - 1) < 1e-5)
        for (i, j) in zip(0..<count, (0..<count).shuffled(using: &random)) where scores[i] > scores[j] { #expect(calibrated[i] >= calibrated[j]) }
        let top = scores.max() ?? 0
        let ties = scores.count { $0 == top }
        let wanted = min(max(curve.rate(at: Double(top)), 1 / Double(count)), 1 / Double(ties))
        #expect(abs(Double(calibrated.max() ?? 0) - wanted) < 0.01, "\(count) labels, \(top) became \(calibrated.max() ?? 0) in place of \(wanted)")
      }
    }
    #expect(curves[0].calibrated([1]) == [1])
  }

  @Test func tooLittleDataIsRefusedWithNumbers() {
    let error = #expect(throws: SternaError.self) { try CalibrationCurve(fitting: observations(49, seed: 8) { $0 }) }
    #expect(error?.expected == "at least 50" && error?.found == "49")
  }

  @Test(arguments: [[(0.5, 0.5), (0.5, 0.6)], [(0.1, 0.5), (0.2, 0.4)], [(0.1, 1.5)], [(-1, 0)], []]) func whatIsNoCurveIsNone(points: [(Double, Double)]) {
    #expect(CalibrationCurve(points: points.map { .init($0.0, $0.1) }) == nil)
  }
}

@Suite struct CalibrationFileTests {
  private let model = ModelIdentity(name: "m", sha256: String(repeating: "ab", count: 32))
  private var calibration: Calibration {
    get throws {
      Calibration(
        curve: try #require(CalibrationCurve(points: [.init(0.25, 0.5), .init(0.75, 0.875)])), labels: [Job.Label("a"), Job.Label("b", description: "d")], multi: false,
        contextual: false, model: model, rows: 60)
    }
  }

  @Test func whatIsWrittenReadsBack() throws {
    let calibration = try calibration
    #expect(try Calibration.parse(calibration.json.compactBytes) == calibration)
  }

  @Test(arguments: [
    (#""sterna_calibration":1"#, #""sterna_calibration":2"#, "sterna_calibration"), (#""sterna_calibration":1,"#, "", nil), ("[0.25,0.5]", "[0.25]", "points[0]"),
    ("[0.25,0.5]", "[0.25,2]", "points[0][1]"), ("[0.25,0.5]", "[0.8,0.5]", "points"), (#""multi":false"#, #""multi":0"#, "multi"), (#""sha256":"#, #""sha":"#, "model.sha256"),
    (#"["a","#, #"["a",7,"#, "labels[1]"), (#"[["#, #"[[],["#, "points[0]"),
  ] as [(String, String, String?)])
  func aDamagedFileNamesThePlace(old: String, new: String, place: String?) throws {
    let text = try calibration.json.compact
    let range = try #require(text.firstRange(of: old))
    let error = #expect(throws: SternaError.self) { try Calibration.parse(Array(text.replacingCharacters(in: range, with: new).utf8)) }
    #expect(error?.place == place)
  }

  @Test func itGoesWithItsLabelsAndItsModelOnly() throws {
    let calibration = try calibration
    try calibration.check([Job.Label("a", threshold: 0.5), Job.Label("b", description: "d")], multi: false)
    for (labels, multi, words) in [
      ([Job.Label("a")], false, ["2 labels", "1"]), ([Job.Label("b", description: "d"), Job.Label("a")], false, ["labels[0]", "\"b\""]),
      ([Job.Label("a"), Job.Label("b")], false, ["description", "labels[1]"]), ([Job.Label("a"), Job.Label("b", description: "d")], true, ["several"]),
    ] {
      let error = #expect(throws: SternaError.self) { try calibration.check(labels, multi: multi) }
      for word in words + ["--calibrate"] { #expect(error?.description.contains(word) == true, "\(error.map(\.description) ?? "")") }
    }
    try calibration.check(model, contextual: false)
    #expect(throws: SternaError.self) { try calibration.check(model, contextual: true) }
    #expect(throws: SternaError.self) { try calibration.check(ModelIdentity(name: "m", sha256: "cd"), contextual: false) }
  }
}

@Suite struct ReliabilityTests {
  @Test func theErrorIsTheMeanDistanceOfBinsFromTheirAccuracy() {
    // Two bins: three answers of 0.9 (bin 13), of which two are right; one of 1.0 (bin 14), right; one of 0, wrong.
    let reliability = Reliability([(0.9, true), (0.9, true), (0.9, false), (1, true), (0, false)].map { CalibrationCurve.Observation($0.0, isRight: $0.1) })
    #expect(reliability.bins.map(\.count).filter { $0 > 0 } == [1, 3, 1])
    #expect(reliability.bins[0].count == 1 && reliability.bins[13].count == 3 && reliability.bins[14].count == 1)
    #expect(abs(reliability.expectedCalibrationError - abs(2 - 2.7) / 5) < 1e-6)
    #expect(Reliability([]).expectedCalibrationError == 0)
  }

  @Test func theDiagramIsXMLWithAPointForEachBin() throws {
    let one = Reliability((0..<100).map { .init(Float($0) / 100, isRight: $0 % 3 == 0) })
    let svg = ReliabilityDiagram(title: "<m> & \u{1}\"co\"", series: [.init("before", one), .init("after", Reliability([.init(0.5, isRight: true)]))]).svg
    let document = try XMLDocument(xmlString: svg)
    #expect(try document.nodes(forXPath: "//*[local-name()='circle']").count == 15 + 1)
    #expect(try document.nodes(forXPath: "//*[local-name()='text']").contains { $0.stringValue == "<m> &  \"co\"" })
    #expect(!ReliabilityDiagram(title: "", series: [.init("none", Reliability([]))]).svg.contains("nan"))
  }
}
