/// Everything the framework can do to tensors: one closed set.
///
/// Each case is answered once in every room: its shape and type rule in `infer` (this room), its kernel in
/// `ApusCPU`, its gradient in `ApusTensor`. No room has a `default:` over this enum, so the compiler lists
/// every place a new operation must be answered.
public enum Operation: Sendable, Hashable {
  // MARK: Elementwise: operands have one shape
  case unary(UnaryKind)
  /// Operands have one element type, which is also the result's.
  case binary(BinaryKind)
  /// The result is `bool`.
  case compare(ComparisonKind)
  /// `(condition: bool, a, b)`: a where the condition holds, else b.
  case select
  case convert(ElementType)
  /// The same bits read as another type of the same size.
  case bitcast(ElementType)
  /// `(dy, saved)`: the gradient of an activation; `saved` is its input or its output, see ``ActivationKind``.
  case activationGradient(ActivationKind)

  // MARK: Creation
  /// A tensor of one value.
  case fill(Shape, ElementType, Scalar)
  /// 0, 1, 2 … along `axis`.
  case iota(Shape, ElementType, axis: Int)
  /// `(state: int64[2])`, a key and a counter: the same state gives the same values everywhere.
  indirect case random(RandomParameters)
  /// Numbers that are part of the program.
  case constant(Constant)

  // MARK: Shaping
  /// To a larger shape by NumPy's rules: aligned at the last dimension, size 1 is repeated.
  case broadcast(Shape)
  case reshape(Shape)
  /// Dimension `i` of the result is dimension `permutation[i]` of the operand.
  case transpose(Axes)
  indirect case slice(start: Shape, size: Shape, step: Shape)
  /// `(x, value)`: `low`, `high` may be negative (crop); `interior` elements go between neighbours.
  indirect case pad(low: Shape, high: Shape, interior: Shape)
  case concatenate(axis: Int)
  case reverse(Axes)
  /// `(x, start: int64[rank])`; starts are clamped so that the slice fits.
  case dynamicSlice(size: Shape)
  /// `(x, update, start: int64[rank])`; starts are clamped so that the update fits.
  case dynamicUpdateSlice
  /// The lower (`upper == false`) or upper triangle of the last two dimensions, zero elsewhere.
  case triangle(upper: Bool, diagonal: Int)

  // MARK: Reductions, scans, order
  case reduce(ReductionKind, Axes, keepDims: Bool)
  /// The int64 position of the first extreme along the axis.
  case argReduce(ArgReductionKind, axis: Int, keepDims: Bool)
  case scan(ScanKind, axis: Int, reverse: Bool, exclusive: Bool)
  /// Results: sorted values, their int64 positions. Stable.
  case sort(axis: Int, descending: Bool)
  /// Results: the `k` extreme values in order, their int64 positions.
  case topK(k: Int, axis: Int, largest: Bool)

  // MARK: Indexing. Indices are int64, already non-negative or counting from the end.
  /// `(x, indices)`: the axis is replaced by the dimensions of `indices` (PyTorch's index_select, NumPy's take).
  case gather(axis: Int)
  /// `(x, indices)` of equal rank: PyTorch's gather.
  case takeAlong(axis: Int)
  /// `(x, indices[…, k])`: each row of `indices` picks from the first k dimensions of x.
  case gatherND
  /// `(x, indices, updates)`: the inverse of gather, into a copy of x; `updates` has gather's result shape.
  case scatter(ScatterKind, axis: Int)
  case scatterAlong(ScatterKind, axis: Int)
  case scatterND(ScatterKind)

