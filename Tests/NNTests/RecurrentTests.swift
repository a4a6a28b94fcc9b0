import ApusFormats
import ApusNN
import ApusTensor
import Foundation
import Testing

/// A layer and the case of `Fixtures/make_recurrent.py` with PyTorch's or Keras's values for it.
struct RecurrentCase: Sendable, CustomTestStringConvertible {
  let name: String
  /// The layer, and how it goes from the inputs and masks to the outputs.
  let make: @Sendable (ElementType) -> (Module, ([Tensor], [String: Tensor]) -> [Tensor])
  var testDescription: String { name }

  private static func of<L: Module>(
    _ name: String, _ make: @escaping @Sendable (ElementType) -> L,
    _ call: @escaping @Sendable (L, [Tensor], [String: Tensor]) -> [Tensor]
  ) -> RecurrentCase {
    RecurrentCase(name: name) { type in
      let layer = make(type)
      return (layer, { call(layer, $0, $1) })
    }
  }

  private static func lstm(_ name: String, _ make: @escaping @Sendable (ElementType) -> LSTM) -> RecurrentCase {
    of(name, make) { layer, x, masks in
      let (y, state) = layer(x[0], x.count > 1 ? (x[1], x[2]) : nil, lengths: masks["lengths"])
      return [y, state.hidden, state.cell]
    }
  }
  private static func rnn(_ name: String, _ make: @escaping @Sendable (ElementType) -> RNN) -> RecurrentCase {
    of(name, make) { layer, x, masks in
      let (y, hidden) = layer(x[0], x.count > 1 ? x[1] : nil, lengths: masks["lengths"])
      return [y, hidden]
    }
  }
  /// The cell's layer with the case's mask.
  private static func keras(_ name: String, state: Bool = false, _ make: @escaping @Sendable (ElementType) -> CellRNN)
    -> RecurrentCase
  {
    of(name, make) { layer, x, masks in
      let (y, states) = layer(x[0], initialState: nil, mask: masks["seen"])
      return [y] + (state ? states : [])
    }
  }
  private static func dot(_ name: String, _ make: @escaping @Sendable (ElementType) -> DotAttention) -> RecurrentCase {
    of(name, make) { layer, x, masks in
      let (y, weights) = layer.withWeights(
        x[0], x[1], key: x.count > 2 ? x[2] : nil, queryMask: masks["queries"], valueMask: masks["values"],
        causal: name.hasSuffix("Causal"))
      return masks.isEmpty ? [y] : [y, weights]
    }
  }

