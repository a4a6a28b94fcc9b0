import ApusTensor

/// A recurrent layer of any ``RecurrentCell``, with Keras's options: Keras's RNN. Batch first: [batch, steps, …].
///
/// `CellRNN(LSTMCell(3, 4))` is Keras's LSTM layer; PyTorch's ``RNNCell``, ``LSTMCell`` and ``GRUCell`` run as one kernel over all
/// steps.
public class CellRNN: Module, Layer {
  public final let cell: any RecurrentCell
  public final let returnSequences, goBackwards, stateful, unroll, zeroOutputForMask: Bool
  /// The states that a stateful layer hands on to the next call.
  private var kept: [Variable] = []

  /// - Parameters:
  ///   - returnSequences: the outputs of all steps, [batch, steps, …], instead of the last one.
  ///   - goBackwards: from the last step to the first; outputs come in that order.
  ///   - stateful: begin with the states in which the call before ended; see ``resetStates()``.
  ///   - unroll: a compiled program holds all steps instead of a loop; needed where the cell draws random numbers.
  ///   - zeroOutputForMask: outputs of steps that a mask hides are zeros; else the last output before.
  public init(
    _ cell: any RecurrentCell, returnSequences: Bool = false, goBackwards: Bool = false, stateful: Bool = false,
    unroll: Bool = false, zeroOutputForMask: Bool = false
  ) {
    self.cell = cell
    self.returnSequences = returnSequences
    self.goBackwards = goBackwards
    self.stateful = stateful
    self.unroll = unroll
    self.zeroOutputForMask = zeroOutputForMask
  }

  /// - Parameter x: [batch, steps, …].
  /// - Returns: the last output [batch, …], or with `returnSequences` all of them [batch, steps, …].
  public final func callAsFunction(_ x: Tensor) -> Tensor { self(x, initialState: nil).output }

  /// - Parameters:
  ///   - x: [batch, steps, …].
  ///   - initialState: the cell's states before the first step, each [batch, …]; nil: the cell's own, or those kept.
  ///   - mask: bool [batch, steps]: where it is false, a row's states stay as they are.
  /// - Returns: the output, and the states after the last step (Keras's `returnState`).
  public final func callAsFunction(
    _ x: Tensor, initialState: [Tensor]?, mask: Tensor? = nil
  ) -> (output: Tensor, state: [Tensor]) {
    let (outputs, last, states) = run(x, initialState, mask, reverse: goBackwards)
    if !returnSequences { return (recorded(last), states) }
    return (recorded(goBackwards ? outputs.reversed(1) : outputs), states)
  }

  /// Outputs [batch, steps, …] in the order of the inputs.
  final func run(
    _ x: Tensor, _ initialState: [Tensor]?, _ mask: Tensor?, reverse: Bool
  ) -> RecurrentWalk.Results {
    guard x.rank >= 3, x.shape[1] > 0 else {
      stop("\(label): takes [batch, steps, …] of at least one step, got shape \(x.shape)")
    }
    if let mask, mask.type != TensorType([x.shape[0], x.shape[1]], .bool) {
      stop("\(label): the mask is \(mask.type), expected bool\([x.shape[0], x.shape[1]]): [batch, steps]")
    }
    let steps = x.transposed(0, 1)
    let first = cell.initialStates(steps[0])
    if let initialState, initialState.map(\.shape) != first.map(\.shape) {
      stop("\(label): states of shapes \(initialState.map(\.shape)), expected \(first.map(\.shape))")
    }
    let walk = RecurrentWalk(
      reverse: reverse, mask: mask?.transposed(0, 1), zeroOutputForMask: zeroOutputForMask || (mask != nil && !returnSequences),
      unroll: unroll)
    let before = initialState ?? states(first)
    let (outputs, last, after) = cell.overSteps(steps, before, walk)
    if stateful { for (variable, state) in zip(kept, after) { variable.value = state.detached() } }
    return (outputs.transposed(0, 1), last, after)
  }

