import ApusTensor

/// What ``LSTM`` and ``GRU`` share: their parameters, layers and directions.
///
/// Parameters, for each layer k and direction, with `gates` 4 or 3: weight_ih_lk [gates · hidden, input size], weight_hh_lk
/// [gates · hidden, hidden], bias_ih_lk and bias_hh_lk [gates · hidden], and the same ending in `_reverse`; initially uniform
/// within ± 1 / √hidden.
public class RecurrentLayer: Module {
  public let inputSize, hiddenSize, layers: Int
  public let bidirectional, batchFirst: Bool
  private let gates: Int
  private let hasBias: Bool
  private let dropout: Dropout
  /// Those of one layer and direction after those of another.
  private let cells: [Cell]

  final class Cell {
    let suffix: String
    let weightIH, weightHH: Parameter
    let bias: (ih: Parameter, hh: Parameter)?

    init(_ suffix: String, _ rows: Int, _ inputs: Int, _ hidden: Int, _ hasBias: Bool, _ make: (Shape) -> Tensor) {
      self.suffix = suffix
      weightIH = Parameter(make([rows, inputs]))
      weightHH = Parameter(make([rows, hidden]))
      bias = hasBias ? (Parameter(make([rows])), Parameter(make([rows]))) : nil
    }
  }

  fileprivate init(
    _ gates: Int, _ inputSize: Int, _ hiddenSize: Int, _ layers: Int, _ bias: Bool, _ batchFirst: Bool, _ dropout: Double,
    _ bidirectional: Bool, _ elementType: ElementType, _ generator: Generator
  ) {
    self.gates = gates
    self.inputSize = inputSize
    self.hiddenSize = hiddenSize
    self.layers = layers
    self.bidirectional = bidirectional
    self.batchFirst = batchFirst
    hasBias = bias
    self.dropout = Dropout(dropout, generator: generator)
    let initializer = Initializer.uniformByFanIn(hiddenSize)
    let directions = bidirectional ? 2 : 1
    cells = (0..<Swift.max(layers, 0)).flatMap { layer in
      (0..<directions).map { direction in
        Cell(
          "l\(layer)\(direction == 1 ? "_reverse" : "")", gates * hiddenSize, layer == 0 ? inputSize : directions * hiddenSize,
          hiddenSize, bias
        ) { initializer($0, elementType, generator: generator) }
      }
    }
    super.init()
    guard inputSize > 0 && hiddenSize > 0 && layers > 0 else { stop("\(label): sizes and layers must be positive") }
  }

  final var directions: Int { bidirectional ? 2 : 1 }

  /// All layers over a sequence.
  /// - Parameters:
  ///   - states: of one state's kind each, [layers · directions, batch, hidden]; zeros if absent.
  ///   - run: one layer in one direction, over gates [steps, batch, gates · hidden].
  fileprivate final func run(
    _ x: Tensor, _ states: [Tensor?],
    _ run: (_ cell: Cell, _ gates: (Bool) -> Tensor, _ states: [Tensor], _ reverse: Bool) -> (output: Tensor, states: [Tensor])
  ) -> (output: Tensor, states: [Tensor]) {
    guard x.rank == 3, x.shape[2] == inputSize else {
      let order = batchFirst ? "[batch, steps, \(inputSize)]" : "[steps, batch, \(inputSize)]"
      stop("\(label): takes \(order), got shape \(x.shape)")
    }
    var x = batchFirst ? x.transposed(0, 1) : x
    let batch = x.shape[1]
    let starts = states.map { state -> [Tensor] in
      guard let state else { return Array(repeating: Tensor.zeros([batch, hiddenSize], x.elementType), count: cells.count) }
      guard state.shape == [cells.count, batch, hiddenSize] else {
        stop("\(label): a state has shape \(state.shape), expected \([cells.count, batch, hiddenSize])")
      }
      return state.unstacked()
    }
    var ends = states.map { _ in [Tensor]() }
    for layer in 0..<layers {
      if layer > 0 && dropout.probability > 0 && isTraining { x = dropout(x) }
      var outputs: [Tensor] = []
      for direction in 0..<directions {
        let number = layer * directions + direction
        let cell = cells[number]
        // With both biases where the hidden state's may be added to the gates just as well.
        func gates(_ withBoth: Bool) -> Tensor {
          linear(x, cell.weightIH.value, cell.bias.map { withBoth ? $0.ih.value + $0.hh.value : $0.ih.value })
        }
        let (output, states) = run(cell, gates, starts.map { $0[number] }, direction == 1)
        outputs.append(output)
        for (i, state) in states.enumerated() { ends[i].append(state) }
      }
      x = concatenate(outputs, axis: 2)
    }
    return (recorded(batchFirst ? x.transposed(0, 1) : x), ends.map { stack($0) })
  }