  static let recurrent: [RecurrentCase] = [
    rnn("rnn") { RNN(3, 4, elementType: $0) },
    rnn("rnnRelu") { SimpleRNN(3, 2, layers: 2, nonlinearity: .relu, batchFirst: true, bidirectional: true, elementType: $0) },
    lstm("lstmProjected") { LSTM(3, 5, layers: 2, bidirectional: true, projSize: 2, elementType: $0) },
    rnn("rnnPacked") { RNN(3, 4, bidirectional: true, elementType: $0) },
    lstm("lstmPacked") { LSTM(3, 4, layers: 2, bidirectional: true, elementType: $0) },
    lstm("lstmPackedFirst") { LSTM(3, 4, batchFirst: true, elementType: $0) },
    of("gruPacked", { GRU(3, 4, layers: 2, batchFirst: true, bidirectional: true, elementType: $0) }) { layer, x, masks in
      let (y, hidden) = layer(x[0], x[1], lengths: masks["lengths"])
      return [y, hidden]
    },
    lstm("lstmProjectedPacked") { LSTM(3, 5, bidirectional: true, projSize: 2, elementType: $0) },
    of("rnnCell", { RNNCell(3, 4, elementType: $0) }) { layer, x, _ in [layer(x[0], x[1])] },
    of("rnnCellRelu", { RNNCell(3, 4, bias: false, nonlinearity: .relu, elementType: $0) }) { layer, x, _ in [layer(x[0], x[1])]
    },
    of("lstmCell", { LSTMCell(3, 4, elementType: $0) }) { layer, x, _ in
      let (h, c) = layer(x[0], (x[1], x[2]))
      return [h, c]
    },
    of("gruCell", { GRUCell(3, 4, elementType: $0) }) { layer, x, _ in [layer(x[0], x[1])] },
    keras("kerasSimpleRNN", state: true) { CellRNN(RNNCell(3, 4, elementType: $0), returnSequences: true) },
    keras("kerasLSTM") { CellRNN(LSTMCell(3, 4, elementType: $0)) },
    keras("kerasLSTMMasked", state: true) { CellRNN(LSTMCell(3, 4, elementType: $0), returnSequences: true) },
    keras("kerasLSTMBackwards") { CellRNN(LSTMCell(3, 4, elementType: $0), returnSequences: true, goBackwards: true) },
    keras("kerasLSTMLast") { CellRNN(LSTMCell(3, 4, elementType: $0)) },
    keras("kerasGRU") { CellRNN(GRUCell(3, 4, bias: false, elementType: $0), returnSequences: true) },
    keras("kerasStacked", state: true) {
      CellRNN(StackedRNNCells([LSTMCell(3, 4, elementType: $0), RNNCell(4, 2, elementType: $0)]), returnSequences: true)
    },
    of(
      "kerasBidirectional", { type in Bidirectional { CellRNN(LSTMCell(3, 4, elementType: type), returnSequences: true) } }
    ) { layer, x, _ in [layer(x[0])] },
    of("kerasBidirectionalSum", { type in Bidirectional(mergeMode: .sum) { CellRNN(RNNCell(3, 4, elementType: type)) } }) {
      layer, x, masks in [layer(x[0], mask: masks["seen"]).output]
    },
    of("kerasTimeDistributed", { TimeDistributed(Linear(3, 4, elementType: $0)) }) { layer, x, _ in [layer(x[0])] },
    keras("kerasConvLSTM1d") { ConvLSTM1d(2, 2, kernelSize: 3, padding: .same, returnSequences: true, elementType: $0) },
    keras("kerasConvLSTM2d", state: true) { ConvLSTM2d(2, 2, kernelSize: 3, stride: 2, elementType: $0) },
    keras("kerasConvLSTM3d") { ConvLSTM3d(2, 2, kernelSize: 2, padding: .same, returnSequences: true, elementType: $0) },
  ]