  private final func states(_ first: [Tensor]) -> [Tensor] {
    guard stateful else { return first }
    if kept.map(\.shape) != first.map(\.shape) {
      guard kept.isEmpty else {
        stop(
          "\(label): the states kept have shapes \(kept.map(\.shape)), this input needs \(first.map(\.shape)); call resetStates()"
        )
      }
      kept = untraced { first.map { Variable(Tensor.zeros($0.shape, $0.elementType)) } }
    }
    return kept.map(\.value)
  }

  /// A stateful layer's next call begins with zeros, and may have another batch size.
  public final func resetStates() {
    if isTracing { for variable in kept { variable.value = zerosLike(variable.value) } } else { kept = [] }
  }

  override final var members: [Member] { [Member("cell", cell)] }
  override final var arguments: String {
    let flags = [
      ("returnSequences", returnSequences), ("goBackwards", goBackwards), ("stateful", stateful), ("unroll", unroll),
      ("zeroOutputForMask", zeroOutputForMask),
    ]
    return flags.filter(\.1).map { "\($0.0): true" }.joined(separator: ", ")
  }
}

/// A recurrent layer in both directions, its outputs together; Keras's Bidirectional.
public final class Bidirectional: Module, Layer {
  /// How outputs of the two directions come together; `concat` along the last dimension.
  public enum MergeMode: String, Sendable { case sum, mul, concat, ave }

  public let forwardLayer, backwardLayer: CellRNN
  public let mergeMode: MergeMode

  /// - Parameter make: makes one direction's layer; called twice, for parameters of their own.
  public init(mergeMode: MergeMode = .concat, _ make: () -> CellRNN) {
    forwardLayer = make()
    backwardLayer = make()
    self.mergeMode = mergeMode
  }

  /// - Parameter x: [batch, steps, …].
  public func callAsFunction(_ x: Tensor) -> Tensor { self(x, mask: nil).output }

  /// - Parameters:
  ///   - x: [batch, steps, …].
  ///   - mask: bool [batch, steps].
  /// - Returns: the output [batch, …], or [batch, steps, …] if the layers return sequences; the states of the forward layer, then
  ///   those of the backward layer.
  public func callAsFunction(_ x: Tensor, mask: Tensor?) -> (output: Tensor, state: [Tensor]) {
    let forward = forwardLayer.run(x, nil, mask, reverse: forwardLayer.goBackwards)
    let back = backwardLayer.run(x, nil, mask, reverse: !backwardLayer.goBackwards)
    let a = forwardLayer.returnSequences ? forward.outputs : forward.last
    let b = backwardLayer.returnSequences ? back.outputs : back.last
    let y =
      switch mergeMode {
      case .sum: a + b
      case .mul: a * b
      case .ave: (a + b) / 2
      case .concat:
        concatenate([a, b], axis: forwardLayer.cell is ConvLSTMCell ? a.rank - forwardLayer.spatialRank - 1 : a.rank - 1)
      }
    return (recorded(y), forward.states + back.states)
  }

  override var members: [Member] { [Member("forward_layer", forwardLayer), Member("backward_layer", backwardLayer)] }
  override var arguments: String { mergeMode == .concat ? "" : "mergeMode: .\(mergeMode)" }
}

/// A layer at each step: [batch, steps, …] as batch · steps rows; Keras's TimeDistributed.
public final class TimeDistributed: Module, Layer {
  public let layer: any Layer

  public init(_ layer: any Layer) { self.layer = layer }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    guard x.rank >= 2 else { stop("\(label): takes [batch, steps, …], got shape \(x.shape)") }
    let y = layer(x.flattened(from: 0, to: 1))
    return recorded(y.reshaped([x.shape[0], x.shape[1]] + Array(y.shape.dropFirst())))
  }

  override var members: [Member] { [Member("layer", layer)] }
}
