extension Graph {
  /// The graph as a picture of its own: layers from the inputs down, within a layer in the order of those above.
  public func svg() -> String { LayeredDrawing(GraphPicture(self)).svg() }
}

/// Boxes in layers (Sugiyama, Tagawa and Toda 1981, in short: layers by longest path, order by the mean of neighbours).
private struct LayeredDrawing {
  private static let lineHeight = 15.0
  private static let charWidth = 6.7
  private static let gap = (across: 26.0, down: 44.0)

  /// A box, or where an edge passes a layer.
  private struct Item {
    var box: Int?
    var layer: Int
    var width: Double
    var height: Double
    var x = 0.0
    var y = 0.0
    var above: [Int] = []
    var below: [Int] = []
  }

  private let picture: GraphPicture
  private var items: [Item] = []
  private var layers: [[Int]] = []
  /// Each edge as items from top to bottom.
  private var routes: [[Int]] = []

  init(_ picture: GraphPicture) {
    self.picture = picture
    assignLayers()
    order()
    place()
  }

  private mutating func assignLayers() {
    let count = picture.boxes.count
    var layer = [Int](repeating: 0, count: count)
    // Boxes are in topological order, and so edges by where they lead.
    for edge in picture.edges { layer[edge.to] = max(layer[edge.to], layer[edge.from] + 1) }
    // What is read only far below, as parameters are, moves next to its first reader.
    var first = [Int](repeating: Int.max, count: count)
    for edge in picture.edges { first[edge.from] = min(first[edge.from], layer[edge.to]) }
    for i in 0..<count where picture.boxes[i].kind == .input && first[i] != Int.max { layer[i] = max(first[i] - 1, 0) }
    for (i, box) in picture.boxes.enumerated() {
      let longest = box.lines.map(\.count).max() ?? 0
      items.append(
        Item(
          box: i, layer: layer[i], width: Double(longest) * Self.charWidth + 18,
          height: Double(box.lines.count) * Self.lineHeight + 10))
    }
    for edge in picture.edges {
      var route = [edge.from]
      for between in (layer[edge.from] + 1)..<max(layer[edge.to], layer[edge.from] + 1) {
        items.append(Item(box: nil, layer: between, width: 8, height: 0))
        route.append(items.count - 1)
      }
      route.append(edge.to)
      for (a, b) in zip(route, route.dropFirst()) {
        items[a].below.append(b)
        items[b].above.append(a)
      }
      routes.append(route)
    }
    layers = Array(repeating: [], count: (layer.max() ?? -1) + 1)
    for i in items.indices { layers[items[i].layer].append(i) }
  }

  private mutating func order() {
    var position = [Double](repeating: 0, count: items.count)
    func number() { for layer in layers { for (k, i) in layer.enumerated() { position[i] = Double(k) } } }
    func mean(_ neighbours: [Int], _ own: Double) -> Double {
      neighbours.isEmpty ? own : neighbours.reduce(0) { $0 + position[$1] } / Double(neighbours.count)
    }
    number()
    for round in 0..<8 {
      let down = round % 2 == 0
      for k in down ? Array(layers.indices) : layers.indices.reversed() {
        let keys = layers[k].map { i in (mean(down ? items[i].above : items[i].below, position[i]), i) }
        layers[k] = keys.enumerated().sorted { ($0.element.0, $0.offset) < ($1.element.0, $1.offset) }.map(\.element.1)
        for (place, i) in layers[k].enumerated() { position[i] = Double(place) }
      }
    }
  }

