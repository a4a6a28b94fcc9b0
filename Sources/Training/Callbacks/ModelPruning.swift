import ApusNN
import ApusTensor

/// Sets the weights of smallest magnitude to zero after epochs, and keeps them there: Lightning's `ModelPruning` with magnitudes.
public final class ModelPruning: Callback {
  private let amount: (Int) -> Double
  private let chosen: [Parameter]?
  private let useGlobal: Bool
  private let verbose: Bool
  private var parameters: [(name: String, parameter: Parameter)] = []
  /// 1 for what is kept.
  private var masks: [Variable] = []
  private var apply: (() -> Void)?

  /// - Parameters:
  ///   - amount: the share of all weights that is zero after an epoch, 0 … 1.
  ///   - parameters: those that are pruned; by default all of two or more dimensions.
  ///   - useGlobal: magnitudes are compared over all parameters, not within each.
  public init(
    parameters: [Parameter]? = nil, useGlobal: Bool = true, verbose: Bool = false, amount: @escaping (_ epoch: Int) -> Double
  ) {
    (chosen, self.useGlobal, self.verbose, self.amount) = (parameters, useGlobal, verbose, amount)
  }

  public convenience init(_ amount: Double = 0.5, parameters: [Parameter]? = nil, useGlobal: Bool = true, verbose: Bool = false) {
    self.init(parameters: parameters, useGlobal: useGlobal, verbose: verbose) { _ in amount }
  }

  /// The share of weights that is zero.
  public var sparsity: Double {
    let zeros = parameters.map { ($0.parameter.value.detached() .== 0).converted(to: .float64).sum().item(as: Double.self) }
    return zeros.reduce(0, +) / Double(max(1, parameters.map(\.parameter.shape.elementCount).reduce(0, +)))
  }

  public override func onTrainBegin() {
    let all = trainer.model.namedParameters
    parameters =
      chosen.map { chosen in all.filter { item in chosen.contains { $0 === item.parameter } } }
      ?? all.filter { $0.parameter.shape.count > 1 }
    masks = parameters.map { Variable(Tensor.ones($0.parameter.shape, $0.parameter.elementType)) }
    apply = nil
  }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) { apply?() }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) throws {
    let share = amount(epoch)
    guard (0...1).contains(share) else {
      throw TrainingError.invalidArgument("ModelPruning: the amount \(share) is not in 0 … 1")
    }
    withoutGradient {
      let magnitudes = parameters.map { abs($0.parameter.value.detached()).converted(to: .float64) }
      let parts = useGlobal ? [Array(magnitudes.indices)] : magnitudes.indices.map { [$0] }
      for part in parts where !part.isEmpty {
        let all = concatenate(part.map { magnitudes[$0].flattened() })
        let count = Int((Double(all.count) * share).rounded())
        guard count > 0 else {
          for i in part { masks[i].value = Tensor.ones(masks[i].shape, masks[i].elementType) }
          continue
        }
        let limit = all.sorted(axis: 0).values[count - 1]
        for i in part { masks[i].value = (magnitudes[i] .> limit).converted(to: masks[i].elementType) }
      }
    }
    begin()
    apply?()
    if verbose { print("Epoch \(epoch + 1): \(formatted("%.1f", sparsity * 100)) % of the weights are zero") }
  }

  private func begin() {
    guard apply == nil else { return }
    let program = compile("prune") { [parameters, masks] in
      withoutGradient {
        for (item, mask) in zip(parameters, masks) { item.parameter.value = item.parameter.value.detached() * mask.value }
      }
    }
    apply = { program() }
  }

  public override var state: CallbackState {
    get {
      let tensors = apply == nil ? [:] : Dictionary(zip(parameters.map(\.name), masks.map(\.value))) { first, _ in first }
      return CallbackState(tensors: tensors)
    }
    set {
      for (item, mask) in zip(parameters, masks) {
        if let value = newValue.tensors[item.name], value.type == mask.type { mask.value = value }
      }
      if !newValue.tensors.isEmpty { begin() }
    }
  }
}
