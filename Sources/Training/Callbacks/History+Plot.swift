import ApusFormats

extension History {
  /// Curves over the epochs as an SVG picture: one panel for each value, training and validation together.
  /// - Parameters:
  ///   - names: which values; all by default. `loss` stands for `val_loss` too.
  ///   - width, height: of one panel, in pixels.
  public func svg(_ names: [String]? = nil, width: Int = 640, height: Int = 300) -> String {
    plots(names).svg(width: Double(width), height: Double(height))
  }

  /// Writes the curves to a file, `.svg` or `.png`.
  /// - Throws: ``TrainingError/unwritable(path:reason:)``; ``TrainingError/invalidArgument(_:)`` for another ending.
  public func plot(to path: String, _ names: [String]? = nil, width: Int = 640, height: Int = 300) throws {
    let bytes: [UInt8]
    if path.hasSuffix(".svg") {
      bytes = Array(svg(names, width: width, height: height).utf8)
    } else if path.hasSuffix(".png") {
      bytes = try plots(names).png(width: width, height: height)
    } else {
      throw TrainingError.invalidArgument("History: \(path) ends neither in .svg nor in .png")
    }
    do { try AtomicFile.write(to: path) { try $0.write(bytes) } } catch {
      throw TrainingError.unwritable(path: path, reason: "\(error)")
    }
  }

  private func plots(_ names: [String]?) -> LinePlots {
    let bases =
      names
      ?? values.keys.filter { !$0.hasPrefix("val_") || values[String($0.dropFirst(4))] == nil }.sorted {
        (($0.hasSuffix("loss") ? 0 : 1), $0) < (($1.hasSuffix("loss") ? 0 : 1), $1)
      }
    // Epochs are counted from 1, as progress lines do.
    let x = epochs.map { Double($0 + 1) }
    return LinePlots(
      panels: bases.map { base in
        let curves = [(base, "training"), ("val_" + base, "validation")].compactMap { name, label in
          values[name].map { LinePlots.Curve(name: label, points: Array(zip(x, $0))) }
        }
        return LinePlots.Panel(title: base, curves: curves)
      })
  }
}
