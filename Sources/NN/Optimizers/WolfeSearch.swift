import ApusTensor

/// A line search for a point of the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 3.5 and 3.6, with cubic
/// interpolation; PyTorch's `_strong_wolfe`, step for step).
struct WolfeSearch {
  /// A point on the line.
  struct Point {
    var t: Double
    var loss: Double
    var gradient: Tensor
    /// The derivative along the line.
    var slope: Double
  }

  private let start: Point
  private let direction: Tensor
  private let limit: Int
  private let smallest: Double
  /// Of sufficient decrease and of curvature.
  private let c1 = 1e-4
  private let c2 = 0.9

  /// - Parameters:
  ///   - limit: rounds, each of which is an evaluation.
  ///   - smallest: a bracket that changes no parameter by more is small enough.
  init(start: Point, direction: Tensor, limit: Int, smallest: Double) {
    (self.start, self.direction, self.limit, self.smallest) = (start, direction, limit, smallest)
  }

  /// - Parameter evaluate: loss and gradient at a place on the line.
  /// - Returns: the point, and how often `evaluate` was called.
  func run(from t: Double, _ evaluate: (Double) -> (Double, Tensor)) -> (point: Point, evaluations: Int) {
    var evaluations = 0
    let found = run(from: t) { (t: Double) -> Point in
      evaluations += 1
      let (loss, gradient) = evaluate(t)
      return Point(t: t, loss: loss, gradient: gradient, slope: gradient.dot(direction).item(as: Double.self))
    }
    return (found, evaluations)
  }

  private func descends(_ p: Point) -> Bool { !(p.loss > start.loss + c1 * p.t * start.slope) }
  private func isFlat(_ p: Point) -> Bool { abs(p.slope) <= -c2 * start.slope }

  private func run(from t: Double, _ point: (Double) -> Point) -> Point {
    var rounds = 0
    var (previous, now) = (start, point(t))
    var bracket: [Point]?
    while rounds < limit {
      if !descends(now) || (rounds > 1 && now.loss >= previous.loss) || (!isFlat(now) && now.slope >= 0) {
        bracket = [previous, now]
        break
      }
      if isFlat(now) { return now }
      let bounds = (now.t + 0.01 * (now.t - previous.t), now.t * 10)
      let next = Self.interpolate(previous, now, bounds)
      previous = now
      now = point(next)
      rounds += 1
    }
    return zoom(bracket ?? [start, now], rounds, point)
  }

  private func zoom(_ found: [Point], _ before: Int, _ point: (Double) -> Point) -> Point {
    var (bracket, rounds) = (found, before)
    let length = abs(direction).max().item(as: Double.self)
    var (low, high) = bracket[0].loss <= bracket[1].loss ? (0, 1) : (1, 0)
    var stalls = false
    while rounds < limit {
      if abs(bracket[1].t - bracket[0].t) * length < smallest { break }
      var t = Self.interpolate(bracket[0], bracket[1], nil)
      // Too near to an end of the bracket, for the second time or beyond it: a tenth of the bracket away from that end.
      let (left, right) = (min(bracket[0].t, bracket[1].t), max(bracket[0].t, bracket[1].t))
      let margin = 0.1 * (right - left)
      if min(right - t, t - left) < margin {
        if stalls || t >= right || t <= left {
          t = abs(t - right) < abs(t - left) ? right - margin : left + margin
          stalls = false
        } else {
          stalls = true
        }
      } else {
        stalls = false
      }
      let now = point(t)
      rounds += 1
      if !descends(now) || now.loss >= bracket[low].loss {
        bracket[high] = now
        (low, high) = bracket[0].loss <= bracket[1].loss ? (0, 1) : (1, 0)
      } else {
        let done = isFlat(now)
        if !done && now.slope * (bracket[high].t - bracket[low].t) >= 0 { bracket[high] = bracket[low] }
        bracket[low] = now
        if done { break }
      }
    }
    return bracket[low]
  }

  /// The minimum of the cubic through two points and their slopes, within bounds.
  private static func interpolate(_ a: Point, _ b: Point, _ bounds: (Double, Double)?) -> Double {
    let (low, high) = bounds ?? (a.t <= b.t ? (a.t, b.t) : (b.t, a.t))
    let d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    let square = d1 * d1 - a.slope * b.slope
    guard square >= 0 else { return (low + high) / 2 }
    let d2 = square.squareRoot()
    let t =
      a.t <= b.t
      ? b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
      : a.t - (a.t - b.t) * ((a.slope + d2 - d1) / (a.slope - b.slope + 2 * d2))
    return min(max(t, low), high)
  }
}
