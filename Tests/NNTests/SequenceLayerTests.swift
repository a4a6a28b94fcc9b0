import ApusNN
import ApusTensor
import Testing

/// A layer of more than one input or output, and the case of `Fixtures/make_sequence_layers.py` with PyTorch's values for it.
struct SequenceCase: Sendable, CustomTestStringConvertible {
  let name: String
  /// The layer, and how it goes from the inputs to the outputs.
  let make: @Sendable (ElementType) -> (Module, ([Tensor]) -> [Tensor])
  var testDescription: String { name }

  init(_ name: String, _ make: @escaping @Sendable (ElementType) -> (Module, ([Tensor]) -> [Tensor])) {
    (self.name, self.make) = (name, make)
  }

  private static func lstm(_ name: String, _ make: @escaping @Sendable (ElementType) -> LSTM) -> SequenceCase {
    SequenceCase(name) { type in
      let layer = make(type)
      return (
        layer,
        {
          let (y, state) = layer($0[0], $0.count > 1 ? ($0[1], $0[2]) : nil)
          return [y, state.hidden, state.cell]
        }
      )
    }
  }

  private static func gru(_ name: String, _ make: @escaping @Sendable (ElementType) -> GRU) -> SequenceCase {
    SequenceCase(name) { type in
      let layer = make(type)
      return (
        layer,
        {
          let (y, hidden) = layer($0[0], $0.count > 1 ? $0[1] : nil)
          return [y, hidden]
        }
      )
    }
  }

  private static func layer<L: Module>(
    _ name: String, _ make: @escaping @Sendable (ElementType) -> L, _ call: @escaping @Sendable (L, [Tensor]) -> Tensor
  ) -> SequenceCase {
    SequenceCase(name) { type in
      let layer = make(type)
      return (layer, { [call(layer, $0)] })
    }
  }

  static let all: [SequenceCase] = [
    lstm("lstm") { LSTM(3, 4, elementType: $0) },
    lstm("lstmState") { LSTM(3, 4, bias: false, batchFirst: true, elementType: $0) },
    lstm("lstmDeep") { LSTM(3, 2, layers: 2, bidirectional: true, elementType: $0) },
    gru("gru") { GRU(3, 4, elementType: $0) },
    gru("gruState") { GRU(3, 4, bias: false, batchFirst: true, elementType: $0) },
    gru("gruDeep") { GRU(3, 2, layers: 2, bidirectional: true, elementType: $0) },
    layer("attentionSelf", { MultiheadAttention(6, 2, elementType: $0) }) { $0($1[0]) },
    layer("attentionSelf", { MultiheadAttention(6, 2, elementType: $0) }) { $0($1[0], $1[0], $1[0]) },
    layer("attentionCausal", { MultiheadAttention(6, 3, bias: false, batchFirst: true, elementType: $0) }) {
      $0($1[0], causal: true)
    },
    layer("attentionCross", { MultiheadAttention(6, 2, batchFirst: true, elementType: $0) }) {
      // True where a key is seen: the opposite of PyTorch's.
      $0($1[0], $1[1], $1[2], mask: Tensor([[true, false, false], [true, true, false]]))
    },
    layer("encoder", { TransformerEncoderLayer(6, 2, feedforwardDim: 8, dropout: 0, elementType: $0) }) { $0($1[0]) },
    layer(
      "encoderNormFirst",
      {
        TransformerEncoderLayer(
          6, 2, feedforwardDim: 8, dropout: 0, activation: { gelu($0) }, batchFirst: true, normFirst: true, elementType: $0)
      }
    ) { $0($1[0]) },
  ]
}