  static let attention: [RecurrentCase] = [
    of("attentionSizes", { MultiheadAttention(6, 2, kdim: 4, vdim: 5, batchFirst: true, elementType: $0) }) { layer, x, _ in
      [layer(x[0], x[1], x[2])]
    },
    of("attentionBiasKV", { MultiheadAttention(6, 2, addBiasKV: true, addZeroAttention: true, elementType: $0) }) {
      layer, x, masks in
      let (y, weights) = layer.withWeights(x[0], x[1], x[2], keyPaddingMask: masks["padding"], attnMask: masks["hidden"])
      return [y, weights]
    },
    of("attentionWeights", { MultiheadAttention(6, 3, elementType: $0) }) { layer, x, masks in
      let (y, weights) = layer.withWeights(x[0], x[1], x[2], keyPaddingMask: masks["padding"], averageWeights: false)
      return [y, weights]
    },
    of("attentionAdded", { MultiheadAttention(6, 2, batchFirst: true, elementType: $0) }) { layer, x, masks in
      [layer(x[0], x[1], x[2], attnMask: masks["added"])]
    },
    of(
      "transformerEncoder",
      { type in
        TransformerEncoder(2, norm: LayerNorm(6, elementType: type)) {
          TransformerEncoderLayer(6, 2, feedforwardDim: 8, dropout: 0, elementType: type)
        }
      }
    ) { layer, x, masks in [layer(x[0], srcKeyPaddingMask: masks["padding"])] },
    of("decoderLayer", { TransformerDecoderLayer(6, 2, feedforwardDim: 8, dropout: 0, elementType: $0) }) { layer, x, masks in
      [layer(x[0], x[1], tgtMask: masks["hidden"], memoryKeyPaddingMask: masks["padding"])]
    },
    of("decoderLayer", { TransformerDecoderLayer(6, 2, feedforwardDim: 8, dropout: 0, elementType: $0) }) { layer, x, masks in
      [layer(x[0], x[1], memoryKeyPaddingMask: masks["padding"], tgtCausal: true)]
    },
    of(
      "decoderLayerNormFirst",
      {
        TransformerDecoderLayer(
          6, 2, feedforwardDim: 8, dropout: 0, activation: { gelu($0) }, batchFirst: true, normFirst: true, elementType: $0)
      }
    ) { layer, x, _ in [layer(x[0], x[1])] },
    of(
      "transformerDecoder",
      { type in
        TransformerDecoder(2, norm: LayerNorm(6, elementType: type)) {
          TransformerDecoderLayer(6, 2, feedforwardDim: 8, dropout: 0, elementType: type)
        }
      }
    ) { layer, x, masks in [layer(x[0], x[1], memoryKeyPaddingMask: masks["padding"], tgtCausal: true)] },
    of(
      "transformer",
      { Transformer(6, 2, encoderLayers: 2, decoderLayers: 2, feedforwardDim: 8, dropout: 0, batchFirst: true, elementType: $0) }
    ) { layer, x, masks in
      [
        layer(
          x[0], x[1], tgtMask: Transformer.generateSquareSubsequentMask(3), srcKeyPaddingMask: masks["padding"],
          memoryKeyPaddingMask: masks["padding"])
      ]
    },
    dot("kerasAttention") { Attention(useScale: true, elementType: $0) },
    dot("kerasAttentionConcat") { Attention(scoreMode: .concat, elementType: $0) },
    dot("kerasAttentionCausal") { _ in Attention() },
    dot("kerasAdditiveAttention") { AdditiveAttention(4, elementType: $0) },
    of(
      "kerasGroupQueryAttention", { GroupedQueryAttention(5, headDim: 3, numQueryHeads: 4, numKeyValueHeads: 2, elementType: $0) }
    ) {
      layer, x, _ in [layer(x[0], x[1])]
    },
  ]

  static let all = recurrent + attention
}

@Suite struct RecurrentTests {
  private static let file = try? loadTensors(from: fixturePath("recurrent.safetensors"))

  private func group(_ prefix: String) throws -> [String: Tensor] {
    let all = try #require(RecurrentTests.file)
    return Dictionary(
      uniqueKeysWithValues: all.filter { $0.key.hasPrefix(prefix) }.map { (String($0.key.dropFirst(prefix.count)), $0.value) })
  }

