import ApusTensor
import Foundation
import Testing

/// The values of Fixtures/indexing.json, which make_indexing.py takes from NumPy and PyTorch.
enum IndexingFixtures {
  struct Case {
    let shape: [Int]
    let values: [Double]

    init(_ object: Any?) throws {
      let object = try #require(object as? [String: Any])
      shape = try #require(object["shape"] as? [Int])
      values = try #require(object["values"] as? [Any]).map { value in
        if let text = value as? String { return try #require(Double(text)) }
        return try #require(value as? NSNumber).doubleValue
      }
    }
  }

  static func all() throws -> [String: Any] {
    let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures/indexing.json")
    return try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
  }

  static func value(_ name: String) throws -> Case { try Case(all()[name]) }
}

/// Whether a tensor has this shape and these values, to `tolerance` of the greatest.
func expectEqual(
  _ tensor: Tensor, _ expected: IndexingFixtures.Case, tolerance: Double = 0, _ name: String = "",
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(tensor.shape == expected.shape, "\(name)", sourceLocation: sourceLocation)
  let values = tensor.elements(as: Double.self)
  let scale = expected.values.map { $0.isFinite ? abs($0) : 0 }.max() ?? 0
  let same =
    values.count == expected.values.count
    && zip(values, expected.values).allSatisfy { $0 == $1 || ($0.isNaN && $1.isNaN) || abs($0 - $1) <= tolerance * scale }
  #expect(same, "\(name): \(values) instead of \(expected.values)", sourceLocation: sourceLocation)
}

/// The gradient of Σ cos(k) f(x)ₖ at float64 `x` against central differences.
func expectGradient(_ x: Tensor, _ name: String, sourceLocation: SourceLocation = #_sourceLocation, _ f: (Tensor) -> Tensor) {
  func loss(_ x: Tensor) -> Tensor {
    let y = f(x).flattened()
    return (y * cos(Tensor.arange(y.count).converted(to: .float64))).sum()
  }
  let gradient = gradient(at: x, of: loss).elements(as: Double.self)
  let values = x.elements(as: Double.self)
  let h = 1e-5
  for i in values.indices {
    func moved(_ by: Double) -> Double {
      var copy = values
      copy[i] += by
      return loss(Tensor(copy, shape: x.shape)).item(as: Double.self)
    }
    let expected = (moved(h) - moved(-h)) / (2 * h)
    // Differences of order h² and rounding of order 1e-16 / h.
    let isClose = abs(gradient[i] - expected) <= 1e-7 * max(1, abs(expected))
    #expect(isClose, "\(name): element \(i): \(gradient[i]) instead of \(expected)", sourceLocation: sourceLocation)
  }
}
