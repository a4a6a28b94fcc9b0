import ApusFormats
import ApusNN
import ApusTensor
import Testing

/// The values of `Fixtures/make_parts.py` for a case, by what follows `case/`.
struct PartsFixture: Sendable {
  private static let all = Result { try loadTensors(from: fixturePath("parts.safetensors")) }
  let values: [String: Tensor]

  init(_ name: String) throws {
    let prefix = name + "/"
    values = Dictionary(
      uniqueKeysWithValues: try PartsFixture.all.get().filter { $0.key.hasPrefix(prefix) }.map {
        (String($0.key.dropFirst(prefix.count)), $0.value)
      })
    try #require(!values.isEmpty, "no values for \(name)")
  }

  func callAsFunction(_ key: String, _ type: ElementType = .float64) throws -> Tensor {
    try #require(values[key], "no value \(key)").converted(to: type)
  }

  func group(_ prefix: String) -> [String: Tensor] {
    Dictionary(
      uniqueKeysWithValues: values.filter { $0.key.hasPrefix(prefix) }.map { (String($0.key.dropFirst(prefix.count)), $0.value) })
  }
}

/// Output, gradients and variables afterwards of a layer, operation by operation and compiled, beside the fixture's.
///
/// Tolerances are those of ``expectClose``: float64 1e-12 of the largest value, float32 2e-5; a case may name a wider one where
/// its algorithm differs from the original's.
func checkParts(
  _ layer: any Layer, _ name: String, training: Bool = true, _ type: ElementType, tolerance64: Double = 1e-12
) throws {
  let fixture = try PartsFixture(name)
  let x = try fixture("x", type)
  _ = layer.evaluating { layer(x) }
  // Strict: the names are exactly PyTorch's.
  try layer.load(state: fixture.group("p."), convert: true)
  layer.train(training)
  let input = Parameter(x)
  let dy = try fixture("dy", type)
  let variables: [Variable] = layer.parameters + [input]
  let step = compile { (dy: Tensor) -> [Tensor] in
    let y = layer(input.value)
    let gradients = y.gradients(for: variables, cotangent: dy)
    return [y] + variables.map { gradients[$0] ?? zerosLike($0.value) }
  }
  for isCompiled in [false, true] {
    if isCompiled { try layer.load(state: fixture.group("p."), convert: true) }
    let how = isCompiled ? "compiled " : ""
    let results: [Tensor]
    if isCompiled {
      results = step(dy)
    } else {
      let y = layer(input.value)
      let gradients = y.gradients(for: variables, cotangent: dy)
      results = [y] + variables.map { gradients[$0] ?? zerosLike($0.value) }
    }
    #expect(results[0].elementType == type)
    expectClose(results[0], try fixture("y", type), type, how + "y", tolerance64: tolerance64)
    expectClose(results[results.count - 1], try fixture("dx", type), type, how + "dx", tolerance64: tolerance64)
    for (i, (name, _)) in layer.namedParameters.enumerated() {
      expectClose(results[1 + i], try fixture("g.\(name)", type), type, how + "gradient of \(name)", tolerance64: tolerance64)
    }
    for (name, expected) in fixture.group("b.") {
      let variable = try #require(layer.namedVariables.first { $0.name == name }).variable
      expectClose(variable.value, expected, type, how + "\(name) after", tolerance64: tolerance64)
    }
  }
}