  // MARK: Contraction
  /// The general product: batch dimensions, then the free ones of the left side, then of the right side.
  indirect case dot(DotDimensions)
  /// `(x: int8 or uint8 […, k], xScale: float32, xZeroPoint: int32, weight: int8 [n, k], weightScale: float32,
  /// bias: float32 [n]?)`: float32 […, n], the product of the numbers that quantized tensors stand for.
  ///
  /// `y[…, j] = float(Σ_p (x[…, p] − xZeroPoint) weight[j, p]) · (xScale · weightScale) + bias[j]`; the sum is exact, the
  /// three float32 operations after it round. xScale and xZeroPoint are scalars or of x's shape without its last
  /// dimension, weightScale is a scalar or [n]. k is at most ``quantizedDotLimit``.
  case quantizedDot
  /// `(x: [N, C, …], w: [O, C / groups, …], bias: [O]?)`.
  indirect case convolution(ConvolutionParameters)
  /// `(dy, w)`: the gradient of a convolution by its input, whose spatial sizes are given.
  indirect case convolutionInputGradient(ConvolutionParameters, inputSize: Shape)
  /// `(x, dy)`: the gradient of a convolution by its kernel, whose spatial sizes are given.
  indirect case convolutionKernelGradient(ConvolutionParameters, kernelSize: Shape)
  /// `(x: [N, C, …])`: pooling.
  indirect case reduceWindow(WindowReductionKind, Window)
  /// `(x, dy)`: the gradient of pooling. Only for `max` are x's values read.
  indirect case reduceWindowGradient(WindowReductionKind, Window)
  /// Positions of the maxima in the flattened spatial dimensions of x, int64.
  indirect case maxPoolIndices(Window)

  // MARK: Structure
  /// The value without its history.
  case stopGradient
  /// Another graph, run on the operands.
  indirect case call(Function)
  /// `(condition: bool [], operands…)`: one of two functions of the operands.
  indirect case conditional(then: Function, otherwise: Function)
  indirect case whileLoop(WhileLoop)
  /// `(states…, constants…, gradients of the last states…)`: the gradients of the first states and of the constants (nothing
  /// meaningful where these are not floating point). The pullback takes the operands of one round of the body and the gradients
  /// of its results, and gives the gradients of its operands.
  indirect case whileLoopGradient(WhileLoop, pullback: Function)
  indirect case scanLoop(ScanLoop)
  indirect case customCall(CustomCall)

  /// An operation that has a decomposition into the others; engines may have a better kernel.
  indirect case composite(Composite)
}

public enum UnaryKind: UInt8, Sendable, Hashable, CaseIterable {
  case neg, abs, sign, floor, ceil
  /// To the nearest integer, halves to even.
  case round
  case trunc
  case sqrt, rsqrt, reciprocal, square
  case exp, expm1, exp2, log, log1p, log2
  case sin, cos, tan, asin, acos, atan, sinh, cosh, asinh, acosh, atanh
  case tanh, sigmoid, erf, erfc, erfInv
  /// Logical for `bool`, bitwise for integers.
  case not
  case isNaN, isInfinite, isFinite
  case relu
  /// x Φ(x), with the error function (Hendrycks and Gimpel 2016).
  case gelu
  /// Its approximation by tanh, as GPT-2 uses it.
  case geluTanh
  /// x sigmoid(x).
  case silu
  /// log(1 + eˣ).
  case softplus
}

public enum BinaryKind: UInt8, Sendable, Hashable, CaseIterable {
  case add, sub, mul
  /// True division for floating point; for integers the quotient truncated toward zero.
  case div
  case floorDiv
  /// The remainder with the sign of the left side (C's `%`).
  case rem
  /// The remainder with the sign of the right side (Python's `%`).
  case mod
  case pow, max, min, atan2
  case and, or, xor, shiftLeft, shiftRight
}

public enum ComparisonKind: UInt8, Sendable, Hashable, CaseIterable {
  case equal, notEqual, less, lessEqual, greater, greaterEqual
}

/// Activations whose gradient is one operation. What it needs beside dy is the activation's output for
/// relu, sigmoid and tanh (so the input's memory can be given back early), its input for the others.
public enum ActivationKind: UInt8, Sendable, Hashable, CaseIterable {
  case relu, sigmoid, tanh, gelu, geluTanh, silu, softplus
  public var savesOutput: Bool {
    switch self {
    case .relu, .sigmoid, .tanh: true
    case .gelu, .geluTanh, .silu, .softplus: false
    }
  }
}

