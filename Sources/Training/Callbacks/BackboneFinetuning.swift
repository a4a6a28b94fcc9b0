import ApusNN

/// Trains with a frozen backbone first, then with all of the model, the backbone at a smaller learning rate that grows: Lightning's
/// `BackboneFinetuning`.
public final class BackboneFinetuning: Callback {
  private let backbone: Module
  private let group: Int?
  private let unfreezeAtEpoch: Int
  private let growth: (Int) -> Double
  private let initialRatio: Double
  private let initialLearningRate: Double?
  private let shouldAlign: Bool
  private let trainBatchNorm: Bool
  private var isFrozen = false

  /// - Parameters:
  ///   - backbone: the part of the model that is frozen at first.
  ///   - group: which of the optimizer's parameter groups has the backbone's parameters; nil where they are in a group with others, and
  ///     share its learning rate.
  ///   - growth: what the backbone's learning rate is multiplied by at the beginning of each epoch after it was unfrozen.
  ///   - initialRatio: its first learning rate, as a share of that of the first other group.
  ///   - initialLearningRate: its first learning rate itself.
  ///   - shouldAlign: it grows up to the first other group's and no further.
  ///   - trainBatchNorm: batch normalization in the backbone is trained from the beginning.
  public init(
    _ backbone: Module, group: Int? = nil, unfreezeAtEpoch: Int = 10, growth: @escaping (_ epoch: Int) -> Double = { _ in 2 },
    initialRatio: Double = 0.1, initialLearningRate: Double? = nil, shouldAlign: Bool = true, trainBatchNorm: Bool = true
  ) {
    self.backbone = backbone
    self.group = group
    self.unfreezeAtEpoch = unfreezeAtEpoch
    self.growth = growth
    self.initialRatio = initialRatio
    self.initialLearningRate = initialLearningRate
    self.shouldAlign = shouldAlign
    self.trainBatchNorm = trainBatchNorm
  }

  public override func onTrainBegin() throws {
    let groups = trainer.optimizer.learningRates.count
    if let group, !(0..<groups).contains(group) || groups < 2 {
      throw TrainingError.invalidArgument("BackboneFinetuning: group \(group) of an optimizer with \(groups) parameter groups")
    }
    if group != nil { try trainer.checkNoSchedule("BackboneFinetuning") }
    guard trainer.position.epoch < unfreezeAtEpoch else { return }
    isFrozen = true
    let normalizations = backbone.modules.compactMap { $0 as? BatchNormLayer }
    backbone.freeze()
    if trainBatchNorm { normalizations.forEach { $0.unfreeze() } }
  }

  public override func onEpochBegin(_ epoch: Int) {
    guard epoch >= unfreezeAtEpoch else { return }
    if isFrozen {
      isFrozen = false
      backbone.unfreeze()
      setRate(initialLearningRate ?? headRate * initialRatio)
    } else if let group {
      let next = trainer.optimizer.learningRates[group] * growth(epoch)
      setRate(shouldAlign ? min(next, headRate) : next)
    }
  }

  private var headRate: Double { trainer.optimizer.learningRates[group == 0 ? 1 : 0] }

  private func setRate(_ rate: Double) { if let group { trainer.optimizer.learningRates[group] = rate } }

  public override var state: CallbackState {
    get { CallbackState(numbers: ["frozen": isFrozen ? 1 : 0]) }
    set { isFrozen = newValue.numbers["frozen"] == 1 }
  }
}