  override final var members: [Member] {
    cells.flatMap { cell in
      Member.list(
        ("weight_ih_" + cell.suffix, cell.weightIH), ("weight_hh_" + cell.suffix, cell.weightHH),
        ("bias_ih_" + cell.suffix, cell.bias?.ih), ("bias_hh_" + cell.suffix, cell.bias?.hh))
    }
  }
  override final var arguments: String {
    var text = "\(inputSize), \(hiddenSize)"
    if layers != 1 { text += ", layers: \(layers)" }
    if !hasBias { text += ", bias: false" }
    if batchFirst { text += ", batchFirst: true" }
    if dropout.probability != 0 { text += ", dropout: \(dropout.probability)" }
    return text + (bidirectional ? ", bidirectional: true" : "")
  }
}

/// Long short-term memories over a sequence, one layer on another (Hochreiter and Schmidhuber 1997); PyTorch's LSTM.
///
/// Parameters: see ``RecurrentLayer``; gates in the order input, forget, cell, output.
public final class LSTM: RecurrentLayer {
  /// - Parameters:
  ///   - layers: how many, each over the outputs of the one before.
  ///   - batchFirst: inputs and outputs are [batch, steps, features] instead of [steps, batch, features].
  ///   - dropout: between layers, in training.
  ///   - bidirectional: a second memory in each layer goes from the last step to the first.
  public init(
    _ inputSize: Int, _ hiddenSize: Int, layers: Int = 1, bias: Bool = true, batchFirst: Bool = false, dropout: Double = 0,
    bidirectional: Bool = false, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(4, inputSize, hiddenSize, layers, bias, batchFirst, dropout, bidirectional, elementType, generator)
  }

  /// - Parameters:
  ///   - x: [steps, batch, input size], or with the first two exchanged if `batchFirst`.
  ///   - state: hidden states and cells before the first step, [layers · directions, batch, hidden] each; zeros if absent.
  /// - Returns: the last layer's hidden states [steps, batch, directions · hidden] (or batch first), and the states after the
  ///   last step.
  public func callAsFunction(
    _ x: Tensor, _ state: (hidden: Tensor, cell: Tensor)? = nil
  ) -> (output: Tensor, state: (hidden: Tensor, cell: Tensor)) {
    let (output, states) = run(x, [state?.hidden, state?.cell]) { cell, gates, states, reverse in
      let (y, h, c) = lstm(
        inputGates: gates(true), hiddenWeight: cell.weightHH.value, hidden: states[0], cell: states[1], reverse: reverse)
      return (y, [h, c])
    }
    return (output, (states[0], states[1]))
  }
}

/// Gated recurrent units over a sequence, one layer on another (Cho et al. 2014); PyTorch's GRU.
///
/// Parameters: see ``RecurrentLayer``; gates in the order reset, update, new.
public final class GRU: RecurrentLayer {
  /// - Parameters:
  ///   - layers: how many, each over the outputs of the one before.
  ///   - batchFirst: inputs and outputs are [batch, steps, features] instead of [steps, batch, features].
  ///   - dropout: between layers, in training.
  ///   - bidirectional: a second unit in each layer goes from the last step to the first.
  public init(
    _ inputSize: Int, _ hiddenSize: Int, layers: Int = 1, bias: Bool = true, batchFirst: Bool = false, dropout: Double = 0,
    bidirectional: Bool = false, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    super.init(3, inputSize, hiddenSize, layers, bias, batchFirst, dropout, bidirectional, elementType, generator)
  }

  /// - Parameters:
  ///   - x: [steps, batch, input size], or with the first two exchanged if `batchFirst`.
  ///   - hidden: hidden states before the first step, [layers · directions, batch, hidden]; zeros if absent.
  /// - Returns: the last layer's hidden states [steps, batch, directions · hidden] (or batch first), and the states after the
  ///   last step.
  public func callAsFunction(_ x: Tensor, _ hidden: Tensor? = nil) -> (output: Tensor, hidden: Tensor) {
    let (output, states) = run(x, [hidden]) { cell, gates, states, reverse in
      let (y, h) = gru(
        inputGates: gates(false), hiddenWeight: cell.weightHH.value, hiddenBias: cell.bias?.hh.value, hidden: states[0],
        reverse: reverse)
      return (y, [h])
    }
    return (output, states[0])
  }
}