public enum ReductionKind: UInt8, Sendable, Hashable, CaseIterable { case sum, product, max, min, all, any }
public enum ArgReductionKind: UInt8, Sendable, Hashable, CaseIterable { case max, min }
public enum ScanKind: UInt8, Sendable, Hashable, CaseIterable { case sum, product, max, min }
public enum ScatterKind: UInt8, Sendable, Hashable, CaseIterable { case set, add, multiply, max, min }
public enum WindowReductionKind: UInt8, Sendable, Hashable, CaseIterable {
  case max
  case sum
  /// The mean of the window's elements, padding counted.
  case average
  /// The mean of the window's elements that are not padding.
  case averageValid
}

/// A number given to an operation.
public enum Scalar: Sendable, Hashable {
  case bool(Bool)
  case int(Int)
  case double(Double)

  public var double: Double {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .int(let value): Double(value)
    case .double(let value): value
    }
  }

  public var kind: ElementType.ScalarKind {
    switch self {
    case .bool: .bool
    case .int: .integer
    case .double: .floatingPoint
    }
  }

  /// By bits: 0 and −0 are two numbers to a program, NaN is one.
  public static func == (a: Scalar, b: Scalar) -> Bool {
    switch (a, b) {
    case (.bool(let x), .bool(let y)): x == y
    case (.int(let x), .int(let y)): x == y
    case (.double(let x), .double(let y)): x.bitPattern == y.bitPattern
    case (.bool, _), (.int, _), (.double, _): false
    }
  }

  public func hash(into hasher: inout Hasher) {
    switch self {
    case .bool(let x): hasher.combine(x)
    case .int(let x): hasher.combine(x)
    case .double(let x): hasher.combine(x.bitPattern)
    }
  }
}

public struct RandomParameters: Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    /// In [low, high).
    case uniform(low: Double, high: Double)
    case normal(mean: Double, standardDeviation: Double)
    /// A normal distribution cut off outside [low, high], which are in units of the result.
    case truncatedNormal(mean: Double, standardDeviation: Double, low: Double, high: Double)
    /// True with this probability; the result is `bool`.
    case bernoulli(probability: Double)
    /// In low..<high.
    case integers(low: Int, high: Int)
    /// 0..<n in random order; the shape is [n].
    case permutation
    /// 32 random bits each, as int32.
    case bits
  }
  public var kind: Kind
  public var shape: Shape
  public var elementType: ElementType

  public init(_ kind: Kind, _ shape: Shape, _ elementType: ElementType) {
    self.kind = kind
    self.shape = shape
    self.elementType = elementType
  }
}

/// Which dimensions of the two sides of a product are matched, summed over, or kept.
public struct DotDimensions: Sendable, Hashable {
  public var lhsBatch, rhsBatch, lhsContracting, rhsContracting: Axes

  public init(lhsBatch: Axes = [], rhsBatch: Axes = [], lhsContracting: Axes, rhsContracting: Axes) {
    self.lhsBatch = lhsBatch
    self.rhsBatch = rhsBatch
    self.lhsContracting = lhsContracting
    self.rhsContracting = rhsContracting
  }

  public func lhsFree(rank: Int) -> Axes { Axes((0..<rank).filter { !lhsBatch.contains($0) && !lhsContracting.contains($0) }) }
  public func rhsFree(rank: Int) -> Axes { Axes((0..<rank).filter { !rhsBatch.contains($0) && !rhsContracting.contains($0) }) }
}

/// A convolution over one to three spatial dimensions. Lists have one number per spatial dimension.
///
/// `y[n, o, p] = Σ x̃[n, c, p · stride + q · kernelDilation − padLow] w[o, c, q]`, where x̃ is x with
/// `inputDilation − 1` zeros between neighbours and zeros outside.
public struct ConvolutionParameters: Sendable, Hashable {
  public var stride, padLow, padHigh, kernelDilation, inputDilation: Shape
  public var groups: Int

