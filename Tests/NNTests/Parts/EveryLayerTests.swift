import ApusNN
import ApusTensor
import Testing

/// What holds for every layer over one tensor, over the tables of the tests of their values.
@Suite struct EveryLayerTests {
  /// Of the pooling tables those of layers; the others' modules hold the indices of their example.
  private static let modules: [ModuleCase] =
    MoreLayerTests.pooling.filter { $0.name.hasPrefix("lpPool") } + MoreLayerTests.norms + MoreLayerTests.padding
    + MoreLayerTests.resolution + MoreLayerTests.products
    + MoreLayerTests.bags + KerasLayerTests.dense + KerasLayerTests.convolutions + KerasLayerTests.shapes

  /// Alone, in a Sequential and in a graph it gives the same; its shape is inferred without computing; its hooks run once.
  private func check(_ make: () -> any Layer, _ x: Tensor, _ name: String) throws {
    let layer = make()
    let expected = layer.evaluating { layer(x) }
    let entrance = Input(Shape(Array(x.shape.dropFirst())), x.elementType)
    let node = layer(entrance)
    #expect(node.elementType == expected.elementType, "\(name)")
    // Some examples are of one sample without a batch.
    if expected.rank > 0 && expected.shape[0] == x.shape[0] {
      #expect(Array(node.shape.dropFirst()) == Array(expected.shape.dropFirst()), "\(name)")
    }
    let model = try Model(inputs: [entrance], outputs: [node])
    model.eval()
    var (before, after) = (0, 0)
    layer.registerForwardPreHook { _, _ in
      before += 1
      return nil
    }
    layer.registerForwardHook { _, _ in
      after += 1
      return nil
    }
    for (i, y) in [layer(x), Sequential([layer])(x), model(x)].enumerated() {
      #expect(
        y.elements(as: Double.self).map(\.bitPattern) == expected.elements(as: Double.self).map(\.bitPattern), "\(name) \(i)")
    }
    #expect(before == 3 && after == 3, "\(name): \(before), \(after)")
    // Sized in a graph from the start.
    let fresh = make()
    _ = fresh(Input(Shape(Array(x.shape.dropFirst())), x.elementType))
    #expect(fresh.namedVariables.map { $0.variable.type } == layer.namedVariables.map { $0.variable.type }, "\(name)")
  }

  @Test(arguments: LayerCase.all) func layers(_ sample: LayerCase) throws {
    try check({ sample.make(.float64) }, try Fixture("layers", sample.name)("x", .float64), sample.name)
  }

  @Test(arguments: ActivationCase.all) func activations(_ sample: ActivationCase) throws {
    try check(sample.make, try PartsFixture(sample.name)("x"), sample.name)
  }

  @Test(arguments: modules) func others(_ sample: ModuleCase) throws {
    let fixture = try Fixture(layer: sample.name, in: sample.file)
    // What the tests wrap around functions of several operands is no layer of ours.
    if String(reflecting: Swift.type(of: sample.make(.float64).0)).hasPrefix("NNTests.") { return }
    guard sample.make(.float64).0 is any Layer, !(sample.make(.float64).0 is Identity), fixture.values["x1"] == nil else {
      return
    }
    let x = try fixture("x0", .float64)
    // The example of its other direction.
    if sample.make(.float64).0 is ReversibleEmbedding && x.elementType.isFloatingPoint { return }
    try check({ sample.make(.float64).0 as? any Layer ?? Identity() }, x, sample.name)
  }
}