@Suite struct SequenceLayerTests {
  private func values(_ fixture: Fixture, _ key: String, _ type: ElementType) throws -> [Tensor] {
    let group = fixture.group(key)
    return try (0..<group.count).map { try #require(group["\($0)"]).converted(to: type) }
  }

  @Test(arguments: SequenceCase.all, [ElementType.float64, .float32])
  func outputsAndGradientsAreThoseOfPyTorch(_ sample: SequenceCase, _ type: ElementType) throws {
    let fixture = try Fixture("sequences", sample.name)
    let (layer, call) = sample.make(type)
    // Strict: the names are exactly PyTorch's.
    try layer.load(state: fixture.group("p."), convert: true)
    let inputs = try values(fixture, "x.", type).map { Parameter($0) }
    let outputs = call(inputs.map(\.value))
    let cotangents = try values(fixture, "dy.", type)
    for (i, (y, expected)) in zip(outputs, try values(fixture, "y.", type)).enumerated() {
      expectClose(y, expected, type, "output \(i)")
    }
    let total = zip(outputs, cotangents).map { ($0 * $1).sum() }.reduce(Tensor.zeros([], type), +)
    let gradients = total.gradients(for: layer.parameters + inputs)
    for (i, (x, expected)) in zip(inputs, try values(fixture, "dx.", type)).enumerated() {
      expectClose(try #require(gradients[x]), expected, type, "gradient of input \(i)")
    }
    for (name, parameter) in layer.namedParameters {
      expectClose(try #require(gradients[parameter]), try fixture("g.\(name)", type), type, "gradient of \(name)")
    }
  }

  /// The gradient as one node agrees with the walk through the cells, also where it is differentiated again.
  @Test(arguments: SequenceCase.all.filter { $0.name.hasPrefix("lstm") || $0.name.hasPrefix("gru") })
  func secondGradientsAreThoseOfTheCells(_ sample: SequenceCase) throws {
    let fixture = try Fixture("sequences", sample.name)
    let (layer, call) = sample.make(.float64)
    try layer.load(state: fixture.group("p."))
    let inputs = try values(fixture, "x.", .float64)
    func loss(_ x: [Tensor]) -> Tensor { call(x).map { square($0).sum() }.reduce(Tensor.zeros([], .float64), +) }
    let plain = gradient(at: inputs, of: loss)
    func slope(_ x: [Tensor]) -> Tensor {
      gradient(at: x, of: loss).map { square($0).sum() }.reduce(Tensor.zeros([], .float64), +)
    }
    let (value, second) = valueAndGradient(at: inputs, of: slope)
    // The inner gradient, recorded, went through the cells.
    let sum = plain.map { square($0).sum().item(as: Double.self) }.reduce(0, +)
    #expect(abs(value.item(as: Double.self) - sum) <= 1e-12 * sum)
    let step = 1e-5
    for (i, x) in inputs.enumerated() {
      let direction = Tensor.randn(x.shape, .float64, generator: Generator(seed: UInt64(i)))
      func moved(_ by: Double) -> Double {
        var there = inputs
        there[i] = x + direction * by
        return slope(there).item(as: Double.self)
      }
      let expected = (moved(step) - moved(-step)) / (2 * step)
      let actual = (second[i] * direction).sum().item(as: Double.self)
      #expect(abs(actual - expected) <= 1e-6 * max(1, abs(expected)), "input \(i)")
    }
  }

  @Test func initialValuesAreThoseOfPyTorch() throws {
    let lstm = LSTM(20, 25, layers: 2, bidirectional: true, generator: Generator(seed: 1))
    for (name, parameter) in lstm.namedParameters {
      let values = parameter.value.floats
      #expect(values.allSatisfy { abs($0) <= 0.2 } && values.contains { abs($0) > 0.18 }, "\(name)")
    }
    #expect(lstm.namedParameters.count == 16)
    #expect(
      lstm.namedParameters.prefix(5).map(\.name) == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse",
      ])
    let attention = MultiheadAttention(32, 4, generator: Generator(seed: 2))
    let bound = Float((6.0 / (96 + 32)).squareRoot())
    let values = try #require(attention.inProjWeight).value.floats
    #expect(values.allSatisfy { abs($0) <= bound } && values.contains { abs($0) > 0.98 * bound })
    for bias in [attention.inProjBias, attention.outProj.bias] { #expect(bias?.value.floats.allSatisfy { $0 == 0 } == true) }
  }

  @Test func dropoutIsBetweenLayersInTrainingOnly() {
    let layer = LSTM(3, 4, layers: 2, dropout: 0.5, generator: Generator(seed: 4))
    let x = Tensor.randn([5, 2, 3], generator: Generator(seed: 5))
    #expect(layer(x).output.floats != layer(x).output.floats)
    layer.eval()
    #expect(layer(x).output.floats == layer(x).output.floats)
    #expect("\(layer)" == "LSTM(3, 4, layers: 2, dropout: 0.5)")
  }
}