  public init(stride: Shape, padLow: Shape, padHigh: Shape, kernelDilation: Shape, inputDilation: Shape, groups: Int = 1) {
    self.stride = stride
    self.padLow = padLow
    self.padHigh = padHigh
    self.kernelDilation = kernelDilation
    self.inputDilation = inputDilation
    self.groups = groups
  }

  public var spatialRank: Int { stride.count }

  /// The size of the result along spatial dimension `i`; zero or less when the kernel does not fit.
  public func outputSize(_ i: Int, input: Int, kernel: Int) -> Int {
    let dilatedInput = input == 0 ? 0 : (input - 1) * inputDilation[i] + 1
    let room = dilatedInput + padLow[i] + padHigh[i] - ((kernel - 1) * kernelDilation[i] + 1)
    return room < 0 ? 0 : room / stride[i] + 1
  }
}

/// A sliding window over one to three spatial dimensions. Lists have one number per spatial dimension.
public struct Window: Sendable, Hashable {
  public var size, stride, padLow, padHigh, dilation: Shape

  public init(size: Shape, stride: Shape, padLow: Shape, padHigh: Shape, dilation: Shape) {
    self.size = size
    self.stride = stride
    self.padLow = padLow
    self.padHigh = padHigh
    self.dilation = dilation
  }

  public func outputSize(_ i: Int, input: Int) -> Int {
    let room = input + padLow[i] + padHigh[i] - ((size[i] - 1) * dilation[i] + 1)
    return room < 0 ? 0 : room / stride[i] + 1
  }
}

/// Operations with a decomposition. Row operations act along the last dimension.
public enum Composite: Sendable, Hashable {
  case softmax
  case logSoftmax
  /// `(y, dy)`.
  case softmaxGradient
  /// `(y, dy)`.
  case logSoftmaxGradient
  /// Results: y, mean and 1/σ per row. `(x, weight, bias)` (Ba, Kiros and Hinton 2016).
  case layerNorm(epsilon: Double)
  /// `(dy, x, weight, mean, rstd)`: results dx, dweight, dbias.
  case layerNormGradient
  /// `(x, weight)`: results y and 1/rms per row (Zhang and Sennrich 2019).
  case rmsNorm(epsilon: Double)
  /// `(dy, x, weight, rrms)`: results dx, dweight.
  case rmsNormGradient
  /// `(x: [N, C, …], weight: [C], bias: [C])`: results y, mean [C], biased variance [C] (Ioffe and Szegedy 2015).
  case batchNorm(epsilon: Double)
  /// `(dy, x, weight, mean, variance)`: results dx, dweight, dbias.
  case batchNormGradient(epsilon: Double)
  /// `(x, weight, bias, mean, variance)`.
  case batchNormInference(epsilon: Double)
  /// `(logits: [rows, classes], labels: int64 [rows])`: results: the loss of each row (zero where the label is
  /// ignored) and log Σ exp of each row's logits.
  case softmaxCrossEntropy(ignoreIndex: Int, labelSmoothing: Double)
  /// `(dloss: [rows], logits, labels, logSumExp: [rows])`.
  case softmaxCrossEntropyGradient(ignoreIndex: Int, labelSmoothing: Double)
  /// `(x: […, k], weight: [n, k], bias: [n])`: x · weightᵀ + bias.
  case linear
  /// `(q: [batch, heads, queries, dim], k: [batch, kvHeads, keys, dim], v: [batch, kvHeads, keys, valueDim], mask?)`:
  /// results y [batch, heads, queries, valueDim] and log Σ exp of each row of scores [batch, heads, queries]
  /// (Vaswani et al. 2017). The mask is [batch, heads, queries, keys], bool (true: seen) or added to the scores.
  /// Causal: the last query sees all keys, each one before it one fewer.
  case attention(scale: Double, causal: Bool)
  /// `(dy, q, k, v, y, logSumExp, mask?)`: results dq, dk, dv and, with `forMask`, dmask.
  case attentionGradient(scale: Double, causal: Bool, forMask: Bool)
  /// `(x: […, dim], cos, sin: […, dim of the rotation / 2])`: pairs of elements of each row turned by their angles (Su et
  /// al. 2021). Pairs are (i, i + half), or neighbours if interleaved; what is beyond the rotation's dim stays.
  case rope(interleaved: Bool, inverse: Bool)
  /// `(gates: […, 4 hidden] before their activation, in the order input, forget, cell, output; cell: […, hidden])`: results
  /// the new hidden state and cell (Hochreiter and Schmidhuber 1997; Gers et al. 2000).
  case lstmCell
  /// `(dhidden, dcell, gates, cell)`: results dgates, dcell.
  case lstmCellGradient
  /// `(inputGates: […, 3 hidden], hiddenGates: […, 3 hidden], hidden: […, hidden])`, gates in the order reset, update, new
  /// (Cho et al. 2014, as cuDNN and PyTorch compute it: the reset gate applies after the product).
  case gruCell
  /// `(dy, inputGates, hiddenGates, hidden)`: results dinputGates, dhiddenGates, dhidden.
  case gruCellGradient
  /// A recurrent layer over a whole sequence, in one direction; see ``RecurrentSequence`` for operands and results. With `keeps`
  /// come the results that its gradient reads.
  case recurrentSequence(RecurrentSequence, keeps: Bool)
  case recurrentSequenceGradient(RecurrentSequence)
  /// `(parameter, gradient, states…, options: float64 [2] (learning rate, weight decay; NAdam [3]: and the product of the momentum
  /// factors so far), step: int64 [] (1 at the first))`: results the new parameter and states.
  case optimizerStep(OptimizerRule)

