import ApusTensor

/// What ``RNNCell``, ``LSTMCell`` and ``GRUCell`` share.
///
/// Parameters: weight_ih [gates · hidden, input size], weight_hh [gates · hidden, hidden], bias_ih and bias_hh [gates · hidden];
/// initially uniform within ± 1 / √hidden.
public class GatedCell: Module {
  public let inputSize, hiddenSize: Int
  public let weightIH, weightHH: Parameter
  public let biasIH, biasHH: Parameter?

  fileprivate init(
    _ gates: Int, _ inputSize: Int, _ hiddenSize: Int, _ bias: Bool, _ elementType: ElementType, _ generator: Generator
  ) {
    guard inputSize > 0 && hiddenSize > 0 else { stop("\(Self.self): sizes \(inputSize) and \(hiddenSize) must be positive") }
    self.inputSize = inputSize
    self.hiddenSize = hiddenSize
    let make = Initializer.uniformByFanIn(hiddenSize)
    weightIH = Parameter(make([gates * hiddenSize, inputSize], elementType, generator: generator))
    weightHH = Parameter(make([gates * hiddenSize, hiddenSize], elementType, generator: generator))
    biasIH = bias ? Parameter(make([gates * hiddenSize], elementType, generator: generator)) : nil
    biasHH = bias ? Parameter(make([gates * hiddenSize], elementType, generator: generator)) : nil
  }

  fileprivate final func zeros(_ x: Tensor) -> Tensor {
    guard x.rank == 2, x.shape[1] == inputSize else { stop("\(label): takes [batch, \(inputSize)], got shape \(x.shape)") }
    return Tensor.zeros([x.shape[0], hiddenSize], x.elementType)
  }

  fileprivate final func checked(_ x: Tensor, _ states: [Tensor]) -> [Tensor] {
    let expected = zeros(x).shape
    for state in states where state.shape != expected {
      stop("\(label): a state has shape \(state.shape), expected \(expected): [batch, hidden]")
    }
    return states
  }

  /// What the inputs, and all biases that are added after the products, add to the gates.
  fileprivate final func inputGates(_ x: Tensor, withBoth: Bool) -> Tensor {
    guard let ih = biasIH, let hh = biasHH else { return linear(x, weightIH.value) }
    return linear(x, weightIH.value, withBoth ? ih.value + hh.value : ih.value)
  }

  /// Whether the kernels over whole sequences do what is asked.
  fileprivate final func takesKernel(_ x: Tensor, _ walk: RecurrentWalk) -> Bool {
    guard x.rank == 3, x.shape[2] == inputSize else {
      stop("\(label): takes inputs of \(inputSize) features, got shape \(x.shape)")
    }
    return walk.mask == nil || walk.zeroOutputForMask
  }

  override final var members: [Member] {
    Member.list(("weight_ih", weightIH), ("weight_hh", weightHH), ("bias_ih", biasIH), ("bias_hh", biasHH))
  }
  override var arguments: String { "\(inputSize), \(hiddenSize)" + (biasIH == nil ? ", bias: false" : "") }
}

/// One step of a simple recurrent layer: h' = tanh(W x + b + U h + c), or relu (Elman 1990); PyTorch's RNNCell.
public final class RNNCell: GatedCell, RecurrentCell {
  public let nonlinearity: RecurrentNonlinearity

  public init(
    _ inputSize: Int, _ hiddenSize: Int, bias: Bool = true, nonlinearity: RecurrentNonlinearity = .tanh,
    elementType: ElementType = .float32, generator: Generator = .default
  ) {
    self.nonlinearity = nonlinearity
    super.init(1, inputSize, hiddenSize, bias, elementType, generator)
  }

  /// - Parameters:
  ///   - x: [batch, input size].
  ///   - hidden: [batch, hidden]; zeros if absent.
  /// - Returns: the next hidden state.
  public func callAsFunction(_ x: Tensor, _ hidden: Tensor? = nil) -> Tensor {
    let h = checked(x, [hidden ?? zeros(x)])[0]
    let gate = inputGates(x, withBoth: true) + linear(h, weightHH.value)
    return recorded(nonlinearity == .tanh ? tanh(gate) : relu(gate))
  }

