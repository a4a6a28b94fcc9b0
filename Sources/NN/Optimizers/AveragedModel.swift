import ApusTensor

/// How an ``AveragedModel`` mixes in new values.
public enum WeightAveraging: Sendable, Hashable {
  /// The plain mean of all updates: stochastic weight averaging (Izmailov et al. 2018).
  case mean
  /// decay · average + (1 − decay) · value; the first update is taken over as it is.
  case exponential(decay: Double)
}

/// Averages of a model's parameters over training, beside the model (PyTorch's `AveragedModel`).
///
/// ```swift
/// let averaged = AveragedModel(model)
/// for epoch in 0..<100 { …; if epoch >= 75 { averaged.update() } }
/// averaged.applied { updateBatchNorm(images, model); evaluate(model) }
/// ```
/// The model is shared, not copied: ``swap()`` puts the averages into the model, and its own values back, ``applied(_:)`` does so
/// for a while. ``update()`` works in compiled functions.
public class AveragedModel {
  public final let averaging: WeightAveraging
  /// What is averaged, with names.
  private let variables: [(name: String, variable: Variable)]
  private let averages: [Variable]
  private let count = Variable(Tensor(0))
  /// Whether the model holds the averages now.
  public final var isSwapped: Bool { own != nil }
  /// The model's own values while it holds the averages.
  private var own: [Tensor]?

  /// - Parameter useBuffers: running statistics are averaged too; otherwise they stay the model's.
  public convenience init(_ model: Module, averaging: WeightAveraging = .mean, useBuffers: Bool = false) {
    let named = model.namedVariables.filter {
      $0.variable is Parameter || (useBuffers && $0.variable.elementType.isFloatingPoint)
    }
    self.init(named.map { ($0.name, $0.variable) }, averaging: averaging)
  }

  fileprivate init(_ variables: [(name: String, variable: Variable)], averaging: WeightAveraging) {
    if case .exponential(let decay) = averaging, !(0...1).contains(decay) {
      stop("averaging: the decay \(decay) must be in 0 … 1")
    }
    self.averaging = averaging
    self.variables = variables
    // Half precision is averaged in float32: a share of 0.001 would be lost in it.
    averages = variables.map { _, variable in
      Variable(Tensor.zeros(variable.shape, variable.elementType == .float64 ? .float64 : .float32).contiguous())
    }
  }

  /// How many updates there were.
  public final var updates: Int { count.value.item(as: Int.self) }

  /// Mixes in the present values.
  public final func update() {
    if isSwapped { stop("\(type(of: self)): an update while the model holds the averages; swap back first") }
    withoutGradient {
      let before = count.value
      let number = before.converted(to: .float64)
      let share =
        switch averaging {
        case .mean: 1 / (number + 1)
        case .exponential(let decay): Tensor.full([], 1 - decay, .float64)
        }
      let isFirst = before .== 0
      for ((_, variable), average) in zip(variables, averages) {
        let (old, new) = (average.value, variable.value.detached().converted(to: average.elementType))
        let mixed = old + (new - old) * share.converted(to: old.elementType)
        average.value = `where`(isFirst.broadcast(to: new.shape), new, mixed)
      }
      count.value = before + 1
    }
  }

  /// Puts the averages into the model or, if they are there, its own values back. Nothing to do before the first update.
  public final func swap() {
    if isTracing { stop("\(type(of: self)): swap outside of compiled functions") }
    guard updates > 0 else { return }
    let values = own ?? zip(variables, averages).map { $1.value.converted(to: $0.variable.elementType) }
    own = own == nil ? variables.map { $0.variable.value.detached() } : nil
    for ((_, variable), value) in zip(variables, values) { variable.value = value }
  }

  /// Runs `body` while the model holds the averages.
  public final func applied<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
    if isSwapped { return try body() }
    swap()
    defer { swap() }
    return try body()
  }

  /// The averages by the names of what they are averages of, and `n_averaged`.
  public final var state: [String: Variable] {
    var result: [String: Variable] = ["n_averaged": count]
    for ((name, _), average) in zip(variables, averages) { result[name] = average }
    return result
  }

  /// Takes over averages.
  /// - Throws: ``LoadError`` for names or shapes that do not fit; nothing is changed then.
  public final func load(state: [String: Tensor]) throws {
    if isSwapped { stop("\(type(of: self)): load while the model holds the averages; swap back first") }
    var rest = state
    let found = try takeOwn(self.state.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, from: &rest)
    guard rest.isEmpty else {
      var report = LoadReport()
      report.unexpected = rest.keys.sorted()
      throw LoadError(path: "averages", report: report)
    }
    for (variable, value) in found { variable.value = value }
  }
}

/// Moving averages of parameters, decay · average + (1 − decay) · value after each step (Polyak and Juditsky 1992; Keras's `use_ema`,
/// PyTorch's `get_ema_multi_avg_fn`): an ``AveragedModel`` for any parameters.
public final class ExponentialMovingAverage: AveragedModel {
  public init(_ parameters: [Parameter], decay: Double = 0.99) {
    let names = parameters.map(\.name)
    let usable = Set(names).count == names.count && !names.contains("")
    super.init(
      parameters.enumerated().map { (usable ? $1.name : "\($0)", $1) }, averaging: .exponential(decay: decay))
  }
}

/// Computes the running statistics of all batch normalizations anew, as plain averages over these inputs: what a model needs whose
/// parameters are averages (PyTorch's `update_bn`).
///
/// - Parameter forward: runs the model on one element of the data.
public func updateBatchNorm<Data: Sequence>(_ data: Data, _ model: Module, forward: (Data.Element) -> Void) {
  let layers = model.modules.compactMap { $0 as? BatchNormLayer }.filter(\.trackRunningStats)
  if layers.isEmpty { return }
  let modes = model.modules.map { ($0, $0.isTraining) }
  let momenta = layers.map(\.momentum)
  for layer in layers {
    layer.resetRunningStats()
    layer.momentum = nil
  }
  model.train()
  withoutGradient { for element in data { forward(element) } }
  for (layer, momentum) in zip(layers, momenta) { layer.momentum = momentum }
  for (module, mode) in modes where module.isTraining != mode { module.setOwnMode(mode) }
}

public func updateBatchNorm(_ inputs: some Sequence<Tensor>, _ model: any Layer) {
  updateBatchNorm(inputs, model) { _ = model($0) }
}
