import ApusFormats
import ApusNN
import ApusTensor
import Testing

/// A module and the case of `make_more_layers.py` or `make_keras_layers.py` that has the values of PyTorch or Keras for it.
struct ModuleCase: Sendable, CustomTestStringConvertible {
  typealias Call = ([Tensor]) -> Tensor
  let file, name: String
  let training: Bool
  let make: @Sendable (ElementType) -> (Module, Call)
  var testDescription: String { name }

  /// A layer of one input.
  init(_ file: String, _ name: String, training: Bool = true, _ layer: @escaping @Sendable (ElementType) -> any Layer) {
    (self.file, self.name, self.training) = (file, name, training)
    make = {
      let layer = layer($0)
      return (layer, { layer($0[0]) })
    }
  }

  /// A module of any inputs.
  init(calling file: String, _ name: String, training: Bool = true, _ make: @escaping @Sendable (ElementType) -> (Module, Call)) {
    (self.file, self.name, self.training, self.make) = (file, name, training, make)
  }

  /// A function.
  init(_ file: String, function name: String, _ call: @escaping @Sendable ([Tensor]) -> Tensor) {
    (self.file, self.name, training) = (file, name, true)
    make = { _ in (Identity(), call) }
  }
}

extension Fixture {
  private static let layerFiles = ["more_layers", "keras_layers"].reduce(into: [String: [String: Tensor]]()) {
    $0[$1] = try? loadTensors(from: fixturePath($1 + ".safetensors"))
  }

  init(layer name: String, in file: String) throws {
    let all = try #require(Fixture.layerFiles[file])
    values = Dictionary(
      uniqueKeysWithValues: all.filter { $0.key.hasPrefix(name + "/") }.map {
        (String($0.key.dropFirst(name.count + 1)), $0.value)
      })
    try #require(!values.isEmpty, "no values for \(name)")
  }
}

/// Output, gradients by inputs and parameters, and variables afterwards are those of the fixture, eagerly and compiled.
func check(_ sample: ModuleCase, _ type: ElementType, tolerance64: Double = 1e-12) throws {
  let fixture = try Fixture(layer: sample.name, in: sample.file)
  for compiled in [false, true] {
    let (module, call) = sample.make(type)
    var inputs: [Tensor] = []
    while fixture.values["x\(inputs.count)"] != nil { inputs.append(try fixture("x\(inputs.count)", type)) }
    // Layers without an input size get it first.
    _ = module.evaluating { call(inputs) }
    // Strict: the names are exactly those of the fixture.
    try module.load(state: fixture.group("p."), convert: true)
    module.train(sample.training)
    let variables = inputs.map { $0.elementType.isFloatingPoint ? Parameter($0) : Variable($0) }
    let trained = variables.filter { $0 is Parameter } + module.parameters
    let dy = try fixture("dy", type)
    // The reading of the inputs is part of the program, so that it can give their gradients.
    func run(_ dy: Tensor) -> [Tensor] {
      let y = call(variables.map(\.value))
      if trained.isEmpty { return [y] }
      let gradients = y.gradients(for: trained, cotangent: dy)
      return [y] + trained.map { gradients[$0] ?? zerosLike($0.value) }
    }
    let results = compiled ? compile { (dy: Tensor) -> [Tensor] in run(dy) }(dy) : run(dy)
    let what = compiled ? "compiled " : ""
    #expect(results[0].elementType == type)
    expectClose(results[0], try fixture("y", type), type, what + "y", tolerance64: tolerance64)
    var rest = results.dropFirst()
    for (i, variable) in variables.enumerated() where variable is Parameter {
      expectClose(rest.removeFirst(), try fixture("dx\(i)", type), type, what + "dx\(i)", tolerance64: tolerance64)
    }
    for (name, _) in module.namedParameters {
      let expected = try fixture("g.\(name)", type)
      expectClose(rest.removeFirst(), expected, type, what + "gradient of \(name)", tolerance64: tolerance64)
    }
    let after = Dictionary(uniqueKeysWithValues: module.namedVariables.map { ($0.name, $0.variable) })
    for (name, expected) in fixture.group("b.") {
      let variable = try #require(after[name])
      expectClose(variable.value, expected, type, what + "\(name) after", tolerance64: tolerance64)
    }
  }
}
