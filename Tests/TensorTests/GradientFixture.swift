import Foundation
import Testing

@testable import ApusTensor

/// A case of Fixtures/gradients.json: a function's operands, result and gradients, which make_gradients.py takes from PyTorch.
struct GradientFixture {
  var operands: [Tensor]
  var result: IndexingFixtures.Case
  var weights: Tensor
  var gradients: [IndexingFixtures.Case]

  init(_ name: String) throws {
    let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures/gradients.json")
    let all = try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
    let object = try #require(all[name] as? [String: Any], "\(name)")
    func tensor(_ value: Any?) throws -> Tensor {
      let numbers = try IndexingFixtures.Case(value)
      return Tensor(numbers.values, shape: Shape(numbers.shape))
    }
    operands = try #require(object["operands"] as? [Any]).map(tensor)
    result = try IndexingFixtures.Case(object["result"])
    weights = try tensor(object["weights"])
    gradients = try #require(object["gradients"] as? [Any]).map { try IndexingFixtures.Case($0) }
  }

  /// Whether `f` gives the case's result and the gradients of its weighted sum, to `tolerance` of the greatest.
  static func check(
    _ name: String, tolerance: Double = 1e-14, sourceLocation: SourceLocation = #_sourceLocation, _ f: ([Tensor]) -> Tensor
  ) throws {
    let expected = try GradientFixture(name)
    expectEqual(f(expected.operands), expected.result, tolerance: tolerance, name, sourceLocation: sourceLocation)
    let gradients = gradient(at: expected.operands) { (f($0) * expected.weights).sum() }
    for (i, (got, reference)) in zip(gradients, expected.gradients).enumerated() {
      expectEqual(got, reference, tolerance: tolerance, "\(name), gradient \(i)", sourceLocation: sourceLocation)
    }
  }
}