  public var name: String {
    switch self {
    case .softmax: "softmax"
    case .logSoftmax: "logSoftmax"
    case .softmaxGradient: "softmaxGradient"
    case .logSoftmaxGradient: "logSoftmaxGradient"
    case .layerNorm: "layerNorm"
    case .layerNormGradient: "layerNormGradient"
    case .rmsNorm: "rmsNorm"
    case .rmsNormGradient: "rmsNormGradient"
    case .batchNorm: "batchNorm"
    case .batchNormGradient: "batchNormGradient"
    case .batchNormInference: "batchNormInference"
    case .softmaxCrossEntropy: "softmaxCrossEntropy"
    case .softmaxCrossEntropyGradient: "softmaxCrossEntropyGradient"
    case .linear: "linear"
    case .attention: "attention"
    case .attentionGradient: "attentionGradient"
    case .rope: "rope"
    case .lstmCell: "lstmCell"
    case .lstmCellGradient: "lstmCellGradient"
    case .gruCell: "gruCell"
    case .gruCellGradient: "gruCellGradient"
    case .recurrentSequence(let sequence, _): "\(sequence.kind)Sequence"
    case .recurrentSequenceGradient(let sequence): "\(sequence.kind)SequenceGradient"
    case .optimizerStep(let rule): "\(rule.kind)Step"
    }
  }
}

