/// Lines over a common axis, as SVG.
struct LineChart {
  var title: String
  var xLabel: String
  var yLabel: String
  var lines: [(name: String, points: [(x: Double, y: Double)])]

  private static let colours = ["#1f6f8b", "#d17a22", "#6b8e23", "#8b4a6f"]
  private static let (width, height, left, top) = (440.0, 260.0, 64.0, 40.0)

  var svg: String {
    let (width, height, left, top) = (Self.width, Self.height, Self.left, Self.top)
    let points = lines.flatMap(\.points)
    let (right, highest) = (ceiling(points.map(\.x).max() ?? 1), ceiling(points.map(\.y).max() ?? 1))
    func x(_ value: Double) -> String { (left + value / right * width).formatted(1) }
    func y(_ value: Double) -> String { (top + (1 - value / highest) * height).formatted(1) }
    let legend = top + height + 56
    let total = (left + width + 24, legend + 18 * Double(lines.count))
    var parts = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(total.0.formatted(0)) \(total.1.formatted(0))\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#22313a\">",
      "<rect width=\"\(total.0.formatted(0))\" height=\"\(total.1.formatted(0))\" fill=\"#ffffff\"/>",
      "<text x=\"\(left.formatted(0))\" y=\"24\" font-size=\"15\">\(escaped(title))</text>",
    ]
    for i in 0...4 {
      let (h, v) = (right * Double(i) / 4, highest * Double(i) / 4)
      parts.append("<path d=\"M\(x(0)) \(y(v))H\(x(right))M\(x(h)) \(y(0))V\(y(highest))\" stroke=\"#e3e8ea\"/>")
      parts.append("<text x=\"\(x(h))\" y=\"\((top + height + 18).formatted(1))\" text-anchor=\"middle\" fill=\"#5b6b74\">\(label(h, right))</text>")
      parts.append("<text x=\"\((left - 8).formatted(1))\" y=\"\(y(v))\" text-anchor=\"end\" dominant-baseline=\"middle\" fill=\"#5b6b74\">\(label(v, highest))</text>")
    }
    parts.append("<text x=\"\((left + width / 2).formatted(1))\" y=\"\((top + height + 38).formatted(1))\" text-anchor=\"middle\" fill=\"#5b6b74\">\(escaped(xLabel))</text>")
    parts.append(
      "<text transform=\"translate(18 \((top + height / 2).formatted(1))) rotate(-90)\" text-anchor=\"middle\" fill=\"#5b6b74\">\(escaped(yLabel))</text>")
    for (i, line) in lines.enumerated() {
      let colour = Self.colours[i % Self.colours.count]
      let path = line.points.enumerated().map { "\($0 == 0 ? "M" : "L")\(x($1.x)) \(y($1.y))" }.joined()
      parts.append("<path d=\"\(path)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\"/>")
      for point in line.points { parts.append("<circle cx=\"\(x(point.x))\" cy=\"\(y(point.y))\" r=\"3\" fill=\"\(colour)\"/>") }
      let row = legend + 18 * Double(i)
      parts.append("<rect x=\"\(left.formatted(0))\" y=\"\((row - 10).formatted(1))\" width=\"12\" height=\"12\" fill=\"\(colour)\"/>")
      parts.append("<text x=\"\((left + 18).formatted(0))\" y=\"\(row.formatted(1))\">\(escaped(line.name))</text>")
    }
    return (parts + ["</svg>"]).joined(separator: "\n") + "\n"
  }

  /// The next of 1, 2, 4 and 8 times a power of ten.
  private func ceiling(_ value: Double) -> Double {
    guard value > 0, value.isFinite else { return 1 }
    var power = 1.0
    while power > value { power /= 10 }
    while power * 10 <= value { power *= 10 }
    return ([1, 2, 4, 8, 10].first { $0 * power >= value } ?? 10) * power
  }

  private func label(_ value: Double, _ most: Double) -> String { value.formatted(most >= 40 ? 0 : most >= 4 ? 1 : 2) }

  private func escaped(_ text: String) -> String {
    var escaped = ""
    for character in text {
      switch character {
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "&": escaped += "&amp;"
      default: escaped.append(character)
      }
    }
    return escaped
  }
}
