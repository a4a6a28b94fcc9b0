import ApusNN
import ApusTensor
import Testing

/// A parametrization of one's own, as in PyTorch's tutorial.
private final class Symmetric: Parametrization {
  override func callAsFunction(_ originals: [Tensor]) -> Tensor {
    originals[0].upperTriangle() + originals[0].upperTriangle(diagonal: 1).T
  }
}

private final class Halved: Parametrization {
  override func callAsFunction(_ originals: [Tensor]) -> Tensor { originals[0] * 0.5 }
  override func rightInverse(_ value: Tensor) -> [Tensor]? { [value * 2] }
}

@Suite struct ParametrizationTests {
  /// weightNorm and spectralNorm: outputs, gradients, variables and names as PyTorch's.
  @Test(arguments: [ElementType.float64, .float32])
  func normsArePyTorchs(_ type: ElementType) throws {
    try checkParts(Linear(5, 3, elementType: type).weightNorm(), "weightNorm", type)
    try checkParts(Linear(5, 3, elementType: type).weightNorm(axis: 1), "weightNormAxis1", type)
    try checkParts(Linear(5, 3, elementType: type).weightNorm(axis: nil), "weightNormWhole", type)
    try checkParts(Conv2d(2, 3, kernelSize: 2, elementType: type).weightNorm(), "weightNormConv", type)
    try checkParts(Linear(5, 3, elementType: type).spectralNorm(), "spectralNorm", type)
    try checkParts(Linear(5, 3, elementType: type).spectralNorm(), "spectralNormEval", training: false, type)
    try checkParts(Conv2d(2, 3, kernelSize: 2, elementType: type).spectralNorm(iterations: 3), "spectralNormConv", type)
    try checkParts(ConvTranspose1d(2, 3, kernelSize: 2, elementType: type).spectralNorm(), "spectralNormConvTranspose", type)
    try checkParts(Linear(5, 3, elementType: type).spectralNorm("bias"), "spectralNormBias", type)
    try checkParts(Linear(3, 3, elementType: type).registerParametrization("weight", Symmetric()), "symmetric", type)
  }

  /// orthogonal by all maps; inverses and exponentials are computed by other ways than LAPACK's, hence 1e-11.
  @Test(arguments: [ElementType.float64, .float32], [OrthogonalMap.matrixExp, .cayley, .householder])
  func orthogonalIsPyTorchs(_ type: ElementType, _ map: OrthogonalMap) throws {
    let names: [OrthogonalMap: String] = [.matrixExp: "matrix_exp", .cayley: "cayley", .householder: "householder"]
    for (shape, sizes) in [("Square", (4, 4)), ("Tall", (3, 5)), ("Wide", (5, 3))] {
      for trivial in [true, false] {
        let layer = Linear(sizes.0, sizes.1, elementType: type).orthogonal(map: map, trivialization: trivial)
        let name = "orthogonal.\(shape).\(names[map] ?? "").\(trivial ? "True" : "False")"
        try checkParts(layer, name, type, tolerance64: 1e-11)
      }
    }
  }

  @Test func orthogonalBeginsWithAnOrthogonalWeightAndKeepsIt() throws {
    for (rows, columns) in [(6, 6), (4, 7), (7, 4)] {
      let plain = Linear(columns, rows, elementType: .float64, generator: Generator(seed: 1))
      plain.weight.initialize(.orthogonal(), generator: Generator(seed: 9))
      let start = plain.weight.value.detached()
      let layers = [
        plain, Linear(columns, rows, elementType: .float64), Linear(columns, rows, elementType: .float64),
        Linear(columns, rows, elementType: .float64),
      ]
      for layer in layers.dropFirst() { layer.weight.value = start }
      layers[0].orthogonal()
      layers[1].orthogonal(map: .cayley)
      layers[2].orthogonal(map: .householder, trivialization: false)
      layers[3].orthogonal(map: .matrixExp)
      for layer in layers {
        expectClose(layer.weight.value, start, .float64, "start", tolerance64: 1e-13)
        let optimizer = Adam(layer.parameters, learningRate: 0.1)
        let x = Tensor.randn([5, columns], .float64, generator: Generator(seed: 2))
        let step = compile { (x: Tensor) in optimizer.step(minimizing: square(layer(x) - 1).sum()) }
        for _ in 0..<5 { step(x) }
        let w = layer.weight.value.detached()
        #expect(abs(w - start).max().item() > 0.01)
        let product = rows < columns ? w.matmul(w.T) : w.T.matmul(w)
        expectClose(product, Tensor.eye(min(rows, columns), elementType: .float64), .float64, "orthogonal")
      }
      // An assigned value becomes the nearest in the sense of QR.
      layers[0].weight.value = start * 3
      expectClose(layers[0].weight.value, start, .float64, "assigned", tolerance64: 1e-13)
    }
  }

