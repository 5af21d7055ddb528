/// A reliability diagram as SVG: the share of right answers over the probability they had, and how many answers had it. On the diagonal probabilities are frequencies.
public struct ReliabilityDiagram: Sendable {
  public struct Series: Sendable {
    public var name: String
    public var reliability: Reliability

    public init(_ name: String, _ reliability: Reliability) {
      self.name = name
      self.reliability = reliability
    }
  }

  public var title: String
  /// One, or one before and one after calibration.
  public var series: [Series]

  public init(title: String, series: [Series]) {
    self.title = title
    self.series = series
  }

  private static let colours = ["#1f6f8b", "#d17a22"]
  private static let (side, left, top, share) = (400.0, 60.0, 84.0, 70.0)

  public var svg: String {
    let (side, left, top, share) = (Self.side, Self.left, Self.top, Self.share)
    let (width, height) = (left + side + 30, top + side + 46 + share + 50)
    func x(_ value: Double) -> String { number(left + value * side) }
    func y(_ value: Double) -> String { number(top + (1 - value) * side) }
    var parts = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(number(width)) \(number(height))\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#22313a\">",
      "<rect width=\"\(number(width))\" height=\"\(number(height))\" fill=\"#ffffff\"/>",
      "<text x=\"\(number(left))\" y=\"24\" font-size=\"15\">\(escaped(title))</text>",
    ]
    for (i, one) in series.enumerated() {
      let line = 44 + Double(i) * 18
      parts.append("<rect x=\"\(number(left))\" y=\"\(number(line - 10))\" width=\"12\" height=\"12\" fill=\"\(Self.colours[i % 2])\"/>")
      parts.append("<text x=\"\(number(left + 18))\" y=\"\(number(line))\">\(escaped(one.name)): calibration error \(decimals(one.reliability.expectedCalibrationError, 4)), \(one.reliability.count) answers</text>")
    }
    for i in 0...5 {
      let value = Double(i) / 5
      parts.append("<path d=\"M\(x(0)) \(y(value))H\(x(1))M\(x(value)) \(y(0))V\(y(1))\" stroke=\"#e3e8ea\"/>")
      parts.append("<text x=\"\(x(value))\" y=\"\(number(top + side + 18))\" text-anchor=\"middle\" fill=\"#5b6b74\">\(decimals(value, 1))</text>")
      parts.append("<text x=\"\(number(left - 8))\" y=\"\(number(top + (1 - value) * side + 4))\" text-anchor=\"end\" fill=\"#5b6b74\">\(decimals(value, 1))</text>")
    }
    parts.append("<path d=\"M\(x(0)) \(y(0))L\(x(1)) \(y(1))\" stroke=\"#5b6b74\" stroke-dasharray=\"4 4\"/>")
    parts.append("<text transform=\"translate(18 \(number(top + side / 2))) rotate(-90)\" text-anchor=\"middle\" fill=\"#5b6b74\">share of right answers</text>")

    let bins = Double(Reliability.binCount)
    let floor = top + side + 46 + share
    for (i, one) in series.enumerated() {
      let colour = Self.colours[i % 2]
      let most = Double(one.reliability.bins.map(\.count).max() ?? 0)
      var line = ""
      for (k, bin) in one.reliability.bins.enumerated() where bin.count > 0 {
        line += "\(line.isEmpty ? "M" : "L")\(x(bin.confidence)) \(y(bin.accuracy))"
        parts.append("<circle cx=\"\(x(bin.confidence))\" cy=\"\(y(bin.accuracy))\" r=\"4\" fill=\"\(colour)\"/>")
        let column = side / bins
        let bar = (column - 4) / Double(max(1, series.count))
        let tall = max(1, share * Double(bin.count) / most)
        parts.append("<rect x=\"\(number(left + Double(k) * column + 2 + Double(i) * bar))\" y=\"\(number(floor - tall))\" width=\"\(number(bar))\" height=\"\(number(tall))\" fill=\"\(colour)\"/>")
      }
      parts.append("<path d=\"\(line)\" stroke=\"\(colour)\" stroke-width=\"2\" fill=\"none\"/>")
    }
    parts.append("<path d=\"M\(x(0)) \(number(floor))H\(x(1))\" stroke=\"#5b6b74\"/>")
    parts.append("<text x=\"\(number(left + side / 2))\" y=\"\(number(floor + 18))\" text-anchor=\"middle\" fill=\"#5b6b74\">probability of the answer; below, how many answers had it</text>")
    return parts.joined(separator: "\n") + "\n</svg>\n"
  }

  private func number(_ value: Double) -> String { decimals(value, 1) }

  /// With a fixed number of decimals; values here are small and not negative.
  private func decimals(_ value: Double, _ count: Int) -> String {
    var scale = 1
    for _ in 0..<count { scale *= 10 }
    let rounded = Int((value * Double(scale)).rounded())
    let digits = String(rounded % scale)
    return "\(rounded / scale)." + String(repeating: "0", count: count - digits.count) + digits
  }

  private func escaped(_ text: String) -> String {
    var out = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": out += "&amp;"
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "\"": out += "&quot;"
      // XML 1.0 has no way to write other control characters.
      case _ where scalar.value < 32 || scalar.value == 0xFFFE || scalar.value == 0xFFFF: out += " "
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }
}
