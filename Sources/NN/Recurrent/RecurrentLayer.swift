import ApusTensor

/// What ``RNN``, ``LSTM`` and ``GRU`` share: their parameters, layers and directions.
///
/// Parameters, for each layer k and direction, with `gates` 1, 4 or 3: weight_ih_lk [gates · hidden, input size], weight_hh_lk
/// [gates · hidden, output size], bias_ih_lk and bias_hh_lk [gates · hidden], weight_hr_lk [output size, hidden] if the output is
/// a projection, and the same ending in `_reverse`; initially uniform within ± 1 / √hidden.
///
/// Sequences of different lengths come padded, with their `lengths`, or as a ``PackedSequence``. Then each row's last state is
/// the one at its own end, the other direction begins there, and outputs beyond are zeros: PyTorch's results for packed sequences.
public class RecurrentLayer: Module {
  public let hiddenSize, layers: Int
  /// The size of an output and hidden state: `hiddenSize`, or of an ``LSTM`` with projections `projSize`.
  public let outputSize: Int
  public let bidirectional, batchFirst: Bool
  private let gates: Int
  private let hasBias: Bool
  private let dropout: Dropout
  private let elementType: ElementType?
  private let generator: Generator
  /// Those of one layer and direction after those of another; none before the size of the input is known.
  private var cells: [Cell] = []
  private var inputSizeIfBuilt: Int?

  final class Cell {
    let suffix: String
    let weightIH, weightHH: Parameter
    let bias: (ih: Parameter, hh: Parameter)?
    let weightHR: Parameter?

    init(
      _ suffix: String, _ rows: Int, _ inputs: Int, _ outputs: Int, _ projected: Int?, _ hasBias: Bool, _ make: (Shape) -> Tensor
    ) {
      self.suffix = suffix
      weightIH = Parameter(make([rows, inputs]))
      weightHH = Parameter(make([rows, outputs]))
      bias = hasBias ? (Parameter(make([rows])), Parameter(make([rows]))) : nil
      weightHR = projected.map { Parameter(make([outputs, $0])) }
    }
  }

  /// - Parameters:
  ///   - inputSize: nil: that of the first input.
  ///   - elementType: nil: that of the first input.
  init(
    _ gates: Int, _ inputSize: Int?, _ hiddenSize: Int, _ layers: Int, _ bias: Bool, _ batchFirst: Bool, _ dropout: Double,
    _ bidirectional: Bool, projSize: Int = 0, _ elementType: ElementType?, _ generator: Generator
  ) {
    self.gates = gates
    self.hiddenSize = hiddenSize
    self.layers = layers
    outputSize = projSize > 0 ? projSize : hiddenSize
    self.bidirectional = bidirectional
    self.batchFirst = batchFirst
    hasBias = bias
    self.dropout = Dropout(dropout, generator: generator)
    self.elementType = elementType
    self.generator = generator
    super.init()
    guard hiddenSize > 0 && layers > 0 && inputSize ?? 1 > 0 else { stop("\(label): sizes and layers must be positive") }
    guard projSize >= 0 && projSize < hiddenSize else {
      stop("\(label): projSize \(projSize) must be smaller than the hidden size \(hiddenSize)")
    }
    if let inputSize { build(inputSize, elementType ?? .float32) }
  }

  private final func build(_ inputSize: Int, _ type: ElementType) {
    inputSizeIfBuilt = inputSize
    let initializer = Initializer.uniformByFanIn(hiddenSize)
    cells = (0..<layers).flatMap { layer in
      (0..<directions).map { direction in
        Cell(
          "l\(layer)\(direction == 1 ? "_reverse" : "")", gates * hiddenSize, layer == 0 ? inputSize : directions * outputSize,
          outputSize, outputSize != hiddenSize ? hiddenSize : nil, hasBias
        ) { initializer($0, type, generator: generator) }
      }
    }
  }

  public final var inputSize: Int { existing(inputSizeIfBuilt) }

  final var directions: Int { bidirectional ? 2 : 1 }

  /// All layers over a sequence.
  /// - Parameters:
  ///   - states: of one state's kind each with its size, [layers · directions, batch, size]; zeros if absent.
  ///   - lengths: integers [batch], or nil: all steps of all sequences.
  ///   - run: one layer in one direction, over gates [steps, batch, gates · hidden].
  final func run(
    _ x: Tensor, _ states: [(size: Int, value: Tensor?)], lengths: Tensor?,
    _ run: (_ cell: Cell, _ gates: (Bool) -> Tensor, _ states: [Tensor], _ reverse: Bool, _ mask: Tensor?) -> (
      output: Tensor, states: [Tensor]
    )
  ) -> (output: Tensor, states: [Tensor]) {
    if inputSizeIfBuilt == nil, x.rank == 3, x.shape[2] > 0 { untraced { build(x.shape[2], elementType ?? x.elementType) } }
    guard x.rank == 3, x.shape[2] == inputSizeIfBuilt else {
      let size = inputSizeIfBuilt.map(String.init) ?? "features"
      let order = batchFirst ? "[batch, steps, \(size)]" : "[steps, batch, \(size)]"
      stop("\(label): takes \(order), got shape \(x.shape)")
    }
    var x = batchFirst ? x.transposed(0, 1) : x
    let batch = x.shape[1]
    if let lengths, lengths.shape != [batch] {
      stop("\(label): lengths have shape \(lengths.shape), expected \([batch]): one for each sequence of an input \(x.shape)")
    }
    let mask = lengths.map { sequenceMask($0, x.shape[0]) }
    let starts = states.map { size, state -> [Tensor] in
      guard let state else { return Array(repeating: Tensor.zeros([batch, size], x.elementType), count: cells.count) }
      guard state.shape == [cells.count, batch, size] else {
        stop("\(label): a state has shape \(state.shape), expected \([cells.count, batch, size])")
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
        let (output, states) = run(cell, gates, starts.map { $0[number] }, direction == 1, mask)
        outputs.append(output)
        for (i, state) in states.enumerated() { ends[i].append(state) }
      }
      x = outputs.count == 1 ? outputs[0] : concatenate(outputs, axis: 2)
    }
    return (recorded(batchFirst ? x.transposed(0, 1) : x), ends.map { stack($0) })
  }

  override final var members: [Member] {
    cells.flatMap { cell in
      Member.list(
        ("weight_ih_" + cell.suffix, cell.weightIH), ("weight_hh_" + cell.suffix, cell.weightHH),
        ("bias_ih_" + cell.suffix, cell.bias?.ih), ("bias_hh_" + cell.suffix, cell.bias?.hh),
        ("weight_hr_" + cell.suffix, cell.weightHR))
    }
  }
  override final var awaitsInput: Bool { cells.isEmpty }
  override final var arguments: String {
    var text = (inputSizeIfBuilt.map { "\($0), " } ?? "") + "\(hiddenSize)"
    if layers != 1 { text += ", layers: \(layers)" }
    if !hasBias { text += ", bias: false" }
    if batchFirst { text += ", batchFirst: true" }
    if dropout.probability != 0 { text += ", dropout: \(dropout.probability)" }
    if bidirectional { text += ", bidirectional: true" }
    return text + (outputSize != hiddenSize ? ", projSize: \(outputSize)" : "")
  }
}