  @Test func weightsOfAnyLayerCanBeParametrizedAndGoBack() throws {
    let layer = Conv1d(2, 3, kernelSize: 2, elementType: .float64)
    let before = layer.weight.value.detached()
    let variable = layer.weight
    layer.weightNorm()
    #expect(layer.isParametrized("weight") && !layer.isParametrized("bias"))
    #expect(
      layer.namedParameters.map(\.name) == ["bias", "parametrizations.weight.original0", "parametrizations.weight.original1"])
    expectClose(layer.weight.value, before, .float64, "the same value")
    #expect(layer.description.contains("(parametrizations.weight): ParametrizationList("))
    #expect(layer.summary().parameterCount == 3 + 3 + 12)
    // Assigned through its right inverse.
    layer.weight.value = before * 2
    expectClose(layer.weight.value, before * 2, .float64, "assigned")
    layer.weight.initialize(.ones)
    expectClose(layer.weight.value, Tensor.ones([3, 2, 2], .float64), .float64, "initialized")
    layer.freeze()
    #expect(layer(Tensor.ones([1, 2, 4], .float64)).sum().gradients(for: [variable])[variable] == nil)
    layer.unfreeze()
    layer.removeParametrizations("weight")
    #expect(layer.namedParameters.map(\.name) == ["weight", "bias"] && layer.weight === variable)
    expectClose(layer.weight.value, Tensor.ones([3, 2, 2], .float64), .float64, "kept")
    #expect(layer(Tensor.ones([1, 2, 4], .float64)).sum().gradients(for: [variable])[variable] != nil)
  }

  @Test func parametrizationsFollowOneAnother() {
    let layer = Linear(3, 3, elementType: .float64)
    layer.registerParametrization("weight", Halved()).registerParametrization("weight", Symmetric())
    let original = layer.parameters[1]
    #expect(original.name == "parametrizations.weight.original")
    let value = layer.weight.value
    let half = original.value * 0.5
    expectClose(value, half.upperTriangle() + half.upperTriangle(diagonal: 1).T, .float64, "chain")
    // The regularizer of a computed weight sees the weight.
    layer.regularize("weight", .l2(1))
    expectClose(layer.regularizationLoss(), square(value).sum(), .float64, "penalty")
  }

  @Test func spectralNormFollowsTheLargestSingularValue() {
    let layer = Linear(8, 8, elementType: .float64, generator: Generator(seed: 1)).spectralNorm(generator: Generator(seed: 2))
    for _ in 0..<300 { _ = layer.weight.value }
    // ‖W x‖ ≤ ‖x‖ for all x, with equality for one: by a power iteration of our own.
    var x = Tensor.randn([8], .float64, generator: Generator(seed: 3))
    layer.eval()
    let w = layer.weight.value.detached()
    for _ in 0..<500 {
      x = w.T.matmul(w.matmul(x))
      x = x / sqrt(square(x).sum())
    }
    #expect(abs(sqrt(square(w.matmul(x)).sum()).item(as: Double.self) - 1) < 1e-9)
  }

  @Test func mistakesAreNamed() async {
    func expect(_ result: ExitTest.Result?, says text: String) {
      let printed = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
      #expect(printed.contains(text), "\(printed)")
    }
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { Linear(2).weightNorm() },
      says: "Linear(2): there is no variable \"weight\" to normalize; it has no parameters before its first input")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { Linear(2, 2).spectralNorm("wight") },
      says: "there is no variable \"wight\" to normalize; it has weight, bias")
    expect(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        let layer = Linear(2, 2)
        let optimizer = SGD(layer.parameters, learningRate: 1)
        layer.registerParametrization("weight", Symmetric())
        layer.weight.value = Tensor.ones([2, 2])
        _ = optimizer
      }, says: "a value is assigned, but Symmetric has no right inverse")
  }
}
