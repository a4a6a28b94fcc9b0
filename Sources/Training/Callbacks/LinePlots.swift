/// Panels of curves, one above the other.
struct LinePlots {
  struct Curve {
    var name: String
    var points: [(x: Double, y: Double)]
  }

  struct Panel {
    var title: String
    var curves: [Curve]
  }

  var panels: [Panel]

  static let colours = [0x1f77b4, 0xff7f0e, 0x2ca02c, 0xd62728]

  /// Where everything of a panel is, in pixels from the top left.
  struct Layout {
    var left = 64.0, right = 16.0, top = 28.0, bottom = 40.0
    let width, height: Double
    let xs, ys: ClosedRange<Double>
    let xTicks, yTicks: [Double]

    init(_ panel: Panel, width: Double, height: Double) {
      (self.width, self.height) = (width, height)
      let points = panel.curves.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
      let (lowX, highX) = (points.map(\.x).min() ?? 0, points.map(\.x).max() ?? 1)
      xs = lowX < highX ? lowX...highX : (lowX - 0.5)...(highX + 0.5)
      let (lowY, highY) = (points.map(\.y).min() ?? 0, points.map(\.y).max() ?? 1)
      let margin = lowY < highY ? (highY - lowY) * 0.05 : max(abs(lowY) * 0.1, 0.1)
      ys = (lowY - margin)...(highY + margin)
      // Epochs are whole.
      xTicks = LinePlots.ticks(xs, at: 8).filter { $0 == $0.rounded() }
      yTicks = LinePlots.ticks(ys, at: 5)
    }

    func x(_ value: Double) -> Double {
      left + (value - xs.lowerBound) / (xs.upperBound - xs.lowerBound) * (width - left - right)
    }
    func y(_ value: Double) -> Double {
      height - bottom - (value - ys.lowerBound) / (ys.upperBound - ys.lowerBound) * (height - top - bottom)
    }
  }

  /// Round numbers in a range: steps of 1, 2 or 5 times a power of ten.
  static func ticks(_ range: ClosedRange<Double>, at most: Int) -> [Double] {
    let span = range.upperBound - range.lowerBound
    let unit = power(10, decimalLogarithm(span / Double(most)).rounded(.down))
    let step = [1.0, 2, 5, 10].map { $0 * unit }.first { span / $0 <= Double(most) } ?? unit * 10
    let first = (range.lowerBound / step).rounded(.up)
    return (0...(most + 1)).map { (first + Double($0)) * step }.filter { $0 <= range.upperBound + step * 1e-9 }
  }

  /// A tick's text: as many digits as tell it from its neighbours.
  static func label(_ value: Double, step: Double) -> String {
    let places = max(0, min(6, Int(-(decimalLogarithm(max(abs(step), 1e-300)) + 1e-9).rounded(.down))))
    if abs(value) >= 1e6 || (step < 1e-6 && value != 0) { return formatted("%.1e", value) }
    let text = formatted("%.\(places)f", value)
    return text.hasPrefix("-") && !text.contains { "123456789".contains($0) } ? String(text.dropFirst()) : text
  }

  static func step(_ ticks: [Double]) -> Double { ticks.count > 1 ? ticks[1] - ticks[0] : 1 }

  /// The parts of a curve without gaps; a value that is not finite is one.
  static func runs(_ curve: Curve) -> [[(x: Double, y: Double)]] {
    curve.points.split { !$0.y.isFinite }.map(Array.init)
  }

  // MARK: SVG

  func svg(width: Double, height: Double) -> String {
    let total = height * Double(max(1, panels.count))
    var lines = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(Int(width))\" height=\"\(Int(total))\" "
        + "viewBox=\"0 0 \(Int(width)) \(Int(total))\" font-family=\"sans-serif\" font-size=\"12\">",
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
    ]
    for (i, panel) in panels.enumerated() {
      let layout = Layout(panel, width: width, height: height)
      lines.append("<g transform=\"translate(0 \(Int(height) * i))\">")
      lines += svg(panel, layout)
      lines.append("</g>")
    }
    lines.append("</svg>")
    return lines.joined(separator: "\n") + "\n"
  }

  private func svg(_ panel: Panel, _ layout: Layout) -> [String] {
    func n(_ value: Double) -> String { formatted("%.1f", value) }
    var lines: [String] = []
    let (left, right) = (layout.left, layout.width - layout.right)
    let (top, bottom) = (layout.top, layout.height - layout.bottom)
    for tick in layout.yTicks {
      let y = n(layout.y(tick))
      lines.append("<line x1=\"\(n(left))\" x2=\"\(n(right))\" y1=\"\(y)\" y2=\"\(y)\" stroke=\"#e0e0e0\"/>")
      lines.append(
        "<text x=\"\(n(left - 6))\" y=\"\(n(layout.y(tick) + 4))\" text-anchor=\"end\">\(Self.label(tick, step: Self.step(layout.yTicks)))</text>"
      )
    }
    for tick in layout.xTicks {
      lines.append("<text x=\"\(n(layout.x(tick)))\" y=\"\(n(bottom + 16))\" text-anchor=\"middle\">\(Int(tick))</text>")
    }
    lines.append(
      "<rect x=\"\(n(left))\" y=\"\(n(top))\" width=\"\(n(right - left))\" height=\"\(n(bottom - top))\" fill=\"none\" stroke=\"#808080\"/>"
    )
    lines.append("<text x=\"\(n((left + right) / 2))\" y=\"\(n(bottom + 32))\" text-anchor=\"middle\">epoch</text>")
    lines.append("<text x=\"\(n(left))\" y=\"\(n(top - 10))\" font-weight=\"bold\">\(Self.escaped(panel.title))</text>")
    for (i, curve) in panel.curves.enumerated() {
      let colour = "#" + Self.hexadecimal(Self.colours[i % Self.colours.count])
      for run in Self.runs(curve) {
        if run.count == 1 {
          lines.append("<circle cx=\"\(n(layout.x(run[0].x)))\" cy=\"\(n(layout.y(run[0].y)))\" r=\"3\" fill=\"\(colour)\"/>")
        } else {
          let points = run.map { n(layout.x($0.x)) + "," + n(layout.y($0.y)) }.joined(separator: " ")
          lines.append(
            "<polyline points=\"\(points)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\" stroke-linejoin=\"round\"/>")
        }
      }
      // The legend, right above the frame.
      let x = right - Double(panel.curves.count - i) * 96
      lines.append(
        "<line x1=\"\(n(x))\" x2=\"\(n(x + 18))\" y1=\"\(n(top - 14))\" y2=\"\(n(top - 14))\" stroke=\"\(colour)\" stroke-width=\"2\"/>"
      )
      lines.append("<text x=\"\(n(x + 24))\" y=\"\(n(top - 10))\">\(Self.escaped(curve.name))</text>")
    }
    return lines
  }

  private static func hexadecimal(_ colour: Int) -> String {
    let digits = String(colour, radix: 16)
    return String(repeating: "0", count: 6 - digits.count) + digits
  }

  static func escaped(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      default: result.append(character)
      }
    }
    return result
  }
}
