import ApusFormats

extension LinePlots {
  /// A picture at two pixels for each of the layout's.
  func png(width: Int, height: Int) throws -> [UInt8] {
    var canvas = Canvas(width: width, height: height * max(1, panels.count), scale: 2)
    for (i, panel) in panels.enumerated() {
      canvas.offset = Double(height * i)
      draw(panel, Layout(panel, width: Double(width), height: Double(height)), on: &canvas)
    }
    return try PNG.encode(canvas.pixels, width: canvas.width, height: canvas.height, channels: 3)
  }

  private func draw(_ panel: Panel, _ layout: Layout, on canvas: inout Canvas) {
    let (left, right) = (layout.left, layout.width - layout.right)
    let (top, bottom) = (layout.top, layout.height - layout.bottom)
    for tick in layout.yTicks {
      let y = layout.y(tick)
      canvas.line(left, y, right, y, width: 1, 0xe0e0e0)
      canvas.text(Self.label(tick, step: Self.step(layout.yTicks)), left - 6, y - 3.5, .end)
    }
    for tick in layout.xTicks { canvas.text("\(Int(tick))", layout.x(tick), bottom + 8, .middle) }
    for (x1, y1, x2, y2) in [
      (left, top, right, top), (left, bottom, right, bottom), (left, top, left, bottom), (right, top, right, bottom),
    ] { canvas.line(x1, y1, x2, y2, width: 1, 0x808080) }
    canvas.text("epoch", (left + right) / 2, bottom + 24, .middle)
    canvas.text(panel.title, left, top - 16, .start)
    for (i, curve) in panel.curves.enumerated() {
      let colour = Self.colours[i % Self.colours.count]
      for run in Self.runs(curve) {
        let points = run.map { (layout.x($0.x), layout.y($0.y)) }
        if points.count == 1 { canvas.line(points[0].0, points[0].1, points[0].0, points[0].1, width: 6, colour) }
        for (a, b) in zip(points, points.dropFirst()) { canvas.line(a.0, a.1, b.0, b.1, width: 2, colour) }
      }
      let x = right - Double(panel.curves.count - i) * 96
      canvas.line(x, top - 14, x + 18, top - 14, width: 2, colour)
      canvas.text(curve.name, x + 24, top - 17, .start)
    }
  }
}

/// White paper to draw lines and small letters on.
private struct Canvas {
  enum Anchor { case start, middle, end }

  let width, height, scale: Int
  /// Added to every vertical position.
  var offset = 0.0
  var pixels: [UInt8]

  init(width: Int, height: Int, scale: Int) {
    (self.width, self.height, self.scale) = (width * scale, height * scale, scale)
    pixels = [UInt8](repeating: 255, count: width * scale * height * scale * 3)
  }

  private mutating func blend(_ x: Int, _ y: Int, _ colour: Int, _ share: Double) {
    guard share > 0, (0..<width).contains(x), (0..<height).contains(y) else { return }
    let at = (y * width + x) * 3
    for (i, shift) in [16, 8, 0].enumerated() {
      let value = Double((colour >> shift) & 255)
      let before = Double(pixels[at + i])
      pixels[at + i] = UInt8((before + (value - before) * min(1, share)).rounded())
    }
  }

  /// A line with round ends. A pixel is covered as far as its centre is within the line.
  mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, width: Double, _ colour: Int) {
    let s = Double(scale)
    let (ax, ay, bx, by) = (x1 * s, (y1 + offset) * s, x2 * s, (y2 + offset) * s)
    let radius = width * s / 2
    let (dx, dy) = (bx - ax, by - ay)
    let length = dx * dx + dy * dy
    let reach = radius + 1
    let columns = Int(max(0, min(ax, bx) - reach))...Int(min(Double(self.width), max(0, max(ax, bx) + reach)))
    let rows = Int(max(0, min(ay, by) - reach))...Int(min(Double(height), max(0, max(ay, by) + reach)))
    for y in rows {
      for x in columns {
        let (px, py) = (Double(x) + 0.5 - ax, Double(y) + 0.5 - ay)
        let t = length == 0 ? 0 : max(0, min(1, (px * dx + py * dy) / length))
        let (ex, ey) = (px - t * dx, py - t * dy)
        blend(x, y, colour, radius + 0.5 - (ex * ex + ey * ey).squareRoot())
      }
    }
  }

  mutating func text(_ text: String, _ x: Double, _ y: Double, _ anchor: Anchor) {
    let letters = text.unicodeScalars.map { Glyphs.columns($0) }
    let length = letters.count * 6 * scale
    var left = Int(x * Double(scale)) - (anchor == .start ? 0 : anchor == .middle ? length / 2 : length)
    let top = Int((y + offset) * Double(scale))
    for columns in letters {
      for (i, bits) in columns.enumerated() {
        for row in 0..<7 where bits >> row & 1 == 1 {
          for dy in 0..<scale { for dx in 0..<scale { blend(left + i * scale + dx, top + row * scale + dy, 0x202020, 1) } }
        }
      }
      left += 6 * scale
    }
  }
}

/// Letters of 5 columns of 7 dots, the usual ones of small displays; the lowest bit is the top.
private enum Glyphs {
  static func columns(_ letter: Unicode.Scalar) -> [UInt8] {
    let i = (32...126).contains(letter.value) ? Int(letter.value) - 32 : 31
    return (0..<5).map { digit(i * 10 + 2 * $0) << 4 | digit(i * 10 + 2 * $0 + 1) }
  }

  private static func digit(_ i: Int) -> UInt8 {
    let byte = table[i]
    return byte < 58 ? byte - 48 : byte - 87
  }

  /// From the space to the tilde.
  private static let table = Array(
    ("000000000000005f0000000700070014" + "7f147f14242a7f2a122313086462364955225000050300" + "00001c2241000041221c0014083e0814"
      + "08083e0808005030000008080808080060600000" + "2010080402" + "3e5149453e00427f40004261514946214145"
      + "4b311814127f102745454539"
      + "3c4a49493001710905033649494936064949291e" + "00363600000056360000" + "08142241001414141414004122140802015109063249"
      + "79413e"
      + "7e1111117e7f494949363e414141227f4141221c7f494949417f090909013e4149497a7f0808087f00417f41002040413f01"
      + "7f081422417f404040407f020c027f7f0408107f3e4141413e7f090909063e4151215e7f09192946464949493101017f0101"
      + "3f4040403f1f2040201f3f4038403f6314081463070870080761514945" + "43" + "007f4141000204081020" + "0041417f00"
      + "04020102044040404040" + "0001020400" + "20545454787f484444383844444420384444487f3854545418087e0901020c5252523e"
      + "7f0804047800447d40002040443d007f1028440000417f40007c041804787c0804047838444444387c14141408081414187c"
      + "7c080404084854545420043f4440203c4040207c1c2040201c3c4030403c44281028440c5050503c4464544c44"
      + "0008364100" + "00007f0000" + "0041360800" + "1008081008").utf8)
}