  private func values(_ prefix: String, _ type: ElementType) throws -> [Tensor] {
    let group = try group(prefix)
    return try (0..<group.count).map { try #require(group["\($0)"]).converted(to: type) }
  }

  /// A case with its layer loaded: the names are exactly the fixture's. Keras has one bias where ``GatedCell`` has two.
  private func loaded(_ sample: RecurrentCase, _ type: ElementType) throws -> (
    layer: Module, call: ([Tensor]) -> [Tensor], inputs: [Parameter]
  ) {
    let (layer, call) = sample.make(type)
    var state = try group(sample.name + "/p.")
    if sample.name.hasPrefix("keras") {
      for (name, parameter) in layer.namedParameters where state[name] == nil && name.hasSuffix("bias_hh") {
        state[name] = Tensor.zeros(parameter.shape, .float64)
      }
    }
    try layer.load(state: state, convert: true)
    let masks = try group(sample.name + "/m.").mapValues { $0.elementType.isFloatingPoint ? $0.converted(to: type) : $0 }
    return (layer, { call($0, masks) }, try values(sample.name + "/x.", type).map { Parameter($0) })
  }

  @Test(arguments: RecurrentCase.all, [ElementType.float64, .float32])
  func outputsAndGradientsAreThoseOfPyTorchAndKeras(_ sample: RecurrentCase, _ type: ElementType) throws {
    let (layer, call, inputs) = try loaded(sample, type)
    // Keras scales these scores in float32, whatever the layer's type.
    let tolerance = sample.name == "kerasGroupQueryAttention" ? 1e-6 : 1e-12
    let outputs = call(inputs.map(\.value))
    let expected = try values(sample.name + "/y.", type)
    #expect(outputs.count == expected.count)
    for (i, (y, expected)) in zip(outputs, expected).enumerated() {
      expectClose(y, expected, type, "output \(i)", tolerance64: tolerance)
    }
    let cotangents = try values(sample.name + "/dy.", type)
    let total = zip(outputs, cotangents).map { ($0 * $1).sum() }.reduce(Tensor.zeros([], type), +)
    let gradients = total.gradients(for: layer.parameters + inputs)
    for (i, (x, expected)) in zip(inputs, try values(sample.name + "/dx.", type)).enumerated() {
      expectClose(gradients[x] ?? zerosLike(x.value), expected, type, "gradient of input \(i)", tolerance64: tolerance)
    }
    let slopes = try group(sample.name + "/g.")
    for (name, parameter) in layer.namedParameters {
      // What is added to all keys changes no weight: nothing but rounding arrives.
      guard let slope = slopes[name], name != "key.bias" else { continue }
      expectClose(gradients[parameter] ?? zerosLike(parameter.value), slope, type, "gradient of \(name)", tolerance64: tolerance)
    }
  }

  /// The same layers inside of a compiled function: values and gradients are eager ones, to the bit or nearly.
  @Test(arguments: RecurrentCase.all) func compiledLayersGiveTheSame(_ sample: RecurrentCase) throws {
    let (layer, call, inputs) = try loaded(sample, .float64)
    let parameters = layer.parameters
    func work(_ x: [Tensor]) -> [Tensor] {
      let (outputs, pull) = pullback(x) { call($0) }
      let loss = outputs.map { square($0).sum() }.reduce(Tensor.zeros([], .float64), +)
      let slopes = pull(outputs.map { $0 * 2 })
      return outputs + slopes + loss.gradients(for: parameters).values.compactMap { $0 }
    }
    let x = inputs.map { $0.value.detached() }
    let eager = work(x)
    let compiled = compile { (x: [Tensor]) in work(x) }
    for _ in 0..<2 {
      for (i, (a, b)) in zip(eager, compiled(x)).enumerated() { expectClose(b, a, .float64, "result \(i)", tolerance64: 1e-11) }
    }
  }

  /// Lengths are a tensor, so one program serves all.
  @Test func lengthsMayDifferFromRunToRunOfAProgram() {
    let layer = LSTM(3, 4, bidirectional: true, elementType: .float64, generator: Generator(seed: 1))
    let x = Tensor.randn([5, 2, 3], .float64, generator: Generator(seed: 2))
    let program = compile { (x: Tensor, lengths: Tensor) -> [Tensor] in
      let (y, state) = layer(x, lengths: lengths)
      return [y, state.hidden, state.cell]
    }
    for lengths in [[5, 3], [1, 4]] {
      let tensor = Tensor(lengths, shape: [2])
      let together = program(x, tensor)
      #expect(program.report.traces.count == 1)
      for (i, length) in lengths.enumerated() {
        // Each sequence alone, without its padding.
        let (y, state) = layer(x[..<length, i...i])
        expectClose(together[0][..<length, i...i], y, .float64, "sequence \(i)")
        expectClose(together[1][0..., i...i], state.hidden, .float64, "state of sequence \(i)")
        expectClose(together[2][0..., i...i], state.cell, .float64, "cell of sequence \(i)")
        if length < 5 { #expect(together[0][length..., i].elements(as: Double.self).allSatisfy { $0 == 0 }) }
      }
    }
  }

  @Test func packedSequences() {
    let x = Tensor.randn([5, 3, 3], .float64, generator: Generator(seed: 3))
    let packed = packPadded(x, lengths: [3, 5, 1], enforceSorted: false)
    #expect(packed.batchSizes == [3, 2, 2, 1, 1] && packed.sortedIndices == [1, 0, 2] && packed.unsortedIndices == [1, 0, 2])
    #expect(packed.data.shape == [9, 3] && packed.lengths == [3, 5, 1])
    expectClose(packed.data[0], x[0, 1], .float64, "first row")
    let (padded, lengths) = padPacked(packed, paddingValue: 7, totalLength: 6)
    #expect(padded.shape == [6, 3, 3] && lengths == [3, 5, 1])
    expectClose(padded[..<3, 0], x[..<3, 0], .float64, "sequence 0")
    #expect(padded[3, 0, 0].item(as: Double.self) == 7)

    let layer = GRU(3, 4, layers: 2, bidirectional: true, elementType: .float64, generator: Generator(seed: 4))
    let (y, hidden) = layer(packed)
    let (whole, last) = layer(x, lengths: Tensor([3, 5, 1], shape: [3]))
    expectClose(padPacked(y).padded, whole, .float64, "packed output")
    expectClose(hidden, last, .float64, "packed state")

    let parts = [x[..<3, 0], x[0..., 1], x[..<1, 2]]
    let joined = padSequence(parts, batchFirst: true)
    #expect(joined.shape == [3, 5, 3])
    for (a, b) in zip(unpadSequence(joined, lengths: [3, 5, 1], batchFirst: true), parts) { expectClose(a, b, .float64, "part") }
    expectClose(packSequence(parts, enforceSorted: false).data, packed.data, .float64, "packed parts")
  }

  @Test func statefulLayersGoOn() {
    let layer = CellRNN(LSTMCell(3, 4, generator: Generator(seed: 5)), stateful: true)
    let whole = CellRNN(layer.cell)
    let x = Tensor.randn([2, 6, 3], generator: Generator(seed: 6))
    _ = layer(x[0..., ..<2])
    expectClose(layer(x[0..., 2...]), whole(x), .float32, "second part")
    layer.resetStates()
    let program = compile { (x: Tensor) in layer(x) }
    _ = program(x[0..., ..<3])
    expectClose(program(x[0..., 3...]), whole(x), .float32, "compiled second part")
  }

  /// A cell of one's own, with a mask, in both kinds of loop.
  @Test func cellsOfOnesOwn() {
    final class Leaky: Module, RecurrentCell {
      let input = Linear(3, 4, generator: Generator(seed: 7))
      func initialStates(_ x: Tensor) -> [Tensor] { [Tensor.zeros([x.shape[0], 4])] }
      func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor]) {
        let h = states[0] * 0.9 + tanh(input(x)) * 0.1
        return (h * 2, [h])
      }
    }
    let cell = Leaky()
    let x = Tensor.randn([2, 4, 3], generator: Generator(seed: 8))
    let mask = Tensor([[true, true, false, true], [false, true, true, false]])
    let (y, state) = CellRNN(cell)(x, initialState: nil, mask: mask)
    var h = [Tensor.zeros([1, 4]), Tensor.zeros([1, 4])]
    for (row, steps) in [[0, 1, 3], [1, 2]].enumerated() {
      for step in steps { h[row] = cell.step(x[row...row, step], [h[row]]).states[0] }
    }
    expectClose(state[0], concatenate(h), .float32, "state")
    expectClose(y, concatenate(h) * 2, .float32, "output")
    for unroll in [false, true] {
      let layer = CellRNN(cell, returnSequences: true, unroll: unroll)
      let program = compile { (x: Tensor) in layer(x, initialState: nil, mask: mask).output }
      expectClose(program(x)[0..., 3], y, .float32, "compiled")
    }
    #expect(CellRNN(cell).namedParameters.map(\.name) == ["cell.input.weight", "cell.input.bias"])
  }

  @Test func attentionWithDropoutKeepsItsMean() {
    let layer = MultiheadAttention(4, 2, dropout: 0.5, generator: Generator(seed: 9))
    let x = Tensor.randn([3, 2, 4], generator: Generator(seed: 10))
    #expect(layer(x).floats != layer(x).floats)
    layer.eval()
    #expect(layer(x).floats == layer(x).floats)
    let q = Tensor.randn([1, 4, 3, 8], generator: Generator(seed: 11))
    let k = Tensor.randn([1, 2, 5, 8], generator: Generator(seed: 12))
    let exact = scaledDotProductAttention(q, k, k, causal: true)
    let nearly = scaledDotProductAttention(q, k, k, causal: true, dropout: 1e-9, generator: Generator(seed: 13))
    expectClose(nearly, exact, .float32, "dropout of nearly nothing")
  }
}