  public func initialStates(_ x: Tensor) -> [Tensor] { [zeros(x)] }
  public func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor]) {
    let h = self(x, states[0])
    return (h, [h])
  }
  public func overSteps(_ x: Tensor, _ states: [Tensor], _ walk: RecurrentWalk) -> RecurrentWalk.Results {
    guard takesKernel(x, walk) else { return stepByStep(x, states, walk) }
    let (y, h) = rnn(
      inputGates: inputGates(x, withBoth: true), hiddenWeight: weightHH.value, hidden: states[0], relu: nonlinearity == .relu,
      reverse: walk.reverse, mask: walk.mask)
    return (y, h, [h])
  }
  override var arguments: String { super.arguments + (nonlinearity == .relu ? ", nonlinearity: .relu" : "") }
}

/// One step of a long short-term memory (Hochreiter and Schmidhuber 1997); PyTorch's LSTMCell. Gates in the order input, forget,
/// cell, output.
public final class LSTMCell: GatedCell, RecurrentCell {
  public init(
    _ inputSize: Int, _ hiddenSize: Int, bias: Bool = true, elementType: ElementType = .float32, generator: Generator = .default
  ) { super.init(4, inputSize, hiddenSize, bias, elementType, generator) }

  /// - Parameters:
  ///   - x: [batch, input size].
  ///   - state: [batch, hidden] each; zeros if absent.
  /// - Returns: the next hidden state and cell.
  public func callAsFunction(_ x: Tensor, _ state: (hidden: Tensor, cell: Tensor)? = nil) -> (hidden: Tensor, cell: Tensor) {
    let states = checked(x, state.map { [$0.hidden, $0.cell] } ?? [zeros(x), zeros(x)])
    let gates = inputGates(x, withBoth: true) + linear(states[0], weightHH.value)
    let (h, c) = lstmCell(gates: gates, cell: states[1])
    return (recorded(h), c)
  }

  public func initialStates(_ x: Tensor) -> [Tensor] { [zeros(x), zeros(x)] }
  public func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor]) {
    let (h, c) = self(x, (states[0], states[1]))
    return (h, [h, c])
  }
  public func overSteps(_ x: Tensor, _ states: [Tensor], _ walk: RecurrentWalk) -> RecurrentWalk.Results {
    guard takesKernel(x, walk) else { return stepByStep(x, states, walk) }
    let (y, h, c) = lstm(
      inputGates: inputGates(x, withBoth: true), hiddenWeight: weightHH.value, hidden: states[0], cell: states[1],
      reverse: walk.reverse, mask: walk.mask)
    return (y, h, [h, c])
  }
}

/// One step of a gated recurrent unit (Cho et al. 2014), the reset gate applied after the product; PyTorch's GRUCell. Gates in the
/// order reset, update, new.
public final class GRUCell: GatedCell, RecurrentCell {
  public init(
    _ inputSize: Int, _ hiddenSize: Int, bias: Bool = true, elementType: ElementType = .float32, generator: Generator = .default
  ) { super.init(3, inputSize, hiddenSize, bias, elementType, generator) }

  /// - Parameters:
  ///   - x: [batch, input size].
  ///   - hidden: [batch, hidden]; zeros if absent.
  /// - Returns: the next hidden state.
  public func callAsFunction(_ x: Tensor, _ hidden: Tensor? = nil) -> Tensor {
    let h = checked(x, [hidden ?? zeros(x)])[0]
    let gates = linear(h, weightHH.value, biasHH?.value)
    return recorded(gruCell(inputGates: inputGates(x, withBoth: false), hiddenGates: gates, hidden: h))
  }

  public func initialStates(_ x: Tensor) -> [Tensor] { [zeros(x)] }
  public func step(_ x: Tensor, _ states: [Tensor]) -> (output: Tensor, states: [Tensor]) {
    let h = self(x, states[0])
    return (h, [h])
  }
  public func overSteps(_ x: Tensor, _ states: [Tensor], _ walk: RecurrentWalk) -> RecurrentWalk.Results {
    guard takesKernel(x, walk) else { return stepByStep(x, states, walk) }
    let (y, h) = gru(
      inputGates: inputGates(x, withBoth: false), hiddenWeight: weightHH.value, hiddenBias: biasHH?.value, hidden: states[0],
      reverse: walk.reverse, mask: walk.mask)
    return (y, h, [h])
  }
}