/// A recurrent layer's walk over a sequence, once the products of all its inputs are made.
///
/// Gates are [steps, batch, gates · hidden], in the order of the cells (``Composite/lstmCell``, ``Composite/gruCell``); states
/// [batch, hidden]; `mask` bool [steps, batch], or left out: where it is false, a row keeps its states and its output is zero, so
/// that a row's last state is the one at its own end, in both directions.
///
/// | kind | operands | results | and with `keeps` |
/// |---|---|---|---|
/// | lstm | gates, weight, hidden, cell, mask? | y, hidden, cell | hidden before each step, cell before it, i f g o |
/// | gru | gates, weight, bias, hidden, mask? | y, hidden | hidden before each step, r z n and the product's part of n |
/// | tanh, relu | gates, weight, hidden, mask? | y, hidden | hidden before each step |
///
/// weight: [gates · hidden, hidden]; bias: [gates · hidden]. Gradients:
///
/// | kind | operands | results |
/// |---|---|---|
/// | lstm | dy, dhidden, dcell, weight, cell before, i f g o, mask? | dgates, dhidden, dcell |
/// | gru | dy, dhidden, weight, hidden before, r z n …, mask? | dgates, dproduct, dhidden |
/// | tanh, relu | dy, dhidden, weight, y, mask? | dgates, dhidden |
///
/// The weight's gradient is one product over all steps: dgatesᵀ (of the GRU: dproductᵀ) times the hidden states before each step.
public struct RecurrentSequence: Sendable, Hashable {
  /// tanh, relu: h' = tanh or relu of the one gate (Elman 1990).
  public enum Kind: Sendable, Hashable, CaseIterable { case lstm, gru, tanh, relu }
  public var kind: Kind
  /// The last step comes first.
  public var reverse: Bool

  public init(_ kind: Kind, reverse: Bool) {
    self.kind = kind
    self.reverse = reverse
  }

  public var gates: Int {
    switch kind {
    case .lstm: 4
    case .gru: 3
    case .tanh, .relu: 1
    }
  }
  /// Without a mask.
  public var operandCount: Int { kind == .lstm || kind == .gru ? 4 : 3 }
  public var resultCount: Int { kind == .lstm ? 3 : 2 }
  public var keptCount: Int {
    switch kind {
    case .lstm: 3
    case .gru: 2
    case .tanh, .relu: 1
    }
  }
  public var gradientOperandCount: Int {
    switch kind {
    case .lstm: 6
    case .gru: 5
    case .tanh, .relu: 4
    }
  }
  public var gradientResultCount: Int { kind == .tanh || kind == .relu ? 2 : 3 }
  /// Where the gradient's operands have the weight.
  public var gradientWeight: Int { kind == .lstm ? 3 : 2 }
}

/// How an optimizer changes one parameter; formulas are those of the NN room's optimizers.
public struct OptimizerRule: Sendable, Hashable {
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    case sgd, adam, rmsprop, adamax, nadam, radam, adagrad, adadelta, lion
  }
  public var kind: Kind
  /// Of SGD and RMSprop; NAdam's momentum decay.
  public var momentum = 0.0
  /// Of SGD; Adagrad's decay of the learning rate.
  public var dampening = 0.0
  public var beta1 = 0.0
  /// RMSprop's alpha and Adadelta's rho are this too.
  public var beta2 = 0.0
  public var epsilon = 0.0
  public var nesterov = false
  public var decoupledWeightDecay = false
  public var amsgrad = false
  public var centered = false
  public var maximize = false

  public init(_ kind: Kind) { self.kind = kind }

  /// Which of the algorithm's states there are: SGD: momentum buffer. Adam: first and second moment, largest second moment.
  /// RMSprop: square average, momentum buffer, gradient average. NAdam, RAdam: first and second moment. Adamax: first moment,
  /// largest gradient. Adagrad: sum of squares. Adadelta: averages of squares and of squared changes. Lion: momentum.
  public var usedStates: [Int] {
    switch kind {
    case .sgd: momentum != 0 ? [0] : []
    case .adam: amsgrad ? [0, 1, 2] : [0, 1]
    case .rmsprop: [0] + (momentum != 0 ? [1] : []) + (centered ? [2] : [])
    case .adamax, .nadam, .radam, .adadelta: [0, 1]
    case .adagrad, .lion: [0]
    }
  }
  public var stateCount: Int { usedStates.count }
  /// How many numbers the operation takes that may change from step to step.
  public var optionCount: Int { kind == .nadam ? 3 : 2 }
}