  private mutating func place() {
    var y = 20.0
    for layer in layers {
      let height = layer.map { items[$0].height }.max() ?? 0
      var x = 0.0
      for i in layer {
        items[i].y = y + (height - items[i].height) / 2
        items[i].x = x + items[i].width / 2
        x += items[i].width + Self.gap.across
      }
      y += height + Self.gap.down
    }
    // Toward the mean of what is above and below; neighbours keep their order and distance.
    for round in 0..<24 {
      for k in round % 2 == 0 ? Array(layers.indices) : layers.indices.reversed() {
        let layer = layers[k]
        var wish = layer.map { i -> Double in
          let near = items[i].above + items[i].below
          return near.isEmpty ? items[i].x : near.reduce(0) { $0 + items[$1].x } / Double(near.count)
        }
        let widths = layer.map { items[$0].width }
        func distance(_ a: Int, _ b: Int) -> Double { (widths[a] + widths[b]) / 2 + Self.gap.across }
        // Left to right and right to left; the mean of both keeps distances.
        var (left, right) = (wish, wish)
        for p in layer.indices.dropFirst() { left[p] = max(left[p], left[p - 1] + distance(p - 1, p)) }
        for p in layer.indices.dropLast().reversed() { right[p] = min(right[p], right[p + 1] - distance(p, p + 1)) }
        for p in layer.indices {
          wish[p] = (left[p] + right[p]) / 2
          items[layer[p]].x = wish[p]
        }
      }
    }
    let least = items.map { $0.x - $0.width / 2 }.min() ?? 0
    for i in items.indices { items[i].x += 20 - least }
  }

  private static func escaped(_ text: String) -> String {
    var out = ""
    for c in text.unicodeScalars {
      switch c {
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "&": out += "&amp;"
      case "\"": out += "&quot;"
      default: if c.value >= 32 { out.unicodeScalars.append(c) }
      }
    }
    return out
  }

  private static func text(_ x: Double) -> String { "\((x * 10).rounded() / 10)" }

  func svg() -> String {
    let n = Self.text
    let width = (items.map { $0.x + $0.width / 2 }.max() ?? 0) + 20
    let height = (items.map { $0.y + $0.height }.max() ?? 0) + 20
    var out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(n(width))\" height=\"\(n(height))\" viewBox=\"0 0 \(n(width)) \(n(height))\" "
      + "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\">\n"
    out += "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    out +=
      "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">"
      + "<path d=\"M0,0 L8,4 L0,8 z\" fill=\"#666\"/></marker></defs>\n"
    for route in routes {
      let points = route.enumerated().map { k, i -> (x: Double, top: Double, bottom: Double) in
        let item = items[i]
        return (item.x, k == 0 ? item.y + item.height : item.y, k == route.count - 1 ? item.y : item.y + item.height)
      }
      var path = "M\(n(points[0].x)),\(n(points[0].top))"
      for (a, b) in zip(points, points.dropFirst()) {
        let middle = (a.bottom + b.top) / 2
        path += " C\(n(a.x)),\(n(middle)) \(n(b.x)),\(n(middle)) \(n(b.x)),\(n(b.top))"
      }
      out += "<path d=\"\(path)\" fill=\"none\" stroke=\"#888\" stroke-width=\"1.1\" marker-end=\"url(#arrow)\"/>\n"
    }
    for item in items {
      guard let index = item.box else { continue }
      let box = picture.boxes[index]
      let radius = box.kind == .input || box.kind == .output ? 11.0 : 4
      out +=
        "<rect x=\"\(n(item.x - item.width / 2))\" y=\"\(n(item.y))\" width=\"\(n(item.width))\" height=\"\(n(item.height))\" "
        + "rx=\"\(n(radius))\" fill=\"\(box.kind.fill)\" stroke=\"\(box.kind.stroke)\"/>\n"
      for (k, line) in box.lines.enumerated() {
        let style = k == 0 ? " font-weight=\"bold\"" : " fill=\"#555\""
        out +=
          "<text x=\"\(n(item.x))\" y=\"\(n(item.y + 16 + Double(k) * Self.lineHeight))\" text-anchor=\"middle\"\(style)>"
          + "\(Self.escaped(line))</text>\n"
      }
    }
    return out + "</svg>\n"
  }
}