extension Operation {
  /// The name used in errors, profiles and text.
  public var name: String {
    switch self {
    case .unary(let kind): "\(kind)"
    case .binary(let kind): "\(kind)"
    case .compare(let kind): "\(kind)"
    case .select: "select"
    case .convert: "convert"
    case .bitcast: "bitcast"
    case .activationGradient(let kind): "\(kind)Gradient"
    case .fill: "fill"
    case .iota: "iota"
    case .random: "random"
    case .broadcast: "broadcast"
    case .reshape: "reshape"
    case .transpose: "transpose"
    case .slice: "slice"
    case .pad: "pad"
    case .concatenate: "concatenate"
    case .reverse: "reverse"
    case .dynamicSlice: "dynamicSlice"
    case .dynamicUpdateSlice: "dynamicUpdateSlice"
    case .triangle(let upper, _): upper ? "triu" : "tril"
    case .reduce(let kind, _, _): "\(kind)"
    case .argReduce(let kind, _, _): kind == .max ? "argMax" : "argMin"
    case .scan(let kind, _, _, _): "cumulative \(kind)"
    case .sort: "sort"
    case .topK: "topK"
    case .gather: "gather"
    case .takeAlong: "takeAlong"
    case .gatherND: "gatherND"
    case .scatter: "scatter"
    case .scatterAlong: "scatterAlong"
    case .scatterND: "scatterND"
    case .dot: "matmul"
    case .quantizedDot: "quantizedDot"
    case .convolution: "convolution"
    case .convolutionInputGradient: "convolutionInputGradient"
    case .convolutionKernelGradient: "convolutionKernelGradient"
    case .reduceWindow(let kind, _): "\(kind) pooling"
    case .reduceWindowGradient(let kind, _): "\(kind) pooling gradient"
    case .maxPoolIndices: "maxPoolIndices"
    case .stopGradient: "stopGradient"
    case .constant: "constant"
    case .call(let function): function.name
    case .conditional: "conditional"
    case .whileLoop: "whileLoop"
    case .whileLoopGradient: "whileLoopGradient"
    case .scanLoop: "scan"
    case .customCall(let call): call.name
    case .composite(let composite): composite.name
    }
  }

  /// How many tensors the operation yields.
  public var resultCount: Int {
    switch self {
    case .sort, .topK: 2
    case .composite(let composite):
      switch composite {
      case .layerNorm, .layerNormGradient, .batchNorm, .batchNormGradient: 3
      case .rmsNorm, .rmsNormGradient, .softmaxCrossEntropy: 2
      case .attentionGradient(_, _, let forMask): forMask ? 4 : 3
      case .gruCellGradient: 3
      case .recurrentSequence(let sequence, let keeps): sequence.resultCount + (keeps ? sequence.keptCount : 0)
      case .recurrentSequenceGradient(let sequence): sequence.gradientResultCount
      case .attention, .lstmCell, .lstmCellGradient: 2
      case .rope, .gruCell: 1
      case .optimizerStep(let rule): 1 + rule.stateCount
      case .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient, .batchNormInference, .softmaxCrossEntropyGradient,
        .linear:
        1
      }
    case .call(let function): function.graph.outputs.count
    case .conditional(let then, _): then.graph.outputs.count
    case .whileLoop(let loop): loop.carried
    case .whileLoopGradient(_, let pullback): pullback.graph.outputs.count
    case .scanLoop(let loop): loop.body.graph.outputs.count
    case .customCall(let call): call.resultTypes.count
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .fill, .iota, .random, .constant,
      .broadcast,
      .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .dynamicSlice, .dynamicUpdateSlice, .triangle, .reduce,
      .argReduce, .scan,
      .gather, .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND, .dot, .quantizedDot, .convolution,
      .convolutionInputGradient, .convolutionKernelGradient, .reduceWindow, .reduceWindowGradient, .maxPoolIndices, .stopGradient:
      1
    }
  }
}
